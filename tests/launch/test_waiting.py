"""The reasons for which SLURM does not start a job; the words are those of its libslurm 22.05."""

import pytest

from nos_repro.launch.slurm.waiting import explain, notes

DOWN = "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"
# fmt: off
STARTS = [
    "None", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime", "Dependency", "Licenses",
    "Cleaning", "SchedDefer", "BurstBufferStageIn", "PowerReserved", "Reservation", "",
]
OTHERS_FIRST = [
    "QOSMaxJobsPerUserLimit", "AssocMaxJobsLimit", "QOSGrpCpuLimit", "AssocGrpGRES", "QOSJobLimit",
    "QOSMaxGRESPerUser", "AssocGrpCPURunMinutesLimit", "MaxGRESPerAccount", "QOSGrpNodeRunMinutes",
    "AssociationResourceLimit",
]
STUCK = {
    "QOSMaxWallDurationPerJobLimit":  "launcher.hours",
    "AssocMaxCpuPerJobLimit":         "cpus",
    "QOSMaxMemoryPerNode":            "memory_gb",
    "AssocMaxGRESMinutesPerJob":      "launcher.hours",
    "QOSMinCpuNotSatisfied":          "cpus",
    "MaxMemPerLimit":                 "memory_gb",
    "PartitionTimeLimit":             "launcher.hours",
    "PartitionNodeLimit":             "nodes",
    "PartitionConfig":                "partition",
    "AssocGrpCPUMinutesLimit":        "budget",
    "QOSGrpGRESMinutes":              "budget",
    "QOSGrpWallLimit":                "budget",
    "QOSUsageThreshold":              "budget",
    "PartitionDown":                  "launcher.partition",
    "PartitionInactive":              "launcher.partition",
    "ReqNodeNotAvail, UnavailableNodes:a[1-9]": "sinfo -R",
    "ReqNodeNotAvail, May be reserved for other job": "sinfo -R",
    DOWN:                             "sinfo -R",
    "NodeDown":                       "sinfo -R",
    "BadConstraints":                 "launcher.constraint",
    "JobHeldUser":                    "scontrol release",
    "JobHeldAdmin":                   "administrator",
    "job requeued in held state":     "scontrol release",
    "launch failed requeued held":    "administrators",
    "JobHoldMaxRequeue":              "administrators",
    "InvalidAccount":                 "launcher.account",
    "AccountNotAllowed":              "launcher.account",
    "InvalidQOS":                     "launcher.qos",
    "QOSNotAllowed":                  "launcher.qos",
    "DependencyNeverSatisfied":       "launcher.sbatch",
    "ReservationDeleted":             "launcher.sbatch",
}
# fmt: on


@pytest.mark.parametrize("reason", STARTS)
def test_a_job_whose_turn_has_not_come_is_no_news(reason):
    assert str(explain(reason)) == reason
    assert notes([reason]) == {}


@pytest.mark.parametrize("reason", OTHERS_FIRST)
def test_a_limit_on_what_runs_at_a_time_passes_by_itself(reason):
    assert explain(reason).starts
    assert "when other jobs" in notes([reason])[reason]


@pytest.mark.parametrize(("reason", "help_"), STUCK.items())
def test_a_job_that_will_not_start_by_itself_is_news_with_what_helps(reason, help_):
    (said,) = notes([reason, "Priority", reason]).values()
    assert said.startswith(f"2 SLURM jobs wait: {reason}, which does not pass by itself: ")
    assert help_ in said


def test_a_reason_of_a_later_slurm_is_passed_on():
    assert notes(["SomethingNew"]) == {"SomethingNew": "1 SLURM job waits: SomethingNew"}
