"""What PPO, TRPO and REINFORCE share: the controller, the batch, and the baseline (sec. 3.2).

A gradient algorithm of your own derives from `PolicyGradient` and defines `update`.

*Replicas.* A search is one learner. A comparison needs many that differ by their seeds alone, and
learners that lie side by side cost a fraction of as many single ones. Tensors have the replicas as
their first dimension, and no replica's numbers depend on another:

    learners = PPO(space, PPO.Settings(lr=3e-4), controller=ControllerSettings(), seeds=range(8))
    numbers = 0
    while learners.seeds:
        strings = numpy.arange(numbers, numbers + 5) + numpy.zeros((len(learners.seeds), 1))
        drawn = learners.draw(strings)              # .tokens [replicas, 5, length], .log_probs
        rewards = ...                               # [replicas, 5], e.g. from a table
        learners.teach(drawn.tokens, drawn.log_probs, rewards)
        numbers += 5
        learners.keep([...])                        # those that go on, by their present places

``drawn.tokens`` are places in `Space.choices(position)`; `controller.decode` gives words. Where
redraws teach nothing, draw more strings for those replicas that have no whole batch yet
(``draw(strings, [places])``), then `teach` all at once: they take their steps together. About eight
replicas at a time are fastest at a hidden size of 150, since their weights then stay in the
processor's cache.
"""

from __future__ import annotations

import dataclasses
import statistics
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from nos_repro.rules.rule import Rule
from nos_repro.rules.space import Space
from nos_repro.search.algorithms.base import (
    Algorithm,
    AlgorithmSettings,
    ControllerSettings,
    Proposal,
    require,
)
from nos_repro.search.algorithms.queue import BestRules
from nos_repro.search.equality import key_of
from nos_repro.search.sample import DIGITS, Sample

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool, Float, Int64
    from torch import Tensor

    from nos_repro.search.controller import Samples, Scores

BLOCK = 8
"""A search draws this many strings at once, those whose numbers share a block: the time of a few is
that of one, and blocks of one size give the same bits however often a search was interrupted."""


class Batch(NamedTuple):
    """Strings that were rewarded.

    ``behaviour`` has the log-probabilities at the time of the draw, since asynchronous workers
    return rewards for strings that an older policy wrote. ``advantages`` say how much better a
    string was than expected, and ``living`` which tokens count in the entropy.
    """

    tokens: Int64[Tensor, "replicas strings length"]
    behaviour: Float[Tensor, "replicas strings length"]
    rewards: Float[Tensor, "replicas strings"]
    advantages: Float[Tensor, "replicas strings"]
    living: Bool[Tensor, "replicas strings length"] | None


@dataclass(frozen=True)
class PolicyGradientSettings(AlgorithmSettings):
    """Sec. 4.2. What the papers do not have is off by default."""

    batch: int = 5
    """Rewards per update."""
    entropy: float = 0.0015
    """Weight in the objective of the entropy of each token, given those before it, in nats, summed
    over a string and averaged over the batch. Its gradient leaves out that other tokens before
    would become likelier, so it is not that of the entropy of strings; and most of it may lie in
    tokens that change no rule (`living_entropy`)."""
    living_entropy: bool = False
    """Count only tokens that can change the rule: not those that `keep_left` drops, nor a group
    whose result nothing reads. The policy is then also taught to write strings in which more
    tokens count."""
    baseline_decay: float = 0.95
    """Decay of the moving average of rewards. *Departure*: the papers do not give it."""
    normalise: bool = False
    """Scale the advantages of each batch to mean 0 and standard deviation 1, as usual for PPO."""
    risk: float = 1.0
    """Learn from the best share of recent rewards alone, by how much they exceed its least one
    (Petersen et al. 2021, who use 0.05); 1: learn from all."""
    risk_window: int = 100
    """How many recent rewards that share is taken of: batches of 5 are too small, so that it is a
    sliding window here."""
    queue: int = 0
    """Also raise the likelihood of this many of the best different rules so far (Abolafia et al.
    2018, who use 10); 0: none."""
    queue_weight: float = 0.1
    """Weight of their mean log-likelihood in the objective."""

    def __post_init__(self) -> None:
        require(self.batch >= 1, "batch", "at least 1", self.batch)
        require(self.entropy >= 0, "entropy", "at least 0", self.entropy)
        require(0 <= self.baseline_decay < 1, "baseline_decay", "in [0, 1)", self.baseline_decay)
        require(0 < self.risk <= 1, "risk", "above 0 and at most 1", self.risk)
        require(self.risk_window >= 1, "risk_window", "at least 1", self.risk_window)
        require(self.queue >= 0, "queue", "at least 0", self.queue)
        require(self.queue_weight >= 0, "queue_weight", "at least 0", self.queue_weight)


