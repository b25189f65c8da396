"""The report of a search from logs with known answers, cut, empty and full of special signs."""

import itertools
import json
import os
import random
import shutil
from pathlib import Path

import pytest

from nos_repro.cli import main
from nos_repro.errors import ConfigError
from nos_repro.report.layout import GLUE, ReportTable
from nos_repro.report.search.confirmation import candidates, confirmation, declared
from nos_repro.report.search.files import print_report, search_files, write_search_report
from nos_repro.report.search.history import read_history
from nos_repro.report.search.made_by import code_lines, stale_lines
from nos_repro.report.search.tables import course, expressions, hall_of_fame, refused
from nos_repro.search.log import LogError
from nos_repro.search.session import child_code, search_code
from tests.report.searches import CONFIG, CONSTANT, NO_DESCENT, SESSION, Folder

SMOKE = ["--scale", "smoke", "--results"]
STRINGS = [
    f"{a} {b} identity identity {sign}"
    for a, b in itertools.permutations(["g", "m", "sign(g)", "sign(m)"], 2)
    for sign in ("*", "/", "keep_left")
]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def rows(table: ReportTable) -> list[list[str]]:
    return [[cell.text.replace(GLUE, " ") for cell in row] for row in table.rows]


def a_few(folder: Folder) -> None:
    """Eight samples: 3 different healthy ones, one reused; mean 0.3 in all."""
    folder.sample("g m identity identity *", "healthy", 0.5, lr=0.01)
    folder.sample("m g identity identity *", "reused", 0.5)
    folder.sample("g 1 identity identity /", "refused", reason=NO_DESCENT)
    folder.updated(12.5, 1.0)
    folder.sample("1 g identity identity keep_left", "refused", reason=CONSTANT)
    folder.sample("m 1 exp identity *", "diverged", seconds=1.0, reason="every rate diverged")
    folder.sample("sign(g) sign(m) identity identity *", "healthy", 0.8, lr=1.0)
    folder.updated(11.5, 2.0)
    folder.sample("sign(g) m exp identity *", "healthy", 0.6, lr=0.1)
    folder.sample("sign(m) m exp identity *", "overran", reason="hung: killed")
    lost = folder.propose("g sign(g) exp identity *")
    folder.write({"event": "withdrawn", "sample": lost, "reason": "its worker vanished 3 times"})
    folder.propose("m sign(g) exp identity *")


def test_the_course_of_a_search_is_counted(folder: Folder) -> None:
    a_few(folder)
    table = course(folder.history())
    found = {row[0]: row[1:] for row in rows(table)}
    assert found["draws with a reward"] == ["8", "2", "2"]
    assert found["different rules"] == ["7", "1", "2"]
    assert found["fresh ones, first drawn there"] == ["7", "1", "2"]
    assert found["mean reward of all draws"][0].startswith("0.3000 ± ")
    assert found["mean reward of all draws"][1] == "0.5000 ± 0.0000"
    assert found["mean reward of the fresh rules"][1] == "0.5000"
    assert found["entropy of the rules drawn (nats)"][1] == "0.00 ± 0.00"
    assert found["best reward"] == ["0.8000", "0.5000", "0.6000"]
    assert found["healthy"] == ["3 (37.5%)", "1 (50.0%)", "1 (50.0%)"]
    assert found["refused"] == ["2 (25.0%)", "0 (0.0%)", "0 (0.0%)"]
    assert found["overran"] == ["1 (12.5%)", "0 (0.0%)", "1 (50.0%)"]
    assert "failed" not in found
    text = " ".join(table.notes)
    assert "8 of 20 draws, of 7 different rules, for which 5 children were trained; 1 under" in text
    assert f"1: {NO_DESCENT}" in text
    assert f"1: {CONSTANT}" in text
    assert "The mean reward of all draws shows no clear trend" in text
    assert "fresh rules (each at its first draw, by quarters of these) cannot be judged yet" in text
    assert "write one rule, 12.50 nats at the first, 11.50 at the last" in text
    assert "Drawn most in the last quarter: exp(sign(g)) * m, 50% of it (1 times in all)" in text
    assert "on average 1.5 updates old" in text
    assert "5 children in 0.03 worker-hours: 165 children per hour" in text


@pytest.mark.parametrize(
    ("slope", "words"), [(0.01, "rose"), (0.0, "shows no clear trend"), (-0.01, "fell")]
)
def test_a_trend_is_told_from_noise(folder: Folder, slope: float, words: str) -> None:
    for n, tokens in enumerate(STRINGS):
        folder.sample(tokens, "healthy", round(0.4 + slope * n + (-1) ** n * 0.01, 4))
    assert f"The mean reward of all draws {words}" in " ".join(course(folder.history()).notes)


