"""README and docs: every block runs, every number and link is true, the site builds.

A block runs unless `<!-- not run: REASON -->` stands above it; then its commands are still parsed.
A block with a title is a file. The blocks of a page run in their order, in one folder; what the
page says of the scale `small` runs at `smoke`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest

from docs.generate import PICTURES, described
from nos_repro.cli import make_parser
from nos_repro.experiments.load import load_study
from nos_repro.experiments.schema import Study
from nos_repro.experiments.settings_file import is_search, shipped
from nos_repro.launch.settings import launcher_settings
from nos_repro.search.settings import load_search

ROOT = Path(__file__).resolve().parent.parent
PRELOADED = ROOT / "tests" / "preloaded.py"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = {"sh", "python", "yaml", "text"}
TRAINS = {"run", "search", "verify", "recheck", "bench"}
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?"
    r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)
COMMANDS = """
nos-repro() { printf '%s\\0' "$@" >>"$ARGUMENTS"; printf '\\n\\0' >>"$ARGUMENTS"; }
python() { [ "$2" != nos_repro ] || nos-repro "${@:3}"; }
for other in pip make sbatch wandb .venv/bin/pytest .ci/oldest; do eval "$other() { :; }"; done
"""
"""What stands in for the programs where a block is only parsed."""
PROGRAMS = """
set -euo pipefail
nos-repro() {
  local words=("$@") i
  for i in "${!words[@]}"; do [ "${words[i]}" != small ] || words[i]=smoke; done
  "$PYTHON" -S "$PRELOADED" "$SERVER" nos-repro "${words[@]}"
}
"""


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    title: str | None
    reason: str | None


@cache
def blocks_of(page: Path) -> list[Block]:
    return [Block(**found.groupdict()) for found in BLOCK.finditer(page.read_text("utf-8"))]


def commands_of(blocks: list[Block], folder: Path) -> list[list[str]]:
    """The words of every `nos-repro` command, as the shell passes them."""
    script = "".join(block.text for block in blocks if block.language == "sh")
    arguments = folder / "arguments"
    arguments.touch()
    environment = {**os.environ, "ARGUMENTS": str(arguments)}
    subprocess.run(
        ["bash", "-eu", "-c", COMMANDS + script], cwd=folder, env=environment, check=True
    )
    commands = arguments.read_text("utf-8").split("\n\0")[:-1]
    return [command.split("\0")[:-1] for command in commands]


def runs_something(page: Path) -> bool:
    return any(
        b.language in ("sh", "python") and not (b.title or b.reason) for b in blocks_of(page)
    )


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}


every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@every_page
def test_each_fence_opens_a_block_of_a_known_language(page: Path) -> None:
    fences = re.findall(r"^\s*```(\w*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    opening = [language for language in fences if language]
    assert [block.language for block in blocks_of(page)] == opening
    assert set(opening) <= LANGUAGES
    assert len(fences) == 2 * len(opening)


@every_page
def test_each_command_is_one_that_the_program_takes(page: Path, tmp_path: Path) -> None:
    parser = make_parser()
    for words in commands_of(blocks_of(page), tmp_path):
        if "--help" in words:
            words.remove("--help")
            continue
        options, rest = parser.parse_known_args(words)
        assert not [word for word in rest if word.startswith("-")], words
        config = getattr(options, "config", None)
        if words[0] not in TRAINS or config is None or Path(config).stem not in shipped():
            continue
        path, scale = shipped()[Path(config).stem], options.scale or "paper"
        overrides = [*options.overrides, *rest]
        if is_search(path):
            load_search(path, scale=scale, overrides=overrides, trying=False)
        else:
            rows = options.rows
            load_study(path, scale=scale, overrides=overrides, rows=rows, trying=False)


@every_page
def test_a_block_that_is_not_run_is_at_least_valid(page: Path, tmp_path: Path) -> None:
    for block in blocks_of(page):
        if block.language == "python":
            compile(block.text, page.name, "exec")
        if block.title and block.title.startswith("slurm/clusters/"):
            profile = tmp_path / "profile.yaml"
            profile.write_text(block.text, encoding="utf-8")
            assert launcher_settings({"name": "slurm", "cluster": str(profile)}).nodes == 1


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed records, to which all pages add theirs: nothing is trained twice."""
    folder = tmp_path_factory.mktemp("shared") / "results"
    ignored = shutil.ignore_patterns("smoke", "trials")
    shutil.copytree(ROOT / "results", folder, ignore=ignored)
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Where `nos-repro` is called without its seconds of importing torch (`preloaded`)."""
    with tempfile.TemporaryDirectory() as folder:
        address = f"{folder}/server"
        words = [sys.executable, str(PRELOADED), address]
        with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield address
            process.kill()


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.slow, id=page.name)
        for page in PAGES
        if runs_something(page)
    ],
)
def test_the_blocks_of_a_page_run(page: Path, results: Path, server: str, tmp_path: Path) -> None:
    (tmp_path / "results").symlink_to(results)
    (tmp_path / "DIR").mkdir()
    script, pasted = PROGRAMS, ""
    for number, block in enumerate(blocks_of(page)):
        if block.title:
            file = tmp_path / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
        elif block.reason is not None:
            continue
        elif block.language == "sh":
            script += block.text
        elif block.language == "python":
            pasted += block.text
            name = f"block{number}.py"
            (tmp_path / name).write_text(pasted, encoding="utf-8")
    if pasted:
        script += f'"$PYTHON" {name}\n'
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**environment(), "PRELOADED": str(PRELOADED), "SERVER": server},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"


def test_the_readme_fits_a_few_screens_and_its_picture_asks_nobody() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 140
    picture = (ROOT / "docs" / "recording.svg").read_text(encoding="utf-8")
    assert "@font-face" not in picture
    assert "url(http" not in picture


@every_page
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = "".join(re.findall(r"```sh\n.*?```|`make \w+`", page.read_text("utf-8"), re.DOTALL))
    assert set(re.findall(r"\bmake (\w+)", text)) <= targets


@pytest.mark.parametrize("page", PAGES[:2], ids=lambda page: page.name)
def test_links_into_the_repository_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (ROOT / target).exists(), target


# What the tables say


def rows_of(page: Path) -> list[list[str]]:
    lines = re.findall(r"^\|(.*)\|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines]


def numbers_in(text: str) -> list[str]:
    """The numbers of a text that are no part of a word."""
    return re.findall(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.]*\w)", text)


def has(number: str, text: str) -> bool:
    """Whether a text has the number, or one that is rounded to it."""
    plain = number.replace(",", "")
    digits = len(plain.partition("e")[0].partition(".")[2])
    found = [each.replace(",", "") for each in numbers_in(text)]
    if "e" in plain or "." not in plain:
        return plain in found or number in text
    return any(f"{float(each):.{digits}f}" == plain for each in found)


def test_the_readme_repeats_the_verdicts_of_the_claims() -> None:
    judged = {
        cells[0].replace("\\", ""): (cells[3], cells[4])
        for cells in rows_of(ROOT / "results" / "claims.md")
        if len(cells) >= 6
    }
    told = [cells for cells in rows_of(ROOT / "README.md") if cells[0][:1] == "`"]
    assert len(told) >= 10
    for claim, scale, verdict, _ in told:
        name = claim.split("`")[1]
        assert judged[name] == (scale, verdict), name


def test_the_readmes_numbers_are_those_of_the_records() -> None:
    checked = 0
    for cells in rows_of(ROOT / "README.md"):
        for text, target in re.findall(r"\[([^\]]+)\]\((results/[^)]+\.md)\)", cells[-1]):
            source = (ROOT / target).read_text(encoding="utf-8")
            for number in numbers_in(text):
                assert has(number, source), f"{number} is not in {target}"
                checked += 1
    assert checked > 15


def test_the_optimizers_page_has_the_numbers_of_the_records() -> None:
    checked = 0
    for cells in rows_of(ROOT / "docs" / "optimizers.md"):
        if found := re.fullmatch(r"`(\w+/\w+)`", cells[-1]):
            source = (ROOT / "results" / found[1] / "table.md").read_text(encoding="utf-8")
            for number in numbers_in(" ".join(cells[1:-1])):
                assert has(number, source), f"{number} is not in {found[1]}"
                checked += 1
    assert checked > 10


# The generated pages and the site


def generated() -> dict[str, str]:
    """The pages, made in another process: tests register what has no description."""
    script = "import json; from docs.generate import pages; print(json.dumps(pages()))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    made: dict[str, str] = json.loads(done.stdout)
    return made


def test_the_generated_pages_describe_every_key_and_verb() -> None:
    made = generated()
    assert all(described(Study).values())
    for verb in re.findall(r"^    (\w+) +\S", make_parser().format_help(), re.MULTILINE):
        assert f"## {verb}\n" in made["commands.md"], verb
    assert "| `task` |" in made["study.md"]


def without_network() -> list[str]:
    """What to put before a command that shall reach nobody, where the system has that."""
    words = ["unshare", "--map-root-user", "--net"]
    usable = shutil.which(words[0]) and not subprocess.run([*words, "true"], check=False).returncode
    return words if usable else []


class Loaded(HTMLParser):
    """What a browser loads with a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("img", "script") and given.get("src"):
            self.addresses.append(str(given["src"]))
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.addresses.append(str(given["href"]))


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("zensical")
    checkout = tmp_path / "checkout"
    for name in ("docs", "nos_repro", "configs"):
        ignored = shutil.ignore_patterns("__pycache__", "reference")
        shutil.copytree(ROOT / name, checkout / name, ignore=ignored)
    shutil.copy(ROOT / "mkdocs.yml", checkout)
    (checkout / "docs" / "reference").mkdir()
    for name, text in generated().items():
        (checkout / "docs" / "reference" / name).write_text(text, encoding="utf-8")
    for picture in PICTURES:
        shutil.copy(ROOT / picture, checkout / "docs" / "reference")
    done = subprocess.run(
        [*without_network(), sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    site = checkout / "site"
    built = sorted(site.rglob("*.html"))
    assert len(built) > 20
    for page in built:
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        for address in loaded.addresses:
            assert "//" not in address, f"{page}: {address}"
            if page.name != "404.html":
                assert (page.parent / address.partition("?")[0]).exists(), f"{page}: {address}"
