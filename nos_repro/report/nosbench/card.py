"""The data card of a table of rules: the README.md in its folder, written with its numbers."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from nos_repro.experiments.files import read_file, write_atomically
from nos_repro.experiments.settings_file import TABLES, shipped
from nos_repro.report.nosbench.tables import nosbench_tables
from nos_repro.search.child import Child
from nos_repro.search.table.analysis import Analysis, analyse
from nos_repro.search.table.files import FORMAT, HEAD, RULES, STRINGS
from nos_repro.search.table.loaded import load
from nos_repro.search.table.rows import columns
from nos_repro.search.table.settings import PLAIN_SCALES

COLUMNS = {
    "rule": "the rule's number: its line in `rules.csv.gz`, from 0",
    "seed": "the seed of the weights, the batches and the rule's draws",
    "status": "`healthy`; `diverged`: a loss was not finite; `overran`: it took too long;"
    " `failed`: a bug, which says nothing about the rule",
    "reward": "the task's metric after the last epoch as a reward between 0 and 1; 0 unless"
    " healthy",
    "lr": "the best learning rate of the sweep, which the reward is for",
    "rate_R": "the metric on held-out examples after the sweep's epochs with rate R; empty:"
    " diverged",
    "epoch_N": "the metric on held-out examples after epoch N of the training with the best rate",
    "examples": "examples trained on in all",
    "seconds": "by the clock of its worker",
    "code": "the digest of the code that trained it, which `made` in `table.json` lists",
    "reason": "why it is not healthy",
}
RULE_COLUMNS = {
    "key": "what equal rules share: the fingerprint of the normal form",
    "text": "the simplest writing in the space; this text was trained",
    "normal": "the algebraic normal form, for reading",
    "strings": "strings of the space that write it",
    "refused": "why the probes refuse it, so that it was not trained; empty: it was",
}
LICENCES = {
    "digits": "scikit-learn's digits (Alpaydin and Kaynak, UCI Machine Learning Repository),"
    " BSD-3-Clause",
    "cifar10": "CIFAR-10 (Krizhevsky, 2009), which has no formal licence",
}


def write_card(folder: Path) -> None:
    """Writes README.md for the table in the folder. Raises DataError, StoreError."""
    data = card(folder).encode()
    if read_file(folder / "README.md") != data:
        write_atomically(folder / "README.md", data)


def card(folder: Path) -> str:
    """The text of the card."""
    found = analyse(load(folder))
    packed = found.table.packed
    name, scale = packed.settings["table"], packed.settings["scale"]
    command = f"python -m nos_repro table {config_of(name)}"
    command += "" if scale in PLAIN_SCALES else f" --scale {scale}"
    parts = [
        f"# NOS-Bench: {name}" + ("" if scale in PLAIN_SCALES else f", scale {scale}"),
        packed.about,
        f"Every distinct rule of a space of {found.table.space.size:,} strings is trained once per"
        " task and seed, with the child of the search: a sweep over rates, then some epochs from"
        " scratch with the best one. Rules are distinct if a search would train both: if their"
        f" normal forms have different fingerprints. There are {len(found.table.rules):,}; the"
        f" probes refuse all but {found.trained:,}.{_partly(found)}",
        _code("python", f'from nos_repro.search import table\n\nt = table.load("{name}")\n'
              f'rewards = t.rewards("{found.tasks[0].task if found.tasks else "digits"}", seed=0)'
              "  # one per rule\n"
              "print(t.rules[rewards.argmax()].text)"),
        _code("bash", f"{command}  # makes it, or trains what is missing\n"
              f"{command} --verify 20  # trains 20 rows again and compares them to the bit"),
        "## The space",
        _space(packed.settings["space"]),
        "## Numbers",
        *(table.markdown() for table in nosbench_tables(found)),
        "## Files",
        *_files(folder, found),
        "## How it was made",
        *_tasks({name: packed.child(name) for name in packed.settings["tasks"]}),
        *_made(packed.made),
        "## Data",
        _data(packed.settings["tasks"]),
        "## Known limits",
        _limits(found),
    ]  # fmt: skip
    return "\n\n".join(part for part in map(_wrapped, parts) if part) + "\n"


def _partly(found: Analysis) -> str:
    """Which seeds have fewer rules."""
    parts = [
        f"seed {seed} of `{task.task}` {count:,}"
        for task in found.tasks
        for seed, count in task.partly.items()
    ]
    return f" Some seeds have trained fewer: {', '.join(parts)}." if parts else ""


def config_of(name: str) -> str:
    """How a command names a table's file; a user's own is beside it, as far as is known."""
    return f"configs/{TABLES}/{name}.yaml" if name in shipped(TABLES) else f"{name}.yaml"


def _wrapped(text: str) -> str:
    """Prose in lines of 100 columns; tables, lists and code stay as they are."""
    if text.startswith(("```", "|", "**", "#", "- ")):
        return text
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def _code(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"


def _space(space: dict[str, Any]) -> str:
    return "\n".join(
        [
            f"- operands: {' '.join(f'`{word}`' for word in space['operands'])}",
            f"- unary: {' '.join(f'`{word}`' for word in space['unary'])}",
            f"- binary: {' '.join(f'`{word}`' for word in space['binary'])}",
            f"- iterations: {space['iterations']}",
        ]
    )


def _files(folder: Path, found: Analysis) -> list[str]:
    def size(name: str) -> str:
        path = folder / name
        return f"{path.stat().st_size / 1024:,.0f} KiB" if path.exists() else "-"

    packed = found.table.packed
    kinds = [
        (HEAD, f"format {FORMAT}: settings, space, digests of the files, code and machines"),
        (RULES, "a line per distinct rule"),
        (STRINGS, f"for each of the {found.table.space.size:,} strings the number of its rule, as"
         f" little-endian integers of {packed.rule_of_string.dtype.itemsize} bytes; strings are"
         " numbered as by `nos_repro.rules.numbering`"),
    ]  # fmt: skip
    kinds += [
        (f"{task}.csv.gz", f"{len(rows):,} rows, a line per rule and seed that was trained")
        for task, rows in packed.rows.items()
        if rows
    ]
    table = ["| file | size | holds |", "| --- | --- | --- |"]
    table += [f"| `{name}` | {size(name)} | {what} |" for name, what in kinds]
    shape = {
        task: ", ".join(f"`{column}`" for column in columns(packed.child(task)))
        for task in found.table.tasks
    }
    return [
        "\n".join(table),
        "`pandas.read_csv` reads the CSV files as they are. Columns of the rules:",
        "\n".join(f"- `{name}`: {what}" for name, what in RULE_COLUMNS.items()),
        "Columns of a task:",
        "\n".join(f"- `{name}`: {what}" for name, what in COLUMNS.items()),
        "\n".join(f"- of `{task}`: {names}" for task, names in shape.items()),
    ]


def _tasks(tasks: dict[str, Child]) -> list[str]:
    lines = []
    for name, child in tasks.items():
        task = dict(child.task)
        model = task.pop("name")
        said = ", ".join(f"{key} {value}" for key, value in task.items() if value is not None)
        sweep = ", ".join(f"{key} {value}" for key, value in child.sweep.items())
        rates = ", ".join(f"{rate:g}" for rate in child.rates)
        lines.append(
            f"- `{name}`: task `{model}` ({said}); rates {rates}, {child.sweep_epochs} epoch"
            f" each{f' ({sweep})' if sweep else ''}, then {child.epochs} epochs"
        )
    return ["\n".join(lines)]


def _made(made: list[dict[str, Any]]) -> list[str]:
    lines = [
        f"- {entry.get('task', '')}: code `{entry.get('code', '')}`, commit"
        f" `{entry.get('commit') or '-'}`, {entry.get('device', '')}, Python"
        f" {entry.get('python', '')}, torch {entry.get('libraries', {}).get('torch', '?')}"
        f"{_switched_on(entry.get('device_settings', {}))}"
        for entry in made
    ]
    return ["\n".join(dict.fromkeys(lines))] if lines else []


def _switched_on(held: dict[str, Any]) -> str:
    """`, tf32, compile`: of the section `device`, what rounds otherwise and was in effect."""
    return "".join(f", {key}" for key in ("tf32", "channels_last", "compile") if held.get(key))


def _data(tasks: dict[str, Any]) -> str:
    sets = dict.fromkeys(str(child["task"].get("data", "")) for child in tasks.values())
    lines = [f"- `{name}`: {LICENCES.get(name, 'as its owner says')}" for name in sets if name]
    return "\n".join([*lines, "- this table: as the code of nos_repro, Apache-2.0"])


def _limits(found: Analysis) -> str:
    partly = [task.task for task in found.tasks if task.partly]
    lines = [
        "- A reward is one short training of one small network; it says nothing of long ones.",
        "- Rewards depend on the processor and the libraries in their last digits, so `--verify`"
        " can fail on another machine where nothing is wrong.",
        "- The rates are decades; a rule whose best rate lies between two is judged too harshly.",
        "- Two rules whose values agree to 6 digits everywhere in the fingerprint's probe count as"
        " one, and the simplest of a rule's writings stands for all: another may round"
        " otherwise.",
        "- The probes may refuse a rule that could train.",
    ]
    lines += [
        f"- {name} has seeds that trained only a part of the rules, which is no random draw: mostly"
        " the best ones where the table's file asks for these; while the table is being made, the"
        " first by number, which more strings write."
        for name in partly
    ]
    return "\n".join(lines)