def test_the_protocol_and_what_differs_from_scale_paper_are_shown(folder: Folder) -> None:
    heading = " ".join(course(folder.history()).heading)
    assert "Scale smoke: small ConvNet, on digits, 400 training images" in heading
    assert "at the best of 3 rates from 0.01 to 1 (1 epoch each, train_images=200)" in heading
    assert "20 draws from a space of 2.4e+02 strings, by ppo" in heading
    assert "45,000 draws from a space of 1.3e+10 strings" in heading
    assert "child.epochs 2 instead of 5" in heading
    assert "20 draws instead of 45,000 draws" in heading


def test_settings_that_changed_since_are_reported(folder: Folder) -> None:
    history = read_history(
        CONFIG, folder.results, scale="smoke", overrides=["child.epochs=3", "samples=30"]
    )
    assert "2 epochs, at the best" in " ".join(course(history).heading)
    assert "child.epochs: was 2, is 3" in " ".join(course(history).notes)


def test_the_hall_of_fame_ranks_rules_and_baselines(folder: Folder) -> None:
    a_few(folder)
    folder.named("baseline", "SGD", "sgd", reward=0.7)
    folder.named("baseline", "Adam", "adam", status="diverged")
    assert [row[:5] for row in rows(hall_of_fame(folder.history()))] == [
        ["1", "sign(g) * sign(m)", "0.8000", "1", "1"],
        ["(2)", "SGD (baseline)", "0.7000", "0.1", "-"],
        ["2", "exp(sign(g)) * m", "0.6000", "0.1", "1"],
        ["3", "g * m", "0.5000", "0.01", "2"],
        ["(4)", "Adam (baseline)", "diverged", "0.1", "-"],
    ]


def confirmed(folder: Folder, scores: dict[str, list[float | None]]) -> None:
    """Test accuracies by name and seed; validation ones are 1 higher."""
    baselines = folder.search.baselines
    for name, values in scores.items():
        for seed, value in enumerate(values, 1):
            optimizer = baselines.get(name, f"rule: {name}")
            if value is None:
                folder.named("confirm", name, optimizer, seed, status="diverged")
            else:
                folder.named("confirm", name, optimizer, seed, reward=value / 100 + 0.01,
                             val_accuracy=value + 1, test_accuracy=value)  # fmt: skip


def test_the_verdict_is_that_of_the_best_rule_of_the_search(folder: Folder) -> None:
    a_few(folder)
    confirmed(
        folder,
        {
            "g * m": [90.0, 91.0, 92.0],  # best now, but not the best of the search
            "sign(g) * sign(m)": [60.0, 61.0, 62.0],
            "SGD": [58.0, 59.1, 59.9],
            "Adam": [60.2, 60.8, 62.1],
            "Momentum": [62.0, 63.1, 63.9],
            "RMSProp": [60.0, None, 62.0],
        },
    )
    best = declared(candidates(folder.history()))
    assert best is not None
    assert best.name == "sign(g) * sign(m)"
    means, verdicts = confirmation(folder.history())
    shown = {row[0]: row[1:] for row in rows(means)}
    assert shown["sign(g) * sign(m)"] == ["0.8000", "62.00 ± 1.00 (3)", "61.00 ± 1.00 (3)"]
    assert "1 of 3 without a result" in shown["RMSProp (baseline)"][2]
    found = {row[0]: (row[1], row[2], row[5]) for row in rows(verdicts)}
    assert found["SGD"] == ("+2.00 ± 0.25 (3)", "better", "2 / 0 / 0")
    assert found["Adam"][1:] == ("level", "1 / 1 / 0")
    assert found["Momentum"][1:] == ("worse", "1 / 0 / 1")
    assert found["RMSProp"][1:] == ("better", "2 / 0 / 0")
    assert verdicts.notes[0] == (
        "The best rule by its search reward, sign(g) * sign(m): on test images it beats RMSProp,"
        " SGD; is level with (the interval holds 0) Adam; is worse than Momentum."
    )


def test_rates_that_differ_by_seed_are_shown_with_what_they_led_to(folder: Folder) -> None:
    a_few(folder)
    confirmed(folder, {"g * m": [60.0, 61.0, 62.0], "SGD": [50.0, 52.0, 20.0]})
    lines = (folder.path / "named.jsonl").read_text().splitlines()
    lines[-1] = lines[-1].replace('"lr":0.1', '"lr":10.0')  # SGD's third seed
    (folder.path / "named.jsonl").write_text("\n".join(lines) + "\n")
    (said,) = [note for note in confirmation(folder.history())[0].notes if "sweep chose" in note]
    assert "chose them: SGD 0.1 (51.00), 10 (20.00). Where" in said


