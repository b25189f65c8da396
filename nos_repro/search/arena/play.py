"""Runs: an algorithm searches a table until its children are spent."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nos_repro.rules.space import Space
from nos_repro.search.algorithms import ALGORITHMS, Algorithm
from nos_repro.search.algorithms.base import ControllerSettings
from nos_repro.search.algorithms.drawing import DrawingAlgorithm
from nos_repro.search.algorithms.policy_gradient import PolicyGradient
from nos_repro.search.arena.rising import ends, place_of_best
from nos_repro.search.arena.runs import ArenaRun, RunRecord
from nos_repro.search.sample import DIGITS, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from nos_repro.search.table import RuleTable

WINDOW = 100
"""Strings whose mean reward tells whether a policy has converged."""


class Ground:
    """A table as one seed's search sees it: the rewards that it gets, those that judge it, and
    which rules are the best by the judges.

    The rewards are those of the table's seed ``number``, counted round those that have every rule.
    The judges are the means over its other seeds; a rule without any is judged by its reward.
    """

    def __init__(self, table: RuleTable, task: str, number: int) -> None:
        import numpy as np

        by_seed = {seed: table.rewards(task, seed) for seed in table.seeds(task)}
        whole = [seed for seed, rewards in by_seed.items() if not np.isnan(rewards).any()]
        self.own = whole[number % len(whole)]
        own = by_seed.pop(self.own)
        others = np.array([*by_seed.values()] or [own])
        judged = np.where(np.isnan(others).all(axis=0), own, 0.0)
        known = ~np.isnan(others).all(axis=0)
        judged[known] = np.nanmean(others[:, known], axis=0)
        self.table = table
        self.rewards = [float(reward) for reward in own]
        self.judged = [float(reward) for reward in judged]
        self.order = sorted(self.judged, reverse=True)
        self.refused = [bool(rule.refused) for rule in table.rules]
        self.rule_of = functools.lru_cache(maxsize=None)(table.rule_of)

    def threshold(self, share: float) -> float:
        """The judges' reward of the last rule among this share of all rules, best first."""
        return self.order[max(1, round(share * len(self.order))) - 1]


class TableJudge:
    """Tells algorithms what a probe and a fingerprint would tell them, from the table."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    def key(self, tokens: Sequence[str]) -> str:
        return str(self._ground.rule_of(tuple(tokens)))

    def refused(self, tokens: Sequence[str]) -> bool:
        return self._ground.refused[self._ground.rule_of(tuple(tokens))]


class Score:
    """What a run has found so far."""

    def __init__(self, run: ArenaRun, ground: Ground) -> None:
        self.run = run
        self.ground = ground
        self.thresholds = [ground.threshold(share) for share in run.top]
        self.good = ground.threshold(run.converged)
        self.trained: dict[int, float] = {}
        """The rewards of the children, in their order."""
        self.met: Counter[int] = Counter()
        self.rewards: list[float] = []
        """Of all strings."""
        self.best: list[tuple[int, float, float, int]] = []
        self.found: list[tuple[int, int] | None] = [None] * len(run.top)
        self.converged: int | None = None
        self._idle = 0
        """Strings since the last new child."""
        self._window: deque[float] = deque(maxlen=WINDOW)

    @property
    def drawn(self) -> int:
        """Strings so far."""
        return len(self.rewards)

    @property
    def over(self) -> bool:
        """Whether the budget is spent, or the algorithm only repeats itself."""
        return (
            len(self.trained) >= self.run.children
            or self.drawn >= self.run.draws
            or self._idle >= self.run.patience
        )

    def take(self, tokens: Sequence[str]) -> float:
        """Looks a string's reward up, and counts what it costs."""
        ground = self.ground
        rule = ground.rule_of(tuple(tokens))
        reward = 0.0 if ground.refused[rule] else ground.rewards[rule]
        self.rewards.append(reward)
        self._idle += 1
        self.met[rule] += 1
        if not ground.refused[rule] and rule not in self.trained:
            self._train(rule, reward)
        self._window.append(reward)
        full = len(self._window) == WINDOW
        if self.converged is None and full and sum(self._window) / WINDOW >= self.good:
            self.converged = self.drawn
        return reward

    def teaches(self, tokens: Sequence[str]) -> bool:
        """Whether a policy learns from the next draw of this string: always, but for redraws that
        are to teach once or never."""
        times = self.met[self.ground.rule_of(tuple(tokens))]
        return times < {"always": math.inf, "once": 2, "never": 1}[self.run.redraws]

    def _train(self, rule: int, reward: float) -> None:
        self.trained[rule] = reward
        self._idle = 0
        children, judged = len(self.trained), self.ground.judged[rule]
        if not self.best or reward > self.best[-1][1]:
            self.best.append((children, reward, judged, rule))
        for number, threshold in enumerate(self.thresholds):
            if self.found[number] is None and judged >= threshold:
                self.found[number] = children, self.drawn

    def record(self, seconds: float) -> RunRecord:
        """The run's record, without where it comes from.

        best: for every improvement, the children trained by then, the rule's reward, the judges'
        reward of it, and its place in the table. found: the children and the strings until the
        first rule of each top share; null where there was none. converged: the strings until the
        policy converged. ends: the mean rewards of the first and the last quarter, of the children
        and of all strings. place: how far along the best tenth of the children were trained.
        """
        trained = [*self.trained.values()]
        return {
            "run": dataclasses.asdict(self.run),
            "table_seed": self.ground.own,
            "children": len(self.trained),
            "drawn": self.drawn,
            "rules": len(self.met),
            "capped": len(self.trained) < self.run.children,
            "best": [[c, round(r, 6), round(j, 6), rule] for c, r, j, rule in self.best],
            "found": self.found,
            "converged": self.converged,
            "ends": {"children": ends(trained), "strings": ends(self.rewards)},
            "place": place_of_best(trained),
            "last": round(sum(self._window) / max(1, len(self._window)), 6),
            "seconds": round(seconds, 3),
        }


