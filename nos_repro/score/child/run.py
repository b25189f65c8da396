"""One training's part of a candidate: gets gradients, gives weights.

The process holds the parameters that the candidate updates and the candidate's state. Model, data,
labels and loss are in the evaluator's process, which asks for one update at a time.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from nos_repro.errors import NosError
from nos_repro.score.channel import Channel
from nos_repro.score.child import guard, loading
from nos_repro.score.child.originals import Originals

LONGEST = 2000
"""Characters of a traceback that are sent."""


class Sinned(Exception):
    """The candidate did what it may not."""

    def __init__(self, kind: str, said: str) -> None:
        super().__init__(said)
        self.kind = kind


class CandidateRun:
    """Answers the evaluator's messages; each is a word, `do`, with its values."""

    def __init__(self, spec: dict[str, Any], memory: Tensor, originals: Originals) -> None:
        self.spec = spec
        self.originals = originals
        half = len(memory) // 2
        self.weights, self.gradients = memory[:half], memory[half:]
        self.params: list[tuple[str, Parameter]] = []
        self.places: list[slice] = []
        self.maker: loading.Maker | None = None
        self.optimizer: Optimizer | None = None
        self.arguments: dict[str, Any] = {}

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Raises what the candidate raises, Sinned and ContractError."""
        verbs: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "make": self.make, "step": self.step, "mode": self.mode, "reload": self.reload,
            "check": self.check,
        }  # fmt: skip
        said = verbs[message["do"]](message)
        if name := self.originals.changed():
            raise Sinned("state", f"changes {name}")
        return said

    def make(self, message: dict[str, Any]) -> dict[str, Any]:
        """Makes the candidate's optimizer for these parameters, another one at each call; the
        candidate is loaded at the first."""
        torch.manual_seed(self.spec["seed"])
        self.originals.settle()
        start = 0
        self.params, self.places = [], []
        for name, shape in message["params"]:
            size = int(torch.Size(shape).numel())
            place = slice(start, start + size)
            start += size
            self.places.append(place)
            self.params.append((name, Parameter(self.weights[place].view(shape).clone())))
        self.arguments = {key: message[key] for key in ("lr", "total_steps", "seed")}
        self.optimizer = None
        if self.maker is None:
            self.maker = self._load()
            self.check({})
        self.optimizer = loading.make(self.maker, self.params, **self.arguments)
        modes = [callable(getattr(self.optimizer, word, None)) for word in ("train", "eval")]
        if all(modes):
            self._set_mode("train")
        return {"modes": all(modes)}

    def step(self, message: dict[str, Any]) -> dict[str, Any]:
        """One update with the gradients in the shared memory; ``without`` lists the parameters that
        have none."""
        assert self.optimizer is not None
        without = message.get("without", ())
        for number, ((_, p), place) in enumerate(zip(self.params, self.places, strict=True)):
            p.grad = None if number in without else self.gradients[place].view(p.shape).clone()
        self.optimizer.step()
        self._give_weights()
        return {}

    def mode(self, message: dict[str, Any]) -> dict[str, Any]:
        """Has an optimizer that evaluates other weights than it trains put them in place."""
        self._set_mode(message["mode"])
        self._give_weights()
        return {}

    def reload(self, message: dict[str, Any]) -> dict[str, Any]:
        """Saves the optimizer's state, and goes on with a new optimizer that has loaded it."""
        assert self.optimizer is not None
        assert self.maker is not None
        random = torch.random.get_rng_state()
        file = io.BytesIO()
        torch.save(self.optimizer.state_dict(), file)
        file.seek(0)
        state = torch.load(file, weights_only=True)
        self.params = [(name, Parameter(p.detach().clone())) for name, p in self.params]
        self.optimizer = loading.make(self.maker, self.params, **self.arguments)
        self.optimizer.load_state_dict(state)
        torch.random.set_rng_state(random)
        return {}

    def check(self, message: dict[str, Any]) -> dict[str, Any]:
        """Raises Sinned for a function of torch's or Python's that is another one now, and for
        a process that was started behind the audit hook's back."""
        if name := self.originals.patched():
            raise Sinned("patches", f"patches {name}")
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
            raise Sinned("processes", "starts a process")
        if self.optimizer is not None:
            loading.check_parameters(self.optimizer, self.params)
        return {}

    def _load(self) -> loading.Maker:
        if self.spec["kind"] == "name":
            return loading.load_name(self.spec["text"])
        return loading.load_file(Path(self.spec["scratch"]) / "candidate.py", self.spec["name"])

    def _set_mode(self, word: str) -> None:
        getattr(self.optimizer, word)()

    def _give_weights(self) -> None:
        for (name, p), place in zip(self.params, self.places, strict=True):
            found = p.detach()
            size = place.stop - place.start
            if found.numel() != size or found.dtype != torch.float32 or not p.requires_grad:
                raise Sinned("parameters", f"changes the shape, dtype or kind of parameter {name}")
            self.weights[place].copy_(found.reshape(-1))


def serve(end: socket.socket, memory: Tensor, spec: dict[str, Any], originals: Originals) -> None:
    """Answers until the evaluator is gone; then the process ends."""
    channel, leave = Channel(end), os._exit
    guard.install(Path(spec["scratch"]), lambda kind, said: _tell(channel, kind, said))
    run = CandidateRun(spec, memory, originals)
    while True:
        message = channel.receive()
        try:
            reply: dict[str, Any] = {"ok": run.answer(message)}
        except Sinned as error:
            reply = {"kind": error.kind, "said": str(error)}
        except loading.ContractError as error:
            reply = {"kind": "contract", "said": str(error)}
        except NosError as error:
            reply = {"kind": "contract", "said": " ".join(str(error).split())}
        except SystemExit:
            reply = {"kind": "exit", "said": "calls sys.exit"}
        except MemoryError:
            reply = {"kind": "memory", "said": "takes more memory than it may"}
        except BaseException as error:  # noqa: BLE001 whatever the candidate raises
            reply = _failure(error)
        channel.send({**reply, "token": message["token"]})
        if "ok" not in reply:
            leave(0)


def _tell(channel: Channel, kind: str, said: str) -> None:
    channel.send({"kind": kind, "said": said})


def _failure(error: BaseException) -> dict[str, Any]:
    """What went wrong, with the candidate's own line; memory that is used up is said as such."""
    try:
        words = str(error)
    except Exception:  # noqa: BLE001 an error of the candidate's own that cannot be printed
        words = "(it has no text)"
    said = f"{type(error).__name__}: {' '.join(words.split())}"
    if "can't allocate memory" in said or "Cannot allocate memory" in said:
        return {"kind": "memory", "said": "takes more memory than it may"}
    if isinstance(error, PermissionError) or "Permission denied" in said:
        return {"kind": "files", "said": f"opens what it may not ({said})"}
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame.lineno for frame in frames if Path(frame.filename).name == "candidate.py"]
    where = f" (line {own[-1]})" if own else ""
    text = "".join(traceback.format_exception(error))[-LONGEST:]
    kind = "import" if isinstance(error, ImportError) else "error"
    return {"kind": kind, "said": f"{said}{where}", "traceback": text.replace(sys.prefix, "")}
