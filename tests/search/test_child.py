"""The child's reward: the papers' protocol, checked against a plain loop written here."""

import dataclasses
import json
import math
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from nos_repro.errors import ConfigError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.training import Run, Stopped
from nos_repro.optim.factory import make_optimizer
from nos_repro.search.child import PAPER_RATES, Child, Evaluation, best_rate, evaluate, reward_of
from nos_repro.tasks import TASKS
from nos_repro.tasks.metrics import ACCURACY, PERPLEXITY
from tests.search.helpers import tiny_child

CONDITIONS = Conditions(Path("unused"), device="cpu")
POWERSIGN = "rule: exp(sign(g) * sign(m)) * g"


def plainly(optimizer: str, child: Child, seed: int) -> tuple[float, float]:
    """(best rate, accuracy): sec. 4.2 written as plainly as possible."""

    def train(lr: float, epochs: int, changes: dict) -> float:
        cls = TASKS.find("convnet")
        settings = cls.Settings(
            **{k: v for k, v in {**child.task, **changes}.items() if k != "name"}
        )
        data = cls.make_data(settings, data_dir=Path("unused"), seed=seed)
        torch.manual_seed(seed)
        task = cls(settings)
        total = epochs * data.steps_per_epoch
        made = make_optimizer(optimizer, task.parameters(), lr=lr, total_steps=total, seed=seed)
        for epoch in range(epochs):
            for images, labels in data.train_batches(epoch):
                made.zero_grad()
                F.cross_entropy(task(images), labels).backward()
                made.step()
        task.eval()
        right = [(task(x).argmax(1) == y).double() for x, y in data.val_batches()]
        return 100 * float(torch.cat(right).mean())

    scored = [(train(lr, child.sweep_epochs, child.sweep), -lr) for lr in child.rates]
    best = -max(scored)[1]
    return best, train(best, child.epochs, {})


@pytest.mark.parametrize("optimizer", [POWERSIGN, "adam", "rule: drop(g, 0.3) * ld"])
def test_the_reward_is_that_of_the_protocol_written_plainly(optimizer):
    child = tiny_child(rates=[0.001, 0.01, 0.1], epochs=2)
    found = evaluate(optimizer, child, CONDITIONS, seed=3)
    lr, accuracy = plainly(optimizer, child, seed=3)
    assert found.status == "healthy"
    assert found.lr == lr
    assert found.reward == pytest.approx(accuracy / 100, abs=1e-12)


def test_the_same_child_gives_the_same_result_twice():
    one, two = (evaluate(POWERSIGN, tiny_child(), CONDITIONS) for _ in range(2))
    assert dataclasses.replace(one, seconds=0) == dataclasses.replace(two, seconds=0)


@pytest.mark.parametrize("optimizer", [POWERSIGN, "adam", "rule: drop(g, 0.3) * ld"])
def test_a_sweep_and_its_rest_give_what_the_whole_child_gives_to_the_bit(optimizer):
    child = tiny_child(rates=[0.001, 0.01, 0.1], epochs=2)
    whole = evaluate(optimizer, child, CONDITIONS, seed=3, test=True)
    sweep = evaluate(optimizer, child, CONDITIONS, seed=3, part="sweep")
    known = Evaluation.from_json(json.loads(json.dumps(sweep.to_json())))
    rest = evaluate(optimizer, child, CONDITIONS, seed=3, test=True, part="rest", swept=known)
    assert (sweep.status, sweep.metrics, sweep.lr) == ("healthy", {}, whole.lr)
    assert sweep.reward == max(value for _, value in sweep.sweep) / 100
    assert sweep.examples + rest.examples == whole.examples
    assert dataclasses.replace(rest, seconds=0, examples=0) == dataclasses.replace(
        whole, seconds=0, examples=0
    )


def test_the_time_of_the_sweep_counts_against_the_rest():
    child = tiny_child(seconds=100)
    spent = Evaluation("healthy", 0.5, 0.1, [(0.01, None), (0.1, 50.0)], seconds=100.0)
    found = evaluate(POWERSIGN, child, CONDITIONS, part="rest", swept=spent)
    assert (found.status, found.reason) == ("overran", "took more than 100 s")


def test_the_default_rates_are_the_papers():
    assert pytest.approx([10.0**i for i in range(-5, 2)]) == PAPER_RATES
    assert Child(task={}).rates == PAPER_RATES
    assert (Child(task={}).sweep_epochs, Child(task={}).epochs) == (1, 5)


def test_a_rate_that_diverges_is_abandoned_at_once_and_does_not_affect_the_others():
    """Two rates make 2 steps of 50 images each, the best makes 4 more; the wild one stops early."""
    with_wild = evaluate("rule: exp(g * 1e4)", tiny_child(rates=[1e-30, 10.0]), CONDITIONS)
    assert dict(with_wild.sweep)[10.0] is None
    calm = evaluate(POWERSIGN, tiny_child(rates=[0.01]), CONDITIONS)
    beside = evaluate(POWERSIGN, tiny_child(rates=[0.01, 1e30]), CONDITIONS)
    assert dict(beside.sweep)[1e30] is None
    assert dict(beside.sweep)[0.01] == dict(calm.sweep)[0.01]
    assert beside.reward == calm.reward
    assert beside.examples - calm.examples <= 100


