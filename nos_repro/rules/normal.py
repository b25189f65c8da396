"""The algebraic normal form: for grouping and display, never run.

Two trees with one normal form are the same function of real numbers wherever both are defined;
rounding, overflow, NaN and the sign of a zero may differ. The delta of a division is never taken
for 0 (v is often smaller than it): x * y / y stays. A division by a number is the exception.

The tree becomes a sum of terms, a term a coefficient times factors; sums and products lose their
order and nesting there. What a function does to its argument is in its row of `primitives`: of
one that says nothing, only the argument is brought into normal form. The laws that tie functions to
each other (exp to log and powers, sqrt and sign to powers) are here. Sums are not multiplied out:
only the fingerprint tells that (1 + x) * g and g + x * g are equal.
"""

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TypeAlias

from nos_repro.rules.primitives import BINARY, DELTA, UNARY, operand_row
from nos_repro.rules.printing import print_expr
from nos_repro.rules.rows import UnaryRow
from nos_repro.rules.tree import Binary, Expr, Number, Operand, Unary

NO_NUMBERS = "for grouping and display (experiments.digest)"

# (base, n, k) is the factor base**n / (base + delta)**k.
Factor: TypeAlias = tuple[Expr, int, int]
Term: TypeAlias = tuple[Factor, ...]
Sum: TypeAlias = dict[Term, float]  # never changed once made

SMALLEST_PLAIN_DIVISOR = 0.01  # delta changes the quotient by less than 1e-6 above it
LARGEST_POWER = 64
LARGEST_BASE = 1000


def normal_form(expr: Expr) -> Expr:
    """The normal form of a tree: equal for trees that algebra says are equal; idempotent."""
    return _rebuild(_sum_of(expr))


@lru_cache(maxsize=1 << 14)
def _sum_of(expr: Expr) -> Sum:
    match expr:
        case Operand(name):
            definition = operand_row(name).definition
            return _atom(expr) if definition is None else _sum_of(definition)
        case Number(value):
            return _number(value)
        case Unary("neg", x):
            return _times(_number(-1.0), _sum_of(x))
        case Unary(function, x, parameter):
            return _unary(function, _sum_of(x), parameter)
        case Binary(function, x, y):
            return _binary(function, _sum_of(x), _sum_of(y))


def _binary(function: str, x: Sum, y: Sum) -> Sum:
    match BINARY[function].algebra:
        case "sum":
            return _plus(x, y)
        case "difference":
            return _plus(x, _times(_number(-1.0), y))
        case "product":
            return _times(x, y)
        case "quotient":
            return _times(x, _reciprocal(y))
        case "power":
            return _power(x, y)
        case "opaque":
            return _atom(Binary(function, _rebuild(x), _rebuild(y)))


def _number(value: float) -> Sum:
    return {(): value} if value else {}


def _atom(expr: Expr) -> Sum:
    return {((expr, 1, 0),): 1.0}


def _constant(x: Sum) -> float | None:
    """The value of a sum that is a plain number."""
    if not x:
        return 0.0
    return x[()] if len(x) == 1 and () in x else None


def _plus(x: Sum, y: Sum) -> Sum:
    total = dict(x)
    for term, coefficient in y.items():
        before = total.pop(term, 0.0)
        after = before + coefficient
        if not math.isfinite(after):
            return _atom(Binary("+", *_ordered(_rebuild(x), _rebuild(y))))
        if abs(after) > 1e-12 * max(abs(before), abs(coefficient)):
            total[term] = after
    return total


def _times(x: Sum, y: Sum) -> Sum:
    if not x or not y:
        return {}
    (a, left), (b, right) = _single(x), _single(y)
    coefficient = a * b
    if not math.isfinite(coefficient) or coefficient == 0:
        return _atom(Binary("*", *_ordered(_rebuild(x), _rebuild(y))))
    if not left or not right:  # a number multiplies a sum term by term
        many, c = (y, _constant(x)) if not left else (x, _constant(y))
        assert c is not None
        return {term: c * each for term, each in many.items()}
    return _product(coefficient, [*left, *right])


def _single(x: Sum) -> tuple[float, Term]:
    """A sum as one term: itself, or its leading coefficient times one factor that starts with 1."""
    if len(x) == 1:
        ((term, coefficient),) = x.items()
        return coefficient, term
    lead = x[min(x, key=_term_key)]
    return lead, ((_rebuild({term: each / lead for term, each in x.items()}), 1, 0),)


