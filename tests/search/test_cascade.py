"""A cascade: most rules are trained for little, and the log says what became of each, and why."""

import collections
import json
import random
from collections import Counter

import pytest
import scipy.optimize
from scipy.stats import spearmanr

from nos_repro.errors import ConfigError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.load import task_section
from nos_repro.search.cascade import Cascade
from nos_repro.search.child import Evaluation
from nos_repro.search.gates import Gates, isotonic, threshold
from nos_repro.search.hall import best_rules
from nos_repro.search.log import Log, LogError
from nos_repro.search.run import run_search
from nos_repro.search.settings import load_search
from tests.conftest import ROOT
from tests.search.helpers import Instant, loop, tiny_child, tiny_search

CASCADE = Cascade(
    cheap=tiny_child(), keep_cheap=0.5, keep_sweep=0.5, window=20, first=4, anyway=0.2
)
SPACE = {
    "operands": ["g", "m", "v", "sign(g)", "sign(m)", "1"],
    "unary": ["identity", "exp", "sqrt"],
    "binary": ["*", "/", "+"],
    "iterations": 2,
}


def staged_search(**changes):
    values = {"cascade": CASCADE, "space": SPACE, "samples": 60}
    return tiny_search(**{**values, **changes})


class Staged(Instant):
    """The reward at a stage is that in the end, disturbed; the worst diverge at the cheap stage."""

    def found(self, job):
        if job.name.endswith("-cheap"):
            luck = random.Random(f"cheap {job.optimizer}").random()
            if self.reward(job.optimizer) < 0.2:
                return Evaluation("diverged", 0.0, reason="every rate diverged", seconds=1.0)
            return Evaluation("healthy", self.near(job, luck), 0.1, seconds=1.0)
        if job.part == "sweep":
            reward = self.near(job, random.Random(f"sweep {job.optimizer}").random())
            sweep = [(0.01, None), (0.1, 100 * reward)]
            return Evaluation("healthy", reward, 0.1, sweep, seconds=3.0)
        if job.part == "rest":
            assert job.swept.lr == 0.1
            assert job.swept.sweep[0] == (0.01, None)
        return Evaluation("healthy", self.reward(job.optimizer), 0.1, seconds=10.0)

    def near(self, job, luck):
        return round(0.8 * self.reward(job.optimizer) + 0.2 * luck, 6)


def events(folder, *kinds):
    return [event for event in Log(folder / "log.jsonl").read() if event["event"] in kinds]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    loop(folder, Staged(), staged_search()).run()
    return folder


def essence(folder):
    """What a search with one worker always does: draws, decisions, rewards."""
    return [
        {key: event.get(key) for key in ("event", "sample", "stage", "decision", "threshold",
                                         "reward", "status", "tokens", "policy")}
        for event in Log(folder / "log.jsonl").read()
        if event["event"] not in ("session", "withdrawn", "reopened")
    ]  # fmt: skip


def test_every_rule_passes_the_stages_in_order_and_is_stopped_at_most_once(undisturbed):
    found: dict[int, list[str]] = {}
    for event in events(undisturbed, "staged", "evaluated"):
        step = event.get("stage", event["status"])
        found.setdefault(event["sample"], []).append(f"{step} {event.get('decision', '')}".strip())
    kinds = Counter(map(tuple, found.values()))
    assert kinds["cheap stopped", "stopped"] > 3
    assert kinds["cheap passed", "sweep stopped", "stopped"] > 1
    assert kinds["cheap passed", "sweep passed", "healthy"] > 1
    assert kinds["cheap anyway", "sweep anyway", "healthy"] + kinds[
        "cheap anyway", "sweep passed", "healthy"
    ] > 0  # fmt: skip
    for steps in kinds:
        stops = [step for step in steps if step.endswith(" stopped")]
        assert bool(stops) == (steps[-1] == "stopped")


def test_a_rule_that_was_stopped_is_none_of_the_best_and_earns_no_more_than_those_trained(
    undisturbed,
):
    trained = [e["reward"] for e in events(undisturbed, "evaluated") if e["status"] == "healthy"]
    stopped = [e for e in events(undisturbed, "evaluated") if e["status"] == "stopped"]
    assert stopped
    assert all(event["reward"] <= max(trained) for event in stopped)
    assert len(best_rules(undisturbed, 1000)) == len(trained)
    cheap = {e["sample"]: e["reward"] for e in events(undisturbed, "staged")
             if e["stage"] == "cheap" and e["decision"] == "stopped"}  # fmt: skip
    pairs = [(cheap[e["sample"]], e["reward"]) for e in stopped if e["sample"] in cheap]
    assert spearmanr(*zip(*pairs, strict=True)).statistic > 0.5


