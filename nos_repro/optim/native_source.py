"""A program as C++ for processors: one call updates every tensor of a batch, in one pass.

It is written with torch's own vectors (`at::vec`) and without contraction or reordering, operation
by operation as inductor writes the same program: the numbers are the same to the bit. The passes
over memory are cut into blocks that are fetched ahead, tensor by tensor.
"""

import math
from collections.abc import Iterator
from itertools import count

import torch

from nos_repro.optim.draws import _COSINE as COSINE
from nos_repro.optim.draws import _MULTIPLIER as MULTIPLIER
from nos_repro.optim.draws import _ROUNDS as ROUNDS
from nos_repro.optim.draws import _WEYL as WEYL
from nos_repro.optim.kernel import KernelKind, scalar_names
from nos_repro.optim.places import LANES
from nos_repro.optim.program import Instruction
from nos_repro.rules.primitives import OPERANDS

BLOCKS = 80, 128
"""Elements that are fetched ahead, where nothing is drawn and where something is: the best sizes
for small and large tensors together."""
TYPES = {torch.float32: "float", torch.float64: "double"}
COLUMNS = 5  # of the table, besides one per average: elements, weights, gradients, bases, stride

# fmt: off
EXPRESSIONS = {
    "neg":     "{0}.neg()",
    "exp":     "{0}.exp()",
    "log":     "{0}.abs().log()",
    "sqrt":    "{0}.abs().sqrt()",
    "clip":    "minimum(maximum({0}, {1}), {2})",
    "sign":    "sign({0})",
    "sigmoid": "V(1) / (V(1) + {0}.neg().exp())",
    "+":       "{0} + {1}",
    "-":       "{0} - {1}",
    "*":       "{0} * {1}",
    "/":       "{0} / {1}",
    "fill":    "{0}",
    "carry":   "where({1} > zero, {0}, where({1} < zero, {0}.neg(), zero))",
    "max":     "maximum({0}, {1})",
    "min":     "minimum({0}, {1})",
    "select":  "where({0} > zero, {1}, where({0} < zero, {2}, {3}))",
    "normal":  "V::loadu(drawn{site} + i - k)",
    "drop":    "where(V::loadu(drawn{site} + i - k), {0}, zero)",
}
# fmt: on

_FRAME = """\
#include <ATen/cpu/vec/vec.h>
#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

using T = %(type)s;
using V = at::vec::Vectorized<T>;
using at::vec::maximum;
using at::vec::minimum;

constexpr int64_t BLOCK = %(block)s, COLUMNS = %(columns)s, SITES = %(sites)s;

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
                        const T* constants, const int64_t* keys) {
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
extern "C" void update(const int64_t* table, int64_t tensors, const T* scalars, const T* constants,
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
            if (first < last)
                update_part(row, first, last, scalars, constants, keys + t * SITES * 2);
            start += row[0];
        }
    }
}
"""

