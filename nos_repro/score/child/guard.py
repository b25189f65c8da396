"""What a candidate may not do in its process, as Python's audit events tell it.

The hook cannot be removed. What it sees ends the process at once, and the reason is sent to the
evaluator before, so that no `except` of the candidate's hides it. It is an alarm, not a wall: that
nothing worth taking is in this process is what protects the score (`process`), and Landlock keeps
native code from files where the kernel has it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CODE = (".py", ".pyc", ".pyi", ".so", ".pth", ".h", ".typed")
READABLE = (
    *("/dev/null", "/dev/urandom", "/dev/random", "/proc/cpuinfo", "/proc/meminfo", "/sys/"),
    *("/etc/localtime", "/usr/share/zoneinfo"),
)


class Sin(NamedTuple):
    """A kind of cheat, what is said of it, and of whom.

    ``anyone``: whosever code runs here; else only the candidate's own, and what it asks of Python's
    `inspect`, `traceback` and `ctypes`: the libraries that it uses may do this.
    """

    kind: str
    said: str
    anyone: bool = True


# fmt: off
EVENTS = {
    # audit event:               kind,        what is said,                         whoever does it
    "os.fork":               Sin("processes", "starts a process"),
    "os.forkpty":            Sin("processes", "starts a process"),
    "os.posix_spawn":        Sin("processes", "starts a process"),
    "os.spawn":              Sin("processes", "starts a process"),
    "os.system":             Sin("processes", "starts a process"),
    "os.exec":               Sin("processes", "replaces its process"),
    "os.startfile":          Sin("processes", "starts a process"),
    "pty.spawn":             Sin("processes", "starts a process"),
    "subprocess.Popen":      Sin("processes", "starts a process"),
    "os.kill":               Sin("processes", "signals a process"),
    "os.killpg":             Sin("processes", "signals a process"),
    "signal.pthread_kill":   Sin("processes", "signals a process"),
    "resource.setrlimit":    Sin("limits",    "changes its limits"),
    "resource.prlimit":      Sin("limits",    "changes its limits"),
    "socket.__new__":        Sin("network",   "opens a socket"),
    "socket.connect":        Sin("network",   "uses the network"),
    "socket.bind":           Sin("network",   "uses the network"),
    "socket.getaddrinfo":    Sin("network",   "uses the network"),
    "sys._getframe":         Sin("frames",    "reads its callers' frames", False),
    "sys._current_frames":   Sin("frames",    "reads its callers' frames", False),
    "sys._current_exceptions": Sin("frames",  "reads its callers' frames", False),
    "sys.settrace":          Sin("frames",    "traces its callers", False),
    "sys.setprofile":        Sin("frames",    "traces its callers", False),
    "gc.get_objects":        Sin("objects",   "searches memory for others' objects", False),
    "gc.get_referrers":      Sin("objects",   "searches memory for others' objects", False),
    "gc.get_referents":      Sin("objects",   "searches memory for others' objects", False),
    "code.__new__":          Sin("patches",   "makes code objects", False),
    "sys.addaudithook":      Sin("patches",   "adds an audit hook", False),
    "ctypes.dlopen":         Sin("native",    "uses native memory with ctypes", False),
    "ctypes.dlsym":          Sin("native",    "uses native memory with ctypes", False),
    "ctypes.string_at":      Sin("native",    "uses native memory with ctypes", False),
    "ctypes.cdata":          Sin("native",    "uses native memory with ctypes", False),
    "ctypes.cdata/buffer":   Sin("native",    "uses native memory with ctypes", False),
    "ctypes.call_function":  Sin("native",    "uses native memory with ctypes", False),
}
"""What is refused whatever its arguments are."""
CHANGES = {
    # audit event:     how many files it names, which come first
    "os.remove": 1, "os.rename": 2, "os.mkdir": 1, "os.rmdir": 1, "os.truncate": 1, "os.link": 2,
    "os.symlink": 2, "os.chmod": 1, "os.chown": 1, "os.utime": 1, "os.setxattr": 1,
    "os.removexattr": 1, "shutil.rmtree": 1, "shutil.move": 2, "shutil.copyfile": 2,
}
ATTRIBUTES = {"tb_frame": Sin("frames", "reads its callers' frames", False),
              "gi_frame": Sin("frames", "reads its callers' frames", False),
              "cr_frame": Sin("frames", "reads its callers' frames", False),
              "ag_frame": Sin("frames", "reads its callers' frames", False)}
# fmt: on
HELPERS = (("inspect.py",), ("traceback.py",), ("ctypes", ""))
WATCHED = {"open", "compile", "object.__getattr__", "object.__setattr__", *CHANGES}


def install(scratch: Path, tell: Callable[[str, str], None]) -> None:
    """From here on the process ends at the first of these; ``tell`` sends kind and reason."""
    home = os.path.realpath(scratch)
    getframe, end, real, busy = sys._getframe, os._exit, os.path.realpath, [False]
    # copies, since the candidate can reach this module
    events, attributes = dict(EVENTS), dict(ATTRIBUTES)
    watched, changes = set(WATCHED), dict(CHANGES)
    stdlib = os.path.dirname(os.__file__)
    helpers = tuple(os.path.join(stdlib, *part) for part in HELPERS)

    def caught(kind: str, said: str) -> NoReturn:
        try:
            tell(kind, said)
        finally:
            end(13)

    def is_candidates(frame: FrameType | None) -> bool:
        """Whether this frame runs code of the candidate's file, or made by it from text."""
        return frame is not None and is_own(frame.f_code.co_filename)

    def is_own(file: str) -> bool:
        return file.startswith((home, "<string"))

    def asked_by_candidate(frame: FrameType | None) -> bool:
        while frame is not None and frame.f_code.co_filename.startswith(helpers):
            frame = frame.f_back
        return is_candidates(frame)

    def inside(path: Any) -> bool:
        if isinstance(path, int):  # an open file, which may be one that was opened to be read
            path = f"/proc/self/fd/{path}"
        place = real(os.fsdecode(path)) if isinstance(path, str | bytes) else ""
        return place == home or place.startswith(home + os.sep) or not place

    def check_open(path: Any, flags: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        text = os.fsdecode(path)
        place = real(text)
        if inside(text) or place == "/dev/null":
            return
        if isinstance(flags, int) and flags & WRITES:
            caught("files", f"writes {text}")
        code = place.endswith(CODE) or ".dist-info" in place or ".egg-info" in place
        if not code and not place.startswith(READABLE):
            caught("files", f"reads {text}")

    def look(event: str, given: tuple[Any, ...], frame: FrameType | None) -> None:
        if event == "open":
            check_open(given[0], given[2])
        elif event == "compile":
            if isinstance(given[1], str) and not is_own(given[1]) and is_candidates(frame):
                caught("patches", f"passes its code off as that of {given[1]}")
        elif event in changes:
            outside = [path for path in given[: changes[event]] if not inside(path)]
            if outside:
                path = outside[0]
                said = "a file that it has open" if isinstance(path, int) else os.fsdecode(path)
                caught("files", f"changes {said}")
        elif event == "object.__getattr__":
            if given[1] in attributes and is_candidates(frame):
                caught(attributes[given[1]].kind, f"{attributes[given[1]].said} ({given[1]})")
        elif event == "object.__setattr__":
            if given[1] in ("__code__", "__bases__") and is_candidates(frame):
                caught("patches", f"rewrites {getattr(given[0], '__qualname__', given[0])}")
        elif (sin := events.get(event)) is not None and (sin.anyone or asked_by_candidate(frame)):
            caught(sin.kind, f"{sin.said} ({event})")

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if busy[0] or (event not in watched and event not in events):
            return
        busy[0] = True
        try:
            look(event, given, getframe(1))
        finally:
            busy[0] = False

    sys.addaudithook(hook)