def test_each_decision_follows_from_the_log_before_it(undisturbed):
    gates = Gates(CASCADE, tiny_search().seed)
    decided = 0
    for event in Log(undisturbed / "log.jsonl").read():
        if event["event"] == "staged":
            found = Evaluation.from_json(
                {key: event[key] for key in ("status", "reward", "lr", "sweep", "seconds")
                 if key in event}
            )  # fmt: skip
            again = gates.decide(event["sample"], found)
            assert {key: again[key] for key in ("stage", "decision", "reward")} == {
                key: event[key] for key in ("stage", "decision", "reward")
            }
            assert again.get("threshold") == event.get("threshold")
            decided += 1
        elif event["event"] == "evaluated" and event["status"] == "stopped":
            assert gates.stopped(event["sample"]).reward == event["reward"]
        gates.take(event)
    assert decided > 60


class Crash(BaseException):
    """The end of the process, as far as the loop can tell."""


@pytest.mark.parametrize("moment", ["before", "torn", "after"])
def test_killed_at_any_event_it_ends_as_if_it_had_not_been_killed(
    moment, tmp_path, undisturbed, monkeypatch
):
    append, calls = Log.append, {"left": 0}

    def dying(self, given):
        calls["left"] -= 1
        if calls["left"] == 0:
            if moment == "after":
                append(self, given)
            if moment == "torn":
                with self.path.open("ab") as file:
                    file.write(json.dumps(given[0]).encode()[:-5])
            raise Crash
        append(self, given)

    monkeypatch.setattr(Log, "append", dying)
    kills = 0
    while True:
        kills += 1
        calls["left"] = 8 + kills % 23
        try:
            loop(tmp_path, Staged(), staged_search()).run()
        except Crash:
            continue
        break
    assert kills > 6
    assert essence(tmp_path) == essence(undisturbed)


def test_an_answer_of_a_stage_that_a_dead_process_left_is_used(tmp_path, undisturbed):
    first = loop(tmp_path, Staged(), staged_search())
    answer = first._answer
    left = 30

    def die(*given):
        nonlocal left
        left -= 1
        if left < 0:
            raise Crash
        answer(*given)

    first._answer = die
    with pytest.raises(Crash):
        first.run()
    (path,) = (tmp_path / "answers").glob("*.json")
    launcher = Staged()
    loop(tmp_path, launcher, staged_search()).run()
    assert len(launcher.trained) == sum(
        event.get("status") not in ("refused", "reused", "stopped")
        for event in events(undisturbed, "staged", "evaluated")
    ) - 31, path  # fmt: skip
    assert essence(tmp_path) == essence(undisturbed)


def test_many_workers_lose_no_rule_and_no_stage(tmp_path):
    lost: set[str] = set()

    def fate(n, job):
        if n % 5 < 4 or job.name in lost:
            return "recorded"
        lost.add(job.name)
        return "lost"

    loop(tmp_path, Staged(slots=7, seed=3, fate=fate), staged_search()).run()
    assert any(name.endswith("-cheap") for name in lost)
    assert any(name.endswith("-sweep") for name in lost)
    counts = Counter(event["sample"] for event in events(tmp_path, "evaluated"))
    assert counts == Counter(range(60))
    staged = Counter((event["sample"], event["stage"]) for event in events(tmp_path, "staged"))
    assert set(staged.values()) == {1}
    assert {event["decision"] for event in events(tmp_path, "staged")} >= {"open", "stopped"}


def test_a_history_without_one_of_its_decisions_is_refused(undisturbed):
    whole = list(Log(undisturbed / "log.jsonl").read())
    missing = next(
        n for n, event in enumerate(whole)
        if event.get("stage") == "cheap" and event["decision"] == "passed"
    )  # fmt: skip
    gates = Gates(CASCADE, 0)
    with pytest.raises(LogError, match="cannot be at the stage sweep here"):
        collections.deque(map(gates.take, whole[:missing] + whole[missing + 1 :]))


def test_another_cascade_is_another_search(tmp_path):
    loop(tmp_path, Staged(), staged_search(samples=5)).run()
    other = staged_search(cascade=Cascade(cheap=tiny_child(), keep_cheap=0.3))
    with pytest.raises(ConfigError, match=r"cascade\.keep_cheap: was 0\.5, is 0\.3"):
        loop(tmp_path, Staged(), other).run()


