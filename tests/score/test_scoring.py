"""Candidates, from a file or a name to a document: what is valid, what a speed-up is, who stops."""

import dataclasses
import json
import math
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from nos_repro.errors import ConfigError
from nos_repro.experiments.build import Conditions, build
from nos_repro.experiments.trial import Training, Trial
from nos_repro.report.documents.base import document, schema, written
from nos_repro.score.candidate import LARGEST, read_candidate
from nos_repro.score.cascade import Scorer
from nos_repro.score.fault import Fault
from nos_repro.score.measuring import LEAST, Measured, speedup, steps_to
from nos_repro.score.process import Nursery
from nos_repro.score.settings import ScoreSettings, ScoreTask, find_scoring, load_scoring
from nos_repro.score.training import Trained, Trainer
from tests.conftest import ROOT
from tests.score.helpers import LIMITS, fault_of, plain, write

TINY = {"name": "mlp", "train_images": 60, "validation_images": 60, "batch_size": 20, "hidden": 8}
TASKS = {
    "first": ScoreTask({**TINY}, stage=1, epochs=4, evaluate_every=4),
    "second": ScoreTask({**TINY, "hidden": 16}, stage=2, epochs=4, evaluate_every=4),
    "last": ScoreTask({**TINY, "side": 4}, stage=3, epochs=4, evaluate_every=4),
}
SETTINGS = ScoreSettings("tiny", TASKS, rates=[1e-3, 0.03, 0.3], refine=1.0, seeds=2)


@pytest.fixture(scope="module")
def scorer(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scorer]:
    folder = tmp_path_factory.mktemp("data")
    with Scorer(SETTINGS, LIMITS, data_dir=folder, nursery=nursery) as made:
        yield made


# What names a candidate


# fmt: off
MISTAKES = {
    # source of the file:                             kind,       what is said
    "class Mine(":                                   ("syntax",   "line 1"),
    "x = 1\0":                                       ("syntax",   "null bytes"),
    "import no_such_package":                         ("import",   "no_such_package"),
    "x = 1":                                          ("contract", "neither a subclass"),
    plain() + "\nclass Other(Plain):\n    pass\nclass Third(Plain):\n    pass":
                                                      ("contract", "2 optimizers (Other Third)"),
    plain().replace("params, lr", "params"):          ("contract", "must take (params, lr=...)"),
    plain().replace("def step(self)", "def step(self, closure)"):
                                                      ("contract", "needs closure"),
    "def make_optimizer(params, lr):\n    return 7":  ("contract", "makes a int"),
    plain(before="1 / 0"):                            ("error",    "ZeroDivisionError: "),
    plain().replace("p -=", "p +="):                  ("probe",    "descends"),
    plain().replace("p.grad\n", "p\n"):                ("probe",    "gradient"),
    plain(before="self.t = getattr(self, 't', 0) + 1").replace('group["lr"] *', "0.5 / self.t *"):
                                                      ("probe",    "state_dict"),
    plain(after="for p in self.param_groups[0]['params']:\n    p -= 1e-3 * p"):
                                                      ("probe",    "untouched"),
    plain(above="import os").replace("p -=", "p -= os.urandom(1)[0] / 256 *"):
                                                      ("probe",    "repeats"),
}
# fmt: on


@pytest.mark.parametrize("source", MISTAKES, ids=[kind for kind, _ in MISTAKES.values()])
def test_a_file_that_does_not_work_is_one_reason(
    source: str, nursery: Nursery, tmp_path: Path
) -> None:
    kind, said = MISTAKES[source]
    fault = fault_of(nursery, write(tmp_path, source))
    assert isinstance(fault, Fault)
    assert (fault.kind, said in fault.reason) == (kind, True), fault.reason
    assert not fault.cheat
    assert "\n" not in fault.reason


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nowhere/mine.py", "nowhere/mine.py: no such file"),
        (".py", "no such file"),
        ("adamm", "did you mean 'adam'"),
        ("g +", "not a valid expression"),
        ("no_such_package.Mine", "no Python package 'no_such_package'"),
        ("", "empty"),
    ],
)
def test_what_names_no_candidate_is_one_reason(given: str, said: str) -> None:
    with pytest.raises(Fault) as caught:
        read_candidate(given)
    assert (caught.value.kind, said in caught.value.reason) == ("input", True), caught.value.reason


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="at most"):
        read_candidate(write(tmp_path, "#" * (LARGEST + 1)))