def _product(coefficient: float, factors: Iterable[Factor]) -> Sum:
    """One term: equal bases merged, exp(a) * exp(b) = exp(a + b), powers of sqrt and sign cut."""
    exponent: Sum = {}
    powers: dict[Expr, tuple[int, int]] = {}

    def add(base: Expr, n: int, k: int = 0) -> None:
        before = powers.get(base, (0, 0))
        powers[base] = (before[0] + n, before[1] + k)

    for base, n, k in factors:
        if isinstance(base, Unary) and base.function == "exp" and n:
            exponent = _plus(exponent, _times(_number(float(n)), _sum_of(base.x)))
            n = 0
        if n or k:
            add(base, n, k)
    scale, exponent = _outside_exp(exponent, add)
    if exponent:
        add(Unary("exp", _rebuild(exponent)), 1)
    for base in [base for base in powers if isinstance(base, Unary)]:
        n, k = powers.pop(base)
        assert isinstance(base, Unary)
        if base.function == "sqrt":
            # sqrt|x|**2 is |x|, which is x only where x is not negative; **4 always is x**2.
            whole = 2 if is_nonnegative(base.x) else 4
            cut = n // whole * whole // 2
            for factor, above, below in _single(_sum_of(base.x))[1] if cut else ():
                add(factor, cut * above, cut * below)
            n %= whole
        elif base.function == "sign" and n > 2:
            n = 2 - n % 2
        if n or k:
            add(base, n, k)
    term = tuple(sorted(((b, n, k) for b, (n, k) in powers.items()), key=lambda f: _key(f[0])))
    if len(term) == 1 and term[0][1:] == (1, 0) and _is_sum(term[0][0]):
        return _times(_number(coefficient * scale), _sum_of(term[0][0]))
    return {term: coefficient * scale}


def _outside_exp(exponent: Sum, add: Callable[[Expr, int], None]) -> tuple[float, Sum]:
    """Takes numbers and logarithms out of an exponent: exp(1 + x) = 2.718 * exp(x)."""
    scale, rest = 1.0, {}
    for term, c in exponent.items():
        match term:
            case () if 0 < UNARY["exp"].on_float(c) < math.inf:
                scale = UNARY["exp"].on_float(c)
            case ((Unary("log", x), 1, 0),) if c == 0.5:
                add(Unary("sqrt", x), 1)
            case ((Unary("log", x), 1, 0),) if _is_power(c) and (is_nonnegative(x) or c % 2 == 0):
                add(x, int(c))
            case _:
                rest[term] = c
    return scale, rest


def _is_power(c: float) -> bool:
    return c == int(c) and 1 <= c <= LARGEST_POWER


def _is_sum(base: Expr) -> bool:
    return isinstance(base, Binary) and base.function in ("+", "-")


def _reciprocal(y: Sum) -> Sum:
    c = _constant(y)
    if c is None:
        return {((_rebuild(y), 0, 1),): 1.0}
    return _number(1 / c if abs(c) >= SMALLEST_PLAIN_DIVISOR else 1 / (c + DELTA))


def _power(x: Sum, y: Sum) -> Sum:
    base, exponent = _constant(x), _constant(y)
    plain = _atom(Binary("**", _rebuild(x), _rebuild(y)))
    if exponent == 0 or base == 1:
        return _number(1.0)
    if base is not None:
        return _unary("exp", _times(_number(math.log(base)), y)) if base > 0 else plain
    c, term = _single(x)
    if exponent is not None and _is_power(exponent) and 0 < abs(c) ** exponent < math.inf:
        n = int(exponent)
        return _product(c**n, [(b, i * n, k * n) for b, i, k in term])
    if exponent == 0.5 and is_nonnegative(_rebuild(x)):
        return _unary("sqrt", x)
    match term:
        case ((Unary("exp", a), 1, 0),) if c == 1:
            return _unary("exp", _times(_sum_of(a), y))
        case _:
            return plain


def _unary(function: str, x: Sum, parameter: float | None = None) -> Sum:
    row = UNARY[function]
    c = _constant(x)
    if c is not None and not row.random:
        value = row.on_float(c, parameter)
        if math.isfinite(value):
            return _number(value)
    plain = _atom(Unary(function, _rebuild(x), parameter))
    if c is not None:
        return plain
    match row.algebra:
        case "opaque":
            return plain
        case "exponential":
            return _product(1.0, [(Unary(function, _rebuild(x)), 1, 0)])
        case "even" | "odd":
            return _with_parity(row, x, parameter)
        case _:
            return _by_factors(row, *_single(x))


def _with_parity(row: UnaryRow, x: Sum, parameter: float | None) -> Sum:
    """f(-x) = f(x) or -f(x); then f(c * s) = f(c) * s for a product of signs s, if f is odd."""
    c, term = _single(x)
    odd = row.algebra == "odd"
    if odd and all(isinstance(b, Unary) and b.function == "sign" and not k for b, _, k in term):
        return _times(_number(row.on_float(c, parameter)), {term: 1.0})
    if c < 0:
        turned = _unary(row.name, _times(_number(-1.0), x), parameter)
        return _times(_number(-1.0), turned) if odd else turned
    if c == 1 and len(term) == 1 and term[0][1:] == (1, 0):
        return _of_factor(row, term[0][0], parameter)
    return _atom(Unary(row.name, _rebuild(x), parameter))