def test_real_children_in_stages_earn_what_whole_children_earn(tmp_path):
    """By real workers; every rule is trained in full anyway, so nothing but the way differs."""
    from nos_repro.launch.local import InProcess

    task = task_section({"name": "mlp", "batch_size": 50, "train_images": 400})
    child = tiny_child(task=task, sweep={"train_images": 200})
    cheap = tiny_child(task={**task, "hidden": 8}, sweep={})
    every = Cascade(cheap=cheap, keep_cheap=0.5, keep_sweep=0.5, first=2, anyway=0.999)
    for name, cascade in (("whole", None), ("staged", every)):
        search = tiny_search(child=child, cascade=cascade, samples=12)
        run_search(search, tmp_path / name, InProcess(), Conditions(tmp_path, device="cpu"), 1)
    ends = [
        [
            (e["sample"], e["status"], e["reward"], e.get("lr"), e.get("sweep"), e.get("metrics"))
            for e in events(tmp_path / name / "tiny" / "smoke", "evaluated")
        ]
        for name in ("whole", "staged")
    ]
    assert ends[0] == ends[1]
    stages = Counter(e["stage"] for e in events(tmp_path / "staged/tiny/smoke", "staged"))
    assert stages["cheap"] >= stages["sweep"] > 1


def test_the_threshold_lets_at_most_the_share_pass_and_never_all_of_a_crowd_at_the_bottom():
    draw = random.Random(0)
    for _ in range(300):
        seen = [draw.randrange(5) / 5 for _ in range(draw.randrange(1, 12))]
        keep = draw.choice([0.1, 0.25, 0.5, 0.9])
        least = threshold(seen, keep)
        passing = sum(value >= least for value in seen)
        assert passing <= keep * len(seen) + 1e-9 or least == max(seen)
        lower = [value for value in seen if value < least]
        if lower:
            assert sum(value >= max(lower) for value in seen) > keep * len(seen)
    assert threshold([0.1] * 55 + [0.5] * 45, 0.5) == 0.5
    assert threshold([0.1] * 40 + [1.0] * 60, 0.25) == 1.0
    assert threshold([0.3] * 9, 0.25) == 0.3


def test_the_forecast_is_isotonic_regression():
    draw = random.Random(1)
    for _ in range(100):
        xs = draw.sample(range(100), 12)
        pairs = [(float(x), draw.random() + x / 100) for x in xs]
        ordered = sorted(pairs)
        fit = scipy.optimize.isotonic_regression([y for _, y in ordered]).x
        assert [isotonic(pairs, x) for x, _ in ordered] == pytest.approx(list(fit))
        assert isotonic(pairs, -1.0) == pytest.approx(fit[0])
        assert isotonic(pairs, 1e9) == pytest.approx(fit[-1])
    assert isotonic([(0.5, 0.2), (0.5, 0.4), (0.7, 0.9)], 0.6) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("cascade={}", "no stage stops a rule"),
        ("cascade={keep_sweep: 0}", "cascade.keep_sweep must be in (0, 1]"),
        ("cascade={keep_sweep: 0.5, anyway: 1}", "cascade.anyway must be in [0, 1)"),
        ("cascade={keep_sweep: 0.5, first: 1}", "cascade.first must be at least 2"),
        ("cascade={keep_sweeps: 0.5}", "did you mean 'keep_sweep'"),
        ("cascade={cheap: {task: {name: convnet, head: poool}}}", "head"),
        ("cascade={cheap: {task: {name: convnet}, epochs: 0}}", "epochs must be at least 1"),
        ("cascade={cheap: {rates: [0.1]}}", "task"),
        ("cascade={cheap: {task: {name: convnett}}}", "did you mean 'convnet'"),
    ],
)
def test_a_mistake_names_its_key(override, words):
    with pytest.raises(ConfigError) as caught:
        load_search(ROOT / "configs" / "search.yaml", overrides=[override])
    assert words in str(caught.value)


def test_a_file_s_cascade_is_read_with_all_defaults():
    search = load_search(
        ROOT / "configs" / "search.yaml",
        overrides=["cascade={cheap: {task: {name: convnet, data: digits}, epochs: 2}}"],
    )
    assert search.cheap.task["batch_size"] == 100
    assert search.cascade.stages == ["cheap"]
    assert load_search(ROOT / "configs" / "search.yaml").cascade is None