def play(runs: Sequence[ArenaRun], table: RuleTable) -> list[RunRecord]:
    """Searches until the children are spent or too many strings were drawn; the runs differ by
    their seeds alone. Policy gradients play side by side, the others one after the other.

    ``seconds`` are of the processor, since others may be using the machine; those of runs that were
    played side by side are shared evenly.
    """
    start = time.process_time()
    scores = [Score(run, ground_of(table, run)) for run in runs]
    kind = ALGORITHMS.find(runs[0].algorithm["name"])
    if issubclass(kind, PolicyGradient):
        _play_side_by_side(kind, scores)
        seconds = (time.process_time() - start) / len(runs)
        return [score.record(seconds) for score in scores]
    records = []
    for score in scores:
        start = time.process_time()
        _play(score)
        records.append(score.record(time.process_time() - start))
    return records


def _play(score: Score) -> None:
    algorithm = make_algorithm(score.run, score.ground)
    policy = 0
    while not score.over:
        tokens, log_probs = algorithm.propose(score.drawn, {})
        sample = Sample(score.drawn, policy, tokens, log_probs)
        policy += algorithm.learn(sample, score.take(tokens)) is not None


def _play_side_by_side(kind: type[PolicyGradient], scores: Sequence[Score]) -> None:
    """One learner for each score; each takes a step when all have a whole batch."""
    import torch

    run = scores[0].run
    learners = kind(
        space_of(run, scores[0].ground),
        settings_of(run),
        controller=ControllerSettings(**run.controller),
        seeds=[score.run.seed for score in scores],
    )
    batch: int = learners.settings.batch
    playing = list(scores)
    while playing:
        drawn: list[list[_Drawn]] = [[] for _ in playing]
        while any(lacking := [_lacks(*each, batch) for each in zip(playing, drawn, strict=True)]):
            _draw(learners, playing, drawn, [at for at, lacks in enumerate(lacking) if lacks])
        going = [at for at, score in enumerate(playing) if not score.over]
        if len(going) < len(playing):
            learners.keep(going)
            playing = [playing[at] for at in going]
            drawn = [drawn[at] for at in going]
        if playing:
            learners.teach(
                torch.stack([torch.stack([one.tokens for one in each]) for each in drawn]),
                torch.stack([torch.stack([one.log_probs for one in each]) for each in drawn]),
                torch.tensor([[one.reward for one in each] for each in drawn]),
            )


class _Drawn(NamedTuple):
    """A string that is to be learned from."""

    tokens: Tensor
    log_probs: Tensor
    reward: float


def _lacks(score: Score, drawn: Sequence[_Drawn], batch: int) -> bool:
    return not score.over and len(drawn) < batch


def _draw(
    learners: PolicyGradient,
    playing: Sequence[Score],
    drawn: Sequence[list[_Drawn]],
    places: Sequence[int],
) -> None:
    """As many strings as a batch has, for the replicas at these places."""
    import numpy as np

    batch: int = learners.settings.batch
    first = np.array([playing[at].drawn for at in places])
    samples = learners.draw(first[:, None] + np.arange(batch), places)
    for place, tokens, log_probs in zip(
        places, samples.tokens, samples.log_probs.round(decimals=DIGITS), strict=True
    ):
        score = playing[place]
        for number, words in enumerate(learners.controller.decode(tokens)):
            if score.over or len(drawn[place]) == batch:
                break
            teaches = score.teaches(words)
            reward = score.take(words)
            if teaches:
                drawn[place].append(_Drawn(tokens[number], log_probs[number], reward))


@functools.lru_cache(maxsize=8)
def open_table(name: str, results: Path) -> RuleTable:
    """The table, kept in memory."""
    from nos_repro.search import table

    return table.load(name, results)


def ground_of(table: RuleTable, run: ArenaRun) -> Ground:
    """The table as a run sees it; runs over one seed of the table share it."""
    return _ground(table, run.task, run.seed % len(table.seeds(run.task)))


@functools.lru_cache(maxsize=16)
def _ground(table: RuleTable, task: str, number: int) -> Ground:
    return Ground(table, task, number)


def make_algorithm(run: ArenaRun, ground: Ground) -> Algorithm:
    """The run's algorithm, which asks the table instead of probes."""
    kind = ALGORITHMS.find(run.algorithm["name"])
    algorithm = kind(
        space_of(run, ground),
        settings_of(run),
        seed=run.seed,
        controller=ControllerSettings(**run.controller),
    )
    if isinstance(algorithm, DrawingAlgorithm):
        algorithm.judge = TableJudge(ground)
    return algorithm


def settings_of(run: ArenaRun) -> Any:
    """The settings of the run's algorithm."""
    values = {key: value for key, value in run.algorithm.items() if key != "name"}
    return ALGORITHMS.find(run.algorithm["name"]).Settings(**values)


def space_of(run: ArenaRun, ground: Ground) -> Space:
    """The table's space, with the run's constraints."""
    return dataclasses.replace(ground.table.space, **run.space)
