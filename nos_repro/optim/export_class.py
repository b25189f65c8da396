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
    """
'''
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
        LOAD.format(averages=_tuple(program.averages)) if program.averages else "",
        STEP + _loop(program),
        _update(program, statements),
    ]
    head = HEAD.format(name=name, formula=wrapped(formula + ".", "    ")[4:], meanings=meanings)
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
    lines = ["    number = 0  # of the parameter: each one draws its own numbers"] * draws
    lines += [
        "    for group in self.param_groups:",
        '        for p in group["params"]:',
        "            if p.grad is not None:",
        f"                self._update(p, p.grad, group{', number' * draws})",
    ]
    lines += ["            number += 1"] * draws
    lines += ['        group["t"] += 1'] * reads_step(program)
    return "\n".join([*lines, "    return loss", ""])


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
    if program.averages:
        lines += ["state = self.state[p]", "if not state:"]
        lines += ['    state["step"] = 0'] * bool(program.corrections)
        lines += [f'    state["{name}"] = torch.zeros_like(w)' for name in program.averages]
    lines += [*statements, 'p.copy_(w - group["lr"] * update)']
    return "\n".join([signature, *(f"    {line}" for line in lines), ""])
