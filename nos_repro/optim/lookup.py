"""What an optimizer's name means: a registered one, a family, the catalogue, a rule's text.

Nothing here imports torch: the maker itself is imported when it is asked for.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from nos_repro.errors import ConfigError, NosError, RuleError, unknown
from nos_repro.extras import EXTRA_OF
from nos_repro.optim.foreign import MARK
from nos_repro.optim.grouping import ELSEWHERE, groups_of, parts_of
from nos_repro.optim.registry import (
    OPTIMIZERS,
    SCHEDULES,
    OptimizerBuilder,
    keywords,
    written_keywords,
)
from nos_repro.registry import is_path
from nos_repro.rules import families, primitives
from nos_repro.rules.families import DECAYS, Family, family_names, find_family, is_decay
from nos_repro.rules.primitives import operand_row
from nos_repro.rules.rule import Rule
from nos_repro.rules.states import nodes, spelled_out
from nos_repro.rules.tree import Binary, Expr, Operand, Unary, walk

if TYPE_CHECKING:
    from nos_repro.rules.catalog import Printed

NO_NUMBERS = "the digest follows what a name means, not this module (experiments.digest)"

RULE_OPTIMIZER = "nos_repro.optim.rule_optimizer:RuleOptimizer"
SPLIT = "nos_repro.optim.split:split"
OF_FAMILY = "nos_repro.optim.families:of_family"
FAMILY_CLASSES = {
    "powersign": "nos_repro.optim.families:PowerSign",
    "addsign": "nos_repro.optim.families:AddSign",
}

PACKAGES = frozenset(
    {"torch", *(name for name, extra in EXTRA_OF.items() if extra == "optimizers")}
)
"""Those whose classes are known by their paths alone, so that a verb that only reads records of
them imports nothing. A digest depends on no path (`experiments.digest`), but for torch's, whose
version is in each record."""

_WORD = re.compile(r"[A-Za-z]\w*(-[\w.]+)*")


@dataclass(frozen=True)
class FoundOptimizer:
    """An optimizer by its name, and the options that the name already fixes.

    ``origin``: where the maker is defined. ``registered``: its name in the registry, if it has one.
    ``family``, ``rule``: whose update it makes, if any.
    """

    origin: str
    fixed: dict[str, Any] = field(default_factory=dict)
    registered: str = ""
    family: Family | None = None
    rule: Rule | None = None

    @cached_property
    def make(self) -> OptimizerBuilder:
        """The maker; imports it, and with it torch."""
        if self.registered:
            return OPTIMIZERS.find(self.registered)
        module, _, name = self.origin.partition(":")
        made: OptimizerBuilder = getattr(importlib.import_module(module), name)
        return made if self.origin != OF_FAMILY else partial(made, self.family)

    @property
    def ships(self) -> bool:
        """Whether the maker is one of ours."""
        return self.origin.startswith("nos_repro.")

    @property
    def by_path(self) -> bool:
        """Whether nothing but its path is known until it is made."""
        return self.origin.partition(".")[0].partition(":")[0] in PACKAGES

    @cached_property
    def accepted(self) -> frozenset[str]:
        """The names of the maker's arguments, except the parameters to optimize."""
        if self.origin == SPLIT:
            return frozenset(written_keywords(SPLIT) | {"total_steps", "seed"})
        if self.origin == OF_FAMILY:
            assert self.family is not None
            constants = {constant.name for constant in self.family.constants}
            return written_keywords(RULE_OPTIMIZER) - {"rule"} | constants | {"decay"}
        if self.ships:
            return written_keywords(self.origin) - {"rule"}
        return frozenset(keywords(self.make))

    @property
    def options(self) -> frozenset[str]:
        """What a row may give it, besides `groups`."""
        own = self.accepted if self.ships else self.accepted | {MARK}
        return own - {"lr", *self.fixed}

    def rule_with(self, options: Mapping[str, Any]) -> Rule | None:
        """The rule that it follows with these options; None if it follows none."""
        if self.family is None:
            return self.rule
        names = [constant.name for constant in self.family.constants]
        constants = {name: options[name] for name in names if name in options}
        return self.family.rule(self.fixed.get("decay", options.get("decay")), **constants)

    def keeps(self, options: Mapping[str, Any]) -> int | None:
        """How many values per parameter an optimizer with these options keeps; None if that takes a
        step to find out."""
        rule = self.rule_with(options)
        if rule is not None:
            return len(rule.averages) + len(rule.kept_states)
        if options or not self.registered or self.by_path:
            return None
        return OPTIMIZERS.entry(self.registered).facts.get("keeps")

    def code(self, options: Mapping[str, Any]) -> tuple[list[str], str]:
        """What a trial with these options executes, for its digest: the origins of definitions
        and table rows, and the rule's text."""
        if "groups" in options or self.origin == SPLIT:
            return self._code_of_parts(options)
        rule = self.rule_with(options)
        if rule is None:
            return [self.origin], ""
        rows = [] if self.family is None else [f"{families.__name__}:FAMILIES[{self.family.name}]"]
        written = nodes(rule.expr, rule.states)
        words = dict.fromkeys(_rows_of(*written, *nodes(*spelled_out(rule.expr, rule.states))))
        return [self.origin, *rows, *(f"{primitives.__name__}:{row}" for row in words)], str(rule)

    def _code_of_parts(self, options: Mapping[str, Any]) -> tuple[list[str], str]:
        if self.origin == SPLIT:
            parts = [(find_optimizer(p.name), p.options) for p in parts_of(options["split"])]
        else:
            parts = [(self, {k: v for k, v in options.items() if k != "groups"})]
        codes = [found.code(own) for found, own in parts]
        roots = dict.fromkeys([SPLIT, *(root for each, _ in codes for root in each)])
        return list(roots), "\n".join(rule for _, rule in codes)