_DRAWS = """
// A vector of 64-bit lanes, of which the lower halves count.
#if defined(CPU_CAPABILITY_AVX512)
using W = __m512i;
static inline W all(uint32_t x) { return _mm512_set1_epi64(x); }
static inline W load(const int64_t* from) { return _mm512_loadu_si512(from); }
static inline W place(int64_t base, W lane) {
    return _mm512_add_epi64(_mm512_set1_epi64(base), lane);
}
static inline W upper(W x) { return _mm512_srli_epi64(x, 32); }
static inline W sum(W x, W y) { return _mm512_add_epi64(x, y); }
static inline W product(W x, W y) { return _mm512_mul_epu32(x, y); }
static inline W odd(W x, W y, W z) { return _mm512_ternarylogic_epi64(x, y, z, 0x96); }
static inline void store(uint32_t* to, W x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi64_epi32(x));
}
#else
using W = __m256i;
static inline W all(uint32_t x) { return _mm256_set1_epi64x(x); }
static inline W load(const int64_t* from) {
    return _mm256_loadu_si256(reinterpret_cast<const W*>(from));
}
static inline W place(int64_t base, W lane) {
    return _mm256_add_epi64(_mm256_set1_epi64x(base), lane);
}
static inline W upper(W x) { return _mm256_srli_epi64(x, 32); }
static inline W sum(W x, W y) { return _mm256_add_epi64(x, y); }
static inline W product(W x, W y) { return _mm256_mul_epu32(x, y); }
static inline W odd(W x, W y, W z) { return _mm256_xor_si256(_mm256_xor_si256(x, y), z); }
static inline void store(uint32_t* to, W x) {
    const W halves = _mm256_permutevar8x32_epi32(x, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(halves));
}
#endif

// Philox 2x32 for the places of `count` elements from `first`; see draws.py. The rounds of a place
// wait for each other, so those of several rows go on side by side. All whole blocks of rows are
// written. The second word only where it is asked for.
template <bool both>
static inline void draw(const int64_t* row, int64_t first, int64_t count, const int64_t* key,
                        uint32_t* words, uint32_t* others) {
    constexpr int64_t LANES = %(lanes)s, WIDTH = sizeof(W) / 8, ROWS = WIDTH == 8 ? 4 : 1;
    constexpr int64_t VECTORS = ROWS * LANES / WIDTH;
    static_assert(BLOCK %% (ROWS * LANES) == 0);
    const int64_t* const bases = reinterpret_cast<const int64_t*>(row[COLUMNS - 2]);
    const W second = all(static_cast<uint32_t>(key[1])), multiplier = all(%(multiplier)su);
    int64_t lanes[LANES];
    for (int64_t lane = 0; lane < LANES; lane++) lanes[lane] = lane * row[COLUMNS - 1];
    for (int64_t i = 0; i < count; i += ROWS * LANES) {
        W x[VECTORS], y[VECTORS];
#pragma GCC unroll 16
        for (int64_t j = 0; j < VECTORS; j++) {
            const int64_t at = std::min(i + j * WIDTH / LANES * LANES, count - LANES);
            x[j] = place(bases[(first + at) / LANES], load(lanes + j * WIDTH %% LANES));
            y[j] = sum(upper(x[j]), second);
        }
        uint32_t k = static_cast<uint32_t>(key[0]);
#pragma GCC unroll 16
        for (int round = 0; round < %(rounds)s; round++, k += %(weyl)su) {
#pragma GCC unroll 16
            for (int64_t j = 0; j < VECTORS; j++) {
                const W whole = product(x[j], multiplier);
                x[j] = odd(upper(whole), y[j], all(k));
                y[j] = whole;
            }
        }
#pragma GCC unroll 16
        for (int64_t j = 0; j < VECTORS; j++) {
            store(words + i + j * WIDTH, x[j]);
            if constexpr (both) store(others + i + j * WIDTH, y[j]);
        }
    }
}

// All bits set where a word is at least `from`.
using Mask = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
static inline void keep(const uint32_t* words, uint64_t from, int64_t count, Mask* kept) {
    const uint32_t below = static_cast<uint32_t>(from - 1);
    for (int64_t i = 0; i < count; i++)
        kept[i] = from >> 32 ? 0 : from == 0 || words[i] > below ? -1 : 0;
}

static inline void normal(const uint32_t* words, const uint32_t* others, int64_t count, T* drawn) {
    T x[BLOCK], y[BLOCK];
    for (int64_t i = 0; i < count; i++) {
        x[i] = static_cast<T>(static_cast<int32_t>(words[i] >> 8));
        y[i] = static_cast<T>(static_cast<int32_t>(others[i] >> 8));
    }
    const V half(T(0.5)), unit(T(0x1p-24));
    for (int64_t i = 0; i < count; i += V::size()) {
        const V uniform = (V::loadu(x + i) + half) * unit;
        const V turn = (V::loadu(y + i) + half) * unit - half;
        const V square = turn * turn;
        const V cosine = %(cosine)s;
        ((V(-2) * uniform.log()).sqrt() * cosine).store(drawn + i);
    }
}
"""


