"""Why a candidate has no score."""

from __future__ import annotations

# fmt: off
KINDS = {
    # a mistake of whoever asks
    "input":      "no such file, rule or name",
    "syntax":     "the file is not Python",
    # a candidate that does not work
    "import":     "a module that it imports is missing",
    "contract":   "not an optimizer as the evaluator calls it",
    "error":      "raises an exception",
    "probe":      "fails a probe",
    # a candidate that does what an optimizer has no business with
    "time":       "does not return",
    "memory":     "takes more memory than it may",
    "exit":       "ends its process",
    "files":      "reads or writes files outside its own folder",
    "processes":  "starts, signals or leaves processes",
    "network":    "uses the network",
    "limits":     "changes its limits",
    "frames":     "reads its callers' frames",
    "objects":    "searches memory for others' objects",
    "native":     "uses native memory",
    "patches":    "patches functions of torch or Python",
    "state":      "changes a setting of the whole program",
    "parameters": "changes more of its parameters than their values",
    "protocol":   "writes to the evaluator's channel",
}
# fmt: on
CHEATS = tuple(KINDS)[list(KINDS).index("time") :]


class Fault(Exception):
    """A candidate, or what names it, is refused: one of KINDS, and a reason in one line.

    ``traceback`` is the candidate's, for whoever proposes the next one.
    """

    def __init__(self, kind: str, reason: str, traceback: str = "") -> None:
        assert kind in KINDS, kind
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.traceback = traceback

    @property
    def cheat(self) -> bool:
        return self.kind in CHEATS


class OutOfTime(Exception):
    """The candidate's time is up, though each of its calls returned in time."""
