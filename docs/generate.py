"""Writes the reference pages from the code: `python -m docs.generate`, before the site is built.

What a page lists is read where it is defined: keys and their descriptions in the dataclasses of the
schema, words in the tables of the language, verbs in the parser. What has no description there is
an error here.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import functools
import inspect
import math
import re
import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from nos_repro.bench import BENCHMARKS
from nos_repro.cli import make_parser
from nos_repro.data import CORPORA, IMAGES, PARALLEL_TEXTS, PHOTOGRAPHS
from nos_repro.experiments.device import DeviceSettings
from nos_repro.experiments.environment import Environment
from nos_repro.experiments.growing import Growth
from nos_repro.experiments.schema import Halving, Row, Selection, Study
from nos_repro.experiments.settings_file import shipped
from nos_repro.experiments.trial import Training
from nos_repro.launch.settings import OURS, LauncherSettings
from nos_repro.optim import OPTIMIZERS, SCHEDULES
from nos_repro.optim.grouping import KINDS
from nos_repro.report.claims.kinds.base import CLAIM_TESTS
from nos_repro.report.figures.base import FIGURES
from nos_repro.rules.catalog import CATALOG
from nos_repro.rules.families import FAMILIES
from nos_repro.rules.known import KNOWN
from nos_repro.rules.primitives import BINARY, BINARY_2, OPERANDS, OPERANDS_2, UNARY, UNARY_2
from nos_repro.rules.rows import UnaryRow
from nos_repro.rules.space import SPACES, Space
from nos_repro.rules.tokens import OPERAND_TOKENS_2, UNARY_TOKENS_2
from nos_repro.score.settings import FOLDER as SCORING
from nos_repro.score.settings import ScoreSettings, ScoreTask
from nos_repro.search.algorithms import ALGORITHMS
from nos_repro.search.arena.settings import Arena, Contestant, Tuning, shipped_arenas
from nos_repro.search.cascade import Cascade
from nos_repro.search.child import Child
from nos_repro.search.race import Race
from nos_repro.search.refusals import Refusals
from nos_repro.search.settings import Confirm, ControllerSettings, Search
from nos_repro.search.table.settings import TablePart, TableSettings, TableTask
from nos_repro.tasks import TASKS
from nos_repro.tasks.registry import describe

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"
PICTURES = ("results/index.png", "results/search/small/figure4.png")

FILE_KEYS = (
    ("base", "str", "none", "A file whose settings come first: one beside this file, or one that"
     " ships, such as `table2.yaml`."),
    ("scales", "mapping", "one, `default`", "By the name of a scale, what differs at that scale."),
)  # fmt: skip
"""Keys of every file that are gone once it is read."""
DERIVED = ("scale", "paper_protocol")
"""Fields that no file may give."""


def main() -> None:
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
    for picture in PICTURES:
        shutil.copy(ROOT / picture, REFERENCE)


def pages() -> dict[str, str]:
    """The text of every generated page, by its file's name."""
    makers: dict[str, Callable[[], Iterator[str]]] = {
        "study.md": study_page,
        "search.md": search_page,
        "table.md": table_page,
        "arena.md": arena_page,
        "score.md": score_page,
        "tasks.md": tasks_page,
        "launcher.md": launcher_page,
        "claims.md": claims_page,
        "language.md": language_page,
        "optimizers.md": optimizers_page,
        "commands.md": commands_page,
    }
    return {name: "\n\n".join(make()) + "\n" for name, make in makers.items()}


# What a page is made of


