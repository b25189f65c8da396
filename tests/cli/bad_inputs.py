"""Bad inputs of every kind over all verbs, drawn from a seed.

`world` makes a folder with a study, a search, records, checkpoints and claims, all sound. A `Case`
then damages a file or the environment, or has odd words on the command line. What a case expects
is known for some (``status``); the others may be good input after all.
"""

# ruff: noqa: E501 a row of a table is a line

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nos_repro.cli import main
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.files import write_json
from nos_repro.experiments.runner import run_trial
from nos_repro.experiments.trial import Trial
from nos_repro.tasks.ptb_lstm import PtbLstmSettings
from tests.report.searches import Folder

STUDY = """
study: mine
source: my paper, Table 1
claim: PowerSign wins.
task: {name: rosenbrock}
training: {epochs: 2, evaluate_every: 1}
sweep: {lr: [0.01, 0.001]}
selection: {by: final_val, repeats: 1}
columns: {final_val: Loss}
rows:
  Adam: {optimizer: adam, paper: {final_val: 0.5}}
  "g + drop(m, 0.3)": {optimizer: "rule: g + drop(m, 0.3)"}
scales: {paper: {}, short: {training: {epochs: 1}}}
"""
CLAIMS = """
- id: adam-wins
  says: Adam is best.
  test: {kind: best, study: mine, row: Adam}
"""
TREE = ["study.yaml", "search.yaml", "claims.yaml"]

# fmt: off
ODD_WORDS = [
    "", " ", "\n", "~", "~nobody/x", "é", "\u202e", "\udce9", "x" * 300, "x" * 5000, "/", ".", "..", "../x",
    "null", "[]", "{}", "{a: 1}", "[1, [2]]", "1e400", ".nan", ".inf", "-1", "0", "9" * 50, "9" * 5000, "1e-400",
    "${a}", "${oc.env:HOME}", "${", "!!python/object/apply:os.system [ls]", "a: [", "%s%n", "{0}", "<b>", "a=b",
    "no", "0x1F", "010", "1:30", "true", "*a", "&a [*a]", "'", '"', "# x", "g", "rule: g", "rule: (((", "sgd.x",
    "os.system", "my_package.nothing", "torch.optim.AdamW", "lion", "??", "???", "|", "- - -", "\t", "\x07", "None",
]
KEYS = [
    "study", "source", "claim", "note", "task", "task.name", "task.start", "task.steps", "task.nothing", "training",
    "training.epochs", "training.evaluate_every", "training.gradient_norm", "schedule", "sweep", "sweep.lr",
    "sweep.weight_decay", "sweep.eps", "selection", "selection.by", "selection.repeats", "selection.seed",
    "selection.sweep_epochs", "columns", "columns.final_val", "columns.best_test", "rows", "rows.Adam",
    "rows.Adam.optimizer", "rows.Adam.sweep.lr", "rows.Adam.options", "rows.Adam.options.eps", "rows.Adam.paper",
    "rows.Adam.paper.final_val", "rows.Adam.seed", "rows.Adam.schedule", "rows.Nobody.seed", "+rows.New",
    "+rows.New.optimizer", "rows[Adam].seed", "rows[", "rows.", "scales", "scale", "halving", "halving.rungs", "halving.keep",
    "figure", "figure.kind", "figure.metric", "figure.rows", "launcher", "launcher.name", "launcher.hours",
    "launcher.gpus", "base", "paper_protocol", "samples", "algorithm.entropy", "child.rates", "space", "", ".", "a..b",
]
PATHS = ["study.yaml", "study.yaml/x", "results", "nowhere", "dangling", "loop", "folder", "/dev/null", "x" * 256, "empty"]
VALUES = [None, True, 0, -1, 1.5, 1e308, 10**30, "", "x", "é", [], {}, [1], {"a": 1}, [None], "9" * 400]
ENVIRONMENT = {
    "NOS_REPRO_DATA": ["", "~nobody", "study.yaml", "\udce9", "x" * 300], "COLUMNS": ["", "x", "-5", "0", "1", "9" * 30],
    "XDG_CACHE_HOME": ["study.yaml", "/dev/null", "relative", "x" * 300], "HOME": ["", "missing", "study.yaml"],
    "OMP_NUM_THREADS": ["x", "0", "-3"], "SLURM_JOB_ID": ["", "x", "7"], "SLURM_PROCID": ["x", "3"], "RANK": ["x"],
    "WANDB_MODE": ["", "x"], "WANDB_PROJECT": ["a/b", "x" * 300, "\n"], "TERM": ["", "dumb", "x"], "LANG": ["x"],
    "TMPDIR": ["missing", "study.yaml"], "NO_COLOR": ["1"], "TZ": ["x", "9" * 99], "LINES": ["x"],
}
# fmt: on