def test_one_of_several_classes_is_picked_by_its_name(nursery: Nursery, tmp_path: Path) -> None:
    source = plain() + "\nclass Other(torch.optim.SGD):\n    pass\n"
    file = write(tmp_path, source)
    for picked in ("Plain", "Other"):
        assert fault_of(nursery, f"{file}:{picked}") is None
    fault = fault_of(nursery, f"{file}:Third")
    assert "no class or function 'Third'" in str(fault)


def test_a_function_makes_the_optimizer_and_gets_what_it_asks_for(
    nursery: Nursery, tmp_path: Path
) -> None:
    source = textwrap.dedent("""
        import torch

        def make_optimizer(named_parameters, lr, total_steps, seed):
            names = [name for name, p in named_parameters]
            assert names == ["matrix", "vector", "convolution", "untouched"], names
            assert total_steps > 1 and isinstance(seed, int)
            return torch.optim.SGD([p for _, p in named_parameters], lr=lr)
    """)
    assert fault_of(nursery, write(tmp_path, source)) is None


def test_an_optimizer_that_evaluates_an_average_is_measured_at_it(
    nursery: Nursery, tmp_path: Path
) -> None:
    """Weights that are thrown far away for training, and put back for evaluation."""
    source = (
        plain(above="FAR = 1e3")
        + """
    def train(self):
        self.move(FAR)

    def eval(self):
        self.move(-FAR)

    @torch.no_grad()
    def move(self, by):
        for group in self.param_groups:
            for p in group["params"][:1]:
                p += by
"""
    )
    source = source.replace("p -= group", "p -= 0 * group")
    fault = fault_of(nursery, write(tmp_path, source))
    assert "descends: it does not lower a quadratic at any of the rates (1 x)" in str(fault)


# What a training is worth


def test_a_remote_update_trains_as_torchs_own_does_in_one_process(
    nursery: Nursery, tmp_path: Path
) -> None:
    """The suite's own loop, with torch's Adam in this process, is the oracle."""
    trainer = Trainer("first", TASKS["first"], tmp_path)
    nursery.begin(LIMITS)
    ours = trainer.train(read_candidate("torch.optim.Adam"), nursery, 0.01, 3, "", test=True)
    settings = {key: value for key, value in TINY.items() if key != "name"}
    trial = Trial("mlp", settings, "torch.optim.Adam", 0.01, training=Training(epochs=4), seed=3)
    run = build(trial, Conditions(tmp_path, device="cpu"))
    run.task.train()
    for epoch in range(4):
        for batch in run.data.train_batches(epoch):
            run.train_step(batch)
    theirs = run.evaluate(run.data.val_batches(), "val") | run.evaluate(
        run.data.test_batches(), "test"
    )
    assert ours.validation == {key: theirs[f"val_{key}"] for key in ("loss", "accuracy")}
    assert ours.test == {key: theirs[f"test_{key}"] for key in ("loss", "accuracy")}
    assert [step for step, _ in ours.curve] == [0, 4, 8, 12]


def test_weights_that_a_file_carries_land_in_the_wrong_places(
    nursery: Nursery, tmp_path: Path
) -> None:
    """The best weights of a training, given to the next one: without the secret order they would
    be as good there, with it they are worth no more than chance."""
    trainer = Trainer("first", TASKS["first"], tmp_path)
    recorder = plain(after="import json\nprint(json.dumps([p.tolist() for p in"
                           " self.param_groups[0]['params']]), flush=True)")  # fmt: skip
    nursery.begin(LIMITS)
    learned = trainer.train(
        read_candidate(write(tmp_path, recorder)), nursery, 0.3, 3, "", test=False
    )
    assert learned.validation["accuracy"] > 50
    last = nursery.printed().splitlines()[-1]
    with (nursery.folder / "printed").open(encoding="utf-8") as printed:
        weights = json.loads(printed.read().splitlines()[-1])
    assert last
    source = plain(
        above=f"WEIGHTS = {weights!r}",
        after="for p, values in zip(self.param_groups[0]['params'], WEIGHTS):\n"
              "    p.copy_(torch.tensor(values))",
    )  # fmt: skip
    carried = trainer.train(
        read_candidate(write(tmp_path, source)), nursery, 0.3, 3, "", test=False
    )
    assert carried.validation["accuracy"] < 30


