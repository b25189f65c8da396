"""The class in an exported file: the frame of a `torch.optim.Optimizer` around a rule's update."""

import textwrap
from dataclasses import dataclass

from nos_repro.optim.export_update import reads_step
from nos_repro.optim.program import Program
from nos_repro.rules.primitives import DELTA
from nos_repro.rules.printing import print_number

BETAS = {"m": "0.9", "v": "0.999", "gamma": "0.999"}

HEAD = '''\
class {name}(Optimizer):
    """{formula}

{meanings}

    Averages and arithmetic are in float32 where a parameter is in half precision. A sparse
    gradient or a complex parameter raises RuntimeError, an impossible option ValueError.
{notes}    """
'''
DRAWS = """
    A draw depends on the seed, the step and the parameter's place in the optimizer. Optimizers
    that share a seed draw the same numbers, also those of different processes (pipeline stages,
    ZeroRedundancyOptimizer): give each one its own. A sharded parameter (DTensor) raises
    RuntimeError.
"""
STEP = '''\
@overload
def step(self, closure: None = None) -> None: ...
@overload
def step(self, closure: Callable[[], float]) -> float: ...
@torch.no_grad()
def step(self, closure: Callable[[], float] | None = None) -> float | None:
    """One update of every parameter that has a gradient; returns the closure's loss."""
    loss = None
    if closure is not None:
        with torch.enable_grad():
            loss = closure()
'''
JOIN = '''\
def add_param_group(self, param_group: dict[str, Any]) -> None:
    """Adds parameters with their own options; they join at the optimizer's current step."""
    super().add_param_group(param_group)
    self.param_groups[-1].setdefault("t", self.param_groups[0].get("t", 0))
'''
EMPTY = """\
    if self._only_makes_state():
{start}        return loss
"""
START = """\
        for p in (p for group in self.param_groups for p in group["params"]):
            if p.grad is not None:
                self._start(p)
"""
ONLY_MAKES_STATE = '''\
def _only_makes_state(self) -> bool:
    """Whether torch.distributed.checkpoint takes this step: at rate 0, with gradients of 0."""
    if self.state or any(group["lr"] != 0 for group in self.param_groups):
        return False
    params = [p for group in self.param_groups for p in group["params"]]
    gradients = [p.grad for p in params if p.grad is not None]
    return bool(gradients) and all(torch.equal(g, torch.zeros_like(g)) for g in gradients)
'''
LOAD = '''\
def load_state_dict(self, state_dict: StateDict) -> None:
    """Loads a saved state, bit for bit."""
    loaded: list[StateDict] = []  # as the load hooks make it
    hook = self.register_load_state_dict_pre_hook(lambda _, state: loaded.append(state))
    try:
        super().load_state_dict(state_dict)
    finally:
        hook.remove()
    # torch has cast the averages to the parameters' dtype, which may be half precision
    for group, saved in zip(self.param_groups, loaded[0]["param_groups"], strict=True):
        for p, key in zip(group["params"], saved["params"], strict=True):
            if key not in loaded[0]["state"]:
                continue
            for name in {averages}:
                average = loaded[0]["state"][key][name]
                self.state[p][name] = average.to(p.device, arithmetic_dtype(p), copy=True)
'''


@dataclass(frozen=True)
class Option:
    """An argument of the constructor; `check` is its condition, `range` the same in words."""

    name: str
    annotation: str
    default: str
    meaning: str
    check: str = ""
    range: str = ">= 0"


def class_source(name: str, formula: str, program: Program, statements: list[str]) -> str:
    """The class; `statements` lead from g, w and the averages to `update`."""
    options = _options(program)
    meanings = "\n".join(f"    {option.name}: {option.meaning}" for option in options)
    methods = [
        _init(options),
        JOIN if reads_step(program) else "",
        LOAD.format(averages=_tuple(program.kept)) if program.kept else "",
        STEP + _loop(program),
        ONLY_MAKES_STATE if _counts(program) else "",
        _start(program),
        _update(program, statements),
    ]
    head = HEAD.format(
        name=name,
        formula=wrapped(formula + ".", "    ")[4:],
        meanings=meanings,
        notes=DRAWS if program.sites else "",
    )
    body = "\n".join(textwrap.indent(method, "    ") for method in methods if method)
    return f"{head}\n{body}".rstrip()


