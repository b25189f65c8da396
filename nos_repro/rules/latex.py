r"""A tree as LaTeX, as the papers write it: `e^{\mathrm{sign}(g) * \mathrm{sign}(\hat{m})} * g`."""

from nos_repro.rules.primitives import NEGATION, binary_row, operand_row, unary_row
from nos_repro.rules.printing import precedence, print_number
from nos_repro.rules.tree import Binary, Expr, Number, Operand, Unary

NO_NUMBERS = "prints (experiments.digest)"


def print_latex(expr: Expr) -> str:
    """LaTeX without the surrounding dollars."""
    match expr:
        case Operand(name):
            return operand_row(name).latex
        case Number(value):
            return latex_number(value)
        case Unary(function, x, parameter):
            constant = "" if parameter is None else latex_number(parameter)
            return unary_row(function).latex.format(
                x=print_latex(x), X=_bracketed(x, NEGATION), p=constant
            )
        case Binary(function, x, y):
            row = binary_row(function)
            left, right = (0, 0) if row.infix is None else (row.infix.left, row.infix.right)
            return row.latex.format(
                x=print_latex(x),
                y=print_latex(y),
                X=_bracketed(x, left),
                Y=_bracketed(y, right),
                base=_base(x),
            )


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
    """The base of a power: a base with an exponent of its own needs brackets too."""
    text = print_latex(expr)
    plain = isinstance(expr, Operand | Number) and "^" not in text and not text.startswith("-")
    return text if plain else rf"\left({text}\right)"