def find_optimizer(name: str) -> FoundOptimizer:
    """What a name means. Raises ConfigError (a name) or RuleError (a text) if it means nothing."""
    if name == "split":
        return FoundOptimizer(SPLIT)
    if is_path(name) and name.partition(".")[0] in PACKAGES:
        OPTIMIZERS.name_path(name)
        module, _, thing = name.rpartition(".")
        return FoundOptimizer(f"{module}:{thing}", registered=name)
    if is_path(name) or name in OPTIMIZERS:
        return FoundOptimizer(OPTIMIZERS.entry(name).origin, registered=name)
    if found := find_family(name):
        family, decay = found
        fixed = {} if decay is None else {"decay": decay}
        if decay is not None and not is_decay(decay):
            if name in _catalogue():
                return _of_rule(_rule(name))
            raise ConfigError(f"optimizer '{name}': {unknown('decay', decay, DECAYS)}")
        return FoundOptimizer(FAMILY_CLASSES.get(family.name, OF_FAMILY), fixed, family=family)
    baseline, _, decay = name.rpartition("-")
    if baseline in OPTIMIZERS and is_decay(decay):
        raise ConfigError(
            f"optimizer '{name}': '{baseline}' takes no decay in its name; write a rule, as in"
            f" 'rule: adam * {decay}' ('rule: adam - {decay}' subtracts)"
        )
    return _of_rule(_rule(name))


def in_language(name: str, language: int) -> str:
    """A name as it is; the text of a rule that is written in this edition of the language, so that
    it says itself which edition that is. Raises RuleError or ConfigError if it is neither."""
    if language == 1 or name == "split" or is_path(name) or name in OPTIMIZERS or find_family(name):
        return name
    try:
        rule = Rule.parse(name.removeprefix("rule:").strip(), language)
    except RuleError:
        if name in _catalogue():
            return name
        if name.startswith("rule:") or not _WORD.fullmatch(name):
            raise
        find_optimizer(name)  # says which names there are
        raise
    return name if rule.language == 1 else f"rule: {rule}"