def table(head: tuple[str, ...], rows: Iterable[Iterable[str]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)


def cell(text: str) -> str:
    """Text whose bars, outside code, do not end the cell."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part[:1] == "`" else part.replace("|", "&#124;") for part in parts)


def code(value: object) -> str:
    return f"`{value}`"


def words(values: Iterable[str]) -> str:
    return ", ".join(map(code, values))


def prose(thing: object) -> str:
    """A docstring as Markdown: names in double backticks become code."""
    text = inspect.getdoc(thing)
    assert text, f"{thing} has no docstring"
    return text.replace("``", "`")


def first_line(thing: object) -> str:
    return prose(thing).partition("\n\n")[0]


@functools.cache
def described(cls: type) -> dict[str, str]:
    """The descriptions of a dataclass's fields: the strings below them, and those of its bases."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(node, ast.ClassDef)
        for field, below in zip(node.body, node.body[1:], strict=False):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = inspect.cleandoc(text).replace("``", "`")
    return found


def keys(cls: type, without: Iterable[str] = ()) -> Iterator[tuple[str, str, str, str]]:
    """Name, type, default and description of each of a dataclass's fields."""
    for field in dataclasses.fields(cls):
        if field.name in without:
            continue
        description = described(cls).get(field.name)
        if not description:
            raise LookupError(
                f"{cls.__module__}.{cls.__qualname__}.{field.name} has no description:"
                " write one in a string below the field"
            )
        yield code(field.name), code(type_of(field)), default_of(field), description


def type_of(field: dataclasses.Field[Any]) -> str:
    kind = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", "")
    kind = re.sub(r"\s*\| None", "", str(kind or field.type))
    return "mapping" if kind.startswith("dict") else kind


def default_of(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
        if dataclasses.is_dataclass(value):
            return "as below"
        return code(value) if value else "empty"
    if field.default is dataclasses.MISSING:
        return "**required**"
    return "none" if field.default in (None, "") else code(field.default)


def key_table(cls: type, *more: tuple[str, str, str, str], without: Iterable[str] = ()) -> str:
    rows = [*keys(cls, without), *((code(n), code(t), d, text) for n, t, d, text in more)]
    return table(("key", "type", "default", "what it says"), rows)


def option_list(function: Callable[..., Any], without: Iterable[str]) -> str:
    parameters = inspect.signature(function).parameters.values()
    shown = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in without]
    return ", ".join(code(f"{p.name}={p.default!r}") for p in shown) or "none"


# The pages


def study_page() -> Iterator[str]:
    yield "# Study file: every key"
    yield (
        "A study is one YAML file, and `nos-repro run` trains it. Unknown keys, wrong types and"
        " impossible values are errors before anything runs. Every key can also be set on the"
        " command line by its path: `training.epochs=10`. This page is generated from the schema."
    )
    yield f"These studies ship: {words(n for n, p in shipped().items() if 'search' not in n)}."
    yield "## The file"
    yield key_table(Study, *FILE_KEYS, without=DERIVED)
    yield "## rows"
    yield "Each row has a name, which the table prints, and these keys:"
    yield key_table(Row)
    for key, cls in (
        ("training", Training),
        ("training.environment", Environment),
        ("sweep.lr, where rates grow", Growth),
        ("selection", Selection),
        ("halving", Halving),
        ("device", DeviceSettings),
    ):
        yield f"## {key}"
        yield first_line(cls)
        yield key_table(cls)
    yield "## figure"
    yield "What is drawn beside the table. `kind` chooses the figure; the other keys are its own."
    for name in FIGURES.names():
        yield f"### {name}"
        yield first_line(FIGURES.find(name))
        yield key_table(FIGURES.find(name).Settings)
    yield "## task and launcher"
    yield (
        "Their keys depend on the `name` in them: [tasks and data](tasks.md),"
        " [launcher](launcher.md)."
    )


def search_page() -> Iterator[str]:
    yield "# Search file: every key"
    yield (
        "A search is one YAML file, and `nos-repro search` runs it. This page is generated from the"
        " schema."
    )
    yield "## The file"
    yield key_table(Search, *FILE_KEYS, without=DERIVED)
    yield "## space"
    yield (
        "Give the `name` of a space, all keys below, or a name and the keys that you replace. The"
        " sizes count strings of tokens; many strings are the same rule."
    )
    yield key_table(Space, without=["language"])
    yield table(
        ("space", "iterations", "operands", "unary", "binary", "strings"),
        (
            (code(name), str(s.iterations), words(s.operands), words(s.unary), words(s.binary),
             f"{s.size:.1e}")
            for name, s in SPACES.items()
        ),
    )  # fmt: skip
    yield "## algorithm"
    for name in ALGORITHMS.names():
        yield f"### {name}"
        yield first_line(ALGORITHMS.find(name))
        yield key_table(ALGORITHMS.find(name).Settings)
    for key, cls in (
        ("child", Child),
        ("controller", ControllerSettings),
        ("refuse", Refusals),
        ("cascade", Cascade),
        ("race", Race),
        ("confirm", Confirm),
        ("device", DeviceSettings),
    ):
        yield f"## {key}"
        yield first_line(cls)
        yield key_table(cls)
    yield "## filter"
    yield (
        "Whatever a study may hold ([study file](study.md)): it is laid over the study that"
        " `--export-best` writes, which trains the search's own task 8 times as long. With"
        " `base: NAME` the best rules become rows of that study instead."
    )


def table_page() -> Iterator[str]:
    yield "# Table file: every key"
    yield (
        "A table of rules is one YAML file, and `nos-repro table` makes it"
        " ([NOS-Bench](../nosbench.md)). This page is generated from the schema."
    )
    yield "## The file"
    yield key_table(TableSettings, *FILE_KEYS, without=DERIVED)
    yield "## tasks.NAME"
    yield first_line(TableTask)
    yield key_table(TableTask)
    yield "## tasks.NAME.parts"
    yield first_line(TablePart)
    yield key_table(TablePart)
    yield "## space, child, refuse and device"
    yield "As in a [search's file](search.md)."


def arena_page() -> Iterator[str]:
    yield "# Arena file: every key"
    yield (
        "An arena is one YAML file, and `nos-repro arena` plays it ([search](../search.md)). This"
        " page is generated from the schema."
    )
    yield f"These arenas ship: {words(shipped_arenas())}."
    yield "## The file"
    yield key_table(Arena)
    for key, cls in (("rows", Contestant), ("tuning", Tuning)):
        yield f"## {key}"
        yield first_line(cls)
        yield key_table(cls)


def score_page() -> Iterator[str]:
    yield "# Scoring file: every key"
    yield (
        "What `nos-repro score` trains is declared in one YAML file"
        " ([score](../score.md)). This page is generated from the schema."
    )
    yield f"These ship: {words(shipped(SCORING))}."
    yield "## The file"
    yield key_table(ScoreSettings)
    yield "## tasks.NAME"
    yield first_line(ScoreTask)
    yield key_table(ScoreTask)


def tasks_page() -> Iterator[str]:
    yield "# Tasks and data: every key"
    yield (
        "The section `task` of a study, and `child.task` of a search: a `name` and that task's own"
        " keys. This page is generated from the tasks."
    )
    for name in TASKS.names():
        facts = describe(name)
        yield f"## {name}"
        yield first_line(facts)
        yield first_line(facts.Settings)
        yield key_table(facts.Settings)
        yield "Its metrics, of which the first one makes the choices:"
        yield table(
            ("metric", "better", "range", "a verdict calls the same"),
            (
                (code(m.name), {"max": "larger", "min": "smaller"}[m.direction],
                 interval(m.range), str(m.tolerance))
                for m in facts.measures
            ),
        )  # fmt: skip
    yield "## Data sets that ship"
    yield table(
        ("kind", "names", "for"),
        (
            ("images", words(IMAGES.names()), "`convnet`, `wide_resnet`, `nasnet`, `mlp`"),
            ("photographs", "any folder" + also(PHOTOGRAPHS.names()), "`nasnet`"),
            ("text", words(CORPORA.names()), "`ptb_lstm`"),
            ("parallel text", "any folder" + also(PARALLEL_TEXTS.names()), "`gnmt`"),
        ),
    )
    yield "[Where data is looked for, and in which form](../data.md)."


def also(names: list[str]) -> str:
    return f", {words(names)}" if names else ""


def interval(ends: tuple[float, float]) -> str:
    low, high = (f"{x:g}" if math.isfinite(x) else "" for x in ends)
    return f"{low} to {high}" if low and high else f"from {low}" if low else "any"


def launcher_page() -> Iterator[str]:
    yield "# Launcher: every key"
    yield first_line(LauncherSettings)
    yield (
        "The section `launcher` of a study or a search. Values come from the cluster's profile,"
        " then from the file, then from the command line"
        " (`launcher=slurm launcher.partition=gpu`); later ones win. No result depends on them."
    )
    yield key_table(LauncherSettings)
    yield "## sbatch options that are not yours to set"
    yield table(("option", "set instead"), ((code(key), text) for key, text in OURS.items()))


def claims_page() -> Iterator[str]:
    yield "# Claims file: every test"
    yield (
        "A claim is an entry with `id`, `says`, `where` and a `test` (or `untested`, with the"
        " reason). The test's `kind` chooses its keys. This page is generated from the tests."
    )
    for name in CLAIM_TESTS.names():
        cls = CLAIM_TESTS.find(name)
        yield f"## {name}"
        yield prose(cls)
        yield table(
            ("key", "type", "default"),
            (
                (code(field.name), code(type_of(field)), default_of(field))
                for field in dataclasses.fields(cls)
            ),
        )


def _call(row: UnaryRow) -> str:
    return f"{row.name}(x, {row.parameter})" if row.parameter else f"{row.name}(x)"


def tokens_of(row: UnaryRow) -> list[str]:
    """The tokens of a function of the second edition."""
    return [token for token, (function, _) in UNARY_TOKENS_2.items() if function == row.name]


def language_page() -> Iterator[str]:
    yield "# The language: every word"
    yield (
        "A rule is an expression over operands (sections 3.1 and 4.1 of the paper); the update is"
        ' `w -= lr * rule`. `nos-repro rule "TEXT"` explains one. This page is generated from the'
        " tables that the parser, the optimizers and the search read."
    )
    yield "## Operands"
    yield table(
        ("word", "meaning", "also written"),
        (
            *((code(row.name), row.meaning, words(row.aliases)) for row in OPERANDS.values()),
            ("`cd7`, `rd10` ...", "cyclical decay, restart decay of so many periods", "`cd_7`"),
            ("`e`, `2`, `1e-4` ...", "a number", ""),
        ),
    )
    yield (
        "A rule keeps one average per weight for each of `m`, `v` and `gamma` that it reads, and"
        " nothing else; their decay rates are 0.9, 0.999 and 0.999 (`betas`). A rule that reads a"
        " decay needs `total_steps`. In the search, weights come as `1e-4*w` to `1e-1*w`."
    )
    yield "## Functions"
    yield table(
        ("word", "off its natural domain", "constants in the papers' search"),
        (
            (code(_call(row)), row.edge, ", ".join(f"{c:g}" for c in row.constants))
            for row in UNARY.values()
        ),
    )  # fmt: skip
    unwritten = words(row.name for row in UNARY.values() if not row.token)
    yield f"`-x` is `neg(x)`. In text only, since the controller does not write them: {unwritten}."
    yield "## Between two operands"
    yield table(
        ("word", "off its natural domain"),
        ((code(f"x {row.name} y"), row.edge) for row in BINARY.values()),
    )
    yield "## The second edition"
    yield (
        "With `language: 2` in a study or a search, or `language 2:` in front of a text, a rule may"
        " also have these words, and states of its own ([how they are written](../language2.md))."
    )
    yield table(
        ("word", "meaning", "tokens of a search"),
        (
            *((code(row.name), row.meaning, "") for row in OPERANDS_2.values()),
            *((code(_call(row)), row.edge, words(tokens_of(row))) for row in UNARY_2.values()),
            *(
                (code(f"{row.name}(x, y)"), row.edge, words([row.name]))
                for row in BINARY_2.values()
                if row.token
            ),
        ),
    )
    yield f"A search may also name the operands {words(OPERAND_TOKENS_2)}."
    yield "## Families"
    yield (
        "A family has a decay `f` and constants: `powersign` has f = 1, `powersign-ld` a linear"
        " decay, `addsign-rd20` 20 restarts."
    )
    yield table(
        ("name", "formula", "constants"),
        (
            (code(f.name), code(f.formula),
             ", ".join(f"{code(c.name)} ({c.default:.4g})" for c in f.constants))
            for f in FAMILIES.values()
        ),
    )  # fmt: skip
    yield "## Every rule that the papers print"
    yield (
        "002 is the arXiv version, 000 the ICML version. Each name is an optimizer, for"
        " `make_optimizer` and in a study."
    )
    yield table(
        ("name", "rule", "printed in"),
        ((code(name), code(entry.text), entry.place) for name, entry in CATALOG.items()),
    )
    yield "## Known optimizers that are rules"
    yield (
        'What `nos-repro rule "TEXT"` compares a rule with, up to a positive factor; `k` and `j`'
        " may be any positive numbers. `m` and `v` have bias correction, as everywhere here."
    )
    yield table(
        ("optimizer", "its update", "source", "condition"),
        ((each.name, code(each.text), each.source, each.but) for each in KNOWN.values()),
    )


def optimizers_page() -> Iterator[str]:
    yield "# Optimizers and schedules: every name"
    yield (
        "The names that `make_optimizer`, `make_schedule` and a study's rows know. Besides these:"
        " [families and every printed rule](language.md), any rule as text, and"
        " [any class](../any_optimizer.md) (`torch.optim.AdamW`). This page is generated from the"
        " registries."
    )
    yield "## Optimizers"
    yield table(
        ("name", "what it is", "options", "values per weight"),
        (
            (code(name), first_line(OPTIMIZERS.find(name)),
             option_list(OPTIMIZERS.find(name), ("lr", "weight_decay")),
             str(OPTIMIZERS.entry(name).facts.get("keeps", "")))
            for name in OPTIMIZERS.names()
        ),
    )  # fmt: skip
    yield "## Kinds of parameters"
    yield (
        "What [`groups` and `split`](../any_optimizer.md#groups-decay-and-rates) may name, besides"
        " patterns of names."
    )
    yield table(("kind", "parameters"), ((code(kind), said) for kind, said in KINDS.items()))
    yield "## Schedules"
    yield "A schedule multiplies the initial rate at step t of T."
    yield table(
        ("name", "factor", "options"),
        (
            (code(name), first_line(SCHEDULES.find(name)),
             option_list(SCHEDULES.find(name), ("total_steps", "seed")))
            for name in SCHEDULES.names()
        ),
    )  # fmt: skip


def commands_page() -> Iterator[str]:
    yield "# Commands"
    yield (
        "`nos-repro` and `python -m nos_repro` are the same command. The exit status is 0 for"
        " success, 1 if something failed, 2 for a mistake in the command, the file or the data, and"
        " 130 after Ctrl-C. This page is generated from the parser."
    )
    parser = make_parser()
    options = [action for action in visible(parser) if action.option_strings]
    yield table(("option", "what it does"), (argument(action) for action in options))
    yield from verbs_of(parser, "##")
    yield "## Benchmarks"
    yield f"`nos-repro bench` runs {words(BENCHMARKS.names())}."


def verbs_of(parser: argparse.ArgumentParser, heading: str) -> Iterator[str]:
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        for name, verb in action.choices.items():
            program = verb.prog.removeprefix("nos-repro ")
            assert verb.description, f"the verb {name} has no description"
            yield f"{heading} {program}"
            yield f"{verb.description[:1].upper()}{verb.description[1:]}.".replace("..", ".")
            arguments = [argument(a) for a in visible(verb)]
            if arguments:
                yield table(("argument", "what it does"), arguments)
            yield from verbs_of(verb, heading + "#")


def visible(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        hidden = action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction)
        if not hidden and not isinstance(action, argparse._SubParsersAction):
            yield action


def argument(action: argparse.Action) -> tuple[str, str]:
    """How an argument is written, and its help."""
    assert action.help, f"{action.option_strings or action.dest} has no help"
    value = action.metavar or (
        "|".join(map(str, action.choices)) if action.choices else action.dest.upper()
    )
    if not action.option_strings:
        many = {"*": "[{} ...]", "+": "{} [{} ...]", "?": "[{}]"}.get(str(action.nargs), "{}")
        name = many.replace("{}", str(value))
    else:
        takes = action.nargs != 0
        name = ", ".join(action.option_strings) + (f" {value}" if takes else "")
    return code(name), str(action.help) % {**vars(action), "prog": "nos-repro"}


if __name__ == "__main__":
    main()