def measured(*curves: list[tuple[int, float]]) -> Measured:
    repeats = [Trained(curve, curve[-1][1], {}, {}, 0.0) for curve in curves]
    return Measured(0.1, [(0.1, 1.0)], repeats)


def test_a_speed_up_is_updates_saved_and_goes_on_smoothly_where_the_target_is_missed() -> None:
    reference = [(0, 3.0), (50, 2.0), (100, 1.0)]
    assert steps_to(reference, 1.5) == 75
    assert steps_to(reference, 0.9) is None
    adamw = measured(reference)
    assert speedup(adamw, adamw, 100) == 1
    assert speedup(measured([(0, 3.0), (50, 1.0), (100, 0.5)]), adamw, 100) == 2
    near = speedup(measured([(0, 3.0), (100, 1.0 + 1e-9)]), adamw, 100)
    assert math.isclose(near, 1, abs_tol=1e-6)
    assert speedup(measured([(0, 3.0), (100, 2.0)]), adamw, 100) == 0.5
    assert math.isclose(speedup(measured([(0, 3.0), (100, 3.5)]), adamw, 100), LEAST)
    assert speedup(Measured(None, [], []), adamw, 100) == LEAST
    both = measured([(0, 3.0), (50, 1.0)], [(0, 3.0), (100, 2.0)])
    twice = measured(reference, reference)
    assert math.isclose(speedup(both, twice, 100), 1.0), "the geometric mean of 2 and a half"


def test_a_speed_up_compares_trainings_of_one_seed() -> None:
    """A harder seed is harder for AdamW too."""
    easy, hard = [(0, 3.0), (100, 1.0)], [(0, 3.0), (100, 2.0)]
    assert speedup(measured(easy, hard), measured(easy, hard), 100) == 1
    sooner = measured([(0, 3.0), (50, 1.0), (100, 0.5)], [(0, 3.0), (50, 2.0), (100, 1.9)])
    assert speedup(sooner, measured(easy, hard), 100) == 2


def test_adamw_against_itself_is_one_and_a_weak_rule_stops_at_the_bar(
    scorer: Scorer,
) -> None:
    found = scorer.score(ROOT / "nos_repro" / "score" / "baselines" / "adamw.py")
    assert found.valid
    assert (found.stage, found.stopped) == (3, "")
    for task in found.tasks.values():
        assert math.isclose(task.speedup, 1, rel_tol=1e-9)
        assert task.normalised == 1
        assert task.test == task.adamw_test
    weak = scorer.score("0.1 * g")
    assert (weak.valid, weak.stage) == (True, 1)
    assert "below the bar" in weak.stopped
    assert list(weak.tasks) == ["first"]
    values = scorer.metrics(weak)
    assert values["combined_score"] < scorer.metrics(found)["combined_score"]
    expected = math.sqrt(weak.tasks["first"].speedup * SETTINGS.unreached)
    assert math.isclose(values["combined_score"], expected)


def test_held_out_tasks_are_told_apart_from_the_score(scorer: Scorer) -> None:
    found = scorer.score("adam")
    values = scorer.metrics(found)
    assert math.isclose(
        values["combined_score"], math.sqrt(values["speedup_first"] * values["speedup_second"])
    )
    assert values["held_out_speedup"] == values["held_out_speedup_last"]
    assert "combined_score" not in scorer.metrics(dataclasses.replace(found, stages=[3]))


