"""A table of rules: its strings by number, its distinct rules, how it is made, and its files."""

import csv
import dataclasses
import gzip
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nos_repro.cli import main
from nos_repro.errors import ConfigError, DataError, LaunchError, RuleError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.device import DeviceSettings
from nos_repro.experiments.files import this_host, write_json
from nos_repro.experiments.heartbeat import Lease
from nos_repro.experiments.load import task_section
from nos_repro.launch.base import Report
from nos_repro.launch.local import InProcess
from nos_repro.launch.work import run_job
from nos_repro.report.nosbench.card import card
from nos_repro.rules.numbering import all_strings, number_of, string_of
from nos_repro.rules.rule import Rule
from nos_repro.rules.space import Space
from nos_repro.search import table
from nos_repro.search.child import Child, broken, evaluate
from nos_repro.search.equality import key_of
from nos_repro.search.failure import ChildError
from nos_repro.search.loop import MAX_FAILED
from nos_repro.search.probe import probe
from nos_repro.search.refusals import Refusals
from nos_repro.search.table import files, progress
from nos_repro.search.table.files import read_packed, write_packed
from nos_repro.search.table.grouping import distinct_rules
from nos_repro.search.table.job import PackJob
from nos_repro.search.table.make import TableMaker
from nos_repro.search.table.settings import TablePart, TableSettings, TableTask, load_table_settings
from nos_repro.search.table.verify import Verified, verify
from tests.conftest import ROOT

CONFIGS = ROOT / "configs" / "nosbench"
SMALL = Space(("g", "m", "sign(g)"), ("identity", "exp"), ("+", "*", "keep_left"), 1)
DEEP = Space(("g", "m"), ("identity", "drop0.3"), ("*", "keep_left"), 2)
CHILD = Child(
    task=task_section({"name": "mlp", "train_images": 40, "validation_images": 100}),
    rates=[0.01, 0.1],
    epochs=2,
)


class Silent:
    """A display that shows nothing."""

    def note(self, message: str) -> None: ...

    def update_table(self, what: str, done: int, total: int) -> None: ...


def settings(**changes) -> TableSettings:
    values = {
        "table": "tiny",
        "space": dataclasses.asdict(SMALL),
        "tasks": {"digits": TableTask(CHILD, [TablePart([0])], together=3)},
    }
    return TableSettings(**{**values, **changes})


