"""A program as C++ for processors: one call updates every tensor of a batch, in one pass.

It is written with torch's own vectors (`at::vec`) and without contraction or reordering, operation
by operation as inductor writes the same program: the numbers are the same to the bit. The passes
over memory are cut into blocks that are fetched ahead, tensor by tensor.
"""

import math

import torch

from nos_repro.optim.draws import _COSINE as COSINE
from nos_repro.optim.draws import _MULTIPLIER as MULTIPLIER
from nos_repro.optim.draws import _ROUNDS as ROUNDS
from nos_repro.optim.draws import _WEYL as WEYL
from nos_repro.optim.kernel import KernelKind, scalar_names
from nos_repro.optim.places import LANES
from nos_repro.optim.program import Argument, Instruction
from nos_repro.rules.primitives import OPERANDS

TYPES = {torch.float32: "float", torch.float64: "double"}
COLUMNS = 5  # of the table, besides one per average: elements, weights, gradients, bases, stride

# fmt: off
EXPRESSIONS = {
    "neg":     "{0}.neg()",
    "exp":     "{0}.exp()",
    "log":     "{0}.abs().log()",
    "sqrt":    "{0}.abs().sqrt()",
    "clip":    "minimum(maximum({0}, V(-{p})), V({p}))",
    "sign":    "sign({0})",
    "sigmoid": "V(1) / (V(1) + {0}.neg().exp())",
    "+":       "{0} + {1}",
    "-":       "{0} - {1}",
    "*":       "{0} * {1}",
    "/":       "{0} / {1}",
    "fill":    "{0}",
    "carry":   "where({1} > zero, {0}, where({1} < zero, {0}.neg(), zero))",
    "select":  "where({0} > zero, {1}, where({0} < zero, {2}, {3}))",
    "normal":  "V::loadu(drawn{site} + i - k)",
    "drop":    "where(V::loadu(drawn{site} + i - k) > zero, {0}, zero)",
}
# fmt: on

_FRAME = """\
#include <ATen/cpu/vec/vec.h>
#include <algorithm>
#include <cstdint>
#include <limits>

using T = %(type)s;
using V = at::vec::Vectorized<T>;
using at::vec::maximum;
using at::vec::minimum;

constexpr int64_t BLOCK = 128, COLUMNS = %(columns)s, SITES = %(sites)s;

static inline V where(const V& condition, const V& yes, const V& no) {
    return V::blendv(no, yes, condition);
}

static inline V sign(const V& x) {
    const V zero(0), one(1);
    return where(zero < x, one, zero) - where(x < zero, one, zero);
}

static inline void fetch(const T* from, int64_t count) {
    for (int64_t i = 0; i < count; i += 64 / sizeof(T)) __builtin_prefetch(from + i);
}
%(draws)s
static void update_part(const int64_t* row, int64_t first, int64_t last, const T* scalars,
                        const int64_t* keys) {
    T* const weights = reinterpret_cast<T*>(row[1]);
    const T* const gradients = reinterpret_cast<const T*>(row[2]);
%(pointers)s
    const V zero(0)%(scalars)s;
    for (int64_t k = first; k < last; k += BLOCK) {
        const int64_t end = std::min(k + BLOCK, last), ahead = std::min(BLOCK, last - end);
        fetch(weights + end, ahead);
        fetch(gradients + end, ahead);
%(before)s
        for (int64_t i = k; i < end; i += V::size()) {
            V w = V::loadu(weights + i), g = V::loadu(gradients + i);
%(body)s
        }
    }
}

// The table has a row per tensor; an element count is a multiple of the lanes.
extern "C" void update(const int64_t* table, int64_t tensors, const T* scalars,
                       const int64_t* keys, int64_t threads) {
    int64_t total = 0;
    for (int64_t t = 0; t < tensors; t++) total += table[t * COLUMNS];
    const int64_t share = ((total + threads - 1) / threads + BLOCK - 1) / BLOCK * BLOCK;
#pragma omp parallel for num_threads(threads) schedule(static, 1) if (threads > 1)
    for (int64_t thread = 0; thread < threads; thread++) {
        int64_t start = 0;
        for (int64_t t = 0; t < tensors; t++) {
            const int64_t* row = table + t * COLUMNS;
            const int64_t first = std::max<int64_t>(thread * share - start, 0);
            const int64_t last = std::min((thread + 1) * share - start, row[0]);
            if (first < last) update_part(row, first, last, scalars, keys + t * SITES * 2);
            start += row[0];
        }
    }
}
"""