@pytest.mark.parametrize("rule", ["g / (g - g) * 1e38", "log(g - g)", "g ** 0.5", "exp(1e30 * g)"])
def test_infinities_and_nan_are_a_reward_of_0_with_a_reason(rule):
    found = evaluate(f"rule: {rule}", tiny_child(), CONDITIONS)
    assert (found.status, found.reward) == ("diverged", 0.0)
    assert "every rate diverged" in found.reason
    assert found.examples < 100 * 2 * 2, "it was not trained to the end"


def test_an_exception_is_a_reward_of_0_with_a_reason(monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("in the rule")

    monkeypatch.setattr(Run, "train_step", broken)
    found = evaluate(POWERSIGN, tiny_child(), CONDITIONS)
    assert (found.status, found.reward) == ("failed", 0.0)
    assert found.reason == "ZeroDivisionError: in the rule"


def test_a_slow_child_is_stopped_at_its_time_limit(monkeypatch):
    step = Run.train_step

    def slow(run, batch):
        time.sleep(0.05)
        step(run, batch)

    monkeypatch.setattr(Run, "train_step", slow)
    found = evaluate(POWERSIGN, tiny_child(epochs=1000, seconds=0.2), CONDITIONS)
    assert (found.status, found.reward) == ("overran", 0.0)
    assert "0.2 s" in found.reason


@pytest.mark.parametrize(
    "failure",
    [
        MemoryError(),
        OSError(116, "Stale file handle"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: uncorrectable ECC error encountered"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_failures_of_the_machine_are_raised_and_not_scored(monkeypatch, failure):
    def fails(*_, **__):
        raise failure

    monkeypatch.setattr(Run, "train_step", fails)
    with pytest.raises(type(failure)):
        evaluate(POWERSIGN, tiny_child(), CONDITIONS)


def test_asked_to_stop_it_stops_between_two_steps():
    with pytest.raises(Stopped):
        evaluate(POWERSIGN, tiny_child(), CONDITIONS, stop=lambda: True)


def test_the_best_rate_follows_the_metric_s_direction_and_ties_go_to_the_smaller():
    sweep = [(0.01, 50.0), (0.1, 50.0), (1.0, None)]
    assert best_rate(sweep, ACCURACY) == 0.01
    assert best_rate([(0.01, 9.0), (0.1, 2.0)], PERPLEXITY) == 0.1
    assert best_rate([(0.01, None)], ACCURACY) is None


def test_a_metric_to_be_minimised_gives_a_larger_reward_the_smaller_it_is():
    rewards = [reward_of("ptb_lstm", {"val_perplexity": x}) for x in (1.0, 10.0, 1e6)]
    assert rewards == [1.0, 0.1, 1e-6]
    assert reward_of("ptb_lstm", {"val_perplexity": math.inf}) is None


def test_a_value_that_the_metric_cannot_have_is_an_error_that_names_the_task_and_the_value():
    said = "task convnet: accuracy is 950, outside its declared range, 0 to 100"
    with pytest.raises(ConfigError, match=said):
        reward_of("convnet", {"val_accuracy": 950.0})


def test_the_test_images_are_measured_only_when_asked_for():
    child = tiny_child()
    assert "test_accuracy" not in evaluate(POWERSIGN, child, CONDITIONS).metrics
    tested = evaluate(POWERSIGN, child, CONDITIONS, test=True)
    assert "test_accuracy" in tested.metrics
    assert tested.reward == evaluate(POWERSIGN, child, CONDITIONS).reward


def test_the_curve_has_the_metric_of_every_epoch_and_changes_no_other_number():
    child = tiny_child(epochs=3)
    plain = evaluate(POWERSIGN, child, CONDITIONS)
    found = evaluate(POWERSIGN, child, CONDITIONS, curve=True)
    assert plain.curve == []
    assert dataclasses.replace(found, curve=[], seconds=0.0) == dataclasses.replace(
        plain, seconds=0.0
    )
    shorter = evaluate(POWERSIGN, tiny_child(epochs=2), CONDITIONS)  # no decay: the same two epochs
    assert found.curve[1:] == [shorter.metrics["val_accuracy"], plain.metrics["val_accuracy"]]


def test_an_evaluation_survives_a_round_trip_through_json():
    found = Evaluation("healthy", 0.5, 0.1, [(0.1, 50.0), (1.0, None)], {"val_loss": 1.0}, 3, 0.2)
    assert Evaluation.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rates": []}, "child.rates"),
        ({"rates": [0.1, 0.1]}, "different"),
        ({"rates": [-1.0]}, "positive"),
        ({"rates": [math.inf]}, "finite"),
        ({"epochs": 0}, "child.epochs"),
        ({"sweep_epochs": 0}, "child.sweep_epochs"),
        ({"seconds": 0.0}, "child.seconds"),
    ],
)
def test_impossible_children_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        tiny_child(**changes)


def test_a_child_that_ends_the_program_has_failed(monkeypatch):
    monkeypatch.setattr(Run, "train_step", lambda *_: sys.exit(0))
    found = evaluate(POWERSIGN, tiny_child(), CONDITIONS)
    assert found.status == "failed"
    assert "EndsProgram: it ends the program" in found.reason