def native_source(kind: KernelKind) -> str | None:
    """The C++ source; None if a type or a function of the program has none here."""
    program, names = kind.program, map("constant{}".format, count())
    lines = [_line(line, names) for line in program.body]
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
    for place, (name, _) in enumerate(program.states, start=len(program.averages)):
        pointers.append(f"T* const averages{place} = reinterpret_cast<T*>(row[{3 + place}]);")
        before.append(f"fetch(averages{place} + end, ahead);")
        body += [f"const V {name} = V::loadu(averages{place} + i);"]
    body += [line for line in lines if line is not None]
    body += ["w = w * shrink;"] * kind.decoupled
    body += [f"(w - {program.update} * lr).store(weights + i);"]
    for place, (_, value) in enumerate(program.states, start=len(program.averages)):
        body += [f"{value}.store(averages{place} + i);"]
    if program.sites:
        before.append("uint32_t words[BLOCK], others[BLOCK];")
    for line in program.body:
        if line.site is not None:
            before += _drawn(line)
    inputs = [f"{name}(scalars[{i}])" for i, name in enumerate(scalar_names(kind))]
    inputs += [f"constant{i}(constants[{i}])" for i in range(len(constants(kind)))]
    return _FRAME % {
        "type": TYPES[kind.dtype],
        "columns": COLUMNS + len(program.kept),
        "sites": program.sites,
        "block": BLOCKS[program.sites > 0],
        "draws": _draws() if program.sites else "",
        "pointers": _indented(pointers, 4),
        "scalars": "".join(f", {x}" for x in inputs),
        "before": _indented(before, 8),
        "body": _indented(body, 12),
    }


def constants(kind: KernelKind) -> list[float]:
    """The numbers in the program, which a kernel reads: rules that differ in them share one."""
    found = []
    for line in kind.program.body:
        found += [a for a in line.arguments if not isinstance(a, str)]
        if line.function == "clip" and line.parameter is not None:
            found += [-line.parameter, line.parameter]
    return found


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
    both = "true" if line.function == "normal" else "false"
    first = [f"draw<{both}>(row, k, end - k, keys + {2 * (site or 0)}, words, others);"]
    if line.function == "normal":
        return [f"T drawn{site}[BLOCK];", *first, f"normal(words, others, end - k, drawn{site});"]
    assert line.parameter is not None
    return [
        f"Mask drawn{site}[BLOCK];",
        *first,
        f"keep(words, {round(line.parameter * 2**32)}ull, end - k, drawn{site});",
    ]


def _line(line: Instruction, names: Iterator[str]) -> str | None:
    """The line in C++; its constants take the next names, in the order of `constants`."""
    x = [a if isinstance(a, str) else next(names) for a in line.arguments]
    if line.function == "clip":
        x += [next(names), next(names)]
    if line.function == "**":
        value = _power(line, *x)
    else:
        form = EXPRESSIONS.get(line.function)
        value = None if form is None else form.format(*x, site=line.site)
    return None if value is None else f"const V {line.result} = {value};"


def _power(line: Instruction, base: str, exponent: str) -> str | None:
    """The power with a tensor or a scalar of the step as its exponent, or the inverse root.

    Others are left to inductor, which writes some as products and 2 to a power as exp2.
    """
    if line.arguments[1] == -0.5:
        return f"{base}.rsqrt()"
    if isinstance(line.arguments[1], float) or line.arguments[0] in (1.0, 2.0):
        return None
    return f"{base}.pow({exponent})"


def _number(x: float) -> str:
    if math.isnan(x):
        return "std::numeric_limits<T>::quiet_NaN()"
    if math.isinf(x):
        return f"{'-' * (x < 0)}std::numeric_limits<T>::infinity()"
    return f"static_cast<T>({x.hex()})"


def _indented(lines: list[str], spaces: int) -> str:
    return "\n".join(" " * spaces + line for line in lines)