@dataclasses.dataclass
class Case:
    """``words`` of the command line; ``status`` is the exit status that must come, if it is known;
    ``damage`` changes the world first."""

    words: list[str]
    status: int | None = None
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    damage: Callable[[Path], str] = lambda world: "nothing"


def make_world(folder: Path) -> None:
    """Everything that the verbs can read, sound."""
    here = Path.cwd()
    os.chdir(folder)
    try:
        Path("study.yaml").write_text(STUDY)
        Path("claims.yaml").write_text(CLAIMS)
        assert main(["run", "study.yaml", "--workers", "0"]) == 0
        searched = Folder(Path("results"))
        for k in range(3):
            tokens = f"g {'m' if k % 2 else 'v'} identity identity *"
            searched.sample(tokens, "healthy", 0.1 * (k + 1))
        settings = PtbLstmSettings(data="pydoc", hidden=8, embedding=4, steps_per_epoch=2)
        plain = json.loads(json.dumps(dataclasses.asdict(settings)))
        trial, place = Trial("ptb_lstm", plain, "sgd", 0.1), Path("model")
        write_json(place / "settings.json", trial.to_json())
        assert run_trial(trial, place, Conditions(Path("data")))[0] == "recorded"
        Path("folder").mkdir()
        Path("empty").write_text("")
        Path("dangling").symlink_to("missing/x")
        Path("loop").symlink_to("loop")
    finally:
        os.chdir(here)


def case_of(seed: str, world: Path) -> Case:
    """The bad input of a seed; ``world`` is where the sound files are."""
    draw = random.Random(seed)
    kind = draw.choices([_arguments, _override, _file, _environment, _path], [3, 3, 5, 1, 2])[0]
    return kind(draw, world)


def _reading(draw: random.Random) -> list[str]:
    """A verb that reads what is there, with sound arguments."""
    # fmt: off
    return list(draw.choice([
        ["report", "study.yaml"], ["report", "study.yaml", "--html", "page.html"], ["report", "study.yaml", "--format", "json"],
        ["report", "--all", "study.yaml"], ["status", "study.yaml"], ["verdicts", "study.yaml"], ["claims"],
        ["claims", "--file", "claims.yaml", "study.yaml"], ["why", "study.yaml:Adam"], ["dashboard", "study.yaml"],
        ["run", "study.yaml", "--workers", "0"], ["recheck", "study.yaml:Adam"], ["verify", "study.yaml"],
        ["report", "search", "--scale", "smoke"], ["status", "search", "--scale", "smoke"], ["cancel", "study.yaml"],
        ["search", "search", "--scale", "smoke", "--export-best", "2"], ["generate", "model", "the", "--words", "2", "--data", "data"],
        ["translate", "model", "the", "--data", "data"], ["report", "study.yaml", "--write"],
    ]))
    # fmt: on


