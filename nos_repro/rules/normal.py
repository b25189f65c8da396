"""The algebraic normal form: for grouping and display, never run.

Two trees with one normal form are the same function of real numbers wherever both are defined;
rounding, overflow, NaN and the sign of a zero may differ. The delta of a division is never treated
as 0 (v is often smaller than it), so x * y / y stays. A division by a number is the exception.
Drops that draw independently stay apart (`draw_sites`).

The tree becomes a sum of terms, each a coefficient times factors; sums and products lose their
order and nesting. What algebra knows about one function is in its row of `primitives`; if the row
says nothing, only the argument is brought into normal form. The laws that connect functions (exp
with log and powers, sqrt and sign with powers) are here. Sums are not multiplied out: only the
fingerprint shows that (1 + x) * g and g + x * g are equal.
"""

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import TypeAlias

from nos_repro.rules.draw_sites import drops_apart, is_drop
from nos_repro.rules.facts import is_nonnegative, short_powers, short_quotients
from nos_repro.rules.primitives import DELTA, UNARY, binary_row, operand_row, unary_row
from nos_repro.rules.printing import print_expr
from nos_repro.rules.rows import UnaryRow
from nos_repro.rules.tree import Binary, Expr, Number, Operand, Unary

NO_NUMBERS = "for grouping and display (experiments.digest)"

# (base, n, k) is the factor base**n / (base + delta)**k.
Factor: TypeAlias = tuple[Expr, int, int]
Term: TypeAlias = tuple[Factor, ...]
Sum: TypeAlias = dict[Term, float]  # never changed once made

SMALLEST_PLAIN_DIVISOR = 0.01  # delta changes the quotient by less than 1e-6 above it
LARGEST = 1e300  # of a coefficient; the smallest is its inverse
LARGEST_POWER = 64
LARGEST_BASE = 1000
PASSES = 10


class _OutOfRangeError(Exception):
    """A number or a power is too large or too small: the operation stays as written."""


def normal_form(expr: Expr) -> Expr:
    """The normal form of a tree: equal for trees that algebra says are equal; idempotent.

    Numbers are rounded to 12 digits, which can make another step possible (a factor may become 1),
    so the passes go on until nothing changes.
    """
    for _ in range(PASSES):
        before, expr = expr, _simplified(drops_apart(expr, _simplified))
        if expr == before:
            break
    return expr


def _simplified(expr: Expr) -> Expr:
    return _rebuild(_sum_of(expr))


@lru_cache(maxsize=1 << 14)
def _sum_of(expr: Expr) -> Sum:
    match expr:
        case Operand(name):
            definition = operand_row(name).definition
            return _atom(expr) if definition is None else _sum_of(definition)
        case Number(value):
            try:
                return _number(value)
            except _OutOfRangeError:
                return _scaled(_atom(Number(abs(value))), math.copysign(1.0, value))
        case Unary() if is_drop(expr):
            return _atom(expr)
        case Unary(function, argument, parameter):
            x = _sum_of(argument)
            try:
                return _unary(function, x, parameter)
            except _OutOfRangeError:
                return _atom(Unary(function, _rebuild(x), parameter))
        case Binary(function, left, right):
            x, y = _sum_of(left), _sum_of(right)
            try:
                return _binary(function, x, y)
            except _OutOfRangeError:
                return _atom(_ordered(Binary(function, _rebuild(x), _rebuild(y))))


def _binary(function: str, x: Sum, y: Sum) -> Sum:
    match binary_row(function).algebra:
        case "sum":
            return _plus(x, y)
        case "difference":
            return _plus(x, _scaled(y, -1.0))
        case "product":
            return _times(x, y)
        case "quotient":
            return _times(x, _reciprocal(y))
        case "power":
            return _power(x, y)
        case "opaque":
            return _atom(Binary(function, _rebuild(x), _rebuild(y)))


def _in_range(value: float) -> float:
    if not 1 / LARGEST < abs(value) < LARGEST:  # NaN is out of range too
        raise _OutOfRangeError
    return value


def _number(value: float) -> Sum:
    return {(): _in_range(value)} if value else {}


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
        if abs(after) > 1e-12 * max(abs(before), abs(coefficient)):
            total[term] = _in_range(after)
    return total


