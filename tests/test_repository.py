"""Promises that the whole repository keeps: studies, layout, the installed package."""

import ast
import re
import subprocess
import sys
import tomllib
import venv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from nos_repro.experiments.load import load_study
from nos_repro.experiments.settings_file import is_search, read_values
from nos_repro.rules.catalog import CATALOG
from nos_repro.rules.rule import Rule
from nos_repro.search.settings import load_search

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
SEARCHES = [path for path in CONFIGS if is_search(path)]
STUDIES = [path for path in CONFIGS if path not in SEARCHES]
MODULES = sorted((ROOT / "nos_repro").rglob("*.py"))
SCALES = {"paper", "small", "smoke"}
EMBEDDED = {"digits", "pydoc", "numbers"}
MODERN = {"modern", *(f"modern_{task}" for task in ("gnmt", "nasnet", "numbers", "ptb", "wrn"))}
OURS = {"edition2", "numbers", "rosenbrock_starts", "translation_rules", *MODERN}  # in no paper
MORE_SCALES = {"proxies": {"digits", "convnet", "longer", "deeper"}}
LINES_A_FILE = 400


def read(path: Path) -> DictConfig:
    config = OmegaConf.load(path)
    assert isinstance(config, DictConfig)
    return config


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_a_config_says_what_it_is_and_has_every_scale(path: Path) -> None:
    config = read_values(path)
    kind, verb = ("search", "search") if path in SEARCHES else ("study", "run")
    assert config[kind] == path.stem
    expected = SCALES - {"paper"} if path.stem in OURS else SCALES
    assert set(config["scales"]) == expected | MORE_SCALES.get(path.stem, set())
    assert len(config["claim"].split(". ")) == 1, "a claim is one sentence"
    heading = re.match(r"(#[^\n]*\n)+", path.read_text(encoding="utf-8"))
    assert heading, "a config begins with a comment"
    assert f"python -m nos_repro {verb} configs/" in heading.group()


@pytest.mark.parametrize("scale", sorted(SCALES))
@pytest.mark.parametrize("path", SEARCHES, ids=lambda p: p.stem)
def test_a_search_is_accepted_at_every_scale(path: Path, scale: str) -> None:
    search = load_search(path, scale=scale)
    assert search.search == path.stem
    assert (search.child.task["data"] == "digits") == (scale == "smoke")


@pytest.mark.parametrize("scale", sorted(SCALES))
@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_a_study_is_accepted_at_every_scale(path: Path, scale: str) -> None:
    if scale == "paper" and path.stem in OURS:
        pytest.skip("no paper has this study")
    study = load_study(path, scale=scale)
    assert study.study == path.stem
    assert study.rows.keys() == set(read_values(path)["rows"])
    if study.task["name"] != "rosenbrock" and study.study not in OURS:
        assert (study.task["data"] in EMBEDDED) == (scale == "smoke")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_a_config_has_no_empty_keys(path: Path) -> None:
    """In a file that is based on another, a null leaves something out."""

    def empty(node: object, where: str) -> Iterator[str]:
        if node is None:
            yield where
        elif isinstance(node, dict):
            for key, value in node.items():
                yield from empty(value, f"{where}.{key}")

    assert "base" in read(path) or not list(empty(OmegaConf.to_container(read(path)), path.stem))


# Column sums over the rows as the paper prints them: a digit that slips in a config shows. The
# numbers were typed twice, by different hands, and compared before one of the copies was deleted.
PAPER_SUMS = [
    ("table1", 14, {"best_test": 1308.5, "final_test": 1297.2}),
    ("table2", 16, {"best_test": 1522.4, "final_test": 1520.3}),
    ("table3", 3, {"final_val": 221.2, "final_val_top5_accuracy": 275.0}),
    ("table5", 4, {"best_val": 274.7, "best_test": 261.6}),
    (
        "table4",
        2,
        {"final_train_loss": 2.88, "final_test_bleu_tokenised": 49.5, "optimizer_state": 3},
    ),
    ("table6", 32, {"final_val": 2949.8, "final_test": 2936.9}),
    ("table6", 32, {"best_val": 2975.4, "best_test": 2948.4}),
]