def know_optimizer(name: str, **options: Any) -> None:
    """Raises what `make_optimizer` would raise for the names, of the optimizer and of its options,
    without importing what ships or is known by its path, whose options are not looked at; values
    are only tried where something is made."""
    for where, part, own in alone(name, options):
        try:
            found = find_optimizer(part)
            if not found.by_path:
                check_options(part, own, found.options)
        except NosError as error:
            raise type(error)(f"{where}{error}") from None


def alone(name: str, options: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The optimizers behind a row's name and options: where each is written, its name and its own
    options. Raises ConfigError for a `split` or `groups` of the wrong form."""
    groups_of(options.get("groups"))
    own = {key: value for key, value in options.items() if key != "groups"}
    if name != "split":
        _check_mark("", own)
        yield "", name, own
        return
    check_options(name, own, {"split"})
    for part in parts_of(own.get("split")):
        where = f"split.{part.label}: "
        if part.name == "split":
            raise ConfigError(f"{where}{ELSEWHERE['split']}")
        _check_mark(where, part.options)
        yield where, part.name, part.options


def _check_mark(where: str, options: Mapping[str, Any]) -> None:
    """Raises ConfigError for a mark that would take the place of what a group gets from the row."""
    mark = options.get(MARK)
    for key in ("params", "lr", "weight_decay"):
        if isinstance(mark, Mapping) and key in mark:
            raise ConfigError(f"{where}mark: '{key}' follows from the row, and is no mark")


def know_schedule(name: str, **options: Any) -> None:
    """The same for a schedule."""
    origin = SCHEDULES.entry(name).origin
    ships = origin.startswith("nos_repro.")
    accepted = written_keywords(origin) if ships else keywords(SCHEDULES.find(name))
    check_options(name, options, accepted - {"total_steps", "seed"})


def check_options(name: str, options: Iterable[str], accepted: AbstractSet[str]) -> None:
    """Raises ConfigError for an option that is not accepted."""
    for option in options:
        if option not in accepted:
            choice = accepted - {"params", "total_steps", "seed"}
            hint = "\n  split: null leaves out the split of a base" * (option == "split")
            raise ConfigError(unknown(f"option of {name}:", option, choice) + hint)


def optimizer_names() -> list[str]:
    """The names that `find_optimizer` knows, besides rules' texts and suffixes cd{n}, rd{n}."""
    return list(dict.fromkeys([*OPTIMIZERS.names(), *family_names(), *_catalogue()]))


def _of_rule(rule: Rule) -> FoundOptimizer:
    return FoundOptimizer(RULE_OPTIMIZER, {"rule": rule}, rule=rule)


def _rule(name: str) -> Rule:
    """The rule for a text or a catalogue name; ConfigError for what can only be a name."""
    try:
        return Rule.parse(name.removeprefix("rule:").strip())
    except RuleError:
        if name.startswith("rule:") or not _WORD.fullmatch(name):
            raise
    if name in _catalogue():
        return _catalogue()[name].rule
    raise ConfigError(
        unknown("optimizer", name, optimizer_names())
        + "\n  or the text of a rule, such as: rule: g * exp(sign(g) * sign(m))"
    )


def _catalogue() -> Mapping[str, Printed]:
    from nos_repro.rules.catalog import CATALOG

    return CATALOG


def _rows_of(*every: Expr) -> Iterator[str]:
    """The rows of the primitives' tables that these nodes read, also through abbreviations."""
    for node in every:
        match node:
            case Operand(name):
                row = operand_row(name)
                for table in ("OPERANDS", "OPERANDS_2"):
                    if name in getattr(primitives, table):
                        yield f"{table}[{name}]"
                if row.definition is not None:
                    yield from _rows_of(*walk(row.definition))
            case Unary(function):
                yield f"{'UNARY' if function in primitives.UNARY else 'UNARY_2'}[{function}]"
            case Binary(function):
                yield f"{'BINARY' if function in primitives.BINARY else 'BINARY_2'}[{function}]"
