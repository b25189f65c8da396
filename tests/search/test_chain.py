"""No line of a log can be edited, added or taken out without being noticed."""

import random

import pytest

from nos_repro.experiments.files import json_line
from nos_repro.search.log import Log, LogError

EVENTS = [{"event": "withdrawn", "sample": n, "reason": f"gone {n % 7}"} for n in range(400)]
"""About 30,000 bytes."""


def written(path, *, older: int) -> Log:
    """A log whose first ``older`` lines are of a version that did not link them."""
    path.write_text("".join(map(json_line, EVENTS[:older])))
    log = Log(path)
    for start in range(older, len(EVENTS), 50):
        log = Log(path)
        log.open()
        log.append(EVENTS[start : start + 20])
        log.append(EVENTS[start + 20 : start + 50])
    return log


def without(lines: list[bytes], n: int) -> list[bytes]:
    return lines[:n] + lines[n + 1 :]


def twice(lines: list[bytes], n: int) -> list[bytes]:
    return lines[: n + 1] + lines[n:]


def swapped(lines: list[bytes], n: int) -> list[bytes]:
    return [*lines[:n], lines[n + 1], lines[n], *lines[n + 2 :]]


def edited(lines: list[bytes], n: int) -> list[bytes]:
    """Another digit, as long as the one before."""
    other = lines[n].replace(b"gone ", b"gonE ")
    return [*lines[:n], other, *lines[n + 1 :]]


def unlinked(lines: list[bytes], n: int) -> list[bytes]:
    """Written again, without its link."""
    return [*lines[:n], json_line(EVENTS[n]).encode(), *lines[n + 1 :]]


@pytest.mark.parametrize("older", [0, 150])
@pytest.mark.parametrize("change", [without, twice, swapped, edited, unlinked])
def test_a_change_anywhere_is_noticed(tmp_path, change, older):
    path = tmp_path / "log.jsonl"
    written(path, older=older)
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == len(EVENTS)
    assert list(Log(path).read()) == EVENTS
    for n in [0, 1, *random.Random(0).sample(range(2, 398), 8), 398]:
        path.write_bytes(b"".join(change(lines, n)))
        if change is unlinked and n < older:
            assert list(Log(path).read()) == EVENTS, "it had no link"
            continue
        for use in (lambda: list(Log(path).read()), Log(path).open):
            with pytest.raises(LogError, match="one was edited, added or taken out"):
                use()


def test_a_log_may_lose_its_end_but_no_more(tmp_path):
    """A machine that crashed may have lost what was not flushed yet."""
    path = tmp_path / "log.jsonl"
    written(path, older=0)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:300]))
    assert list(Log(path).read()) == EVENTS[:300]


def test_the_digest_is_that_of_all_up_to_there(tmp_path):
    path = tmp_path / "log.jsonl"
    log = written(path, older=150)
    whole, part = log.size, sum(map(len, path.read_bytes().splitlines(keepends=True)[:200]))
    assert log.digest() == log.digest(whole) != log.digest(part) != ""
    assert log.digest(whole + 1) == log.digest(part + 1) == ""
    other = written(tmp_path / "other.jsonl", older=150)
    assert log.digest() == other.digest()


def test_a_log_that_another_program_wrote_again_is_refused(tmp_path):
    path = tmp_path / "log.jsonl"
    written(path, older=0)
    lines = [line.replace(b'":', b'": ') for line in path.read_bytes().splitlines(keepends=True)]
    path.write_bytes(b"".join(lines))
    with pytest.raises(LogError, match="line 1: was written again by another program"):
        list(Log(path).read())
