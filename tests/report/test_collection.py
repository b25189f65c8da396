"""`report --all`: every study and search there is, whatever else is there or is damaged."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from nos_repro.cli import main
from nos_repro.experiments.load import load_study
from nos_repro.experiments.trial import Trial
from nos_repro.report.claims.results import Results
from nos_repro.report.collection import read_collection, summary
from nos_repro.report.pages.benchmarks import read_benchmarks
from nos_repro.report.pages.index_page import search_card
from nos_repro.report.pages.write import pages as pages_of
from nos_repro.report.paths import by_name, last_parts
from tests.conftest import ROOT
from tests.report.pages.made_up import HOSTILE, ending, found, made_up_study
from tests.report.records import accuracy, filled_store
from tests.report.searches import SESSION, Folder


def fill(results: Path, name: str = "icml_figure5", scale: str = "smoke") -> Path:
    """Records of a study that ships; the path of its compact file."""
    study = load_study(ROOT / "configs" / f"{name}.yaml", scale=scale)
    store = filled_store(study, results, lambda trial: accuracy(40, 50 + trial.lr))
    store.compact(trial for row in study.rows for trial in _trials(study, row, store))
    shutil.rmtree(store.root / "trials")
    return store.compact_path


def _trials(study, row, store):
    from nos_repro.experiments.selection import outcome

    return outcome(study, row, store).trials


def test_every_study_and_search_with_records_is_found_at_its_scale(tmp_path: Path) -> None:
    fill(tmp_path)
    Folder(tmp_path).fill(5, lambda source, number, rule: ("healthy", 0.5))
    collection = read_collection(Results(tmp_path))
    lines = summary(collection)
    assert len(lines) == 2
    assert lines[0].startswith("icml_figure5  smoke  6 of 6 rows complete, 12 trials")
    assert lines[1].startswith("search        smoke  5/20 draws")
    assert not collection.left_out
    assert not collection.broken


def test_a_folder_without_a_study_or_search_is_named(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "my_study/small").mkdir(parents=True)
    (tmp_path / "icml_figure5/tiny").mkdir()
    (tmp_path / "bench").mkdir()
    left = read_collection(Results(tmp_path)).left_out
    assert len(left) == 2
    assert left[0] == "icml_figure5/tiny: icml_figure5.yaml has no scale 'tiny'"
    assert left[1].startswith("my_study: no study or search of that name")


def test_your_own_files_are_shown_next_to_those_that_ship(tmp_path: Path, capsys) -> None:
    results = tmp_path / "results"
    fill(results)
    shutil.copytree(results / "icml_figure5", results / "mine")
    own = tmp_path / "my study.yaml"
    text = (ROOT / "configs/icml_figure5.yaml").read_text()
    own.write_text(text.replace("study: icml_figure5", "study: mine"))
    words = ["report", "--all", str(own), "--results", str(results), "--html", str(tmp_path / "p")]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "mine          smoke  6 of 6 rows complete, 12 trials" in printed.out
    assert "warning" not in printed.err
    assert (
        "report --all &#39;my study.yaml&#39; --html DIR" in (tmp_path / "p/index.html").read_text()
    )
    page = (tmp_path / "p/mine-smoke.html").read_text()
    assert "run &#39;my study.yaml&#39; --scale smoke" in page


def test_an_index_of_own_studies_alone_does_not_speak_of_the_paper(tmp_path: Path) -> None:
    results = tmp_path / "results"
    fill(results)
    (results / "icml_figure5").rename(results / "my_study")
    own = tmp_path / "my_study.yaml"
    text = (ROOT / "configs/icml_figure5.yaml").read_text()
    own.write_text(
        re.sub("^source: .*\n", "", text, flags=re.M).replace(
            "study: icml_figure5", "study: my_study"
        )
    )
    pages = tmp_path / "pages"
    assert main(["report", "--all", str(own), "--results", str(results), "--html", str(pages)]) == 0

    def words(name: str) -> str:
        data = re.sub("<script.*?</script>", "", (pages / name).read_text(), flags=re.DOTALL)
        return re.sub("<[^>]*>", " ", data)

    index = words("index.html")
    assert "Results" in index
    assert "my study" in index
    for said in ("Neural Optimizer Search", "paper", "arXiv", "ICML", "Claims"):
        assert said not in index, said
    page = words("my_study-smoke.html")
    assert "To be shown" in page
    for said in ("The paper says", "Protocol, the paper's", "PMLR"):
        assert said not in page, said


def test_the_verdict_follows_the_papers_sentence_on_card_and_page(tmp_path: Path) -> None:
    fill(tmp_path / "results")
    pages = tmp_path / "pages"
    words = ["report", "--all", "--results", str(tmp_path / "results"), "--html", str(pages)]
    assert main(words) == 0
    for name in ("index.html", "icml_figure5-smoke.html"):
        text = (pages / name).read_text()
        asked = text.index("The paper says")
        sentence = text.index("both rules slightly beat Momentum")
        verdict = text.index('<span class="badge', asked)
        assert asked < sentence < verdict < text.index("Optimizer 1", asked)


def test_your_own_file_under_a_name_that_ships_is_refused(tmp_path: Path, capsys) -> None:
    own = tmp_path / "copy.yaml"
    own.write_text("study: [")
    assert main(["report", "--all", str(own), "--results", str(tmp_path)]) == 2
    assert f"{own}: not valid YAML" in capsys.readouterr().err
    shutil.copy(ROOT / "configs/icml_figure5.yaml", own)
    assert main(["report", "--all", str(own), "--results", str(tmp_path)]) == 2
    assert (
        "icml_figure5 already exists (icml_figure5.yaml); rename yours" in capsys.readouterr().err
    )


def test_a_corrupt_line_is_a_problem_and_loses_nothing_else(tmp_path: Path, capsys) -> None:
    path = fill(tmp_path)
    with path.open("a") as file:
        file.write("{half a rec\n")
    pages = tmp_path / "pages"
    assert main(["report", "--all", "--results", str(tmp_path), "--html", str(pages)]) == 0
    printed = capsys.readouterr()
    assert "6 of 6 rows complete" in printed.out
    assert "line 13: corrupt" in printed.err
    for name in ("index.html", "icml_figure5-smoke.html"):
        page = (pages / name).read_text()
        assert "line 13: corrupt" in page
        assert str(tmp_path) not in page.replace(str(pages), "")


def test_a_study_that_cannot_be_read_does_not_lose_the_others(tmp_path: Path, capsys) -> None:
    path = fill(tmp_path)
    damaged = tmp_path / "search" / "smoke"
    damaged.mkdir(parents=True)
    (damaged / "log.jsonl").write_text("")
    (damaged / "settings.json").write_text('{"search": ')
    pages = tmp_path / "pages"
    words = ["report", "--all", "--results", str(tmp_path), "--write", "--html", str(pages)]
    assert main(words) == 1
    printed = capsys.readouterr()
    assert "warning: search, scale smoke: " in printed.err
    assert "claims.md was not written" in printed.err
    assert "6 of 6 rows complete" in printed.out
    assert (path.parent / "table.md").exists()
    assert not (tmp_path / "claims.md").exists()
    assert {p.name for p in pages.glob("*.html")} == {"index.html", "icml_figure5-smoke.html"}
    assert "search, scale smoke" in (pages / "index.html").read_text()


def test_one_command_writes_every_table_figure_and_the_claims(
    tmp_path: Path, committed: Path, capsys
) -> None:
    """The committed texts are reproduced byte for byte; other tests compare the figures."""
    copy = tmp_path / "results"
    path = "icml_figure5/small/records.jsonl"
    (copy / path).parent.mkdir(parents=True)
    shutil.copy(committed / path, copy / path)
    assert main(["report", "--all", "--results", str(copy), "--write"]) == 0
    written = {str(p.relative_to(copy)) for p in copy.rglob("*") if p.is_file()}
    assert {"claims.md", "icml_figure5/small/figure.svg"} <= written
    name = "icml_figure5/small/table.md"
    assert (copy / name).read_bytes() == (committed / name).read_bytes()
    assert capsys.readouterr().err.count("wrote ") == 5


def test_a_damaged_line_of_the_arena_leaves_the_claims_as_they_are(tmp_path: Path, capsys) -> None:
    fill(tmp_path)
    runs = tmp_path / "arena/arena/runs.jsonl"
    runs.parent.mkdir(parents=True)
    runs.write_text('{"run": {}, \n')
    (tmp_path / "claims.md").write_text("as committed")
    pages = tmp_path / "pages"
    words = ["report", "--all", "--results", str(tmp_path), "--write", "--html", str(pages)]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert said.count("runs.jsonl, line 1: corrupt") == 1
    assert "claims.md was not written" in said
    assert (tmp_path / "claims.md").read_text() == "as committed"
    assert "runs.jsonl, line 1: corrupt" in (pages / "index.html").read_text()


def test_a_page_that_cannot_be_made_is_named_and_loses_no_other(
    tmp_path: Path,
) -> None:
    fill(tmp_path)
    searched = Folder(tmp_path)
    searched.write({**SESSION, "libraries": ["torch"]})
    searched.fill(5, lambda source, number, rule: ("healthy", 0.5))
    collection = read_collection(Results(tmp_path))
    made = dict(pages_of(collection))
    assert set(made) == {"index.html", "icml_figure5-smoke.html"}
    assert collection.broken
    (said,) = collection.left_out
    assert said.startswith("search, scale smoke: ")
    index = made["index.html"].decode()
    assert "&#39;libraries&#39; is invalid" in index
    assert "search-smoke.html" not in index


def test_a_table_that_cannot_be_written_is_named_and_loses_no_other(tmp_path: Path, capsys) -> None:
    fill(tmp_path)
    searched = Folder(tmp_path)
    searched.write({**SESSION, "libraries": ["torch"]})
    searched.fill(5, lambda source, number, rule: ("healthy", 0.5))
    assert main(["report", "--all", "--results", str(tmp_path), "--write"]) == 1
    said = capsys.readouterr().err
    assert said.count("'libraries' is invalid") == 1
    assert "claims.md was not written" in said
    assert "wrote" in said
    assert (tmp_path / "icml_figure5/smoke/table.md").exists()


def test_a_search_that_does_not_say_its_threads_is_counted_as_one(tmp_path: Path) -> None:
    searched = Folder(tmp_path)
    searched.write({key: value for key, value in SESSION.items() if key != "threads"})
    searched.fill(5, lambda source, number, rule: ("healthy", 0.5))
    (card,) = map(search_card, read_collection(Results(tmp_path)).searches)
    assert card.hours == pytest.approx(searched.history().seconds / 3600)


def test_a_benchmarks_file_that_cannot_be_opened_names_no_folder(tmp_path: Path) -> None:
    (tmp_path / "bench/speed.json").mkdir(parents=True)
    left: list[str] = []
    assert read_benchmarks(tmp_path / "bench", left) == []
    assert left == ["bench/speed.json: no benchmark's file (IsADirectoryError: Is a directory)"]


def test_the_folder_itself_may_hold_the_results(tmp_path: Path, capsys, monkeypatch) -> None:
    """`--results .` has no name; a page of a study, of a search and of all can be made of it."""
    path = fill(tmp_path)
    path.write_text(path.read_text() + "{half a rec\n")
    Folder(tmp_path).fill(5, lambda source, number, rule: ("healthy", 0.5))
    with (tmp_path / "search/smoke/log.jsonl").open("a") as log:
        log.write('{"event": "prop')
    monkeypatch.chdir(tmp_path)
    for name in ("icml_figure5", "search"):
        words = ["report", name, "--scale", "smoke", "--results", ".", "--html", "pages"]
        assert main(words) == 0
    assert (
        "icml_figure5/smoke/records.jsonl, line 13: corrupt"
        in (tmp_path / "pages/icml_figure5-smoke.html").read_text()
    )
    assert main(["report", "--all", "--results", ".", "--html", "pages"]) == 0
    index = (tmp_path / "pages/index.html").read_text()
    assert "icml_figure5/smoke/records.jsonl, line 13: corrupt" in index


@pytest.mark.parametrize("folder", ["", ".", "/"])
def test_a_folder_without_a_name_takes_no_full_stop_with_it(folder: str) -> None:
    assert by_name("a.b: 1. Read e.g. /c/d.", Path(folder)) == "a.b: 1. Read e.g. /c/d."
    assert by_name("/x/y/z.json: 1.", Path(folder), Path("/x/y")) == "y/z.json: 1."


# fmt: off
REASONS = [
    ("cannot read /home/jo/data/ptb.train.txt: gone",      "cannot read ptb.train.txt: gone"),
    ("[Errno 2] No such file: '/mnt/my disk/a b.pt'",      "[Errno 2] No such file: 'a b.pt'"),
    ("file:///home/jo/x.bin (path=/opt/lib/y.so)",         "x.bin (path=y.so)"),
    ("the folder /scratch/jo/, full",                      "the folder jo, full"),
    ("g / m, 1/2, a/b/c, <b>x</b> stay",                   "g / m, 1/2, a/b/c, <b>x</b> stay"),
    ("https://example.org/a/b stays",                      "https://example.org/a/b stays"),
]
# fmt: on


@pytest.mark.parametrize(("text", "left"), REASONS)
def test_a_page_shows_the_last_part_of_an_absolute_path(text: str, left: str) -> None:
    assert last_parts(text) == left


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--all", "table2"], "table2 already exists (table2.yaml); leave it out"),
        (["--all", "--scale", "small"], "leave out --scale"),
        (["--all", "--rows", "SGD"], "leave out --rows"),
        (["--all", "--format", "latex"], "--format latex is for one study or search"),
        (["--all", "--html", __file__], "is a file, not a folder"),
        (["--all", "--standalone"], "--standalone is for --html"),
        (["table2", "--standalone"], "--standalone is for --html"),
        (["--all", "--html", f"{__file__}/pages"], "is a file, not a folder"),
        (["table2", "--html", f"{__file__}/page.html"], "is a file, not a folder"),
        ([], "name a study or search"),
    ],
)
def test_a_mistake_is_reported_before_anything_is_printed(words, complaint, capsys) -> None:
    try:
        status: object = main(["report", *words])
    except SystemExit as ended:  # an argument that argparse refuses
        status = ended.code
    printed = capsys.readouterr()
    assert status == 2
    assert complaint in printed.err
    assert printed.out == ""


def test_a_full_disk_gives_no_traceback(tmp_path: Path, capsys, monkeypatch) -> None:
    fill(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    words = ["report", "--all", "--results", str(tmp_path), "--html", str(tmp_path / "pages")]
    assert main(words) == 1
    assert "No space left" in capsys.readouterr().err
    assert not [path for path in (tmp_path / "pages").rglob("*") if path.is_file()]


@pytest.mark.parametrize("html", ["page.html", "folder"])
def test_a_page_of_one_study_is_a_separate_file(html: str, tmp_path: Path, capsys) -> None:
    fill(tmp_path / "results")
    words = ["icml_figure5", "--scale", "smoke", "--results", str(tmp_path / "results")]
    assert main(["report", *words, "--html", str(tmp_path / html)]) == 0
    path = tmp_path / html
    page = path if path.is_file() else path / "icml_figure5-smoke.html"
    text = page.read_text()
    assert "all results" not in text
    assert "report configs/icml_figure5.yaml --scale smoke --html" in text
    assert f"wrote {page}" in capsys.readouterr().err


def test_a_page_names_its_file_and_its_results_as_another_machine_can(tmp_path: Path) -> None:
    fill(tmp_path / "my results")
    own = tmp_path / "own.yaml"
    shutil.copy(ROOT / "configs/icml_figure5.yaml", own)
    ships = str(ROOT / "configs/icml_figure5.yaml")
    for config, name in ((ships, "configs/icml_figure5.yaml"), (str(own), "own.yaml")):
        words = [config, "--scale", "smoke", "--results", str(tmp_path / "my results")]
        assert main(["report", *words, "--html", str(tmp_path / "page.html")]) == 0
        text = (tmp_path / "page.html").read_text()
        assert f"run {name} --scale smoke --results &#39;my results&#39;" in text
        assert str(tmp_path) not in text
        assert str(ROOT) not in text


def test_an_empty_folder_is_reported_as_nothing_yet(tmp_path: Path, capsys) -> None:
    words = ["report", "--all", "--results", str(tmp_path), "--html", str(tmp_path / "pages")]
    assert main(words) == 0
    assert "nothing under" in capsys.readouterr().out
    assert "No study has a record yet" in (tmp_path / "pages/index.html").read_text()


def test_no_secret_and_no_place_of_this_machine_is_on_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nos_repro.report.pages.study_page import study_page
    from nos_repro.report.pages.write import write_page

    monkeypatch.setenv("WANDB_API_KEY", "secret-of-the-environment")

    def broken(trial: Trial) -> dict[str, Any]:
        known = ending(trial)
        reason = f"OSError: {tmp_path}/data/digits.npz is damaged"
        return {**known, "reason": reason} if known.get("reason") else known

    known = found(tmp_path / "results", made_up_study(HOSTILE), broken)
    log = known.store.folder(known.rows[0].trials[0]) / "log.txt"
    log.write_text("what was said")
    write_page(study_page(known, "tiny"), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "secret-of-the-environment" not in text
    assert str(tmp_path) not in text
    assert "OSError: digits.npz is damaged" in text
    assert f"results/tiny/smoke/trials/{log.parent.name}/log.txt" in text
