"""Evolution, tree search and Optuna: what they propose, what they learn, and that a log rebuilds
them."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nos_repro.errors import ConfigError
from nos_repro.rules.rule import Rule
from nos_repro.rules.space import SPACES, Space
from nos_repro.search.algorithms import ALGORITHMS, Algorithm
from nos_repro.search.algorithms.base import ControllerSettings
from nos_repro.search.algorithms.drawing import DrawingAlgorithm, ProbeJudge
from nos_repro.search.algorithms.evolution import mutated, written
from nos_repro.search.log import Log
from nos_repro.search.sample import Sample
from nos_repro.search.state import SearchState, replay
from tests.search.helpers import Instant, loop, tiny_search

NAMES = ("evolution", "tree", "optuna")
SMALL = Space(("g", "m", "sign(g)", "sign(m)", "1"), ("identity", "exp"), ("*", "keep_left"), 2)
TINY = Space(("g", "m", "v"), ("identity", "sign"), ("+", "*", "keep_left"), 1)
EVERY = [
    [a, b, u, w, f]
    for a in TINY.operands
    for b in TINY.operands
    for u in TINY.unary
    for w in TINY.unary
    for f in TINY.binary
    if TINY.contains([a, b, u, w, f])
]


def make(name: str, space: Space = SMALL, seed: int = 0, **settings: Any) -> DrawingAlgorithm:
    kind = ALGORITHMS.find(name)
    made = kind(space, kind.Settings(**settings), seed=seed, controller=ControllerSettings())
    assert isinstance(made, DrawingAlgorithm)
    return made


def reward_of(tokens: list[str]) -> float:
    return random.Random(str(tokens)).random()


def search(algorithm: Algorithm, samples: int, start: int = 0) -> list[list[str]]:
    """The strings of a search that trains one rule at a time."""
    found = []
    for number in range(start, start + samples):
        tokens, log_probs = algorithm.propose(number, {})
        algorithm.learn(Sample(number, 0, tokens, log_probs), reward_of(tokens))
        found.append(tokens)
    return found


@pytest.mark.parametrize("space", [SMALL, TINY, SPACES["icml-3"], SPACES["arxiv-2"]])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_mutation_stays_in_the_space(space: Space, share: float) -> None:
    source = random.Random(0)
    tokens = space.sample(source)
    for _ in range(300):
        mutation = mutated(space, tokens, source, share)
        space.check(mutation)
        changed = [a != b for a, b in zip(tokens, mutation, strict=True)]
        if share == 0:
            assert sum(changed) == 1
        else:
            assert len({place // 5 for place, is_changed in enumerate(changed) if is_changed}) <= 1
        tokens = mutation


def test_single_mutations_reach_every_string() -> None:
    reached = {tuple(EVERY[0])}
    source = random.Random(0)
    tokens = EVERY[0]
    for _ in range(3000):
        tokens = mutated(TINY, tokens, source, 0.0)
        reached.add(tuple(tokens))
    assert len(reached) == TINY.size == len(EVERY)


def test_a_completed_prefix_is_drawn_uniformly() -> None:
    """Each of the strings that begin with the prefix is as likely as any other."""
    source = random.Random(0)
    drawn = Counter(tuple(TINY.sample(source, ["m"])) for _ in range(8000))
    expected = [tokens for tokens in EVERY if tokens[0] == "m"]
    assert drawn.keys() == set(map(tuple, expected))
    mean = 8000 / len(expected)
    assert sum((n - mean) ** 2 / mean for n in drawn.values()) < 2.5 * len(expected)  # chi-squared


@pytest.mark.parametrize("name", NAMES)
def test_each_proposal_is_in_the_space_and_its_rule_is_new_and_healthy(name: str) -> None:
    judge = ProbeJudge()
    found = search(make(name), 60)
    for tokens in found:
        SMALL.check(tokens)
    assert not any(map(judge.refused, found))
    assert len({judge.key(tokens) for tokens in found}) == len(found)


@pytest.mark.parametrize("name", NAMES)
def test_no_rule_is_proposed_while_an_equal_one_waits(name: str) -> None:
    algorithm = make(name)
    search(algorithm, 20)
    open: dict[int, Sample] = {}
    for number in range(20, 40):
        open[number] = Sample(number, 0, *algorithm.propose(number, open))
    keys = [algorithm.judge.key(sample.tokens) for sample in open.values()]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", NAMES)
def test_a_proposal_changes_nothing_and_depends_on_the_seed(name: str) -> None:
    algorithm, other = make(name), make(name)
    for number in range(30):
        first = algorithm.propose(number, {})
        assert algorithm.propose(number, {}) == first == other.propose(number, {})
        for each in (algorithm, other):
            each.learn(Sample(number, 0, *first), reward_of(first.tokens))
        algorithm.propose(number + 1000, {})
    assert search(make(name, seed=1), 10) != search(make(name, seed=0), 10)


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_state_goes_on_as_if_nothing_had_happened(name: str) -> None:
    algorithm = make(name)
    search(algorithm, 40)
    restored = make(name)
    restored.load_state_dict(algorithm.state_dict())
    assert search(restored, 20, 40) == search(algorithm, 20, 40)


@pytest.mark.parametrize("name", NAMES)
def test_the_log_rebuilds_the_algorithm(name: str, tmp_path: Path) -> None:
    asked = tiny_search(algorithm={"name": name}, samples=40)
    whole = loop(tmp_path, Instant(slots=4, seed=3), asked)
    whole.run()
    rebuilt = SearchState(asked)
    replay(rebuilt, Log(tmp_path / "log.jsonl").read())
    assert rebuilt.algorithm.state_dict() == whole.state.algorithm.state_dict()


GRADED = Space(
    ("g", "m", "v", "sign(g)", "sign(m)", "1"),
    ("identity", "exp", "sqrt", "neg"),
    ("+", "-", "*"),
    1,
)
BEST = ["sign(m)", "g", "exp", "identity", "*"]


@pytest.fixture(scope="module")
def grades() -> dict[str, float]:
    """For every healthy rule of a space, how nearly a string that writes it is the best one."""
    judge, found = ProbeJudge(), dict[str, float]()
    for words in itertools.product(*map(GRADED.choices, range(GRADED.length))):
        tokens = list(words)
        if GRADED.contains(tokens) and not judge.refused(tokens):
            grade = sum(a == b for a, b in zip(tokens, BEST, strict=True)) / len(BEST)
            found[judge.key(tokens)] = max(grade, found.get(judge.key(tokens), 0.0))
    return found


@pytest.mark.parametrize(
    ("name", "settings"),
    [("evolution", {"population": 15, "tournament": 5}), ("tree", {}), ("optuna", {})],
)
def test_on_a_tiny_table_they_find_the_best_rule_sooner_than_chance(
    name: str, settings: dict[str, Any], grades: dict[str, float]
) -> None:
    """Drawn without replacement, chance needs half of the rules on average."""
    needed = []
    for seed in range(8):
        algorithm = make(name, GRADED, seed, **settings)
        for number in range(len(grades)):
            tokens, _ = algorithm.propose(number, {})
            grade = grades.get(algorithm.judge.key(tokens), 0.0)
            algorithm.learn(Sample(number, 0, tokens, []), grade)
            if grade == 1:
                break
        needed.append(number + 1)
    assert sum(needed) / len(needed) < 0.3 * len(grades)


def test_evolution_forgets_the_oldest_sample() -> None:
    algorithm = make("evolution", population=5, tournament=5)
    search(algorithm, 12)
    state = algorithm.state_dict()
    assert len(state["population"]) == 5
    assert len(state["met"]) == 12
    newest = search(make("evolution", population=5, tournament=5), 12)[-5:]
    assert [tokens for tokens, _ in state["population"]] == newest


def test_a_warm_start_comes_first_and_its_mutations_follow() -> None:
    start = ["exp(sign(g) * sign(m)) * g", "g"]
    algorithm = make("evolution", start=start)
    found = search(algorithm, 30)
    assert [Rule.from_tokens(tokens).normal() for tokens in found[:2]] == [
        Rule.parse(text).normal() for text in start
    ]
    near = [min(sum(a != b for a, b in zip(tokens, known, strict=True)) for known in found[:2])
            for tokens in found[2:]]  # fmt: skip
    assert max(near) <= 5


def test_a_warm_start_that_the_space_cannot_write_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"algorithm.start: no string of this space writes 'v'"):
        make("evolution", start=["v"])


@pytest.mark.parametrize("name", ["arxiv-2", "icml-2", "arxiv-3", "arxiv-4"])
def test_a_rule_is_written_in_any_space_that_has_its_words(name: str) -> None:
    for text in ("g", "sign(g)", "exp(sign(g) * sign(m)) * g"):
        if len(Rule.parse(text).tokens() or ()) <= SPACES[name].length:
            tokens = written(SPACES[name], Rule.parse(text))
            SPACES[name].check(tokens)
            assert Rule.from_tokens(tokens).fingerprint() == Rule.parse(text).fingerprint()


# fmt: off
IMPOSSIBLE = [
    ("evolution", "population", 0),  ("evolution", "tournament",  200), ("evolution", "tries", 0),
    ("evolution", "iteration_share", 2), ("tree",  "best",          0), ("tree",      "tries", 0),
    ("tree",      "exploration", -1), ("optuna",   "startup",       0), ("optuna",    "tries", 0),
    ("optuna",    "candidates",   0),
]
# fmt: on


@pytest.mark.parametrize(("name", "key", "value"), IMPOSSIBLE)
def test_an_impossible_setting_is_refused_by_its_key(name: str, key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"^algorithm\.{key} must be .*, got {value}$"):
        ALGORITHMS.find(name).Settings(**{key: value})


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.search.helpers import Instant, loop, tiny_search

def fate(number, job):
    if number == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return "recorded"

for name in sys.argv[2:]:
    if os.fork() == 0:
        search = tiny_search(algorithm={"name": name}, samples=30)
        loop(Path(sys.argv[1]) / name, Instant(fate=fate), search).run()
    os.wait()
"""


def test_a_search_that_was_killed_goes_on_to_the_same_end(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), *NAMES], check=True)
    for name in NAMES:
        asked = tiny_search(algorithm={"name": name}, samples=30)
        assert 9 <= len(drawn(tmp_path / name)) < 30
        loop(tmp_path / name, Instant(), asked).run()
        loop(tmp_path / "whole" / name, Instant(), asked).run()
        assert drawn(tmp_path / name) == drawn(tmp_path / "whole" / name)
        assert len(drawn(tmp_path / name)) == 30


def drawn(folder: Path) -> list[list[str]]:
    events = Log(folder / "log.jsonl").read()
    return [event["tokens"] for event in events if event["event"] == "proposed"]