def _scaled(x: Sum, by: float) -> Sum:
    return {term: _in_range(by * c) for term, c in x.items()} if by else {}


def _times(x: Sum, y: Sum) -> Sum:
    for one, other in ((x, y), (y, x)):  # a number multiplies a sum term by term
        if (c := _constant(one)) is not None:
            return _scaled(other, c)
    (a, left), (b, right) = _single(x), _single(y)
    return _product(a * b, [*left, *right])


def _single(x: Sum) -> tuple[float, Term]:
    """A sum as one term: itself, or its leading coefficient times one factor that starts with 1."""
    if len(x) == 1:
        ((term, coefficient),) = x.items()
        return coefficient, term
    lead = x[min(x, key=_term_key)]
    return lead, ((_rebuild({term: _in_range(c / lead) for term, c in x.items()}), 1, 0),)


def _product(coefficient: float, factors: Iterable[Factor]) -> Sum:
    """The product: equal bases and exponentials merged, powers of sqrt and sign reduced."""
    exponent: Sum = {}
    powers: dict[Expr, tuple[int, int]] = {}
    others: list[Sum] = []

    def add(base: Expr, n: int, k: int = 0) -> None:
        above, below = powers.get(base, (0, 0))
        powers[base] = (above + n, below + k)

    for base, n, k in factors:
        if isinstance(base, Unary) and base.function == "exp" and n:
            exponent = _plus(exponent, _scaled(_sum_of(base.x), n))
            n = 0
        add(base, n, k)
    for term, c in exponent.items():
        if outside := _exp_of_term(term, c):
            exponent = {rest: c for rest, c in exponent.items() if rest != term}
            others.append(outside)
    if exponent:
        add(Unary("exp", _rebuild(exponent)), 1)
    for base, (n, k) in powers.items():
        match base:
            case Unary("sqrt", x):
                # sqrt|x|**2 is |x|, which is x only where x is not negative; **4 always is x**2.
                whole = 2 if is_nonnegative(x) else 4
                others.append(_integer_power(_sum_of(x), n // whole * whole // 2))
                powers[base] = (n % whole, k)
            case Unary("sign") if n > 2:
                powers[base] = (2 - n % 2, k)
    if any(max(nk) > LARGEST_POWER for nk in powers.values()):
        raise _OutOfRangeError
    total = _of_powers(powers)
    for other in others:
        total = _times(total, other)
    return _scaled(total, coefficient)


def _of_powers(powers: dict[Expr, tuple[int, int]]) -> Sum:
    factors = [(base, n, k) for base, (n, k) in powers.items() if n or k]
    if len(factors) == 1 and factors[0][1:] == (1, 0) and _is_sum(factors[0][0]):
        return _sum_of(factors[0][0])
    return {tuple(sorted(factors, key=lambda factor: _key(factor[0]))): 1.0}


def _exp_of_term(term: Term, c: float) -> Sum | None:
    """exp(c * term) if it is a number or a power, which leaves the exponent; else None."""
    match term:
        case ():
            value = UNARY["exp"].on_float(c)
            return {(): value} if 1 / LARGEST < value < LARGEST else None
        case ((Unary("log", x), 1, 0),) if c == 0.5:
            return _unary("sqrt", _sum_of(x))
        case ((Unary("log", x), 1, 0),) if _is_power(c) and (is_nonnegative(x) or c % 2 == 0):
            return _integer_power(_sum_of(x), int(c))
        case _:
            return None


def _integer_power(x: Sum, n: int) -> Sum:
    if not x or not n:
        return _number(0.0**n)
    c, term = _single(x)
    try:
        return _product(c**n, [(base, i * n, k * n) for base, i, k in term])
    except OverflowError:
        raise _OutOfRangeError from None


def _is_power(c: float) -> bool:
    return c == int(c) and 1 <= c <= LARGEST_POWER


def _is_sum(base: Expr) -> bool:
    return isinstance(base, Binary) and binary_row(base.function).algebra in ("sum", "difference")


def _reciprocal(y: Sum) -> Sum:
    c = _constant(y)
    if c is None:
        return {((_rebuild(y), 0, 1),): 1.0}
    divisor = c if abs(c) >= SMALLEST_PLAIN_DIVISOR else c + DELTA
    return _number(1 / divisor if divisor else math.inf)


def _power(x: Sum, y: Sum) -> Sum:
    base, exponent = _constant(x), _constant(y)
    plain = _atom(Binary("**", _rebuild(x), _rebuild(y)))
    if exponent == 0 or base == 1:
        return _number(1.0)
    if base is not None:
        return _unary("exp", _scaled(y, math.log(base))) if base > 0 else plain
    if exponent is not None and _is_power(exponent):
        return _integer_power(x, int(exponent))
    if exponent == 0.5 and is_nonnegative(_rebuild(x)):
        return _unary("sqrt", x)
    match _single(x):
        case (1.0, ((Unary("exp", a), 1, 0),)):
            return _unary("exp", _times(_sum_of(a), y))
        case _:
            return plain


def _unary(function: str, x: Sum, parameter: float | None = None) -> Sum:
    row = unary_row(function)
    if function == "neg":
        return _scaled(x, -1.0)
    c = _constant(x)
    if c is not None and row.pointwise:
        return _number(row.on_float(c, parameter))
    match row.algebra:
        case "opaque":
            return _atom(Unary(function, _rebuild(x), parameter))
        case "exponential":
            return _product(1.0, [(Unary(function, _rebuild(x)), 1, 0)])
        case "even" | "odd":
            return _with_parity(row, x, parameter)
        case "multiplicative" | "logarithmic":
            return _by_factors(row, *_single(x), parameter)


def _with_parity(row: UnaryRow, x: Sum, parameter: float | None) -> Sum:
    """f(-x) = f(x) or -f(x); then f(c * s) = f(c) * s for a product of signs s, if f is odd."""
    c, term = _single(x)
    odd = row.algebra == "odd"
    if odd and all(isinstance(b, Unary) and b.function == "sign" and not k for b, _, k in term):
        return _scaled({term: 1.0}, row.on_float(c, parameter))
    if c < 0:
        turned = _unary(row.name, _scaled(x, -1.0), parameter)
        return _scaled(turned, -1.0) if odd else turned
    match term:
        case ((base, 1, 0),) if c == 1:
            return _of_factor(row, base, parameter)
        case _:
            return _atom(Unary(row.name, _rebuild(x), parameter))


def _by_factors(row: UnaryRow, coefficient: float, term: Term, parameter: float | None) -> Sum:
    """A multiplicative function of a product, or the product's logarithm."""
    parts = [(_of_factor(row, base, parameter), n) for base, n, _ in term if n]
    below = [(base, 0, k) for base, _, k in term if k]
    if row.reads == "sign":
        below = [(b, 0, k) for b, _, k in below if k % 2 and not is_nonnegative(b)]
    if below:
        parts.append((_atom(Unary(row.name, _rebuild(_product(1.0, below)), parameter)), 1))
    total = _number(row.on_float(coefficient, parameter))
    for part, n in parts:
        if row.algebra == "logarithmic":
            total = _plus(total, _scaled(part, n))
        else:
            total = _times(total, _integer_power(part, n))
    return total


def _of_factor(row: UnaryRow, base: Expr, parameter: float | None) -> Sum:
    if isinstance(base, Unary) and row.of and (rewrite := row.of.get(base.function)):
        return _sum_of(rewrite(base, parameter))
    return _atom(Unary(row.name, _rebuild(_atom(base)), parameter))


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
    above, below = _with_named_quotients(term)
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


def _with_named_quotients(term: Term) -> tuple[dict[Expr, int], dict[Expr, int]]:
    """Numerator and denominator, with the names adam and rmsprop for m and g over sqrt(v)."""
    above = {base: n for base, n, _ in term if n}
    below = {base: k for base, _, k in term if k}
    for (top, bottom), name in short_quotients().items():
        if times := min(above.get(top, 0), below.get(bottom, 0)):
            above[name] = times
            above[top] -= times
            below[bottom] -= times
    return {b: n for b, n in above.items() if n}, {b: k for b, k in below.items() if k}


def _rebuild_power(base: Expr, n: int) -> Expr:
    if name := short_powers().get((base, n)):
        return name
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


def _ordered(expr: Binary) -> Binary:
    """With the arguments of a sum or a product sorted by their text."""
    x, y = expr.x, expr.y
    symmetric = binary_row(expr.function).algebra in ("sum", "product")
    return Binary(expr.function, y, x) if symmetric and _key(y) < _key(x) else expr