_DRAWS = """
// Philox 2x32; see draws.py.
static inline void draw(const int64_t* key, const uint32_t* low, const uint32_t* high,
                        int64_t count, uint32_t* words, uint32_t* others) {
    const uint32_t first = static_cast<uint32_t>(key[0]), second = static_cast<uint32_t>(key[1]);
    for (int64_t i = 0; i < count; i++) {
        uint32_t x = low[i], y = high[i] + second, k = first;
#pragma GCC unroll 16
        for (int round = 0; round < %(rounds)s; round++, k += %(weyl)su) {
            const uint64_t product = static_cast<uint64_t>(x) * %(multiplier)su;
            x = static_cast<uint32_t>(product >> 32) ^ y ^ k;
            y = static_cast<uint32_t>(product);
        }
        words[i] = x;
        others[i] = y;
    }
}

static inline void keep(const uint32_t* words, uint64_t from, int64_t count, T* kept) {
    for (int64_t i = 0; i < count; i++) kept[i] = words[i] >= from ? T(1) : T(0);
}

static inline V unit(const uint32_t* words) {
    T x[V::size()];
    for (int i = 0; i < V::size(); i++) x[i] = static_cast<T>(static_cast<int32_t>(words[i] >> 8));
    return (V::loadu(x) + V(T(0.5))) * V(T(0x1p-24));
}

static inline void normal(const uint32_t* words, const uint32_t* others, int64_t count, T* drawn) {
    for (int64_t i = 0; i < count; i += V::size()) {
        const V uniform = unit(words + i), turn = unit(others + i) - V(T(0.5));
        const V square = turn * turn;
        const V cosine = %(cosine)s;
        ((V(-2) * uniform.log()).sqrt() * cosine).store(drawn + i);
    }
}

static inline void places(const int64_t* row, int64_t first, int64_t count, uint32_t* low,
                          uint32_t* high) {
    const int64_t* const bases = reinterpret_cast<const int64_t*>(row[COLUMNS - 2]);
    const int64_t stride = row[COLUMNS - 1];
    for (int64_t i = 0; i < count; i += %(lanes)s) {
        const int64_t base = bases[(first + i) / %(lanes)s];
        for (int64_t lane = 0; lane < %(lanes)s; lane++) {
            const int64_t place = base + lane * stride;
            low[i + lane] = static_cast<uint32_t>(place);
            high[i + lane] = static_cast<uint32_t>(place >> 32);
        }
    }
}
"""


def native_source(kind: KernelKind) -> str | None:
    """The C++ source; None if a type or a function of the program has none here."""
    program = kind.program
    lines = [_line(line) for line in program.body]
    if kind.dtype not in TYPES or None in lines:
        return None
    body = ["g = g.neg();"] * kind.maximize + ["g = g + w * l2;"] * kind.l2
    pointers, before = [], []
    for place, name in enumerate(program.averages):
        column = f"T* const averages{place} = reinterpret_cast<T*>(row[{3 + place}]);"
        pointers.append(column)
        before.append(f"fetch(averages{place} + end, ahead);")
        power = " * ".join("g" * OPERANDS[name].power)
        average = f"V::loadu(averages{place} + i) * beta_{name} + ({power}) * rest_{name}"
        body += [f"const V {name} = {average};", f"{name}.store(averages{place} + i);"]
    body += [line for line in lines if line is not None]
    body += ["w = w * shrink;"] * kind.decoupled
    body += [f"(w - {program.update} * lr).store(weights + i);"]
    if program.sites:
        before.append("uint32_t low[BLOCK], high[BLOCK], words[BLOCK], others[BLOCK];")
        before.append("places(row, k, end - k, low, high);")
    for line in program.body:
        if line.site is not None:
            before += _drawn(line)
    names = scalar_names(kind)
    return _FRAME % {
        "type": TYPES[kind.dtype],
        "columns": COLUMNS + len(program.averages),
        "sites": program.sites,
        "draws": _draws() if program.sites else "",
        "pointers": _indented(pointers, 4),
        "scalars": "".join(f", {name}(scalars[{i}])" for i, name in enumerate(names)),
        "before": _indented(before, 8),
        "body": _indented(body, 12),
    }


def _draws() -> str:
    cosine = f"square * V({_number(COSINE[0])}) + V({_number(COSINE[1])})"
    for coefficient in COSINE[2:]:
        cosine = f"({cosine}) * square + V({_number(coefficient)})"
    return _DRAWS % {
        "rounds": ROUNDS,
        "weyl": WEYL,
        "multiplier": MULTIPLIER,
        "cosine": cosine,
        "lanes": LANES,
    }


def _drawn(line: Instruction) -> list[str]:
    """What fills the block of a draw."""
    site = line.site
    first = [
        f"T drawn{site}[BLOCK];",
        f"draw(keys + {2 * (site or 0)}, low, high, end - k, words, others);",
    ]
    if line.function == "normal":
        return [*first, f"normal(words, others, end - k, drawn{site});"]
    assert line.parameter is not None
    return [*first, f"keep(words, {round(line.parameter * 2**32)}u, end - k, drawn{site});"]


def _line(line: Instruction) -> str | None:
    x = [_word(a) for a in line.arguments]
    if line.function == "**":
        value = _power(*line.arguments)
    else:
        form = EXPRESSIONS.get(line.function)
        p = None if line.parameter is None else _number(line.parameter)
        value = None if form is None else form.format(*x, p=p, site=line.site)
    return None if value is None else f"const V {line.result} = {value};"


def _power(base: Argument, exponent: Argument) -> str | None:
    """The power with a tensor or a scalar of the step as its exponent, or the inverse root.

    Others are left to inductor, which writes some as products and 2 to a power as exp2.
    """
    if exponent == -0.5:
        return f"{_word(base)}.rsqrt()"
    if isinstance(exponent, float) or base in (1.0, 2.0):
        return None
    return f"{_word(base)}.pow({exponent})"


def _word(a: Argument) -> str:
    return a if isinstance(a, str) else f"V({_number(a)})"


def _number(x: float) -> str:
    if math.isnan(x):
        return "std::numeric_limits<T>::quiet_NaN()"
    if math.isinf(x):
        return f"{'-' * (x < 0)}std::numeric_limits<T>::infinity()"
    return f"static_cast<T>({x.hex()})"


def _indented(lines: list[str], spaces: int) -> str:
    return "\n".join(" " * spaces + line for line in lines)
