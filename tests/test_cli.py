"""The command line: help, exit statuses, and answers to typing errors."""

import ast
import importlib.metadata
import io
import re
import shlex
import subprocess
import sys
import tomllib

import pytest

from nos_repro.cli import main, make_parser
from tests.conftest import ROOT


def test_help_imports_nothing_heavy():
    code = (
        "import sys, nos_repro.cli as cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'omegaconf', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    for verb in ("run", "report", "claims", "why", "recheck", "verify", "rule", "bench"):
        assert verb in done.stdout


def helped(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(("columns", "widest"), [(60, 80), (80, 80), (100, 100), (300, 120)])
def test_every_verb_explains_itself_within_the_terminal_and_ends_with_examples(
    columns, widest, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", str(columns))
    every = helped(capsys)
    verbs = re.findall(r"^    ([a-z-]+)(?:  |$)", every, re.MULTILINE)
    assert set(verbs) == set(make_parser()._subparsers._group_actions[0].choices)
    for words in ([], *([verb] for verb in verbs)):
        said = helped(capsys, *words)
        assert " ".join(["usage: nos-repro", *words]) in said
        assert max(map(len, said.splitlines())) <= widest
        for example in examples(said):
            make_parser().parse_known_args(example)
            assert example[0] in words or not words


@pytest.mark.parametrize(
    ("program", "named"),
    [("/opt/bin/nos-repro", "nos-repro"), ("/opt/nos_repro/__main__.py", "python -m nos_repro")],
)
def test_the_commands_that_it_proposes_are_called_as_it_was(program, named, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [program])
    assert f"\n  {named} run table2 --scale small" in helped(capsys, "run")
    assert main(["new", "study", "mine"]) == 0
    assert f"\n  {named} run mine.yaml " in capsys.readouterr().err


def examples(said):
    _, found, lines = said.rpartition("\nexamples:\n")
    assert found
    for line in lines.splitlines():
        python, _, package, *words = shlex.split(line.partition(" > ")[0])
        assert (python, package) == ("python", "nos_repro")
        yield words


def test_versions_are_those_of_the_package_torch_and_python(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert capsys.readouterr().out.split(", ") == [
        f"nos-repro {project['version']}",
        f"torch {importlib.metadata.version('torch')}",
        f"Python {sys.version.split()[0]}\n",
    ]


def test_a_missing_verb_prints_the_help_and_is_a_mistake(capsys):
    assert main([]) == 2
    assert "run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["run", "configs/tabel2.yaml"], "did you mean 'table2'"),
        (["report", "table2", "--scale", "smal"], "did you mean 'small'"),
        (["status", "table2", "--rows", "Powersine (cosine)"], "did you mean 'PowerSign (cosine)'"),
        (["rule", "exp(sgn(g))"], "did you mean 'sign'"),
        (["export", "exp(sgn(g))"], "did you mean 'sign'"),
        (["export", "powersing"], "did you mean the name 'powersign'"),
        (["export", "sgd"], "use torch.optim.SGD"),
        (["export", "powersign", "--name", "my optimizer"], "must be a Python identifier"),
        (["bench", "optimiser-step"], "did you mean"),
        (["report", "table2", "task.widht=2"], "did you mean 'width'"),
        (["report", "table2", "--results", __file__], "is a file, not a folder"),
        (["report", "table2", "--write", "--rows", "SGD*"], "leave out --rows"),
        (["claims", "rosenbrok-better"], "did you mean 'rosenbrock-better'"),
        (["claims", "--scale", "smal"], "did you mean 'small'"),
        (["claims", "--write", "--scale", "small"], "leave out CLAIM, --scale and --file"),
        (["why", "table2"], "name a study and a row"),
        (["why", "table2:Powersine (cosine)"], "did you mean 'PowerSign (cosine)'"),
        (["recheck", "tabel2:SGD"], "did you mean 'table2'"),
        (["recheck", "table2:SGD (cosine)", "--scale", "smoke"], "no number to check"),
        (["verdicts", "table2", "task.widht=2"], "did you mean 'width'"),
        (["run", "table2", "--scale", "smoke", "--budget", "0"], "must be a positive number"),
    ],
)
def test_a_mistake_is_status_2_with_the_nearest_fix_and_no_traceback(words, complaint, capsys):
    assert main(words) == 2
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert printed.out == ""


def test_overrides_may_come_before_or_after_flags(tmp_path, capsys):
    flags = ["--scale", "smoke", "--results", str(tmp_path)]
    assert main(["report", "table2", "task.width=2", *flags, "training.epochs=3"]) == 0
    text = capsys.readouterr().out
    assert "WRN-10-2" in text
    assert "3 epochs" in text


def test_a_report_of_nothing_says_not_run_yet(tmp_path, capsys):
    assert main(["report", "table2", "--results", str(tmp_path)]) == 0
    assert "not run yet" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_leaves_early_gets_no_complaint():
    words = [sys.executable, "-m", "nos_repro", "bench", "--list"]
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1
    process.stderr.close()


def test_a_rule_is_explained(capsys):
    assert main(["rule", "exp(sign(g) * sign(m)) * g"]) == 0
    text = capsys.readouterr().out
    assert "powersign" in text
    assert "4 bytes" in text


def test_an_exported_file_is_all_that_is_printed(capsys):
    assert main(["export", "powersign-cd", "--name", "Mine"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert [n.name for n in ast.parse(printed.out).body if isinstance(n, ast.ClassDef)] == ["Mine"]


def test_a_terminal_without_our_signs_shows_question_marks_and_the_rest(committed, monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(["report", "table5", "--scale", "small", "--results", str(committed)]) == 0
    text = terminal.buffer.getvalue().decode("ascii")
    assert "Adam" in text
    assert "paper?" in text  # the sign of degree


def test_a_verb_whose_caller_closed_the_standard_streams_ends_quietly(tmp_path):
    """And no file that it opens gets their numbers, or it would be printed into."""
    script = 'exec "$0" -m nos_repro rule g <&- >&- 2>&-'
    done = subprocess.run(["sh", "-c", script, sys.executable], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
