"""A rule as one file that needs only torch: `python -m nos_repro export RULE > my_optimizer.py`.

The written class does what `RuleOptimizer` does in its plain loop: the same state, the same draws,
the same numbers. It leaves out the faster executions, decoupled weight decay, `maximize` and
`master_weights`.
"""

import ast
import inspect
import keyword
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from nos_repro.errors import ConfigError
from nos_repro.optim import draws
from nos_repro.optim.export_class import class_source, wrapped
from nos_repro.optim.export_update import update_statements
from nos_repro.optim.program import lower
from nos_repro.rules import newton_schulz
from nos_repro.rules.catalog import CATALOG, lookup, printed_at
from nos_repro.rules.families import family_of
from nos_repro.rules.primitives import OPERANDS
from nos_repro.rules.rule import Rule
from nos_repro.rules.tree import Binary

DEFAULT_NAME = "ExportedOptimizer"
PAPERS = {"000": "the ICML version", "002": "the arXiv version"}

# fmt: off
BASELINES = {
    "sgd":        "torch.optim.SGD",
    "momentum":   "torch.optim.SGD with momentum=0.9",
    "adam":       "torch.optim.Adam",
    "rmsprop":    "torch.optim.RMSprop",
    "adam-tf":    "torch.optim.Adam, or here nos_repro.optim.tensorflow.TensorFlowAdam",
    "rmsprop-tf": "torch.optim.RMSprop, or here nos_repro.optim.tensorflow.TensorFlowRMSprop",
}
# a name that the file may read, the line that imports it
IMPORTS = (
    ("math",     "import math"),
    ("struct",   "import struct"),
    ("Callable", "from collections.abc import Callable"),
    ("blake2b",  "from hashlib import blake2b"),
    ("Any",      "from typing import Any, overload"),
)
TORCH = (
    ("torch",     "import torch"),
    ("Tensor",    "from torch import Tensor"),
    ("Optimizer", "from torch.optim import Optimizer"),
)
TYPES = ("ParamsT", "StateDict")
# fmt: on

DTYPE = '''\
def arithmetic_dtype(p: Tensor) -> torch.dtype:
    """float32 for half precision, where averages would not move at a decay rate of 0.999."""
    return torch.float32 if p.dtype in (torch.bfloat16, torch.float16) else p.dtype
'''
DOUBLE = '''\
def double(x: float) -> Tensor:
    """A scalar in double precision that becomes inf or nan where Python's math would raise."""
    return torch.tensor(x, dtype=torch.float64)
'''
PLACES = '''\
def element_places(w: Tensor) -> Tensor:
    """The row-major index of every element, whatever its layout in memory."""
    if hasattr(w, "placements"):
        raise RuntimeError("a sharded parameter: noise and drops need whole ones")
    return torch.arange(w.numel(), device=w.device).view(w.shape)
'''
HELPERS = {
    "arithmetic_dtype": DTYPE,
    "double": DOUBLE,
    "element_places": PLACES,
    "orthogonal": inspect.getsource(newton_schulz.orthogonal),
}


def export(name_or_text: str, class_name: str | None = None, language: int = 1) -> str:
    """The source of the file. Raises RuleError (text) and ConfigError (baseline, class name).

    language: the edition of the language that a text is written in.
    """
    rule = find_rule(name_or_text, language)
    name = default_name(rule) if class_name is None else class_name
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ConfigError(f"--name must be a Python identifier such as MyOptimizer, got {name!r}")
    program = lower(rule.expr, rule.states)
    statements = update_statements(program)
    written = class_source(name, _formula(rule), program, statements)
    read = _names(written)
    helpers = [source.rstrip() for word, source in HELPERS.items() if word in read]
    code = "\n\n\n".join([written, *helpers, *_generator(read)])
    read = _names(code)
    if name in read:
        raise ConfigError(f"--name {name}: the file needs this name itself, choose another")
    return "\n".join([_docstring(name, rule), "", *_imports(read), "", code, ""])


