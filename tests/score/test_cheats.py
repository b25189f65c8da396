"""Candidates that cheat: each is caught, with its reason. All but the last few are Python alone."""

import dataclasses
import math
import os
import subprocess
import textwrap
from pathlib import Path

import pytest
import torch

from nos_repro.score import probes
from nos_repro.score.candidate import read_candidate
from nos_repro.score.fault import CHEATS, Fault, OutOfTime
from nos_repro.score.process import MARK, Nursery
from tests.conftest import ROOT
from tests.score.helpers import LIMITS, fault_of, plain, write

DIGITS = ROOT / "nos_repro" / "data" / "digits.npz"

# fmt: off
CHEATS_OF_PYTHON = {
    # what it does:                     (kind,         what is said,               the source)
    "looks at its callers' variables":   ("frames",     "sys._getframe",
        plain(above="import sys", before="print(sys._getframe(1).f_locals)")),
    "inspects the stack":                ("frames",     "sys._getframe",
        plain(above="import inspect", before="inspect.stack()")),
    "follows a traceback to its caller": ("frames",     "tb_frame",
        plain(before="try:\n    1 / 0\nexcept ZeroDivisionError as error:\n"
                     "    error.__traceback__.tb_frame.f_back")),
    "walks the stack":                   ("frames",     "sys._getframe",
        plain(above="import traceback", before="list(traceback.walk_stack(None))")),
    "asks a coroutine for its caller":   ("frames",     "cr_frame",
        plain(above="async def nothing():\n    pass", before="nothing().cr_frame")),
    "passes its code off as Python's":   ("patches",    "passes its code off",
        plain(above="import os\nexec(compile('import sys\\nsys._getframe(1)', os.__file__,"
                    " 'exec'))")),
    "hides what it does in an except":   ("frames",     "sys._getframe",
        plain(above="import sys", before="try:\n    sys._getframe(1)\nexcept BaseException:\n"
                                         "    pass")),
    "searches memory for the model":     ("objects",    "gc.get_objects",
        plain(above="import gc", before="[x for x in gc.get_objects() if hasattr(x, 'loss')]")),
    "reads the labels' file":            ("files",      "reads",
        plain(above="import numpy", before=f"numpy.load({str(DIGITS)!r})")),
    "reads the labels as we do":         ("files",      "",
        plain(above="from pathlib import Path",
              before="from nos_repro.data.digits import read_digits\nread_digits(Path())")),
    "reads the evaluator's memory":      ("files",      "reads",
        plain(above="import os", before="open(f'/proc/{os.getppid()}/mem', 'rb').read(8)")),
    "patches the loss":                  ("patches",    "torch.nn.functional.cross_entropy",
        plain(above="torch.nn.functional.cross_entropy = lambda *given, **named: torch.zeros(())")),
    "patches the loss from within":      ("patches",    "rewrites",
        plain(above="def free(*given, **named):\n    return 0\n",
              before="torch.nn.functional.cross_entropy.__code__ = free.__code__")),
    "patches the clock":                 ("patches",    "time.perf_counter",
        plain(above="import time\ntime.perf_counter = lambda: 0.0")),
    "patches backward":                  ("patches",    "torch.Tensor.backward",
        plain(before="torch.Tensor.backward = lambda *given: None")),
    "reseeds to see a batch again":      ("state",      "seed of torch's generator",
        plain(before="torch.manual_seed(0)")),
    "takes more threads":                ("state",      "number of threads",
        plain(before="torch.set_num_threads(2)")),
    "turns gradients on for good":       ("state",      "gradient mode",
        plain(made="torch.set_grad_enabled(False)")),
    "resizes a parameter":               ("parameters", "shape",
        plain(after="self.param_groups[0]['params'][0].data = torch.zeros(7)")),
    "adds a parameter of its own":       ("contract",   "exactly the parameters",
        plain(made="self.param_groups[0]['params'].append(torch.zeros(2))")),
    "never returns":                     ("time",       "does not return",
        plain(before="while True:\n    pass")),
    "sleeps":                            ("time",       "does not return",
        plain(above="import time", before="time.sleep(3600)")),
    "eats memory":                       ("memory",     "memory",
        plain(before="eaten = []\nwhile True:\n    eaten.append(torch.ones(1 << 20))")),
    "leaves without a word":             ("exit",       "exit status 0",
        plain(above="import os", before="os._exit(0)")),
    "calls sys.exit":                    ("exit",       "sys.exit",
        plain(above="import sys\nsys.exit(0)")),
    "forks":                             ("processes",  "os.fork",
        plain(above="import os", before="os.fork()")),
    "starts a program":                  ("processes",  "subprocess.Popen",
        plain(above="import subprocess", before="subprocess.run(['sleep', '60'])")),
    "ends the evaluator":                ("processes",  "os.kill",
        plain(above="import os", before="os.kill(os.getppid(), 9)")),
    "writes a result of its own":        ("files",      "writes",
        plain(before="open('/tmp/result.json', 'w').write('{\"combined_score\": 99}')")),
    "removes a file":                    ("files",      "changes",
        plain(above="import os", before="os.remove('/tmp/result.json')")),
    "asks the network":                  ("network",    "socket",
        plain(above="import socket", before="socket.create_connection(('127.0.0.1', 9))")),
    "lifts its limits":                  ("limits",     "limits",
        plain(above="import resource",
              before="resource.setrlimit(resource.RLIMIT_CORE, (0, 0))")),
    "writes to memory with ctypes":      ("native",     "ctypes",
        plain(above="import ctypes", before="ctypes.CDLL(None).printf(b'')")),
    "hangs up":                          ("protocol",   "closes the evaluator's channel",
        plain(above="import os, time", before="os.closerange(3, 64)\ntime.sleep(60)")),
    "answers for itself":                ("protocol",   "channel",
        plain(above="import os",
              before="for number in range(3, 64):\n    try:\n"
                     "        os.write(number, b'\\0\\0\\0\\2{}')\n"
                     "    except OSError:\n        pass")),
    "answers for itself that all is well": ("protocol", "channel",
        plain(above="import os",
              before="for number in range(3, 64):\n    try:\n"
                     "        os.write(number, b'\\0\\0\\0\\x0a{\"ok\": {}}')\n"
                     "    except OSError:\n        pass")),
    "leaves a note on the folder above": ("files",      "changes ..",
        plain(above="import os", before="os.setxattr('..', 'user.note', b'seen')")),
    "removes a note by the folder's path": ("files",    "changes ..",
        plain(above="import os, pathlib",
              before="os.removexattr(pathlib.Path('..'), 'user.note')")),
    "changes a file that it opened to read": ("files",  "a file that it has open",
        plain(above="import os",
              before="number = os.open(os.__file__, os.O_RDONLY)\n"
                     "os.fchmod(number, os.fstat(number).st_mode & 0o7777)")),
}
# fmt: on


