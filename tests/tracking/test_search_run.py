"""A search as one run of W&B, offline: a point per sample, a table of children, nothing twice."""

import json
import re

import pytest
import torch
import wandb

from nos_repro.search.log import Log
from nos_repro.tracking import search_run
from nos_repro.tracking.search_run import follow_search
from tests.search.helpers import Instant, loop, tiny_search
from tests.tracking.reading import parts


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def search_followed(folder, launcher=None, **changes):
    search = tiny_search(**changes)
    with follow_search(search, folder, "offline") as follower:
        looped = loop(folder, launcher, search)
        looped.follower = follower
        looped.run()
    return follower


def evaluated(folder):
    return [e for e in Log(folder / "log.jsonl").read() if e["event"] == "evaluated"]


def table(part):
    (path, *_) = sorted(
        part.folder.glob("files/media/table/*.json"), key=lambda path: -path.stat().st_mtime_ns
    )
    return json.loads(path.read_text())


def test_every_sample_is_a_point_of_the_one_run_and_a_row_of_its_table(tmp_path):
    search_followed(tmp_path)
    (part,) = parts(tmp_path)
    assert re.fullmatch("tiny-smoke-[0-9a-f]{8}", part.run["run_id"])
    assert (part.run["job_type"], part.run["run_group"]) == ("search", "tiny/smoke")
    events = evaluated(tmp_path)
    points = [point for point in part.history if "reward" in point]
    assert [(p["samples"], p["sample"], p["reward"]) for p in points] == [
        (n, event["sample"], event["reward"]) for n, event in enumerate(events, 1)
    ]
    rewards = [event["reward"] for event in events]
    assert points[-1]["reward_mean"] == pytest.approx(sum(rewards) / len(rewards))
    assert points[-1]["reward_best"] == max(rewards)
    counts = sum(value for key, value in points[-1].items() if key.startswith("count_"))
    assert counts == len(events)
    written = table(part)
    assert written["columns"] == ["sample", "rule", "status", "reward", "rate", "key", "seconds"]
    assert [row[:4] for row in written["data"]] == [
        [event["sample"], event["rule"], event["status"], event["reward"]] for event in events
    ]
    best = max(events, key=lambda event: event["reward"])
    assert part.summary["best_rule"] == best["rule"]


def test_an_interrupted_search_continues_in_the_same_run_and_logs_nothing_twice(tmp_path):
    class Interrupted(Instant):
        def wait(self, seconds):
            if len(self.trained) == 4:
                raise KeyboardInterrupt
            return super().wait(seconds)

    with pytest.raises(KeyboardInterrupt):
        search_followed(tmp_path, Interrupted())
    told = json.loads((tmp_path / "wandb.json").read_text())["told"]
    assert 0 < told < 20
    search_followed(tmp_path)
    search_followed(tmp_path)  # there is nothing left to log
    first, second = parts(tmp_path)
    assert first.run["run_id"] == second.run["run_id"]
    counted = [[p["samples"] for p in part.history if "reward" in p] for part in (first, second)]
    assert counted == [list(range(1, told + 1)), list(range(told + 1, 21))]
    assert len(table(first)["data"]) == told
    assert len(table(second)["data"]) == 20  # what the first process found too
    memory = json.loads((tmp_path / "wandb.json").read_text())
    assert (memory["id"], memory["told"]) == (first.run["run_id"], 20)


class Heard:
    """A run that counts what is logged to it."""

    id = "heard"

    def __init__(self):
        self.tables, self.points, self.summary = [], 0, {}

    def define_metric(self, name, step_metric=None):
        pass

    def log(self, said):
        if "children" in said:
            self.tables.append(len(said["children"].data))
        else:
            self.points += 1

    def finish(self, exit_code):
        pass


def events(number):
    for n in range(number):
        yield {"event": "evaluated", "sample": n, "reward": 0.5, "status": "healthy",
               "rule": "g", "key": str(n), "lr": 0.1, "seconds": 2.0}  # fmt: skip


def test_the_table_is_written_each_time_the_samples_have_doubled(tmp_path, monkeypatch):
    """So 5,000 children cost 11,350 rows, whatever the search does in between."""
    heard = Heard()
    monkeypatch.setattr(search_run, "open_run", lambda *_, **__: heard)
    with follow_search(tiny_search(), tmp_path, "offline") as follower:
        for event in events(5000):
            follower.take(event)
    assert heard.points == 5000
    assert heard.tables == [50, 100, 200, 400, 800, 1600, 3200, 5000]


def test_a_run_that_breaks_gets_no_more_points_and_fails_no_search(tmp_path, monkeypatch, caplog):
    class Broken(Heard):
        def log(self, said):
            super().log(said)
            if self.points == 3:
                raise OSError("no room")

    heard = Broken()
    monkeypatch.setattr(search_run, "open_run", lambda *_, **__: heard)
    search_followed(tmp_path / "followed")
    assert heard.points == 3
    assert caplog.text.count("nothing more of this search is logged") == 1
    loop(tmp_path / "alone").run()
    logs = [evaluated(tmp_path / name) for name in ("followed", "alone")]
    assert logs[0] == logs[1]


def test_a_run_that_breaks_while_it_is_opened_is_closed(tmp_path, monkeypatch, caplog):
    def breaks(*_, **__):
        raise BrokenPipeError("nobody is there")

    monkeypatch.setattr(wandb.Run, "define_metric", breaks)
    follower = search_followed(tmp_path)
    assert follower.broken
    assert "nobody is there" in caplog.text
    assert wandb.run is None
    assert len(evaluated(tmp_path)) == 20


def test_a_search_works_without_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(search_run, "open_run", lambda *_, **__: None)
    follower = search_followed(tmp_path)
    assert follower.broken
    assert len(evaluated(tmp_path)) == 20
    assert not (tmp_path / "wandb.json").exists()