def find_rule(name_or_text: str, language: int = 1) -> Rule:
    """The rule for a name, `rule: TEXT` or a text. RuleError; ConfigError for a baseline."""
    name = name_or_text.strip()
    if name.startswith("rule:"):
        return Rule.parse(name.removeprefix("rule:").strip(), language)
    if name in BASELINES:
        text = CATALOG[name.removesuffix("-tf")].text
        raise ConfigError(
            f"'{name}' is a baseline, not a rule: use {BASELINES[name]}\n"
            f"  for the paper's rule of that name give its text: export 'rule: {text}'"
        )
    return lookup(name, language)


def default_name(rule: Rule) -> str:
    """`PowerSignCd` for a rule of a family, in any form; a plain name for others."""
    found = family_of(rule)
    if found is None:
        return DEFAULT_NAME
    family, decay = found
    return family.label + (decay or "").capitalize()


def _names(code: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}


def _generator(read: Iterable[str]) -> list[str]:
    """The definitions of draws.py that the file needs: constants, then functions."""
    source = inspect.getsource(draws)
    definitions: dict[str, ast.stmt] = {}
    for node in ast.parse(source).body:
        match node:
            case ast.FunctionDef(name=name) | ast.Assign(targets=[ast.Name(id=name)]):
                definitions[name] = node
    wanted, ahead = set[str](), [name for name in definitions if name in read]
    while ahead:
        name = ahead.pop()
        wanted.add(name)
        inside = {n.id for n in ast.walk(definitions[name]) if isinstance(n, ast.Name)}
        ahead += [n for n in definitions if n in inside - wanted]
    lines = source.splitlines()
    texts = {
        name: "\n".join(lines[node.lineno - 1 : node.end_lineno])
        for name, node in definitions.items()
        if name in wanted
    }
    constants = [text for name, text in texts.items() if isinstance(definitions[name], ast.Assign)]
    functions = [text for text in texts.values() if text not in constants]
    return ["\n".join(constants), *functions] if texts else []


def _imports(read: set[str]) -> list[str]:
    standard = [line for word, line in IMPORTS if word in read]
    types = ", ".join(word for word in TYPES if word in read)
    torch = [line for word, line in TORCH if word in read]
    return [*standard, "", *torch, f"from torch.optim.optimizer import {types}", ""]


def _formula(rule: Rule) -> str:
    """`w <- w - lr * ...`."""
    text = str(rule)
    if rule.states:
        *states, update = text.removeprefix("language 2: ").split("; ")
        return "; ".join([*states, f"w <- w - lr * ({update})"])
    text = text.removeprefix("language 2: ")
    sum_like = isinstance(rule.expr, Binary) and rule.expr.function in ("+", "-")
    return f"w <- w - lr * ({text})" if sum_like else f"w <- w - lr * {text}"


def _docstring(name: str, rule: Rule) -> str:
    entries = printed_at(rule)
    entry = next((e for e in entries if "Table" in e.table), entries[0] if entries else None)
    place = f"; for this rule see {entry.place[4:]}, of {PAPERS[entry.paper]}" if entry else ""
    paper = "Neural Optimizer Search with Reinforcement Learning"
    total = ", total_steps=10_000" if rule.needs_total_steps else ""
    try:
        made_by = f"nos_repro {version('nos-repro')}"
    except PackageNotFoundError:
        made_by = "nos_repro, not installed"
    rows = dict.fromkeys([*rule.operands, *(OPERANDS[a] for a in sorted(rule.averages))])
    meanings = [f"    {row.name}: {row.meaning}" for row in rows]
    blocks = [
        f'"""{name}, an update rule in the language of Bello et al. (2017), for torch.optim.',
        wrapped(_formula(rule), "    "),
        "\n".join(meanings),
        wrapped(f'The paper: I. Bello, B. Zoph, V. Vasudevan, Q. Le, "{paper}", 2017{place}.'),
        "Usage, in the training loop:",
        f"    optimizer = {name}(model.parameters(), lr=0.1{total})\n"
        "    loss.backward()\n"
        "    optimizer.step()",
        f"Written by `python -m nos_repro export` ({made_by}); it needs only torch.",
    ]
    return "\n\n".join(block for block in blocks if block) + '\n"""'