@pytest.mark.parametrize("name", CHEATS_OF_PYTHON)
def test_a_cheat_is_caught_with_its_reason(name: str, nursery: Nursery, tmp_path: Path) -> None:
    kind, said, source = CHEATS_OF_PYTHON[name]
    limits = LIMITS
    if kind == "time":
        limits = dataclasses.replace(LIMITS, call_seconds=0.5)
    fault = fault_of(nursery, write(tmp_path, source), limits)
    assert isinstance(fault, Fault)
    assert (fault.kind, said in fault.reason) == (kind, True), fault.reason
    assert fault.cheat == (kind in CHEATS)


def test_what_a_cheat_is_added_to_passes(nursery: Nursery, tmp_path: Path) -> None:
    fault = fault_of(nursery, write(tmp_path, plain()))
    assert fault is None, str(fault)


def test_native_code_reads_and_writes_no_file_where_the_kernel_knows_landlock(
    nursery: Nursery, tmp_path: Path
) -> None:
    """torch opens these files itself, which Python's audit hook does not see."""
    assert fault_of(nursery, write(tmp_path, plain())) is None
    if not nursery.landlock:
        pytest.skip("this kernel has no Landlock")
    (tmp_path / "secret").write_bytes(bytes(64))
    for shared in (False, True):
        code = f"torch.from_file({str(tmp_path / 'secret')!r}, shared={shared}, size=8)"
        fault = fault_of(nursery, write(tmp_path, plain(before=code)))
        assert isinstance(fault, Fault)
        assert (fault.kind, "may not" in fault.reason) == ("files", True), fault.reason


