"""A log, checkpoint or settings that someone edited: one error, or exactly the same result."""

import copy
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nos_repro.cli import main
from nos_repro.errors import ConfigError, NosError
from nos_repro.report.search.files import print_report, search_tables
from nos_repro.report.search.history import read_history
from nos_repro.search.log import Log, LogError
from nos_repro.search.loop import SearchLoop
from nos_repro.search.settings import load_search
from tests.search.helpers import Instant, loop
from tests.search.test_loop import assert_same, final

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "search.yaml"
SMALLER = ["samples=24", "controller.hidden=8"]
SEARCH = load_search(CONFIG, scale="smoke", overrides=SMALLER, trying=False)
KINDS = ("session", "proposed", "evaluated", "withdrawn", "reopened", "updated", "named")
MISSING = object()
VALUES = (MISSING, None, "text", "", -1, 0, 3, 10**30, 0.25, 5.0, float("nan"), True, [], ["x"],
          [1.5], [None], [-1.0] * 5, {}, {"x": "y"})  # fmt: skip


def fate(n: int, job: Any) -> str:
    return {2: "failed", 4: "overran", 6: "lost", 7: "lost", 8: "lost"}.get(n, "recorded")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search whose two logs hold every kind of event."""
    folder = tmp_path_factory.mktemp("made") / "search" / "smoke"
    loop(folder, Instant(slots=2, fate=fate), SEARCH).run()
    loop(folder, Instant(slots=2), SEARCH, retry=True).run()
    result = {"status": "healthy", "reward": 0.5, "lr": 0.1, "sweep": [[0.1, 50.0]],
              "metrics": {"val_accuracy": 50.0, "test_accuracy": 51.0}, "seconds": 1.0}  # fmt: skip
    beside = Log(folder / "named.jsonl")
    baselines = [
        {"event": "named", "purpose": "baseline", "name": name, "optimizer": optimizer, "seed": 0}
        for name, optimizer in SEARCH.baselines.items()
    ]
    again = {**baselines[0], "purpose": "confirm", "seed": 1}
    found = {**again, "name": "g", "optimizer": "rule: g"}
    beside.append([{**each, "evaluation": result} for each in (*baselines, again, found)])
    kinds = {event["event"] for event in events(folder)}
    assert kinds | {"named"} == set(KINDS)
    return folder


def events(folder: Path, name: str = "log.jsonl") -> list[dict[str, Any]]:
    return list(Log(folder / name).read())


def copied(made: Path, results: Path) -> Path:
    shutil.rmtree(results / "search", ignore_errors=True)
    return Path(shutil.copytree(made, results / "search" / "smoke"))


def resumed(folder: Path) -> SearchLoop:
    resumed = loop(folder, Instant(), SEARCH)
    resumed.run()
    return resumed


def report(folder: Path) -> str:
    results = folder.parent.parent
    history = read_history(CONFIG, results, scale="smoke", overrides=SMALLER)
    return print_report(history, "text", search_tables(history))


def write_unlinked(folder: Path, name: str, changed: list[dict[str, Any]]) -> None:
    """As a version that did not link its lines wrote them, or an editor who takes the links out."""
    text = "".join(json.dumps(event, sort_keys=True) + "\n" for event in changed)
    (folder / name).write_text(text)


def changes(event: dict[str, Any], others: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The event with each of its fields changed to something else."""
    for key in sorted(event):
        likely = [other[key] for other in others if other.get(key, event[key]) != event[key]]
        for value in (*VALUES, *likely[:2]):
            changed = copy.deepcopy(event)
            if value is MISSING:
                del changed[key]
            else:
                changed[key] = value
            if json.dumps(changed) != json.dumps(event):
                yield changed
    yield {**event, "foreign": [{"deep": None}]}


FEW = {"log.jsonl": 16, "named.jsonl": 2}
"""One in so many changes is tried where each takes a resumed search and a report."""


def places(log: list[dict[str, Any]]) -> list[tuple[int, list[dict[str, Any]]]]:
    """One event of each kind and status, with the others like it."""
    groups: dict[tuple[str, Any], list[int]] = {}
    for number, event in enumerate(log):
        groups.setdefault((event["event"], event.get("status")), []).append(number)
    source = random.Random(16)
    return [
        (chosen, [log[n] for n in numbers if n != chosen])
        for numbers in groups.values()
        for chosen in [source.choice(numbers)]
    ]


@pytest.mark.parametrize("name", ["log.jsonl", "named.jsonl"])
def test_any_edit_of_a_linked_log_is_refused(made: Path, tmp_path: Path, name: str) -> None:
    """Whatever field, whatever event; the line's own link is kept, as an editor would."""
    path = copied(made, tmp_path) / name
    lines = path.read_bytes().splitlines(keepends=True)
    log = events(made, name)
    for number, others in places(log):
        link = lines[number][lines[number].rindex(b',"chain"') :]
        for changed in changes(log[number], others):
            text = json.dumps(changed, sort_keys=True, separators=(",", ":")).encode()
            edited = [*lines[:number], text.removesuffix(b"}") + link, *lines[number + 1 :]]
            path.write_bytes(b"".join(edited))
            with pytest.raises(LogError):
                list(Log(path).read())