def make(
    folder: Path, asked: TableSettings | None = None, *, retry: bool = False
) -> table.RuleTable:
    launcher = InProcess()
    TableMaker(asked or settings(), folder, launcher, Conditions(folder), Silent()).run()
    return table.load(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A small table."""
    folder = tmp_path_factory.mktemp("made") / "tiny"
    make(folder)
    return folder


def numbers(loaded: table.RuleTable) -> dict:
    """All that must come out again: not the seconds."""
    return {
        (task, row.rule, row.seed): row.numbers
        for task in loaded.tasks
        for row in loaded.packed.rows[task]
    }


@pytest.mark.parametrize("space", [SMALL, DEEP])
def test_every_string_has_the_number_of_its_place_and_is_found_by_it(space):
    strings = list(all_strings(space))
    assert len(strings) == len({tuple(tokens) for tokens in strings}) == space.size
    for number, tokens in enumerate(strings):
        space.check(tokens)
        assert number_of(space, tokens) == number
        assert string_of(space, number) == tokens


def test_a_string_of_another_space_has_no_number():
    for tokens in (["g", "v", "exp", "exp", "*"], ["g", "m", "exp", "exp"], ["g", "m"] * 5):
        with pytest.raises(RuleError, match="token"):
            number_of(SMALL, tokens)


@pytest.mark.parametrize("space", [SMALL, DEEP])
def test_strings_are_grouped_as_a_search_groups_what_it_draws(space):
    rules, of_string = distinct_rules(space, Refusals())
    keys = [key_of(Rule.from_tokens(tokens))[0] for tokens in all_strings(space)]
    assert [rules[number].key for number in of_string] == keys
    assert len({rule.key for rule in rules}) == len(rules) == len(set(keys))
    for number, rule in enumerate(rules):
        mine = [Rule.from_tokens(t) for t, n in zip(all_strings(space), of_string, strict=True)
                if n == number]  # fmt: skip
        assert rule.strings == len(mine)
        assert rule.text in {str(one) for one in mine}
        assert len(rule.text) == min(len(str(one)) for one in mine if len(str(one)))
        assert rule.refused == (probe(Rule.parse(rule.text)) or "")


def test_a_row_is_what_the_child_finds(made):
    loaded = table.load(made)
    for number, rule in enumerate(loaded.rules[:4]):
        if rule.refused:
            assert loaded.row("digits", number) is None
            assert loaded.rewards("digits")[number] == 0
            continue
        found = evaluate(f"rule: {rule.text}", CHILD, Conditions(made), curve=True)
        row = loaded.row("digits", number)
        assert row.reward == found.reward == loaded.rewards("digits")[number]
        assert (row.lr, list(row.curve)) == (found.lr, found.curve)
        assert row.sweep == tuple(metric for _, metric in found.sweep)


def test_the_section_device_is_recorded_and_changes_no_number_on_a_cpu(made, tmp_path):
    file = tmp_path / "tiny.yaml"
    child = "task: {name: mlp, train_images: 40, validation_images: 100}, rates: [0.01, 0.1]"
    file.write_text(
        "table: tiny\nspace: {operands: [g, m, sign(g)], unary: [identity, exp],"
        " binary: ['+', '*', keep_left], iterations: 1}\n"
        f"tasks: {{digits: {{child: {{{child}, epochs: 2}}, together: 3}}}}\n"
        "device: {tf32: true, resident: true}\n"
    )
    asked = load_table_settings(file, scale="default")
    assert asked.device == DeviceSettings(tf32=True, resident=True)
    other = load_table_settings(file, scale="default", overrides=["device.tf32=false"])
    assert asked.identity() == other.identity()
    assert main(["table", str(file), "--results", str(tmp_path), "--workers", "1"]) == 0
    ours, plain = table.load("tiny", tmp_path).packed, table.load(made).packed
    assert [row.numbers for row in ours.rows["digits"]] == [
        row.numbers for row in plain.rows["digits"]
    ]
    held = [entry["device_settings"] for entry in (*ours.made, *plain.made)]
    assert [each["resident"] for each in held] == [True, False]
    assert not any(each["tf32"] for each in held), "a CPU has no TensorFloat-32"


def test_a_section_device_with_an_unknown_key_is_refused(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text((CONFIGS / "signs.yaml").read_text() + "device: {tf23: true}\n")
    with pytest.raises(ConfigError, match=r"unknown key .*tf23"):
        load_table_settings(file)


def test_every_string_leads_to_its_rule_s_reward(made):
    loaded = table.load(made)
    tokens = ["m", "g", "identity", "identity", "*"]
    rule = loaded.rules[loaded.rule_of(tokens)]
    assert Rule.parse(rule.text).fingerprint() == Rule.from_tokens(tokens).fingerprint()
    with pytest.raises(RuleError, match="did you mean"):
        loaded.rule_of(["m", "gg", "identity", "identity", "*"])


def test_a_table_says_what_it_lacks(made, tmp_path):
    loaded = table.load(made)
    with pytest.raises(KeyError, match="no seed 7"):
        loaded.rewards("digits", seed=7)
    with pytest.raises(KeyError, match="cifar10"):
        loaded.rewards("cifar10")
    with pytest.raises(DataError, match="no table in"):
        table.load("nothing", results=tmp_path)


def test_the_same_table_is_the_same_bytes_and_pandas_could_read_it(made, tmp_path):
    other = tmp_path / "tiny"
    make(other)
    names = sorted(path.name for path in made.iterdir() if path.is_file())
    assert names == ["digits.csv.gz", "rules.csv.gz", "strings.bin.gz", "table.json"]
    for name in ("rules.csv.gz", "strings.bin.gz"):
        assert (made / name).read_bytes() == (other / name).read_bytes()
    with gzip.open(made / "digits.csv.gz", "rt", newline="") as file:
        lines = list(csv.DictReader(file))
    loaded = table.load(made)
    assert [float(line["reward"]) for line in lines] == [
        loaded.rewards("digits")[int(line["rule"])] for line in lines
    ]
    assert list(lines[0])[5:9] == ["rate_0.01", "rate_0.1", "epoch_1", "epoch_2"]


def test_rows_trained_again_come_out_equal_and_a_changed_number_is_noticed(made, tmp_path):
    folder = tmp_path / "tiny"
    shutil.copytree(made, folder)

    def verified() -> list[Verified]:
        return list(verify(folder, 99, InProcess(), Conditions(folder), Silent()))

    found = verified()
    assert len(found) == len(numbers(table.load(folder)))
    assert not any(each.differs or each.stale for each in found)
    packed = read_packed(folder)
    first, *others = packed.rows["digits"]
    packed.rows["digits"] = [dataclasses.replace(first, reward=first.reward + 1e-9), *others]
    write_packed(folder, packed)
    (wrong,) = [each for each in verified() if each.differs]
    assert wrong.rule == packed.rules[first.rule].text
    assert wrong.differs == {"reward": (first.reward + 1e-9, first.reward)}


def test_the_pace_begins_anew_with_each_part_of_a_task(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    pace = progress.Pace()
    assert pace.line("cifar10", 423, 1158) == "cifar10: 423 of 1,158 rows"
    now[0] += 3600
    assert "; 735 an hour" in pace.line("cifar10", 1158, 1158)
    assert pace.line("cifar10", 0, 400) == "cifar10: 0 of 400 rows"
    now[0] += 36
    assert "10 of 400 rows; 1,000 an hour, about 23 min left" in pace.line("cifar10", 10, 400)


def test_a_second_process_is_refused_while_one_is_at_work(made, tmp_path):
    folder = tmp_path / "tiny"
    shutil.copytree(made, folder)
    other = Lease(this_host(), os.getppid(), time.time(), token="other")
    (folder / "claim.json").write_text(json.dumps(dataclasses.asdict(other)))
    with pytest.raises(ConfigError, match=f"process {os.getppid()} on .* is working there"):
        make(folder)


COMMITTED = sorted(path.parent for path in (ROOT / "results" / "nosbench").glob("*/table.json"))


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda folder: folder.name)
def test_a_committed_table_groups_strings_as_a_search_does(folder):
    sizes = {"signs": (19_200, 1_219), "adam": (174_960, 12_219), "tuning": (19_008, 10_559)}
    loaded = table.load(folder)
    assert (loaded.space.size, len(loaded.rules)) == sizes[loaded.name]
    assert len({rule.key for rule in loaded.rules}) == len(loaded.rules)
    counts = np.bincount(loaded.rule_of_index, minlength=len(loaded.rules))
    assert counts.tolist() == [rule.strings for rule in loaded.rules]
    source = random.Random(loaded.name)
    for number in source.sample(range(loaded.space.size), 60):
        rule = Rule.from_tokens(string_of(loaded.space, number))
        assert key_of(rule)[0] == loaded.rules[loaded.rule_of_index[number]].key
    for rule in source.sample(loaded.rules, 20):
        assert key_of(Rule.parse(rule.text))[0] == rule.key
        assert rule.refused == (probe(Rule.parse(rule.text)) or "")


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda folder: folder.name)
def test_the_card_of_a_committed_table_is_that_of_its_numbers(folder):
    assert (folder / "README.md").read_text(encoding="utf-8") == card(folder)


def test_the_verb_verifies_and_says_which_row_differs(tmp_path, capsys):
    words = ["table", str(CONFIGS / "tuning.yaml"), "--scale", "smoke", "--results", str(tmp_path)]
    words += ["--workers", "0"]
    assert main(words) == 0
    assert main([*words, "--verify", "2"]) == 0
    assert "2 of 2 rows came out equal to the bit" in capsys.readouterr().out
    folder = tmp_path / "nosbench" / "tuning-smoke"
    packed = read_packed(folder)
    packed.rows["digits"] = [dataclasses.replace(row, lr=3.0) for row in packed.rows["digits"]]
    write_packed(folder, packed)
    assert main([*words, "--verify", "1"]) == 1
    assert "lr: the table says 3.0, now it is" in capsys.readouterr().out
    assert main([*words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert f"{len(packed.rows['digits'])} of {len(packed.rows['digits'])} children" in said
    assert main(["report", *words[1:-2], "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["rules"] == len(packed.rules)
    text = (folder / "README.md").read_text()
    for word in ("tuning", "digits.csv.gz", "| rule | mean reward |", "BSD-3-Clause"):
        assert word in text


def test_a_clone_extends_a_table_from_its_packed_files_alone(made, tmp_path):
    clone = tmp_path / "tiny"
    shutil.copytree(made, clone)
    before = numbers(table.load(clone))
    parts = [TablePart([0]), TablePart([3], best=2, random=2)]
    loaded = make(clone, settings(tasks={"digits": TableTask(CHILD, parts, together=2)}))
    after = numbers(loaded)
    assert {place: row for place, row in after.items() if place in before} == before
    more = [rule for _, rule, seed in after if seed == 3]
    rewards = loaded.rewards("digits", 0)
    best = sorted(range(len(rewards)), key=lambda number: (-rewards[number], number))[:2]
    assert set(best) < set(more)
    assert len(more) == 4
    assert np.isfinite(loaded.rewards("digits", 3)[best]).all()
    assert loaded.seeds("digits") == [0, 3]


def test_a_folder_with_another_table_is_refused_with_what_differs(made, tmp_path):
    child = dataclasses.replace(CHILD, epochs=3)
    with pytest.raises(ConfigError, match=r"tasks.digits.child.epochs: was 2, is 3"):
        make(made, settings(tasks={"digits": TableTask(child)}))
    space = {**dataclasses.asdict(SMALL), "unary": ["identity"]}
    with pytest.raises(ConfigError, match=r"space\.unary"):
        make(made, settings(space=space))


def test_a_table_from_before_a_setting_of_the_space_or_the_child_goes_on(made, tmp_path):
    folder = shutil.copytree(made, tmp_path / "copy")
    packed = read_packed(folder)
    assert packed is not None
    del packed.settings["space"]["no_final_keep_left"]
    del packed.settings["tasks"]["digits"]["environment"]
    del packed.settings["tasks"]["digits"]["task"]["augment"]
    write_packed(folder, packed)
    assert numbers(make(folder)) == numbers(table.load(made))


def spoilt(folder: Path, name: str, how: str) -> str:
    """Spoils a file of a table; returns what the error must say."""
    path = folder / name
    data = path.read_bytes()
    match how:
        case "missing":
            path.unlink()
        case "truncated":
            path.write_bytes(data[: len(data) // 2])
        case "empty":
            path.write_bytes(b"")
        case "foreign":
            path.write_bytes(gzip.compress(b"key\n1\n") if name.endswith("gz") else b"[1, 2]")
        case "later":
            path.write_text(json.dumps({**json.loads(data), "format": 99}))
    return name


class Crash(BaseException):
    """The end of the process, as far as the files can tell."""


def test_killed_between_two_of_its_files_a_table_can_be_read_and_goes_on(
    made, tmp_path, monkeypatch
):
    """Each file is the one before or the one after; what a task lacks is in the log still."""
    folder, write = tmp_path / "tiny", files.write_atomically
    before = read_packed(made).rows["digits"]
    after = [*before, *(dataclasses.replace(row, seed=1) for row in before)]
    whole = None
    for last in range(1, 9):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made, folder)
        written = []

        def dying(path, data, written=written, last=last):
            if len(written) == last:
                raise Crash
            written.append(path.name)
            write(path, data)

        packed = read_packed(folder)
        packed.settings["tasks"]["again"] = packed.settings["tasks"]["digits"]
        packed.rows = {"digits": after, "again": before}
        with monkeypatch.context() as patched:
            patched.setattr(files, "write_atomically", dying)
            try:
                write_packed(folder, packed)
            except Crash:
                found = read_packed(folder).rows
                assert found["digits"] in (before, after)
                assert found["again"] in ([], before)
                continue
        assert read_packed(folder).rows == packed.rows
        assert "before" not in json.loads((folder / "table.json").read_text())
        whole = written
        break
    assert whole == ["table.json", "digits.csv.gz", "again.csv.gz", "table.json"]


@pytest.mark.parametrize("how", ["missing", "truncated", "empty", "foreign"])
@pytest.mark.parametrize("name", ["rules.csv.gz", "strings.bin.gz", "digits.csv.gz", "table.json"])
def test_a_damaged_table_is_one_error_that_names_the_file(made, tmp_path, name, how):
    folder = tmp_path / "tiny"
    shutil.copytree(made, folder)
    said = spoilt(folder, name, how)
    with pytest.raises(DataError, match="no table in" if (name, how) == ("table.json", "missing")
                       else said):  # fmt: skip
        table.load(folder)


# fmt: off
HEADS = [
    ("tasks", [1]), ("tasks", {"digits": {"task": []}}), ("tasks", {"digits": {"task": {"a": 1}}}),
    ("made", {"a": 1}), ("made", [3]), ("files", 3), ("before", 3), ("space", {"operands": 3}),
]
# fmt: on


@pytest.mark.parametrize(("key", "value"), HEADS)
def test_a_head_with_other_things_in_it_is_one_error_that_names_it(made, tmp_path, key, value):
    folder = tmp_path / "tiny"
    shutil.copytree(made, folder)
    head = {**json.loads((folder / "table.json").read_text()), key: value}
    (folder / "table.json").write_text(json.dumps(head))
    with pytest.raises(DataError, match=r"table.json is damaged"):
        table.load(folder)


def test_a_table_of_a_later_format_is_refused(made, tmp_path):
    folder = tmp_path / "tiny"
    shutil.copytree(made, folder)
    spoilt(folder, "table.json", "later")
    with pytest.raises(DataError, match="format 99"):
        table.load(folder)


class Fated:
    """A launcher whose n-th job (from 0) has its fate drawn by ``fate``: "recorded" trains it,
    "failed" answers that the task broke, anything else is the outcome of a job without an
    answer."""

    def __init__(self, fate) -> None:
        self.fate = fate
        self.trained = 0
        self.job = None

    word = "running"

    @property
    def free(self) -> int:
        return 1 if self.job is None else 0

    def submit(self, job: PackJob) -> None:
        self.job = job

    def wait(self, seconds: float) -> list[Report]:
        job, self.job = self.job, None
        if job is None:
            return []
        fate = self.fate(self.trained)
        self.trained += 1
        if fate == "recorded":
            return [run_job(job, lambda: False)]
        if fate == "failed":
            answers = {key: broken(ValueError("a wrong size")).to_json() for key in job.rules}
            write_json(job.path, answers)
            return [Report(job, "recorded")]
        return [Report(job, fate, "as the test wished")]

    def close(self) -> list[Report]:
        return []


def run_with(launcher, folder: Path, **changes) -> table.RuleTable:
    asked = settings(tasks={"digits": TableTask(CHILD, [TablePart([0])], together=1)})
    TableMaker(asked, folder, launcher, Conditions(folder), Silent(), **changes).run()
    return table.load(folder)


def test_a_worker_that_vanishes_once_loses_nothing(made, tmp_path):
    loaded = run_with(Fated(lambda n: "lost" if n == 2 else "recorded"), tmp_path / "tiny")
    assert numbers(loaded) == numbers(table.load(made))


def test_workers_that_vanish_again_and_again_stop_the_making_and_what_is_known_stays(
    made, tmp_path
):
    folder = tmp_path / "tiny"
    with pytest.raises(LaunchError, match="its worker vanished"):
        run_with(Fated(lambda n: "recorded" if n < 2 else "lost"), folder)
    assert len(numbers(table.load(folder))) == 2
    assert numbers(run_with(Fated(lambda n: "recorded"), folder)) == numbers(table.load(made))


def test_a_child_that_hangs_has_overrun_and_the_others_are_trained(made, tmp_path):
    loaded = run_with(Fated(lambda n: "overran" if n == 1 else "recorded"), tmp_path / "tiny")
    before, after = numbers(table.load(made)), numbers(loaded)
    (changed,) = [place for place in before if before[place] != after[place]]
    row = loaded.row("digits", changed[1])
    assert (row.status, row.reward) == ("overran", 0.0)
    again = run_with(Fated(lambda n: "recorded"), tmp_path / "tiny", retry=True)
    assert numbers(again) == numbers(table.load(made))


class Hanging(Fated):
    """A launcher whose jobs hang at one rule; what a job found before that was not saved yet."""

    def __init__(self, text: str) -> None:
        super().__init__(lambda n: "recorded")
        self.text = text

    def wait(self, seconds: float) -> list[Report]:
        if self.job is None or self.text not in self.job.rules.values():
            return super().wait(seconds)
        job, self.job = self.job, None
        return [Report(job, "overran", "killed after 99 s")]


def test_of_several_rules_in_one_job_the_one_that_hangs_is_found_out(made, tmp_path):
    """The first of them without an answer need not be the one: answers are saved from time to
    time."""
    before = numbers(table.load(made))
    rules = table.load(made).rules
    sound = [number for number, rule in enumerate(rules) if not rule.refused]
    hangs = next(n for n in sound if n - 1 in sound and (n - 1) // 3 == n // 3)  # not the first
    launcher = Hanging(f"rule: {rules[hangs].text}")
    folder = tmp_path / "tiny"
    TableMaker(settings(), folder, launcher, Conditions(folder), Silent()).run()
    loaded = table.load(folder)
    after = numbers(loaded)
    (changed,) = [place for place in before if before[place] != after[place]]
    assert changed[1] == hangs
    assert loaded.row("digits", hangs).status == "overran"


def test_a_bug_is_no_reward_and_is_tried_again_when_asked_for(made, tmp_path):
    folder = tmp_path / "tiny"
    loaded = run_with(Fated(lambda n: "failed" if n == 1 else "recorded"), folder)
    (failed,) = [row for row in loaded.packed.rows["digits"] if row.status == "failed"]
    assert np.isnan(loaded.rewards("digits")[failed.rule])
    assert "a wrong size" in failed.reason
    assert numbers(run_with(Fated(lambda n: "lost"), folder)) == numbers(loaded)
    again = run_with(Fated(lambda n: "recorded"), folder, retry=True)
    assert numbers(again) == numbers(table.load(made))


def test_a_task_that_always_breaks_stops_the_making(tmp_path):
    launcher = Fated(lambda n: "failed")
    with pytest.raises(ChildError, match="a wrong size"):
        run_with(launcher, tmp_path / "tiny")
    assert launcher.trained == MAX_FAILED


def test_killed_in_the_middle_a_table_ends_as_if_it_had_not_been_killed(made, tmp_path):
    """SIGKILL hits the maker, and the next one goes on from what it has logged."""
    file = tmp_path / "tiny.yaml"
    values = {
        "table": "tiny",
        "space": {**dataclasses.asdict(SMALL)},
        "tasks": {"digits": {"child": dataclasses.asdict(CHILD), "together": 2}},
    }
    file.write_text(json.dumps(json.loads(json.dumps(values))))  # JSON is YAML
    words = ["table", str(file), "--results", str(tmp_path), "--workers", "0"]
    command = [sys.executable, "-m", "nos_repro", *words, "--scale", "default"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    folder = tmp_path / "nosbench" / "tiny"
    log = folder / "work.jsonl"
    deadline = time.monotonic() + 120
    while not log.exists() or log.stat().st_size < 2000:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    with log.open("ab") as torn:
        torn.write(b'{"event": "tra')
    assert main(words) == 0
    assert not log.exists()
    assert numbers(table.load(folder)) == numbers(table.load(made))


@pytest.mark.parametrize("name", ["signs", "adam", "tuning"])
def test_the_files_that_ship_can_be_read_at_every_scale(name):
    for scale in ("full", "smoke"):
        found = load_table_settings(CONFIGS / f"{name}.yaml", scale=scale)
        assert found.folder(Path("r")).name == (name if scale == "full" else f"{name}-smoke")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ("tasks.digits.together=0", "together must be at least 1"),
        ("tasks.digits.parts=[{seeds: [0], best: 2}]", "first part of digits must have all rules"),
        ("tasks.digits.parts=[{seeds: [0, 0]}]", "must be different"),
        ("tasks.digits.parts=[{seeds: [0]}, {seeds: [0], best: 2}]", "belongs to one part only"),
        ("tasks.digits.child.rates=[]", "rates must be different numbers"),
        ("tasks.digits.child.task.hidden=0", "task.hidden must be at least 1"),
        ("tasks.digits.parts=[{seeds: [0]}, {seeds: [1], best: 1, by: cifar}]", "cifar10"),
        ("space.operands=[g, gg]", "gg"),
    ],
)
def test_impossible_settings_are_refused_with_their_place(changes, words):
    with pytest.raises(ConfigError, match=words):
        load_table_settings(CONFIGS / "signs.yaml", overrides=[changes])