def test_a_best_rule_that_was_not_confirmed_is_named(folder: Folder) -> None:
    a_few(folder)
    confirmed(folder, {"g * m": [60.0, 61.0], "SGD": [50.0, 52.0]})
    notes = confirmation(folder.history())[1].notes
    assert "sign(g) * sign(m) (0.8000), is not among those that were confirmed" in " ".join(notes)


def test_refused_rules_that_were_trained_are_compared_with_chance_and_the_median(
    folder: Folder,
) -> None:
    a_few(folder)
    for n, reward in enumerate([0.1, 0.2, 0.65]):
        folder.named("refused", NO_DESCENT, f"rule: g * {n + 2}", reward=reward)
    folder.named("refused", NO_DESCENT, "rule: g * 7", status="diverged")
    folder.named("refused", CONSTANT, "rule: 1", reward=0.1)
    table = refused(folder.history())
    assert rows(table) == [
        [NO_DESCENT, "1", "4", "3", "0.2375", "0.6500", "2", "1"],
        [CONSTANT, "1", "1", "1", "0.1000", "0.1000", "0", "0"],
        ["all", "2", "5", "4", "0.2100", "0.6500", "2", "1"],
    ]
    text = " ".join(table.notes)
    assert "1.5 times that of chance (0.1000)" in text
    assert "of the 3 healthy rules of the search (0.6000)" in text
    assert "rank 2 of 4" in text


def test_the_table_of_sub_expressions_has_the_signs_in_any_case(folder: Folder) -> None:
    assert "Too few rules yet: 0" in expressions(folder.history()).notes[0]
    for n, tokens in enumerate(STRINGS):
        folder.sample(tokens, "healthy", 0.5 - n / 100)
    table = expressions(folder.history())
    different = len({row["rule"] for row in folder.history().hall.ranked()})
    found = {row[0]: row[1:] for row in rows(table)}
    assert found["sign(g) * sign(m)"][1] == f"1 ({1 / different:.1%})"


def test_a_torn_last_line_is_left_out_and_reported(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    a_few(folder)
    folder.named("baseline", "SGD", "sgd", reward=0.7)
    before = print_report(folder.history(), "text")
    for name in ("log.jsonl", "named.jsonl"):
        with (folder.path / name).open("a") as file:
            file.write('{"event":"evaluated","sample":9,"rew')
    assert print_report(folder.history(), "text") == before
    assert main(["report", str(CONFIG), *SMOKE, str(folder.results)]) == 0
    printed = capsys.readouterr()
    assert printed.err.count("incomplete or torn; left out") == 2
    assert printed.out == before + "\n"


def test_every_prefix_of_a_log_can_be_reported(folder: Folder) -> None:
    a_few(folder)
    data = (folder.path / "log.jsonl").read_bytes()
    for size in random.Random(0).sample(range(len(data)), 8):
        (folder.path / "log.jsonl").write_bytes(data[:size])
        print_report(folder.history(), "text")


def test_a_line_that_is_damaged_elsewhere_is_an_error(folder: Folder) -> None:
    a_few(folder)
    log = folder.path / "log.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join([*lines[:3], "{}\n", *lines[3:]]))
    with pytest.raises(LogError, match="line 4"):
        folder.history()
    log.write_text("".join([*lines, "{}\n"]))
    with pytest.raises(LogError, match="is not an event of a search"):
        folder.history()
    log.unlink()
    (folder.path / "settings.json").write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        folder.history()


def test_an_empty_folder_is_not_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for form in ("text", "markdown", "latex"):
        assert main(["report", str(CONFIG), *SMOKE, str(tmp_path), "--format", form]) == 0
        assert "no rule yet" in capsys.readouterr().out
    assert main(["status", str(CONFIG), *SMOKE, str(tmp_path)]) == 0
    assert "0/20 draws" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_status_says_how_far_it_is_and_who_runs_it(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    a_few(folder)
    claim = {"host": "elsewhere", "pid": 7, "updated": 0.0, "step": 8, "steps": 20}
    (folder.path / "claim.json").write_text(json.dumps(claim))
    os.utime(folder.path / "claim.json", (0, 0))
    assert main(["status", str(CONFIG), *SMOKE, str(folder.results)]) == 0
    text = capsys.readouterr().out
    assert "8/20 draws, 7 rules: 3 healthy, 2 refused, 1 diverged, 1 reused, 1 overran" in text
    assert "reward: best 0.8000, mean 0.3000" in text
    assert "entropy of strings 11.5, staleness 2.0" in text
    assert "process 7 on elsewhere left it" in text
    assert "0 of 6 baselines" in text


@pytest.mark.parametrize("verb", ["run", "verify"])
def test_a_verb_for_studies_points_to_search(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, str(CONFIG), *SMOKE, str(tmp_path)]) == 2
    assert "a search, not a study: use `search`" in capsys.readouterr().err


def test_a_search_has_no_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(CONFIG), *SMOKE, str(tmp_path), "--rows", "SGD"]) == 2
    assert "a search has none" in capsys.readouterr().err