def test_a_reward_that_was_edited_stops_the_search_with_one_error(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its length no other, beside a good checkpoint."""
    folder = copied(made, tmp_path)
    path = folder / "log.jsonl"
    before = path.read_text()
    reward = next(e["reward"] for e in events(folder) if e.get("status") == "healthy")
    other = str(reward)[:-1] + str((int(str(reward)[-1]) + 1) % 10)
    path.write_text(before.replace(f'"reward":{reward}', f'"reward":{other}', 1))
    assert path.stat().st_size == len(before)
    words = [str(CONFIG), "--scale", "smoke", "--results", str(tmp_path), *SMALLER]
    for verb in ("search", "report"):
        assert main([verb, *words]) == 2
        said = capsys.readouterr().err
        assert "one was edited, added or taken out" in said
        assert "Traceback" not in said


@pytest.mark.parametrize("name", ["log.jsonl", "named.jsonl"])
def test_a_log_without_links_ends_in_one_error_or_is_read(
    made: Path, tmp_path: Path, name: str
) -> None:
    """Its fields are checked one by one; never a traceback, when resumed nor in a report."""
    log = events(made, name)
    accepted = refused = 0
    for number, others in places(log):
        for changed in list(changes(log[number], others))[:: FEW[name]]:
            folder = copied(made, tmp_path)
            (folder / "checkpoint.pt").unlink()
            write_unlinked(folder, name, [*log[:number], changed, *log[number + 1 :]])
            try:
                if name == "log.jsonl":
                    resumed(folder)
                report(folder)
                accepted += 1
            except NosError:
                refused += 1
    assert refused > accepted


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda log: log.pop(index(log, "updated", 1)), "update 2 of the policy is missing"),
        (lambda log: log.pop(index(log, "evaluated", 3)), "update|policy|cannot be"),
        (lambda log: log.pop(index(log, "proposed", 3)), "sample 3 cannot be evaluated here"),
        (lambda log: log[index(log, "updated", 1)]["samples"].reverse(), "update 2 is not what"),
        (lambda log: log[index(log, "updated", 1)].update(policy=9), "update 9 is not what"),
        (lambda log: log[index(log, "proposed", 9)].update(policy=0), "not of the policy before"),
        (lambda log: log[index(log, "proposed", 9)].update(log_probs=[-1.0]), "log-probabilities"),
        (lambda log: log[index(log, "proposed", 9)].update(log_probs=[]), "be learned from"),
        (lambda log: log[index(log, "proposed", 9)].update(tokens=["v"] * 5), "not of this space"),
    ],
)
def test_a_history_that_cannot_have_happened_is_refused(
    made: Path, tmp_path: Path, spoil: Any, words: str
) -> None:
    folder = copied(made, tmp_path)
    (folder / "checkpoint.pt").unlink()
    log = events(folder)
    spoil(log)
    write_unlinked(folder, "log.jsonl", log)
    with pytest.raises(LogError, match=words):
        resumed(folder)


def index(log: list[dict[str, Any]], kind: str, nth: int) -> int:
    return [n for n, event in enumerate(log) if event["event"] == kind][nth]


def test_a_checkpoint_of_another_search_or_an_edited_one_changes_nothing(
    made: Path, tmp_path: Path
) -> None:
    expected = final(resumed(copied(made, tmp_path)))
    other = load_search(CONFIG, scale="smoke", overrides=[*SMALLER, "seed=1"], trying=False)
    loop(tmp_path / "other", Instant(slots=2), other).run()
    saved = torch.load(made / "checkpoint.pt", weights_only=True)
    moved = {**saved, "state": saved["state"].clone()}
    moved["state"][len(moved["state"]) // 2] += 1
    shorter = {**saved, "offset": 0, "digest": Log(tmp_path / "none").digest()}
    foreign = torch.load(tmp_path / "other" / "checkpoint.pt", weights_only=True)
    foreign |= {"offset": saved["offset"], "digest": saved["digest"]}
    for edited in (moved, shorter, foreign):
        folder = copied(made, tmp_path)
        torch.save(edited, folder / "checkpoint.pt")
        again = resumed(folder)
        assert any("rebuilt from the log" in note for note in again.display.notes)
        assert_same(final(again), expected)


def test_lost_settings_are_known_from_the_log(made: Path, tmp_path: Path) -> None:
    folder = copied(made, tmp_path)
    (folder / "settings.json").unlink()
    faster = load_search(
        CONFIG, scale="smoke", overrides=[*SMALLER, "algorithm.lr=0.5"], trying=False
    )
    with pytest.raises(ConfigError, match=r"algorithm.lr: was 0.01, is 0.5"):
        loop(folder, Instant(), faster).run()
    resumed(folder)
    assert json.loads((folder / "settings.json").read_text()) == SEARCH.identity()


def test_settings_that_were_edited_do_not_hide_what_the_log_tells(
    made: Path, tmp_path: Path
) -> None:
    folder = copied(made, tmp_path)
    faster = load_search(
        CONFIG, scale="smoke", overrides=[*SMALLER, "algorithm.lr=0.5"], trying=False
    )
    (folder / "settings.json").write_text(json.dumps(faster.identity()))
    with pytest.raises(ConfigError, match=r"algorithm.lr: was 0.01, is 0.5"):
        loop(folder, Instant(), faster).run()


def test_an_older_log_without_its_settings_is_refused(made: Path, tmp_path: Path) -> None:
    folder = copied(made, tmp_path)
    (folder / "settings.json").unlink()
    write_unlinked(folder, "log.jsonl", [
        {key: value for key, value in event.items() if key != "settings"}
        for event in events(folder)
    ])  # fmt: skip
    with pytest.raises(ConfigError, match=r"settings.json is missing, and the log beside it"):
        resumed(folder)
