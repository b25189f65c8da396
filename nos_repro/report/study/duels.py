"""A study's duels: in words, and as files beside its records, `duels/ONE-OTHER-KEY.json`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from nos_repro.experiments.code import trial_code
from nos_repro.experiments.files import file_names, read_file, read_json, write_atomically
from nos_repro.experiments.grid import row_settings
from nos_repro.launch.duel.contest import Duel
from nos_repro.report.documents.base import Document, written
from nos_repro.report.layout import plain

FOLDER = "duels"
LONGEST_PART = 40
MOST_DIGITS = 20
ENDINGS = {
    "seeds": "all seeds that were allowed are used",
    "budget": "the budget is used",
    "no rate trains": "a row that never trains has no pairs",
    "failed": "a trial failed, `--retry` tries it again",
    "not finished": "it is not finished, the same command goes on",
}


def duel_file(duel: Duel, root: Path) -> Path:
    """Where the duel is kept: the same two rows, column and margin have one file."""
    study = duel.study
    settings = [row_settings(row, study) for row in study.rows.values()]
    known = [settings, study.task, str(study.training), str(study.selection), duel.column]
    key = hashlib.sha256(json.dumps([*known, duel.margin], sort_keys=True).encode()).hexdigest()
    sides = (re.sub(r"[^A-Za-z0-9]+", "-", row).strip("-") for row in (duel.one, duel.other))
    name = "-".join([*(side[:LONGEST_PART] for side in sides), key[:8]])
    return root / FOLDER / f"{name}.json"


def write_duel(duel: Duel, found: Document, root: Path) -> Path:
    """Stores the document. Raises StoreError."""
    path = duel_file(duel, root)
    write_atomically(path, f"{written(found)}\n".encode())
    return path


def read_duels(root: Path, problems: list[str]) -> Iterator[Document]:
    """The stored duels of a study, by the names of their files; ``problems`` collects what cannot
    be read."""
    for name in sorted(file_names(root / FOLDER)):
        if not name.endswith(".json") or name.startswith("."):
            continue
        path = root / FOLDER / name
        try:
            if path.is_dir():
                raise ValueError("a folder")
            data = read_file(path)
            found = read_json(data or b"")
            if found["kind"] != "duel":
                raise ValueError("no duel")
            if found["digits"] not in range(MOST_DIGITS):  # else it would be written for minutes
                raise ValueError("digits")
            duel_line(found)  # whatever is missing in it shows here
        except (ValueError, KeyError, TypeError, IndexError) as error:
            problems.append(f"{path}: not a duel ({error}); left out")
        else:
            yield {**found, "stale": found["stale"] or _has_changed(found)}


def _has_changed(found: Document) -> bool:
    """Whether the code that a row executes has changed since, or is not here."""
    try:
        return any(
            side["settings"] is not None and trial_code(side["settings"]) != side["code"]
            for side in found["rows"]
        )
    except Exception:  # noqa: BLE001 as in `selection.is_stale`: a user's module
        return True


def duel_text(found: Document) -> str:
    """A duel, to read."""
    one, other = found["rows"]
    heads = [each["row"] for each in (one, other)]
    width = max(map(len, [*heads, "difference"])) + 2
    source = f" ({found['source']})" if found["source"] else ""
    better = "" if found["direction"] == "max" else ", smaller is better"
    lines = [
        f"{one['row']} against {other['row']}",
        f"{found['study']}{source}, scale {found['scale']}; {found['title']}{better}",
        *(
            f"  {head:<{width}}{side['chosen'] or 'no point chosen'}"
            f" ({side['points']} point{'s' * (side['points'] != 1)} tried)"
            for head, side in zip(heads, (one, other), strict=True)
        ),
        f"  {'difference':<{width}}{_difference(found)}",
        f"verdict: {_verdict(found)}: {found['reason']}",
        f"cost: {_cost(found)}",
    ]
    if any(found["diverged"]):
        lost = (f"{n} by {head}" for head, n in zip(heads, found["diverged"], strict=True))
        lines.insert(-2, f"  {'diverged':<{width}}{', '.join(lost)} alone")
    if found["ended"] in ENDINGS:
        lines.append(f"ended: {ENDINGS[found['ended']]}")
    if found["stale"]:
        lines.append("stale: records of other code are among these; `verify` tests them")
    return "\n".join(map(plain, lines))


def duel_line(found: Document) -> str:
    """A duel in one line, below its study's table."""
    one, other = (each["row"] for each in found["rows"])
    words = f"{one} against {other}, {found['title']}: {_verdict(found)}; {_difference(found)}"
    return plain(f"{words}; {_cost(found)}{'; stale' if found['stale'] else ''}")


def _verdict(found: Document) -> str:
    one, other = (each["row"] for each in found["rows"])
    match found["verdict"]:
        case "better":
            return f"{one} is better"
        case "worse":
            return f"{other} is better"
        case "equivalent":
            return "equivalent"
        case "open":
            return "open"
        case _:
            return f"undecided after {_pairs(found['pairs'])}"


def _difference(found: Document) -> str:
    if found["difference"] is None:
        return "no pair in which both finish"
    digits, unit = found["digits"], f" {found['unit']}" if found["unit"] else ""
    text = f"{found['difference']:+.{digits}f}{unit}"
    if found["interval"] is not None:
        low, high = found["interval"]
        text += f" [{low:+.{digits}f}, {high:+.{digits}f}]"
    level = f", {found['level']:.0%} at any time" if found["interval"] is not None else ""
    return f"{text} ({_pairs(found['pairs'])}{level})"


def _pairs(count: int) -> str:
    return f"{count} pair{'s' * (count != 1)} of seeds"


def _cost(found: Document) -> str:
    cost = found["cost"]
    whole = cost["tuning"] + cost["pairs"]
    return f"{whole:.3g} {cost['unit']}, {cost['tuning']:.3g} of them for tuning"