def test_a_report_says_which_code_made_what_and_what_is_stale(folder: Folder) -> None:
    today, children = search_code(folder.search), child_code(folder.search.child)
    folder.sample("g m identity identity *", "healthy", 0.5)
    for code in ({"code": "01d", "trains": children}, {"code": "01der", "trains": "0ther"}):
        folder.write({**SESSION, **code})
        folder.sample("g m identity exp *", "healthy", 0.5)
    folder.sample("g m exp exp *", "healthy", 0.5)
    folder.write({**SESSION, "code": today, "trains": children})
    folder.sample("g m exp identity *", "healthy", 0.5)
    folder.named("baseline", "SGD", "sgd")
    folder.write({**SESSION, "code": children}, to="named.jsonl")
    folder.named("baseline", "Adam", "adam")
    history = folder.history()
    assert code_lines(history) == [
        "Code: 1 draw (sample 0) by c0de; 1 draw (sample 1) by 01d; 2 draws (samples 2 to 3) by"
        f" 01der; 1 draw (sample 4) by {today}; 1 child beside the search by code that the log"
        f" does not name; 1 child beside the search by {children}."
    ]
    first, second, third, beside = stale_lines(history)
    assert first.endswith("; what trains children may have changed too.")
    assert second.startswith("Stale: 1 draw (sample 1) by 01d (today's is ")
    assert second.endswith("; what draws and learns has changed, not what trains children.")
    assert third.endswith("; what trains children has changed: new rewards may not compare.")
    assert beside.startswith("Stale: 1 child beside the search by code that the log")
    assert second in print_report(history, "text")
    assert not any("Stale" in data.decode() for name, data in search_files(history).items()
                   if name.endswith((".md", ".tex", ".svg")))  # fmt: skip


def test_special_signs_stay_text(folder: Folder) -> None:
    a_few(folder)
    name = r"a|b*c_<i>$x$ \input{y} & 100% #1"
    folder.named("baseline", name, "sgd", reward=0.7)
    markdown = print_report(folder.history(), "markdown")
    assert r"a\|b\*c\_\<i\>\$x\$ \\input\{y\} \& 100% \#1 (baseline)" in markdown
    assert r"| 1 | sign(g) \* sign(m) |" in markdown
    latex = print_report(folder.history(), "latex")
    assert r"\input{" not in latex
    assert r"sign(g) {*} sign(m)" in latex


def test_a_clone_writes_the_same_bytes(folder: Folder, tmp_path: Path) -> None:
    a_few(folder)
    folder.named("baseline", "SGD", "sgd", reward=0.7)
    confirmed(folder, {"g * m": [60.0, 61.0], "SGD": [50.0, 52.0]})
    (folder.path / "answers").mkdir()
    (folder.path / "claim.json").write_text("{}")
    clone = tmp_path / "clone" / "search" / "smoke"
    clone.mkdir(parents=True)
    for name in ("settings.json", "log.jsonl", "named.jsonl"):
        shutil.copy(folder.path / name, clone / name)
    written = write_search_report(folder.history())
    assert [path.name for path in written] == [
        "hall_of_fame.md", "hall_of_fame.tex", "figure4.png", "figure4.svg"
    ]  # fmt: skip
    theirs = search_files(read_history(CONFIG, tmp_path / "clone", scale="smoke"))
    assert {path.name: path.read_bytes() for path in written} == theirs


def test_the_files_say_where_their_numbers_come_from(folder: Folder) -> None:
    a_few(folder)
    folder.named("baseline", "SGD", "sgd", reward=0.7)
    for form in ("text", "markdown", "latex"):
        text = print_report(folder.history(), form).replace("\\", "")
        for words in (
            "Search search, scale smoke, seed 0: 8 draws with a reward, of 7 different rules.",
            "5 children for them, 1 beside the search; 0.04 worker-hours",
            "1 session, of 2 workers.",
            "Commit 0123456789ab; numpy 2.1, torch 2.9.0; Python 3.12.1.",
            "Hardware: Some CPU (2 cores); threads per child: 1.",
        ):
            assert words in text