def _by_factors(row: UnaryRow, coefficient: float, term: Term) -> Sum:
    """A multiplicative function of a product, or the logarithm of it."""
    parts = [(_of_factor(row, base), n) for base, n, _ in term if n]
    below = [(base, 0, k) for base, _, k in term if k]
    if row.reads == "sign":
        below = [(b, 0, k) for b, _, k in below if k % 2 and not is_nonnegative(b)]
    if below:
        parts.append((_atom(Unary(row.name, _rebuild(_product(1.0, below)))), 1))
    total = _number(row.on_float(coefficient))
    for part, n in parts:
        many = _number(float(n))
        if row.algebra == "logarithmic":
            total = _plus(total, _times(part, many))
        else:
            total = _times(total, _power(part, many))
    return total


def _of_factor(row: UnaryRow, base: Expr, parameter: float | None = None) -> Sum:
    if isinstance(base, Unary) and row.of and (rewrite := row.of.get(base.function)):
        return _sum_of(rewrite(base, parameter))
    return _atom(Unary(row.name, base, parameter))


@lru_cache(maxsize=1 << 14)
def is_nonnegative(expr: Expr) -> bool:
    """Whether a normal form is never below 0, as far as a glance tells."""
    match expr:
        case Operand(name):
            return operand_row(name).nonnegative
        case Number(value):
            return value >= 0
        case Unary(function, x):
            known = UNARY[function].nonnegative
            return is_nonnegative(x) if known == "where x is" else known
        case Binary("+" | "*" | "/", x, y):
            return is_nonnegative(x) and is_nonnegative(y)
        case Binary("**", _, Number(power)):
            return power % 2 == 0
        case _:
            return False


def _rebuild(x: Sum) -> Expr:
    """The tree of a sum: terms in order, the first positive one in front."""
    terms = sorted(x, key=_term_key)
    front = next((term for term in terms if x[term] > 0), None)
    if front is None:
        if not terms:
            return Number(0.0)
        return _negated(_rebuild({term: -c for term, c in x.items()}))
    total = _rebuild_term(x[front], front)
    for term in terms:
        if term is not front:
            sign = "+" if x[term] > 0 else "-"
            total = Binary(sign, total, _rebuild_term(abs(x[term]), term))
    return total


def _negated(expr: Expr) -> Expr:
    return Number(-expr.value) if isinstance(expr, Number) else Unary("neg", expr)


def _rebuild_term(coefficient: float, term: Term) -> Expr:
    value = Number(float(f"{coefficient:.12g}"))
    above, below = _with_named_optimizers(term)
    factors = sorted((_rebuild_power(base, n) for base, n in above.items()), key=_key)
    if value.value != 1 or not factors:
        factors.insert(0, value)
    total = factors[0]
    for factor in factors[1:]:
        total = Binary("*", total, factor)
    for base in sorted(below, key=_key):
        for _ in range(below[base]):
            total = Binary("/", total, base)
    return total


def _with_named_optimizers(term: Term) -> tuple[dict[Expr, int], dict[Expr, int]]:
    """Numerator and denominator, with m / sqrt(v) and g / sqrt(v) called by their names."""
    above = {base: n for base, n, _ in term if n}
    below = {base: k for base, _, k in term if k}
    for name in ("adam", "rmsprop"):
        definition = operand_row(name).definition
        assert isinstance(definition, Binary)
        top, bottom = definition.x, definition.y
        if times := min(above.get(top, 0), below.get(bottom, 0)):
            above[Operand(name)] = times
            above[top] -= times
            below[bottom] -= times
    return {b: n for b, n in above.items() if n}, {b: k for b, k in below.items() if k}


def _rebuild_power(base: Expr, n: int) -> Expr:
    if base == Operand("g") and n in (2, 3):
        return Operand(f"g{n}")
    shown = _with_plain_base(base)
    return shown if n == 1 else Binary("**", shown, Number(float(n)))


def _with_plain_base(base: Expr) -> Expr:
    """exp(0.693 * x) as 2**x."""
    if not isinstance(base, Unary) or base.function != "exp":
        return base
    exponent = _sum_of(base.x)
    if len(exponent) != 1:
        return base
    ((term, c),) = exponent.items()
    number = round(math.exp(abs(c))) if abs(c) < math.log(LARGEST_BASE) else 0
    if number < 2 or abs(math.log(number) - abs(c)) > 1e-11:
        return base
    return Binary("**", Number(float(number)), _rebuild({term: math.copysign(1.0, c)}))


@lru_cache(maxsize=1 << 14)
def _key(expr: Expr) -> str:
    return print_expr(expr)


def _term_key(term: Term) -> str:
    """Numbers first, then by text."""
    return " ".join(f"{_key(base)} {n} {k}" for base, n, k in term)


def _ordered(x: Expr, y: Expr) -> tuple[Expr, Expr]:
    return (x, y) if _key(x) <= _key(y) else (y, x)