class Baseline:
    """An exponential moving average of earlier rewards (sec. 3.2), for each replica.

    *Reading of the paper*: the first batch is compared to its own mean.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.value: Float[Tensor, " replicas"] | None = None

    def advantages(
        self, rewards: Float[Tensor, "replicas strings"]
    ) -> Float[Tensor, "replicas strings"]:
        """Rewards minus the baseline, which is then updated with them."""
        mean = rewards.mean(1)
        before = mean if self.value is None else self.value
        self.value = self.decay * before + (1 - self.decay) * mean
        return rewards - before[:, None]


class PolicyGradient(Algorithm):
    """Draws from the controller's policy; turns each ``batch`` of rewards into a better one.

    ``seeds``: makes replicas (see the module) in place of the learner of one search.
    """

    Settings: ClassVar[type[Any]] = PolicyGradientSettings

    def __init__(
        self,
        space: Space,
        settings: Any,
        *,
        seed: int = 0,
        controller: ControllerSettings,
        seeds: Sequence[int] | None = None,
    ) -> None:
        from nos_repro.search.controller import Controller

        super().__init__(space, settings, seed=seed, controller=controller)
        self.seeds = [seed] if seeds is None else list(seeds)
        hidden, init = controller.hidden, controller.init
        self.controller = Controller(space, hidden, init, seeds=self.seeds)
        self.baseline = Baseline(settings.baseline_decay)
        self.surprise = Baseline(settings.baseline_decay)
        """Of the strings' entropies, where those are part of what a string is worth."""
        self.best = BestRules(settings.queue, len(self.seeds))
        self.recent: Float[Tensor, "replicas rewards"] | None = None
        self.updates = 0
        self.rewarded: list[tuple[Sample, float]] = []
        """The batch being collected."""
        self._block: tuple[int, list[Proposal]] | None = None

    @abstractmethod
    def update(self, batch: Batch) -> dict[str, Float[Tensor, " replicas"]]:
        """Learns from a batch; returns figures about the update, by name."""

    def draw(self, numbers: np.ndarray[Any, Any], replicas: Sequence[int] | None = None) -> Samples:
        """Strings of the policies as they are.

        numbers: those of the strings, [replicas, strings]; a number gives the same string again
        until the policy changes. replicas: the places of those that draw (default: all).
        """
        from nos_repro.search.draws import uniforms

        chosen = range(len(self.seeds)) if replicas is None else replicas
        chances = uniforms([self.seeds[place] for place in chosen], numbers, self.space.length)
        return self.controller.sample(chances, replicas)

    def teach(
        self,
        tokens: Int64[Tensor, "replicas strings length"],
        behaviour: Float[Tensor, "replicas strings length"],
        rewards: Float[Tensor, "replicas strings"],
    ) -> dict[str, Float[Tensor, " replicas"]]:
        """One update of all replicas from a batch of each; returns figures about it.

        behaviour: the tokens' log-probabilities when drawn.
        """
        from nos_repro.search.living import living

        lives = living(self.space, tokens) if self.settings.living_entropy else None
        advantages = self._advantages(rewards)
        if self.settings.queue:
            self.best.take(tokens, rewards, self._key_of)
        batch = Batch(tokens, behaviour, rewards, advantages, lives)
        if lives is not None and self.settings.entropy:
            batch = batch._replace(advantages=advantages + self._worth_of_entropy(batch))
        figures = self.update(batch)
        self.updates += 1
        self._block = None
        assert self.baseline.value is not None
        return {**figures, "baseline": self.baseline.value}

    def keep(self, places: Sequence[int]) -> None:
        """Goes on with these replicas alone."""
        chosen = list(places)
        self.seeds = [self.seeds[place] for place in chosen]
        for parameter in self.controller.parameters():
            parameter.data = parameter.data[chosen]
            parameter.grad = None
        for baseline in (self.baseline, self.surprise):
            baseline.value = None if baseline.value is None else baseline.value[chosen]
        self.recent = None if self.recent is None else self.recent[chosen]
        self.best.keep(chosen)

    def scored(self, batch: Batch) -> tuple[Scores, Float[Tensor, " replicas"]]:
        """What the policies say of a batch, and what every objective has besides its own gain: the
        entropy and the best rules."""
        import torch

        settings = self.settings
        tokens = batch.tokens
        weights = None
        if settings.queue and self.best:
            best, weights = self.best.batch()
            tokens = torch.cat([tokens, best], 1)
        all_scores = self.controller.score(tokens)
        strings = batch.tokens.shape[1]
        scores = all_scores.of(slice(strings))
        extra = scores.log_probs.new_zeros(len(tokens))
        if settings.entropy:
            entropy = scores.entropy if batch.living is None else scores.entropy * batch.living
            extra = settings.entropy * entropy.sum(2).mean(1)
        if weights is not None:
            likelihood = all_scores.log_probs[:, strings:].sum(2)
            extra = extra + settings.queue_weight * (weights * likelihood).sum(1)
        return scores, extra

    def propose(self, number: int, open: Mapping[int, Sample]) -> Proposal:
        import numpy as np

        block, at = divmod(number, BLOCK)
        if self._block is None or self._block[0] != block:
            drawn = self.draw(np.arange(block * BLOCK, (block + 1) * BLOCK)[None])
            words = self.controller.decode(drawn.tokens[0])
            likely = [[round(x, DIGITS) for x in each] for each in drawn.log_probs[0].tolist()]
            self._block = block, [Proposal(*each) for each in zip(words, likely, strict=True)]
        return self._block[1][at]

    def learn(self, sample: Sample, reward: float) -> dict[str, float] | None:
        import torch

        self.rewarded.append((sample, reward))
        if len(self.rewarded) < self.settings.batch:
            return None
        samples, rewards = zip(*self.rewarded, strict=True)
        self.rewarded = []
        staleness = statistics.fmean(self.updates - sample.policy for sample in samples)
        figures = self.teach(
            self.controller.encode([sample.tokens for sample in samples])[None],
            torch.tensor([[sample.log_probs for sample in samples]]),
            torch.tensor([rewards], dtype=torch.float32),
        )
        return {**{key: float(value[0]) for key, value in figures.items()}, "staleness": staleness}

    def _advantages(
        self, rewards: Float[Tensor, "replicas strings"]
    ) -> Float[Tensor, "replicas strings"]:
        import torch

        settings = self.settings
        advantages = self.baseline.advantages(rewards)
        if settings.risk < 1:
            known = [] if self.recent is None else [self.recent]
            self.recent = torch.cat([*known, rewards], 1)[:, -settings.risk_window :]
            least = torch.quantile(self.recent, 1 - settings.risk, dim=1, keepdim=True)
            advantages = (rewards - least).clamp(min=0) / settings.risk
        if settings.normalise:
            spread = advantages.std(1, correction=0, keepdim=True)
            advantages = (advantages - advantages.mean(1, keepdim=True)) / (spread + 1e-8)
        return advantages

    def _worth_of_entropy(self, batch: Batch) -> Float[Tensor, "replicas strings"]:
        """How much more entropy than usual there was along a string, as part of its advantage.

        Which tokens live depends on those drawn after them. So the gradient of the entropy of those
        that live, E[sum of H(token | those before)], has a part through the strings that are
        drawn, besides that through each H.
        """
        import torch

        assert batch.living is not None
        with torch.no_grad():
            entropy = self.controller.score(batch.tokens).entropy
        worth = self.surprise.advantages((entropy * batch.living).sum(2))
        weight: float = self.settings.entropy
        return weight * worth

    def _key_of(self, places: list[int]) -> str:
        words = [self.space.choices(position)[place] for position, place in enumerate(places)]
        return key_of(Rule.from_tokens(words))[0]

    def state_dict(self) -> dict[str, Any]:
        return {
            "controller": self.controller.state_dict(),
            "baseline": self.baseline.value,
            "surprise": self.surprise.value,
            "best": self.best.entries,
            "recent": self.recent,
            "updates": self.updates,
            "rewarded": [(dataclasses.asdict(sample), r) for sample, r in self.rewarded],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.controller.load_state_dict(state["controller"])
        self.baseline.value, self.surprise.value = state["baseline"], state["surprise"]
        self.best.entries, self.recent = [list(each) for each in state["best"]], state["recent"]
        self.updates = state["updates"]
        self.rewarded = [(Sample(**values), reward) for values, reward in state["rewarded"]]
        self._block = None


@dataclass(frozen=True)
class AdamSettings(PolicyGradientSettings):
    """Of an algorithm whose steps are Adam's (002 sec. 4.2: at 1e-5)."""

    lr: float = 1e-5
    """The rate of the controller's Adam."""
    eps: float = 1e-8
    """Adam's epsilon; 1e-5 is usual for PPO."""
    clip_norm: float = 0.0
    """The largest norm of the gradient, which is scaled down to it; 0: any. 0.5 is usual for
    PPO."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.lr > 0, "lr", "positive", self.lr)
        require(self.eps > 0, "eps", "positive", self.eps)
        require(self.clip_norm >= 0, "clip_norm", "at least 0", self.clip_norm)


class AdamPolicyGradient(PolicyGradient):
    """An algorithm that takes its steps with Adam; it keeps Adam's state too."""

    Settings: ClassVar[type[Any]] = AdamSettings

    def __init__(self, *given: Any, **named: Any) -> None:
        import torch

        super().__init__(*given, **named)
        lr, eps = self.settings.lr, self.settings.eps
        self.optimizer = torch.optim.Adam(self.controller.parameters(), lr=lr, eps=eps, fused=True)

    def ascend(self, objective: Float[Tensor, " replicas"]) -> None:
        """One step of Adam uphill, of each replica on its own objective."""
        import torch

        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(-objective.sum())
        if self.settings.clip_norm:
            self._clip()
        self.optimizer.step()

    def _clip(self) -> None:
        gradients = [p.grad for p in self.controller.parameters() if p.grad is not None]
        squares = [gradient.flatten(1).square().sum(1) for gradient in gradients]
        norms = sum(squares[1:], squares[0]).sqrt()
        shares = (self.settings.clip_norm / (norms + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(shares.view(-1, *[1] * (gradient.dim() - 1)))

    def keep(self, places: Sequence[int]) -> None:
        super().keep(places)
        for state in self.optimizer.state.values():
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = state[name][list(places)]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.optimizer.load_state_dict(state["optimizer"])