def test_a_program_that_python_starts_behind_its_audit_hook_is_found(
    nursery: Nursery, tmp_path: Path
) -> None:
    above = "from multiprocessing.util import spawnv_passfds"
    code = "spawnv_passfds(b'/bin/sleep', [b'sleep', b'60'], [])"
    fault = fault_of(nursery, write(tmp_path, plain(above=above, before=code)))
    assert isinstance(fault, Fault)
    assert fault.kind == "processes", fault.reason


HIDING = """
import _posixsubprocess, multiprocessing.util, os, sys, time

class Hidden:
    @staticmethod
    def fork_exec(*given):
        given = list(given)
        given[15], given[21] = True, then
        return _posixsubprocess.fork_exec(*given)

def start():
    return multiprocessing.util.spawnv_passfds(b'/none', [b'none'], [])

def then():
    global then
    then = lambda: time.sleep(60)
    start()
    os._exit(0)

sys.modules['_posixsubprocess'] = Hidden
try:
    os.waitpid(start(), 0)
except OSError as error:
    print(error, flush=True)
sys.modules['_posixsubprocess'] = _posixsubprocess
"""
"""Starts, in a session of its own, a process whose parent has ended."""


def test_a_process_that_hides_where_it_comes_from_is_found(
    nursery: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nursery, "mark", "hidden")  # as if its environment had been cleared
    fault = fault_of(nursery, write(tmp_path, plain(above=HIDING)))
    assert isinstance(fault, Fault), nursery.printed()
    assert fault.kind == "processes", fault.reason
    assert nursery.end_leftovers() == 0
    assert fault_of(nursery, write(tmp_path, plain())) is None


def test_the_memory_of_python_and_torch_does_not_count(nursery: Nursery, tmp_path: Path) -> None:
    """It is looked at where a call takes longer than a moment."""
    limits = dataclasses.replace(LIMITS, memory=128 << 20)
    patient = plain(above="import time\ntime.sleep(0.2)")
    fault = fault_of(nursery, write(tmp_path, patient), limits)
    assert fault is None, str(fault)
    hungry = plain(above="import time\neaten = bytearray(b'x') * (200 << 20)\ntime.sleep(0.2)")
    fault = fault_of(nursery, write(tmp_path, hungry), limits)
    assert isinstance(fault, Fault)
    assert fault.kind == "memory", fault.reason


FILES = {
    "in its folder": "open(f'{number}', 'wb')",
    "without a name": "os.fdopen(os.memfd_create('mine'), 'wb')",
    "removed": "open('removed', 'wb')",
}


@pytest.mark.parametrize("kept", FILES)
def test_what_a_candidate_keeps_in_files_counts_as_memory(
    kept: str, nursery: Nursery, tmp_path: Path
) -> None:
    limits = dataclasses.replace(LIMITS, memory=128 << 20)
    writes = f"""
        files = []
        for number in range(12):
            files.append({FILES[kept]})
            files[-1].write(bytes(16 << 20))
            if os.path.exists('removed'):
                os.remove('removed')
    """
    above = "import os\n" + textwrap.dedent(writes)
    fault = fault_of(nursery, write(tmp_path, plain(above=above)), limits)
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.cheat) == ("memory", True), fault.reason
    few = plain(above=above.replace("range(12)", "range(2)"))
    fault = fault_of(nursery, write(tmp_path, few), limits)
    assert fault is None, str(fault)


