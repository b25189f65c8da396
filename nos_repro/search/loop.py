"""The search loop (sec. 3.3): keeps every worker busy, and learns from each batch of rewards.

Every draw, reward and update is written to `log.jsonl` before it takes effect; the log is flushed
to disk about once a second. A search that was killed at any moment resumes from its checkpoint and
replays what the log holds beyond it. It resumes evaluations that were under way and uses the
answers that workers have left.

Equal rules are trained once; rules are equal if their normal forms have the same numeric
fingerprint. A rule that a probe refuses is not trained at all. The algorithm learns from every
sample, from these too; what a redraw of a known rule teaches is a setting.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from nos_repro.errors import LaunchError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.files import remove_scratch
from nos_repro.experiments.heartbeat import Heartbeat
from nos_repro.launch.base import Launcher, Report
from nos_repro.launch.driver import MAX_LOST, drive
from nos_repro.rules.rule import Rule
from nos_repro.search.child import Evaluation
from nos_repro.search.equality import key_of_text
from nos_repro.search.failure import child_error, keep_traceback
from nos_repro.search.folder import check_same, check_settings, hold
from nos_repro.search.gates import Gates
from nos_repro.search.job import EvaluationJob, evaluation_of
from nos_repro.search.judging import Meaning, meaning
from nos_repro.search.log import Event, Log
from nos_repro.search.probe import probe
from nos_repro.search.refusals import REASONS
from nos_repro.search.sample import Sample
from nos_repro.search.search_checkpoint import SearchCheckpoint
from nos_repro.search.session import search_session
from nos_repro.search.settings import Search
from nos_repro.search.state import SearchState, Tally, proposed, replay, sample_of

MAX_WITHDRAWN = 3
"""At this many withdrawals in a row, the machine is blamed and the search stops."""
MAX_FAILED = 5
"""At this many children in a row that fail by a bug, the search stops."""
DRAWS = 20
"""At most this many rules are drawn before the workers are checked again."""
WAITING = 32
"""Samples that may wait for the evaluation of an equal rule; without this limit, a controller that
has converged would draw them without end."""


class SearchDisplay(Protocol):
    """Shows how a search is going."""

    def update(self, loop: SearchLoop) -> None: ...

    def note(self, message: str) -> None: ...


class SearchFollower(Protocol):
    """Follows a search from outside; it handles its own errors."""

    def take(self, event: Event) -> None:
        """Takes an event of the log. Each process passes every event once, in the log's order,
        those of earlier processes included."""


class SearchLoop:
    """A search in its folder, `results/<search>/<scale>/`, with any launcher of evaluations."""

    def __init__(
        self,
        search: Search,
        folder: Path,
        launcher: Launcher[EvaluationJob],
        conditions: Conditions,
        display: SearchDisplay,
        workers: int = 1,
        follower: SearchFollower | None = None,
        retry: bool = False,
    ) -> None:
        self.search = search
        self.budget = search.budget
        self.folder = folder
        self.launcher = launcher
        self.conditions = conditions
        self.display = display
        self.workers = workers
        self.follower = follower
        self.retry = retry
        self.answers = folder / "answers"
        self.log = Log(folder / "log.jsonl")
        self.checkpoint = SearchCheckpoint(search, folder)
        self.state = SearchState(search)
        self.tally = Tally()
        self.tallied_before, self.share_before = 0, 0.0
        self.started = time.monotonic()
        self.gates = Gates(search.cascade, search.seed)
        self.rewards: dict[str, tuple[float, int]] = {}
        """For every scored rule, by key: the reward, and the sample that was trained for it."""
        self._first: Event | None = None
        """The first rule of the log; it tells whether the log's keys are those of this version."""
        self._made_by: str | None = None
        """The code of the last session."""
        self.running: dict[str, Sample] = {}
        self.waiting: dict[str, list[Sample]] = {}
        self.queue: deque[EvaluationJob] = deque()
        self.withdrawn = 0
        """Samples given up since the last answer."""
        self.broke = 0
        """Children that failed since the last one that did not."""
        self.failed: dict[str, str] = {}
        """For every rule whose child failed, by key: how."""
        self.proposals: dict[int, Sample] = {}
        """Samples without a reward, those that were given up included."""
        self.given_up: dict[int, str] = {}
        """Of these, the samples that were given up, each with its status."""
        self.logged: list[EvaluationJob] = []
        """Jobs whose answers may be removed once the log is on disk."""
        self.left: set[str] = set()
        """Answers of an earlier process. Looked up once, since a network file system may report a
        file as missing long after it has appeared."""

    def run(self) -> None:
        """Searches until the budget is used up; if it is to ``retry``, samples that were given up
        before get another chance.

        Raises ConfigError if the folder holds a search with other settings or another process has
        it, LogError if its log is damaged, StoreError if the disk fails, ChildError if children
        fail by a bug. After an interruption, the next call continues.
        """
        check_settings(self.search, self.folder)
        with hold(self.folder, self.budget.most_children) as heartbeat:
            try:
                self._resume()
                self._search(heartbeat)
            except BaseException:
                self.launcher.close()
                raise
            finally:
                self._sync()
                self.display.update(self)
            self._save()
            for answer in self.answers.glob("[0-9]*.json"):
                answer.unlink()

    def _search(self, heartbeat: Heartbeat) -> None:
        def tick() -> None:
            self.display.update(self)
            heartbeat.beat(round(self.budget.share(self.tally) * self.budget.most_children), None)
            self._sync()
            if self.checkpoint.due:
                self._save()

        for report in drive(self._ready, self.launcher, self.display.note, tick):
            found = evaluation_of(report)
            if found is not None:
                self._answer(report.job, found)
            else:
                self._withdraw(report)

    def _resume(self) -> None:
        """Restores the search's last state from what is on disk."""
        remove_scratch(self.folder)
        remove_scratch(self.answers)
        note = self.log.open()
        if note is not None:
            self.display.note(note)
        self.state, offset = self.checkpoint.load(self.log, self.display.note)
        for event in self.log.read():
            self._remember(event)
        unlogged = replay(self.state, self.log.read(offset))
        begun = search_session(self.search, self.workers)
        if self._made_by not in (None, begun["code"]):
            self.display.note(
                f"the code that trains or learns has changed since this search last ran"
                f" ({self._made_by}, now {begun['code']}): its rewards may not compare; `report`"
                " says which samples were made by which"
            )
        self._append([*([unlogged] if unlogged else []), begun])
        if self.retry:
            self._reopen()
        self.tallied_before = self.tally.evaluated
        self.share_before = self.budget.share(self.tally)
        self.left = {path.name for path in self.answers.glob("[0-9]*.json")}
        for sample in list(self.state.open.values()):
            self._judge(sample)

    def _remember(self, event: Event) -> None:
        self.tally.take(event)
        self.gates.take(event)
        match event["event"]:
            case "session":
                self._made_by = event["code"]
                check_same(event.get("settings"), self.search, self.folder)
            case "proposed":
                self.proposals[event["sample"]] = sample_of(event)
            case "withdrawn":
                self.given_up[event["sample"]] = event.get("status", "lost")
                if "key" in event:
                    self.failed.setdefault(event["key"], event["reason"])
            case "reopened":
                self.given_up.pop(event["sample"], None)
            case "evaluated":
                self.proposals.pop(event["sample"], None)
                if event["status"] != "failed":
                    known = event["reward"], event["sample"]
                    self.rewards.setdefault(self._key(event), known)
        if self.follower is not None:
            self.follower.take(event)

    def _key(self, event: Event) -> str:
        """The key of a logged rule; an older version may have written another one."""
        self._first = self._first or event
        key: str = event["key"]
        if key_of_text(self._first["rule"]) == self._first["key"]:
            return key
        return key_of_text(event["rule"])

    def _reopen(self) -> None:
        """Takes the samples in again that were given up."""
        self.failed.clear()
        for number, status in sorted(self.given_up.items()):
            sample = self.proposals[number]
            self._append([{**proposed(sample, "reopened"), "status": status}])
            self.state.reopen(sample)

    def _append(self, events: list[Event]) -> None:
        self.log.append(events)
        for event in events:
            self._remember(event)

    def _ready(self) -> Iterator[EvaluationJob | None]:
        """Evaluations to start; rules are drawn while the launcher asks for more.

        After DRAWS rules the driver checks what has ended. When the controller repeats itself, its
        rules are settled as fast as they are drawn, and children that have ended in the meantime
        should not wait for that.
        """
        for _ in range(DRAWS):
            yield from self._queued()
            waiting = sum(map(len, self.waiting.values()))
            children = self.tally.children + len(self.running)
            if waiting >= WAITING or not self.budget.left(self.state.next_number, children):
                return
            sample = self.state.draw()
            self._append([proposed(sample)])
            self.state.propose(sample)
            self._judge(sample)
        yield None

    def _queued(self) -> Iterator[EvaluationJob]:
        while self.queue:
            yield self.queue.popleft()

    def _judge(self, sample: Sample) -> None:
        """Settles a sample with what is known, or has it evaluated."""
        rule, key = self._rule(sample), self._meaning(sample).key
        if key in self.rewards:
            reward, source = self.rewards[key]
            self._settle(sample, Evaluation("reused", reward, reason=f"of {source}"))
        elif key in self.running:
            self.waiting.setdefault(key, []).append(sample)
        elif key in self.failed:
            self._give_up(sample, f"as an equal rule did: {self.failed[key]}")
        elif (reason := probe(rule)) is not None and self.search.refuse.refuse(reason):
            self._settle(sample, Evaluation("refused", 0.0, reason=REASONS[reason]))
        else:
            self.running[key] = sample
            self._start(sample, key)

    def _start(self, sample: Sample, key: str) -> None:
        """Has a sample trained: whole, or the next stage of the cascade. All children have the same
        seed: only their rules differ."""
        stopped = self.gates.stopped(sample.number)
        if stopped is not None:
            self._end(sample, key, stopped)
            return
        name, text = str(sample.number), f"rule: {self._rule(sample)}"
        whole = EvaluationJob(
            name, key, text, self.search.child, self.conditions, self.answers, self.search.seed
        )
        job = self.gates.part_of(whole, sample.number)
        answer = job.left_answer() if job.path.name in self.left else None
        if answer is not None:
            self._answer(job, answer)
        else:
            self.queue.append(job)

    def _answer(self, job: EvaluationJob, found: Evaluation) -> None:
        """Takes the end of a child, or of one of its stages."""
        self.withdrawn = 0
        if found.status == "failed":
            self._fail(job, found)
            return
        self.broke = 0
        sample = self.running[job.key]
        if found.status == "overran":
            self.display.note(f"{self._rule(sample)}: {found.status} ({found.reason})")
        self.logged.append(job)
        decision = self.gates.decide(sample.number, found)
        if decision is not None:
            self._append([decision])
            self._start(sample, job.key)
        else:
            self._end(sample, job.key, found)

    def _end(self, sample: Sample, key: str, found: Evaluation) -> None:
        """Gives a rule's reward to the sample it was trained for and to those that waited."""
        del self.running[key]
        self._settle(sample, found)
        for other in self.waiting.pop(key, []):
            self._judge(other)

    def _fail(self, job: EvaluationJob, found: Evaluation) -> None:
        """Gives up a sample whose child failed with an exception: that says nothing of its rule.

        When that happens to several rules in a row, or by a mistake in the settings, the search
        stops.
        """
        sample = self.running[job.key]
        keep_traceback(self.folder, job.name, found)
        job.forget()
        self.broke += 1
        if found.fault == "settings" or self.broke >= MAX_FAILED:
            what = f"the child of {self._rule(sample)} failed"
            before = ", as did those of the rules before it" if self.broke > 1 else ""
            raise child_error(self.folder, job.name, found, what + before)
        rule = self._rule(sample)
        self.display.note(f"{rule}: failed ({found.reason}); nothing is learned from it")
        del self.running[job.key]
        self._give_up(sample, found.reason)
        for other in self.waiting.pop(job.key, []):
            self._judge(other)

    def _give_up(self, sample: Sample, reason: str) -> None:
        """Gives up a sample whose child failed."""
        event = {"event": "withdrawn", "sample": sample.number, "reason": reason}
        self._append([{**event, "status": "failed", **self._meaning(sample).said}])
        self.state.withdraw(sample.number)

    def _withdraw(self, report: Report[EvaluationJob]) -> None:
        """Gives up a sample whose worker vanished MAX_LOST times: not the rule's fault.

        When that happens to several samples in a row, the search stops.
        """
        sample = self.running[report.job.key]
        reason = f"its worker vanished {MAX_LOST} times ({report.message or report.outcome})"
        self.withdrawn += 1
        if self.withdrawn >= MAX_WITHDRAWN:
            raise LaunchError(
                f"{self._rule(sample)}: {reason}, as did those of the rules before it\n"
                "  nothing is lost: repair the machine and run the same command again"
            )
        rule = self._rule(sample)
        self.display.note(f"{rule}: {reason}; withdrawn, nothing is learned from it")
        del self.running[report.job.key]
        self._append([{"event": "withdrawn", "sample": sample.number, "reason": reason}])
        self.state.withdraw(sample.number)
        for other in self.waiting.pop(report.job.key, []):
            self._judge(other)

    def _settle(self, sample: Sample, found: Evaluation) -> None:
        """Logs a reward and learns from it."""
        said = {k: v for k, v in found.to_log().items() if v or k in ("status", "reward")}
        event = {
            "event": "evaluated",
            "sample": sample.number,
            **self._meaning(sample).said,
            **said,
        }
        self._append([event])
        update = self.state.reward(event)
        if update is not None:
            self._append([update])

    def _meaning(self, sample: Sample) -> Meaning:
        return meaning(sample, self.search.canonical_sign)

    def _rule(self, sample: Sample) -> Rule:
        """The rule that is trained for a sample."""
        return self._meaning(sample).rule

    def _sync(self) -> None:
        """Flushes the log to disk, then removes the answers that it holds."""
        self.log.sync()
        for job in self.logged:
            job.forget()
        self.logged.clear()

    def _save(self) -> None:
        """Saves a checkpoint: the whole state, and how much of the log it covers."""
        self.checkpoint.save(self.state, self.log)
