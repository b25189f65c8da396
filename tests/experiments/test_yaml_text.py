"""Words of YAML: what stays text, what is a number, what is neither and refused."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from nos_repro.cli import main
from nos_repro.errors import ConfigError, NosError
from nos_repro.experiments.load import load_study
from nos_repro.experiments.schema import Study
from nos_repro.experiments.settings_file import read_values
from nos_repro.experiments.yaml_text import numbers, read_yaml
from nos_repro.launch.settings import launcher_settings
from tests.conftest import ROOT
from tests.launch.study import TINY

# fmt: off
CORE = {                        # YAML 1.2.2, sec. 10.3.2
    "null": None, "~": None, "": None, "true": True, "True": True, "FALSE": False,
    "0": 0, "-19": -19, "+12": 12, "12e03": 12000.0, "-2E+05": -200000.0, "0.": 0.0, "-0.0": -0.0,
    ".5": 0.5, "+.5": 0.5, "1.50": 1.5, "1e-8": 1e-8, ".inf": math.inf, "-.Inf": -math.inf,
    "plain": "plain", "12monkeys": "12monkeys", "1.2.3": "1.2.3", "2017-12-01": "2017-12-01",
    "nope": "nope", "'1e5'": "1e5", '"no"': "no", "'010'": "010", "!!str 010": "010",
}
GUESSED = {                     # what YAML 1.1 makes numbers and truth values of
    "1:30": "e.g. 1.5", "190:20:30": "e.g. 1.5", "16:00": "e.g. 1.5", "010": "write 10",
    "0o14": "write 12", "0x1F": "write 31", "1_000": "write 1000", "0b11": "write 3",
    "-010": "write -10",
    "yes": "write true", "On": "write true", "no": "write false", "OFF": "write false",
}
# fmt: on


@pytest.mark.parametrize("text", CORE)
def test_the_core_of_yaml_is_read_as_its_specification_says(text: str) -> None:
    value = numbers(read_yaml(text))
    assert value == CORE[text]
    assert type(value) is type(CORE[text])


def test_not_a_number_is_one() -> None:
    assert math.isnan(numbers(read_yaml(".nan")))


@pytest.mark.parametrize("text", GUESSED)
def test_what_only_yaml_1_1_takes_for_a_number_is_text_or_refused(text: str) -> None:
    assert read_yaml(text) == text
    with pytest.raises(ConfigError) as caught:
        numbers(read_yaml(text), "sweep.lr")
    assert GUESSED[text] in str(caught.value)
    assert "sweep.lr" in str(caught.value)


def test_keys_are_text_and_the_rest_is_yaml() -> None:
    text = "common: &c {a: 1, b: 2}\nno: {<<: *c, b: 3}\n010: [*c]\n1e5: x\n"
    assert read_yaml(text) == {
        "common": {"a": 1, "b": 2}, "no": {"a": 1, "b": 3}, "010": [{"a": 1, "b": 2}], "1e5": "x",
    }  # fmt: skip
    one, other = "&a {k: 1, x: 1}", "&b {k: 2, y: 2}"
    merged = read_yaml(f"one: {one}\nother: {other}\nboth: {{<<: [*a, *b]}}")["both"]
    assert merged == yaml.safe_load(f"one: {one}\nother: {other}\nboth: {{<<: [*a, *b]}}")["both"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", "line "),
        ("a: 1\nb: 2\na: 3", "line 3, column 1: found duplicate key a"),
        ("a: !!python/object/apply:os.system [ls]", "the tag tag:yaml.org,2002:python"),
        ("a: !!timestamp 2001-12-14", "has no meaning"),
        ("{[1]: 2}", "a key must be"),
        ("a: &a [*a]", "nested too deep"),
        ("<<: 3", "<< needs a mapping"),
        ("\x00", "not valid YAML"),
        ("caf\udce9", "not UTF-8"),
        ("a: " + "9" * 100_000, "too large"),
        ("[" * 100_000, "not valid YAML"),
        ("a0: &a0 [1]\n" + "".join(f"a{k}: &a{k} [{f'*a{k - 1}, ' * 9}]\n" for k in range(1, 9)),
         "more than 300,000 values"),
    ],
)  # fmt: skip
def test_what_is_no_yaml_is_one_line_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=r"^(?:a number|not valid YAML)") as caught:
        read_yaml(text)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY, sort_keys=False))
    return path


# fmt: off
TEXT = {                       # what stays text, in the file or on the command line
    "launcher.account=0123":         ("account", "0123"),
    "launcher.account=1e5":          ("account", "1e5"),
    "launcher.account=123":          ("account", "123"),
    "launcher.account=1.50":         ("account", "1.50"),
    "launcher.qos=no":               ("qos", "no"),
    "launcher.partition=True":       ("partition", "True"),
    "launcher.sbatch.begin=16:00":   ("sbatch", {"begin": "16:00"}),
    "launcher.constraint=2017-12-01": ("constraint", "2017-12-01"),
    "launcher.hours=1e1":            ("hours", 10.0),
}
REFUSED = {                    # what a number or a truth value cannot be
    "launcher.hours=1:30":     "launcher.hours: expected a number, got '1:30': write a",
    "launcher.gpus=1.5":       "launcher.gpus: expected a whole number, got 1.5",
    "training.epochs=010":     "training.epochs: expected a number, got '010': write 10",
    "training.epochs=1e1":     "training.epochs: expected a whole number",
    "training.epochs=ten":     "training.epochs: expected a number, got 'ten'",
    "task.augment=no":         "task.augment: expected true or false, got 'no': write false",
    "sweep.lr=[1:30]":         "sweep.lr[0]: '1:30' is ambiguous",
    "rows.drops.options.x=no": "rows.drops.options.x: 'no' is ambiguous: write false",
    "rows.drops.optimizer=null": "rows.drops.optimizer: expected text, got null",
    "figure=[a]":              "figure: expected a mapping of names to values, got ['a']",
    "rows.drops.paper={best_test: [1]}": "rows.drops.paper.best_test: expected a number, got [1]",
    "claim=[1]":               "claim: expected text, got [1]",
    "sweep.lr=" + "9" * 100_000: "a number is too large",
    "note=caf\udce9":          "not UTF-8",
}
# fmt: on


def settings_of(study: Study) -> Any:
    return launcher_settings(study.launcher)


@pytest.mark.parametrize("word", TEXT)
def test_text_stays_text_where_the_schema_has_text(word: str, tiny: Path) -> None:
    key, value = TEXT[word]
    study = load_study(tiny, scale="smoke", overrides=["launcher=slurm", word])
    assert getattr(settings_of(study), key) == value
    name, _, text = word.partition("=")
    sections = name.split(".")[1:]
    for section in reversed(sections):
        text = f"{{{section}: {text}}}"
    with tiny.open("a") as file:
        file.write(f"launcher: {{name: slurm, {text[1:]}\n")
    assert getattr(settings_of(load_study(tiny, scale="smoke")), key) == value


@pytest.mark.parametrize("word", REFUSED)
def test_a_guess_is_refused_with_the_plain_form(word: str, tiny: Path) -> None:
    with pytest.raises(NosError) as caught:
        settings_of(load_study(tiny, scale="smoke", overrides=["launcher=slurm", word]))
    assert REFUSED[word] in str(caught.value)
    assert len(str(caught.value)) < 600


def test_languages_are_text(tmp_path: Path) -> None:
    study = load_study(
        ROOT / "configs/table4.yaml", scale="small", overrides=["task.languages=[en,no]"]
    )
    assert study.task["languages"] == ["en", "no"]


def test_a_study_is_called_what_its_file_says(tiny: Path, capsys: Any) -> None:
    tiny.write_text(yaml.safe_dump({**TINY, "study": "tiny"}).replace("study: tiny", "study: no"))
    assert load_study(tiny, scale="smoke").study == "no"
    assert read_values(tiny)["study"] == "no"


def test_numbers_of_the_file_are_those_that_pyyaml_reads() -> None:
    """The studies that ship, by another reader of YAML 1.1: none of them holds a guess."""

    class Loader(yaml.SafeLoader):
        """Where YAML 1.1 wants a full stop and a sign in `1e-5`."""

    known = yaml.resolver.Resolver.yaml_implicit_resolvers
    Loader.yaml_implicit_resolvers = {first: list(kinds) for first, kinds in known.items()}
    short = re.compile(r"[-+]?[0-9.]+[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", short, list("-+.0123456789"))
    for path in (ROOT / "configs").glob("*.yaml"):
        text = path.read_text()
        assert numbers(read_yaml(text)) == yaml.load(text, Loader)


def test_a_reference_sees_what_the_scale_and_the_command_line_say(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    training = {"epochs": 10, "evaluate_every": "${training.epochs}"}
    path.write_text(yaml.safe_dump({**TINY, "training": training,
                                    "scales": {"smoke": {"training": {"epochs": 2}}}}))  # fmt: skip
    assert load_study(path, scale="smoke").training.evaluate_every == 2
    study = load_study(path, scale="smoke", overrides=["training.epochs=4"])
    assert study.training.evaluate_every == 4
    study = load_study(path, scale="smoke", overrides=["selection.repeats=${training.epochs}"])
    assert study.selection.repeats == 2


@pytest.mark.parametrize(
    ("claim", "problem"),
    [
        ("${oc.env:WANDB_API_KEY}", "variables called NOS_REPRO_"),
        ("${oc.env:WANDB_API_KEY,NOS_REPRO_X}", "variables called NOS_REPRO_"),
        ("${oc.${note}:WANDB_API_KEY}", "variables called NOS_REPRO_"),
        ("${oc.env:${note}}", "variables called NOS_REPRO_"),
        ("${oc.decode:'${note}'}", "variables called NOS_REPRO_"),
        ("${oc.env:NOS_REPRO_A,${oc.env:WANDB_API_KEY}}", "variables called NOS_REPRO_"),
        ("${mine:1}", "variables called NOS_REPRO_"),
        ("${nothing}", "nothing"),
        ("${claim}", "ecursive"),
        ("${", "claim"),
    ],
)
@pytest.mark.parametrize("in_file", [True, False])
def test_a_study_cannot_read_the_environment(
    claim: str, problem: str, in_file: bool, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "the secret")
    path = tmp_path / "tiny.yaml"
    own = {"claim": claim} if in_file else {}
    path.write_text(yaml.safe_dump({**TINY, "note": "WANDB_API_KEY", **own}))
    words = [] if in_file else [f"claim={claim}"]
    assert main(["report", str(path), "--scale", "smoke", *words]) == 2
    printed = capsys.readouterr()
    assert problem in printed.err
    assert "the secret" not in printed.out + printed.err


def test_a_study_can_read_variables_of_ours(tiny: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("NOS_REPRO_GROUP", "3")
    words = ["claim=group ${oc.env:NOS_REPRO_GROUP}", "selection.repeats=${oc.env:NOS_REPRO_GROUP}"]
    study = load_study(tiny, scale="smoke", overrides=words)
    assert (study.claim, study.selection.repeats) == ("group 3", 3)


def test_a_name_is_not_a_reference(tiny: Path) -> None:
    tiny.write_text(yaml.safe_dump({**TINY, "study": "${note}", "note": "x"}))
    with pytest.raises(ConfigError, match="study: write the name itself"):
        load_study(tiny, scale="smoke")


def test_a_row_may_be_named_in_brackets(tiny: Path) -> None:
    row = "+rows[drop(m, 0.3) = x.seed]"
    words = [f"{row}.optimizer=adam", f"{row}.sweep.lr=[.5]", "rows[drops].seed=3"]
    rows = load_study(tiny, scale="smoke", overrides=words).rows
    assert rows["drop(m, 0.3) = x.seed"].sweep == {"lr": [0.5]}
    assert rows["drops"].seed == 3


def test_a_study_may_have_thousands_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    rows = {f"row {k}": {"optimizer": "sgd"} for k in range(3000)}
    path.write_text(yaml.safe_dump({**TINY, "rows": rows}))
    assert len(read_values(path)["rows"]) == 3000