def test_what_is_found_is_a_document_of_the_schema(scorer: Scorer, tmp_path: Path) -> None:
    own = {"$ref": "#/$defs/score", "$defs": schema()["$defs"]}
    for given in ("powersign", write(tmp_path, plain(before="1 / 0")), "no rule"):
        found = document("score", **scorer.document(scorer.score(given, [1, 3])))
        errors = Draft202012Validator(own).iter_errors(json.loads(written(found)))
        assert [error.message for error in errors] == []
        assert found["valid"] == (given == "powersign")


def test_a_rule_of_the_second_edition_is_scored_too(nursery: Nursery) -> None:
    assert fault_of(nursery, "language 2: u <- 0.9 * u + g; g + 0.9 * u") is None


def test_a_cheat_scores_nothing_even_if_it_is_caught_late(scorer: Scorer, tmp_path: Path) -> None:
    source = plain(
        above="import os",
        before="for group in self.param_groups:\n    group['t'] = group.get('t', 0) + 1\n"
               "    if len(group['params'][0].shape) == 2 and group['params'][0].shape[0] == 16:\n"
               "        os.fork()",
    )  # fmt: skip
    found = scorer.score(write(tmp_path, source))
    assert (found.valid, found.fault, found.cheat, found.stage) == (False, "processes", True, 1)
    assert scorer.metrics(found)["combined_score"] == 0
    assert list(found.tasks) == ["first"]


def test_a_secret_key_draws_other_weights_and_batches(
    scorer: Scorer, nursery: Nursery, tmp_path: Path
) -> None:
    trainer = Trainer("first", TASKS["first"], tmp_path)
    nursery.begin(LIMITS)
    adam = read_candidate("torch.optim.Adam")
    public, again, secret, other = (
        trainer.train(adam, nursery, 0.01, 0, key, test=False).curve
        for key in ("", "", "mine", "yours")
    )
    assert public == again
    assert public != secret != other


def test_a_scorer_whose_process_was_killed_goes_on_with_the_next_candidate(tmp_path: Path) -> None:
    with Scorer(SETTINGS, LIMITS, data_dir=tmp_path) as scorer:
        assert scorer.score("adam", []).valid
        assert scorer._nursery is not None
        scorer._nursery._process.kill()
        scorer._nursery._process.wait()
        assert scorer.score("adam", []).valid


def test_the_baselines_are_tuned_once_and_kept(scorer: Scorer) -> None:
    assert scorer.score("g").valid
    trainer = scorer.trainers["first"]
    assert scorer.baselines.missing(trainer) == []
    other = Scorer(dataclasses.replace(SETTINGS, seeds=3), LIMITS, data_dir=trainer.data_dir)
    assert other.baselines.missing(trainer) == ["adamw", "sgd"]


# The settings file


@pytest.mark.parametrize("scale", ["full", "smoke"])
def test_the_file_that_ships_is_accepted_and_holds_tasks_out(scale: str) -> None:
    settings = load_scoring(find_scoring("optimizers"), scale=scale)
    assert {task.stage for task in settings.tasks.values()} == {1, 2, 3}
    assert settings.trainings == len(settings.rates) + settings.seeds + 2 * (scale == "full")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("study: x", "no key `score`"),
        ("score: x\ntasks: {}", "tasks: give at least one"),
        ("score: x\ntasks: {a: {task: {name: mpl}}}", "did you mean 'mlp'"),
        ("score: x\ntasks: {a: {task: {name: mlp}, stage: 4}}", "stage must be one of"),
        ("score: x\ntasks: {a: {task: {name: mlp}}}\nrates: [0.1, -1.0]", "rates must be positive"),
        ("score: x\ntasks: {a: {task: {name: mlp}}}\nbars: [1]", "bars must be two numbers"),
        ("score: x\ntasks: {a: {task: {name: mlp}, epoch: 2}}", "did you mean 'epochs'"),
        ("score: x\ntasks: {a: {task: {name: mlp}, needs: [ptb]}}", "stand_in"),
    ],
)
def test_a_mistake_in_a_file_is_one_error(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_scoring(file)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)