def _arguments(draw: random.Random, world: Path) -> Case:
    """Odd words where a verb wants a name, a number or a rule."""
    odd = draw.choice(ODD_WORDS)
    # fmt: off
    bad = [
        (["rule", odd], None), (["export", odd], None), (["export", "powersign", "--name", odd], None),
        (["report", odd], None), (["run", odd], 2), (["status", odd], 2), (["why", odd], 2), (["why", f"study.yaml:{odd}"], 2),
        (["why", f"{odd}:Adam"], 2), (["claims", odd], None), (["bench", "nothing", odd], 2), (["search", odd], 2),
        (["report", "study.yaml", "--scale", f"no {odd}"], 2), (["report", "study.yaml", "--rows", f"no {odd}"], 2),
        (["run", "study.yaml", "--workers", odd, "--dry-run"], 2), (["run", "study.yaml", "--threads", odd, "--dry-run"], 2),
        (["run", "study.yaml", "--budget", odd, "--workers", "0", "--dry-run"], None), (["report", "study.yaml", "--format", odd], 2),
        (["generate", "model", odd, "--words", "2", "--data", "data"], None), (["generate", "model", "--words", odd, "--data", "data"], 2),
        (["generate", "model", "--temperature", odd, "--data", "data", "--words", "1"], None), (["nothing", odd], 2), ([odd], 2),
        (["generate", "model", "--seed", odd, "--data", "data", "--words", "1"], None), (["report", "study.yaml", f"--{odd or 'x'}"], 2),
        (["search", "search", "--scale", "smoke", "--export-best", odd], None), (["search", "search", "--confirm", "--dry-run"], 2),
        (["search", "search", "--train-refused", "-1", "--scale", "smoke"], 2), (["search", "study.yaml"], 2), (["run", "search"], 2),
        (["search", "search", "--output", "x"], 2), (["run", "study.yaml", "--detach", "--dry-run"], 2), (["run", "study.yaml", "--detach"], 2),
        (["run", "study.yaml", "--wandb", odd], 2), (["dashboard", "study.yaml", "--push", "--output", "x"], 2), ([], 2),
        (["report", "--all", "--format", "latex"], 2), (["report"], 2), (["claims", "a", "b"], 2), (["report", "search", "--rows", "a"], 2),
    ]
    # fmt: on
    words, status = draw.choice(bad)
    if odd in ("0", "9" * 50) or (odd == "true" and "--workers" in words):  # these may be meant
        status = None
    if odd.startswith("-") or odd in ("g", "rule: g", "lion", "..", "[]"):
        status = None
    return Case(words, status)


def _override(draw: random.Random, world: Path) -> Case:
    """An odd value for a key, or an odd key."""
    words = _reading(draw)
    while words[0] not in ("report", "status", "verdicts", "why", "dashboard", "cancel"):
        words = _reading(draw)
    key = draw.choice(KEYS) if draw.random() < 0.9 else draw.choice(ODD_WORDS)
    value = draw.choice(ODD_WORDS) if draw.random() < 0.8 else json.dumps(draw.choice(VALUES))
    return Case([*words, draw.choice([f"{key}={value}"] * 6 + [key, f"+{key}={value}"])])


def _environment(draw: random.Random, world: Path) -> Case:
    names = draw.sample(sorted(ENVIRONMENT), draw.choice([1, 2]))
    return Case(_reading(draw), environment={n: draw.choice(ENVIRONMENT[n]) for n in names})


def _path(draw: random.Random, world: Path) -> Case:
    """A path of an odd kind, where a file or a folder is wanted."""
    path = draw.choice([*PATHS, *ODD_WORDS[:14]])
    # fmt: off
    words = draw.choice([
        ["report", path], ["report", "study.yaml", "--results", path], ["status", "study.yaml", "--results", path],
        ["run", "study.yaml", "--workers", "0", "--dry-run", "--results", path], ["claims", "--file", path],
        ["report", "study.yaml", "--html", path], ["report", "--all", path], ["report", "--all", "--html", path],
        ["report", "--all", "--claims", path], ["translate", path, "x"], ["generate", path], ["generate", "model", "--data", path, "--words", "1"],
        ["verify", "study.yaml", "--against", path], ["dashboard", "study.yaml", "--output", path],
        ["search", "search", "--scale", "smoke", "--export-best", "1", "--output", path], ["why", f"{path}:Adam"],
        ["recheck", "study.yaml:Adam", "--data", path], ["verify", "study.yaml", "--save", path],
        ["search", "search", "--scale", "smoke", "--export-best", "1", "--results", path],
    ])
    # fmt: on
    return Case(words)