@pytest.mark.parametrize(("name", "rows", "sums"), PAPER_SUMS)
def test_a_table_has_every_row_and_value_of_the_paper(
    name: str, rows: int, sums: dict[str, float]
) -> None:
    table = read(ROOT / "configs" / f"{name}.yaml").rows
    assert len(table) == rows
    for column, total in sums.items():
        assert sum(row.paper[column] for row in table.values()) == pytest.approx(total)


@pytest.mark.parametrize("name", [f"table{number}" for number in range(1, 7)])
def test_a_table_and_the_catalogue_have_the_same_rows(name: str) -> None:
    rows = read(ROOT / "configs" / f"{name}.yaml").rows
    entries = [e for key, e in CATALOG.items() if key.startswith(f"{name}-")]
    for (label, row), entry in zip(rows.items(), entries, strict=True):
        if row.optimizer.startswith("rule: "):
            assert Rule.parse(row.optimizer.removeprefix("rule: ")) == entry.rule
        else:
            assert entry.row == label


def test_table6_prints_one_rule_twice_as_two_draws() -> None:
    rows = read(ROOT / "configs" / "table6.yaml").rows
    counts = Counter(row.optimizer for row in rows.values())
    assert [text for text, n in counts.items() if n > 1] == ["rule: sign(m) * sqrt(g)"]
    assert {row.get("seed", 0) for row in rows.values() if "sqrt(g)" in row.optimizer} == {0, 1}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_is_short_and_says_what_it_is(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= LINES_A_FILE
    assert ast.get_docstring(ast.parse(source)), "a module begins with a docstring"


def test_no_todo_lands() -> None:
    marks = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")))
    for path in [*MODULES, *CONFIGS, ROOT / "README.md", ROOT / "Makefile"]:
        assert not marks.search(path.read_text(encoding="utf-8")), path


def in_the_locale(call: ast.Call) -> bool:
    """Whether this call reads or writes text in the encoding of the user's locale."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    words = {word.value for word in [*call.args, *given.values()] if isinstance(word, ast.Constant)}
    if "encoding" in given:
        return False
    match getattr(call.func, "attr", getattr(call.func, "id", "")):
        case "read_text":
            return not call.args
        case "write_text":
            return len(call.args) < 2
        case "open":
            plain = isinstance(call.func, ast.Name) and len(call.args) == 1
            return plain or not words.isdisjoint({"r", "w", "a", "x", "r+", "w+", "a+"})
        case "run" | "Popen" | "check_output":
            return "text" in given
    return False


def test_no_text_is_read_or_written_in_the_users_locale() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                assert not in_the_locale(node), f"{path}:{node.lineno}: name the encoding"


@pytest.mark.slow
def test_an_installed_wheel_carries_its_configs_and_its_command(tmp_path: Path) -> None:
    """Built and installed away from the checkout; the dependencies are this environment's."""
    home = tmp_path / "venv"
    pip = [sys.executable, "-m", "pip", "--quiet"]
    wheel = ["wheel", str(ROOT), "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    subprocess.run([*pip, *wheel], check=True)
    venv.create(home, with_pip=False)
    site = next((home / "lib").glob("python3*")) / "site-packages"
    (site / "environment.pth").write_text("\n".join(p for p in sys.path if "site-packages" in p))
    built = next(tmp_path.glob("*.whl"))
    subprocess.run(
        [*pip, "--python", str(home / "bin" / "python"), "install", "--no-deps", str(built)],
        check=True,
    )
    carried, declared = (
        {path.relative_to(folder) for path in folder.rglob("*.yaml")}
        for folder in (site / "nos_repro" / "configs", ROOT / "configs")
    )
    assert carried == declared
    for room in ("report/pages", "cli"):
        templates = Path("nos_repro", room, "templates")
        assert {p.name for p in (site / templates).iterdir()} == {
            p.name for p in (ROOT / templates).iterdir()
        }
    done = subprocess.run(
        [home / "bin" / "nos-repro", "run", "figure5_rosenbrock", "--scale", "smoke", "--dry-run"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "PowerSign" in done.stdout


def test_the_build_reads_the_files_it_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name in (project["readme"], *project["license-files"]):
        assert (ROOT / name).is_file()
