"""The section `launcher`: where it comes from, which layer wins, what is refused."""

import shutil
from pathlib import Path

import pytest

from nos_repro.errors import ConfigError
from nos_repro.experiments.grid import points, sweep_trial
from nos_repro.experiments.load import load_study
from nos_repro.experiments.settings_file import find_config
from nos_repro.launch.run import jobs_per_pack
from nos_repro.launch.settings import LauncherSettings, launcher_settings, list_clusters
from nos_repro.search.settings import load_search
from tests.conftest import ROOT


def test_the_default_is_this_machine():
    assert launcher_settings({}).name == "local"


def test_the_name_alone_is_short_for_the_section_and_may_be_combined_with_its_keys():
    words = ["launcher=slurm", "launcher.partition=gpu", "launcher.sbatch.nice=100"]
    study = load_study(ROOT / "configs/table2.yaml", scale="smoke", overrides=words)
    settings = launcher_settings(study.launcher)
    assert (settings.name, settings.partition) == ("slurm", "gpu")
    assert settings.sbatch == {"nice": 100}


def test_a_search_has_the_section_too_and_its_identity_does_not_depend_on_it():
    path = ROOT / "configs/search.yaml"
    plain = load_search(path, scale="smoke")
    queued = load_search(path, scale="smoke", overrides=["launcher=slurm", "launcher.cpus=2"])
    assert launcher_settings(queued.launcher).cpus == 2
    assert queued.identity() == plain.identity()


def test_where_a_trial_runs_is_not_part_of_its_identity():
    path = ROOT / "configs/table2.yaml"

    def first(overrides):
        study = load_study(path, scale="smoke", overrides=overrides)
        row = study.rows["PowerSign (cosine)"]
        return sweep_trial(study, row, points(study, row)[0]).id

    assert first([]) == first(["launcher=slurm", "launcher.gpus=4"])


def test_the_command_line_beats_the_study_and_the_study_beats_the_profile(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slurm/clusters").mkdir(parents=True)
    profile = tmp_path / "slurm/clusters/mine.yaml"
    profile.write_text("partition: big\nhours: 2\ncpus: 3\nsbatch: {nice: 5, exclude: node1}\n")
    section = {"name": "slurm", "cluster": "mine", "hours": 9, "sbatch": {"nice": 7}}
    settings = launcher_settings(section)
    assert (settings.partition, settings.hours, settings.cpus) == ("big", 9, 3)
    assert settings.sbatch == {"nice": 7, "exclude": "node1"}


def test_a_profile_may_be_any_file(tmp_path):
    profile = tmp_path / "lab.yml"
    profile.write_text("partition: lab\n")
    assert launcher_settings({"cluster": str(profile)}).partition == "lab"


@pytest.mark.parametrize("path", sorted((ROOT / "slurm/clusters").glob("*.yaml")), ids=str)
def test_every_shipped_profile_is_sound(path):
    assert path.stem in list_clusters()
    assert launcher_settings({"name": "slurm", "cluster": path.stem}).name == "slurm"


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_study_and_search_can_be_sent_to_a_cluster(path):
    load = load_search if path.stem.startswith("search") else load_study
    settings = launcher_settings(load(path, scale="smoke", overrides=["launcher=slurm"]).launcher)
    assert settings.name == "slurm"


# fmt: off
MISTAKES = [
    ({"name": "slrum"},                        "did you mean 'slurm'"),
    ({"partitoin": "gpu"},                     "did you mean 'partition'"),
    ({"cluster": "exampel"},                   "did you mean 'example'"),
    ({"cluster": "no/such.yaml"},              "no/such.yaml: cannot be read"),
    ({"gpus": -1},                             "launcher.gpus must be not negative"),
    ({"gpus": "many"},                         "launcher.gpus"),
    ({"hours": 0},                             "launcher.hours must be positive"),
    ({"hours": float("inf")},                  "launcher.hours: expected a finite number, got inf"),
    ({"nodes": 0},                             "launcher.nodes must be at least 1"),
    ({"array_parallelism": 0},                 "launcher.array_parallelism must be at least 1"),
    ({"trials_per_job": 2, "job_minutes": 30}, "left out if job_minutes is given"),
    ({"hours": 0.01},                          "launcher.signal_seconds must be less than"),
    ({"sbatch": {"exclude": ["a", "b"]}},      "launcher.sbatch.exclude must be a single value"),
    ({"sbatch": {"time": 5}},                  "must be left out; set launcher.hours"),
    ({"sbatch": {"parsable": True}},           "must be left out; set nothing: the job's number"),
    ({"sbatch": {"export": "NONE"}},           "must be left out; set launcher.setup"),
    ({"sbatch": {"test-only": True}},          "must be left out; set nothing: --dry-run"),
    ({"sbatch": {"job_name": "x"}},            "launcher.sbatch.job_name must be left out"),
    ({"setup": "module load cuda"},            "launcher.setup: expected a list of lines"),
]
# fmt: on


@pytest.mark.parametrize(("section", "said"), MISTAKES)
def test_a_mistake_in_the_section_is_one_error_that_names_the_key(section, said):
    with pytest.raises(ConfigError) as error:
        launcher_settings(section)
    assert said in str(error.value)


def test_a_mistake_in_a_profile_names_the_file(tmp_path):
    profile = tmp_path / "lab.yaml"
    profile.write_text("partitoin: lab\n")
    with pytest.raises(ConfigError, match=r"lab\.yaml: .*partitoin"):
        launcher_settings({"cluster": str(profile)})
    profile.write_text("name: slurm\n")
    with pytest.raises(ConfigError, match=r"lab\.yaml: 'name' is not a key of a profile"):
        launcher_settings({"cluster": str(profile)})


def test_a_trial_has_one_process_per_gpu_unless_set_otherwise():
    assert LauncherSettings(gpus=8, nodes=12).world == 96
    assert LauncherSettings().world == 1
    assert LauncherSettings(processes=2).world == 2


def test_a_job_takes_as_many_trials_as_fill_its_target_time():
    assert jobs_per_pack(LauncherSettings(), lambda: 10) == 1
    assert jobs_per_pack(LauncherSettings(trials_per_job=7), lambda: 10) == 7
    assert jobs_per_pack(LauncherSettings(job_minutes=30), lambda: 290) == 6
    assert jobs_per_pack(LauncherSettings(job_minutes=1), lambda: 10_000) == 1


def test_a_copy_of_the_scripts_elsewhere_needs_nothing_from_this_folder(tmp_path):
    """`sbatch` itself runs a copy in its spool folder."""
    for script in (ROOT / "slurm").glob("*.sh"):
        text = Path(shutil.copy(script, tmp_path)).read_text()
        assert "BASH_SOURCE" not in text
        assert "$0" not in text
    assert find_config("configs/search.yaml").exists()