def wrapped(text: str, indent: str = "") -> str:
    """Lines of prose, or of a rule's text, within 96 columns."""
    return textwrap.fill(
        text, 96, initial_indent=indent, subsequent_indent=indent * 2,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _tuple(names: tuple[str, ...]) -> str:
    quoted = [f'"{name}"' for name in names]
    return f"({quoted[0]},)" if len(quoted) == 1 else f"({', '.join(quoted)})"


def _options(program: Program) -> list[Option]:
    """The constructor's options besides the parameters: those that the rule needs."""
    averages = program.averages
    betas = [BETAS[name] for name in averages]
    named = " and ".join(averages[-2:])
    options = [Option("lr", "float", "", "the learning rate.", "lr >= 0")]
    if program.decays:
        meaning = "T of the decay: the total number of updates."
        options += [Option("total_steps", "int", "", meaning, "total_steps >= 1", ">= 1")]
    if len(betas) == 1:
        meaning = f"the decay rate of the average {named}."
        options += [Option("beta", "float", betas[0], meaning, "0 <= beta < 1", "in [0, 1)")]
    elif betas:
        annotation = f"tuple[{', '.join(['float'] * len(betas))}]"
        meaning = f"the decay rates of the averages {', '.join([*averages[:-2], named])}."
        check = f"(len(betas) == {len(betas)} and all(0 <= beta < 1 for beta in betas))"
        default, limits = f"({', '.join(betas)})", f"{len(betas)} numbers in [0, 1)"
        options += [Option("betas", annotation, default, meaning, check, limits)]
    if "eps" in program.scalar_inputs:
        meaning = "what a division adds to its divisor."
        options += [Option("eps", "float", print_number(DELTA), meaning, "eps >= 0")]
    meaning = "times the weight, it is added to the gradient that the rule sees (L2)."
    options += [Option("weight_decay", "float", "0.0", meaning, "weight_decay >= 0")]
    if program.sites:
        meaning = "seeds noise and drops; with the step count it is the generator's whole state."
        options += [Option("seed", "int", "0", meaning)]
    return options


def _init(options: list[Option]) -> str:
    defaults = [f" = {o.default}" if o.default else "" for o in options]
    lr, *others = [
        f"{o.name}: {o.annotation}{default}" for o, default in zip(options, defaults, strict=True)
    ]
    lines = ["def __init__("]
    lines += [f"    {each}," for each in ("self", "params: ParamsT", lr, "*", *others)]
    lines += [") -> None:"]
    for o in options:
        if o.check:
            lines += [f"    if not {o.check}:"]
            lines += [f'        raise ValueError(f"{o.name} must be {o.range}, got {{{o.name}}}")']
    lines += ["    defaults = {"]
    lines += [f'        "{o.name}": {o.name},' for o in options]
    lines += ["    }", "    super().__init__(params, defaults)", ""]
    return "\n".join(lines)


def _loop(program: Program) -> str:
    draws = program.sites > 0
    empty = EMPTY.format(start=START if _keeps(program) else "") if _counts(program) else ""
    lines = empty.splitlines()
    lines += ["    number = 0  # of the parameter: each one draws its own numbers"] * draws
    lines += [
        "    for group in self.param_groups:",
        '        for p in group["params"]:',
        "            if p.grad is not None:",
        f"                self._update(p, p.grad, group{', number' * draws})",
    ]
    lines += ["            number += 1"] * draws
    lines += ['        group["t"] += 1'] * reads_step(program)
    return "\n".join([*lines, "    return loss", ""])


def _counts(program: Program) -> bool:
    """Whether a step that is not an update must not be counted."""
    return reads_step(program) or program.counts


def _keeps(program: Program) -> bool:
    """Whether a parameter has a state."""
    return bool(program.kept) or program.counts


def _start(program: Program) -> str:
    if not _keeps(program):
        return ""
    lines = [
        "def _start(self, p: Tensor) -> dict[str, Any]:",
        '    """The state of a parameter, made if it is missing."""',
        "    state: dict[str, Any] = self.state[p]",
        "    if not state:",
    ]
    lines += ['        state["step"] = 0'] * program.counts
    zeros = "torch.zeros_like(p, dtype=arithmetic_dtype(p))"
    lines += [f'        state["{name}"] = {zeros}' for name in program.kept]
    return "\n".join([*lines, "    return state", ""])


def _update(program: Program, statements: list[str]) -> str:
    number = ", number: int" * (program.sites > 0)
    signature = f"def _update(self, p: Tensor, g: Tensor, group: dict[str, Any]{number}) -> None:"
    lines = [
        '"""One update of one parameter, whose gradient is g."""',
        "if g.layout != torch.strided:",
        '    raise RuntimeError("a sparse gradient: this optimizer needs dense ones")',
        "if not p.is_floating_point():",
        '    raise RuntimeError(f"a parameter of {p.dtype}: this optimizer needs real numbers")',
        "dtype = arithmetic_dtype(p)",
        "w, g = p.to(dtype), g.to(dtype)",
        'if group["weight_decay"] != 0:',
        '    g = g + group["weight_decay"] * w',
    ]
    if _keeps(program):
        lines += ["state = self._start(p)"]
    lines += statements
    return "\n".join([signature, *(f"    {line}" for line in lines), ""])
