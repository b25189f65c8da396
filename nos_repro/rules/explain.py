"""Everything about one rule, for `python -m nos_repro rule "TEXT or name"`."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from nos_repro.rules.catalog import CATALOG, Printed, printed_at
from nos_repro.rules.families import family_of
from nos_repro.rules.known import KNOWN, KNOWN_2
from nos_repro.rules.naming import equalities
from nos_repro.rules.primitives import OPERANDS
from nos_repro.rules.printing import print_expr, print_number
from nos_repro.rules.rule import Rule
from nos_repro.rules.simplest import simplest_text
from nos_repro.rules.tree import Expr, Number, Operand, Unary, children

NO_NUMBERS = "prints (experiments.digest)"

BYTES_PER_AVERAGE = 4  # float32
ADAM_AVERAGES = 2


def explain(rule: Rule, results: Callable[[Rule], Iterable[str]] = lambda rule: ()) -> str:
    """A summary to read: text, tree, tokens, normal form, state, other names, place in the papers.

    results: gives the papers' numbers for a rule, one line per row of a table.
    """
    heading, entries = printed_entries(rule)
    places = [f"{entry.place} ({entry.name})" for entry in entries]
    printed = dict.fromkeys(entry.rule.normal() for entry in entries)
    numbers = [line for each in printed for line in results(each)]
    normal = str(rule.normal())
    simple = simplest_text(normal)
    rows = [
        ("rule", str(rule)),
        ("LaTeX", rule.latex()),
        ("tree", "\n".join(draw_rule(rule))),
        ("tokens", _tokens(rule)),
        ("normal form", normal),
        *([("simplest form", simple)] if simple != normal else []),
        ("fingerprint", rule.fingerprint()),
        ("reads", "; ".join(f"{row.name}: {row.meaning}" for row in rule.operands) or "nothing"),
        ("keeps", _state(rule)),
        (
            "total_steps",
            "needed, since it reads a decay" if rule.needs_total_steps else "not needed",
        ),
        ("random", "yes" if rule.random else "no"),
        ("family", _family(rule)),
        ("equals", _equals(rule)),
        ("in the papers", "\n".join([*heading, *places])),
    ]
    if numbers:
        rows.append(("their numbers", "\n".join(numbers)))
    width = max(len(title) for title, _ in rows) + 2
    indent = "\n" + " " * width
    return "\n".join(f"{title:<{width}}{text.replace(chr(10), indent)}" for title, text in rows)


def draw_rule(rule: Rule) -> Iterator[str]:
    """The trees of the states and of the update, one node per line."""
    for name, tree in rule.states:
        yield f"{name} <-"
        yield from (f"   {line}" for line in draw(tree))
    yield from draw(rule.expr)


def draw(expr: Expr) -> Iterator[str]:
    """The tree, one node per line."""
    match expr:
        case Operand():
            yield print_expr(expr)
        case Number(value):
            yield print_number(value)
        case Unary(function, _, parameter):
            yield function if parameter is None else f"{function} {print_number(parameter)}"
        case _:
            yield expr.function
    arguments = children(expr)
    for at, argument in enumerate(arguments, 1):
        last = at == len(arguments)
        first, *rest = draw(argument)
        yield ("└─ " if last else "├─ ") + first
        yield from (("   " if last else "│  ") + line for line in rest)


def _tokens(rule: Rule) -> str:
    tokens = rule.tokens()
    if tokens is not None:
        return _by_iteration(tokens)
    tokens = rule.normal().tokens()
    if tokens is not None:
        return "none for this form; those of its normal form:\n" + _by_iteration(tokens)
    if rule.states:
        return "none: a string of tokens names no states"
    return "none: it needs more than 4 iterations, or words that are not in the vocabulary"


def _by_iteration(tokens: list[str]) -> str:
    return "\n".join(" ".join(tokens[at : at + 5]) for at in range(0, len(tokens), 5))


def _state(rule: Rule) -> str:
    names = [name for name in OPERANDS if name in rule.averages]
    kept = _counted("average", names)
    if rule.kept_states:
        states = _counted("state", rule.kept_states)
        kept = f"{kept} and {states}" if names else states
    size = BYTES_PER_AVERAGE * (len(names) + len(rule.kept_states))
    adam = BYTES_PER_AVERAGE * ADAM_AVERAGES
    return f"{kept}: {size} bytes per parameter in float32, Adam {adam}"


def _counted(what: str, names: Sequence[str]) -> str:
    """`2 averages (m, v)`."""
    listed = f" ({', '.join(names)})" if names else ""
    return f"{len(names)} {what}{'s' * (len(names) != 1)}{listed}"


def _family(rule: Rule) -> str:
    found = family_of(rule)
    if found is None:
        return "none"
    family, decay = found
    name = family.name if decay is None else f"{family.name}-{decay}"
    values = [f"f = {decay or 1}", *(f"{c.name} = {c.text(c.default)}" for c in family.constants)]
    return f"{name}: {family.formula} with {', '.join(values)}"


def _equals(rule: Rule) -> str:
    """The known optimizers that it equals up to a constant factor, one per line."""
    known = KNOWN if rule.language == 1 else KNOWN_2
    return "\n".join(map(str, equalities(rule))) or f"none of {len(known)} known optimizers"


def printed_entries(rule: Rule) -> tuple[list[str], list[Printed]]:
    """Where the papers print it; failing that, the printed rules that do the same in the probe."""
    if entries := printed_at(rule):
        return [], entries
    fingerprint = rule.fingerprint()
    entries = [entry for entry in CATALOG.values() if entry.rule.fingerprint() == fingerprint]
    return ["not printed" + (", but these do the same:" if entries else "")], entries