def _file(draw: random.Random, world: Path) -> Case:
    """A damaged file."""
    files = sorted(
        p.relative_to(world) for p in world.rglob("*") if p.is_file() and p.parent.name != "data"
    )
    files = [p for p in files if p.suffix in (".yaml", ".json", ".jsonl", ".pt", ".txt")]
    file, kind, number = draw.choice(files), draw.choice(list(DAMAGE)), draw.random()
    if file.suffix != ".pt" and draw.random() < 0.5:
        kind = "a value" if file.suffix != ".yaml" else "a line"

    def damage(there: Path) -> str:
        DAMAGE[kind](there / file, random.Random(number))
        return f"{file}: {kind}"

    words = _reading(draw)
    if file.parts[0] == "model":
        words = ["generate", "model", "the", "--words", "2", "--data", "data"]
    return Case(words, damage=damage)


def _truncate(path: Path, draw: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: draw.randrange(len(data) + 1)])


def _flip(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes() or b" ")
    for _ in range(draw.choice([1, 3, 30])):
        data[draw.randrange(len(data))] = draw.randrange(256)
    path.write_bytes(bytes(data))


def _replace(content: bytes) -> Callable[[Path, random.Random], None]:
    return lambda path, draw: void(path.write_bytes(content))


def void(_: object) -> None:
    return None


def _as_folder(path: Path, draw: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _as_link(path: Path, draw: random.Random) -> None:
    path.unlink()
    path.symlink_to(draw.choice(["missing/x", path.name, "/dev/null"]))


def _lines(path: Path, draw: random.Random) -> None:
    lines = path.read_bytes().splitlines(keepends=True) or [b"\n"]
    place = draw.randrange(len(lines))
    match draw.choice(["remove", "twice", "swap", "odd", "indent"]):
        case "remove":
            del lines[place]
        case "twice":
            lines.insert(place, lines[place])
        case "swap":
            draw.shuffle(lines)
        case "odd":
            odd = draw.choice(ODD_WORDS).encode(errors="surrogateescape")
            lines[place] = lines[place].partition(b":")[0] + b": " + odd + b"\n"
        case "indent":
            lines[place] = b"   " + lines[place]
    path.write_bytes(b"".join(lines))


def _value(path: Path, draw: random.Random) -> None:
    """One value of a JSON file, or of a line of one, becomes another; or a key goes."""
    if path.suffix == ".pt":
        return _flip(path, draw)
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    if not lines:
        return None
    place = draw.randrange(len(lines))
    try:
        whole = json.loads(lines[place])
    except ValueError:
        return _truncate(path, draw)
    inner = whole
    while isinstance(inner, dict | list) and inner:
        key: Any = draw.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
        if not isinstance(inner[key], dict | list) or not inner[key] or draw.random() < 0.4:
            if isinstance(inner, dict) and draw.random() < 0.3:
                del inner[key]
            else:
                inner[key] = draw.choice(VALUES)
            break
        inner = inner[key]
    lines[place] = json.dumps(whole)
    path.write_text("\n".join(lines) + "\n")
    return None


DAMAGE: dict[str, Callable[[Path, random.Random], None]] = {
    "cut off": _truncate,
    "flipped": _flip,
    "empty": _replace(b""),
    "gone": lambda path, draw: path.unlink(),
    "a folder": _as_folder,
    "a link": _as_link,
    "noise": lambda path, draw: void(path.write_bytes(draw.randbytes(200))),
    "a list": _replace(b"[]"),
    "a number": _replace(b"3\n"),
    "null": _replace(b"null\n"),
    "an object": _replace(b"{}\n"),
    "deep": _replace(b"[" * 100_000),
    "not UTF-8": _replace(b"a: caf\xe9\n"),
    "a NUL": _replace(b'{"a": "\\u0000"}\x00\n'),
    "a line": _lines,
    "a value": _value,
}


def copy(world: Path, to: Path) -> None:
    shutil.copytree(world, to, symlinks=True, dirs_exist_ok=True)