@pytest.mark.parametrize("said", ["'\\udcff'", "'\\x1b[2J'"])
def test_what_a_candidate_says_can_be_printed_anywhere(
    said: str, nursery: Nursery, tmp_path: Path
) -> None:
    fault = fault_of(nursery, write(tmp_path, plain(before=f"raise ValueError({said} + 'end')")))
    assert isinstance(fault, Fault)
    assert fault.reason.startswith("ValueError: \ufffd")
    for text in (fault.reason, fault.traceback):
        assert "end" in text
        assert text.encode().decode() == text
        assert "\x1b" not in text


def test_an_error_that_cannot_be_printed_is_an_error_like_others(
    nursery: Nursery, tmp_path: Path
) -> None:
    above = "class Odd(Exception):\n    def __str__(self):\n        raise ValueError"
    fault = fault_of(nursery, write(tmp_path, plain(above=above, before="raise Odd")))
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.cheat) == ("error", False)
    assert "Odd" in fault.reason


def test_what_a_candidate_leaves_running_is_ended(nursery: Nursery) -> None:
    assert fault_of(nursery, "g") is None
    environment = {**os.environ, MARK: nursery.mark}
    with subprocess.Popen(["sleep", "60"], env=environment, start_new_session=True) as left:
        while not Path(f"/proc/{left.pid}/environ").read_bytes():
            os.sched_yield()  # the kernel is still putting the program in place
        assert nursery.end_leftovers() == 1
        assert left.wait() < 0
    assert nursery.end_leftovers() == 0


def test_what_a_candidate_prints_is_kept_and_counts_for_nothing(
    nursery: Nursery, tmp_path: Path
) -> None:
    said = '{"combined_score": 99}'
    assert fault_of(nursery, write(tmp_path, plain(before=f"print({said!r}, flush=True)"))) is None
    assert said in nursery.printed()


def test_a_candidate_remembers_nothing_from_one_training_to_the_next(
    nursery: Nursery, tmp_path: Path
) -> None:
    """Neither in a module, nor in a file, nor in the environment."""
    source = plain(
        above="import math, os, pathlib",
        made="""
            notes = [path for path in pathlib.Path('..').rglob('*') if path.name == 'note']
            if hasattr(math, 'seen') or 'SEEN' in os.environ or notes:
                raise ValueError('knows the last training')
        """,
        after="""
            math.seen = True
            os.environ['SEEN'] = 'yes'
            pathlib.Path('note').write_text('seen')
        """,
    )
    candidate = read_candidate(write(tmp_path, source))
    nursery.begin(LIMITS)
    for _ in range(2):
        with nursery.start(candidate, [("w", torch.Size([2]))], 0) as remote:
            remote.make(lr=0.1, total_steps=2)
            remote.step()
    assert "knows the last training" in str(fault_of(nursery, str(tmp_path / "mine.py")))


def test_a_candidate_whose_time_is_up_is_stopped_though_it_returns(
    nursery: Nursery, tmp_path: Path
) -> None:
    source = plain(above="import time", before="time.sleep(0.05)")
    limits = dataclasses.replace(LIMITS, seconds=1.0)
    assert isinstance(fault_of(nursery, write(tmp_path, source), limits), OutOfTime)


def test_weights_are_shown_in_an_order_that_changes_nothing_for_an_update_by_elements(
    nursery: Nursery,
) -> None:
    """torch's own Adam, in this process and without any shuffling, is the oracle."""
    nursery.begin(LIMITS)
    shapes = [(name, torch.Size(shape)) for name, shape in probes.SHAPES.items()]
    with nursery.start(read_candidate("torch.optim.Adam"), shapes, 0) as remote:
        path = probes.descend(remote, 0.01)
    params = probes._parameters()
    optimizer = torch.optim.Adam(params, lr=0.01)
    for _ in range(probes.STEPS):
        loss = probes._gradients(params, *probes._quadratic(), 1.0)
        optimizer.step()
    assert math.isfinite(loss)
    for ours, theirs in zip(path.weights, params, strict=True):
        assert torch.equal(ours, theirs.detach())
