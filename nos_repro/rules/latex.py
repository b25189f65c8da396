r"""A tree as LaTeX, as the papers write it: `e^{\mathrm{sign}(g) * \mathrm{sign}(\hat{m})} * g`."""

from nos_repro.rules.primitives import BINARY, UNARY, find_operand
from nos_repro.rules.printing import ARGUMENTS, NEGATION, precedence, print_number
from nos_repro.rules.tree import Binary, Expr, Number, Operand, Unary


def print_latex(expr: Expr) -> str:
    """LaTeX without the surrounding dollars."""
    match expr:
        case Operand(name):
            row = find_operand(name)
            assert row is not None, name
            return row.latex
        case Number(value):
            return latex_number(value)
        case Unary("neg", x):
            return UNARY["neg"].latex.format(x=_bracketed(x, NEGATION))
        case Unary(function, x, parameter):
            constant = "" if parameter is None else latex_number(parameter)
            return UNARY[function].latex.format(x=print_latex(x), p=constant)
        case Binary("/", x, y):
            return BINARY["/"].latex.format(x=print_latex(x), y=print_latex(y))
        case Binary("**", x, y):
            return BINARY["**"].latex.format(x=_base(x), y=print_latex(y))
        case Binary(function, x, y):
            left, right = ARGUMENTS[function]
            return BINARY[function].latex.format(x=_bracketed(x, left), y=_bracketed(y, right))


def latex_number(value: float) -> str:
    """Powers of ten as powers: 10^{-4}, 3 \\cdot 10^{-4}."""
    mantissa, e, power = print_number(value).partition("e")
    if not e:
        return mantissa
    factor = {"1": "", "-1": "-"}.get(mantissa, rf"{mantissa} \cdot ")
    return f"{factor}10^{{{int(power)}}}"


def _bracketed(expr: Expr, least: int) -> str:
    text = print_latex(expr)
    return text if precedence(expr) >= least else rf"\left({text}\right)"


def _base(expr: Expr) -> str:
    """The base of a power: what already carries an exponent needs brackets too."""
    text = print_latex(expr)
    plain = isinstance(expr, Operand | Number) and "^" not in text and not text.startswith("-")
    return text if plain else rf"\left({text}\right)"
