"""`${training.epochs}` in a study file: the value of another key, after all layers are merged.

Nothing else can be asked for, so that a study file that somebody sends cannot print a password: of
the environment only variables called NOS_REPRO_..., as `${oc.env:NOS_REPRO_GROUP}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from nos_repro.errors import ConfigError

ENVIRONMENT = re.compile(r"NOS_REPRO_\w+")


def resolve(values: dict[str, Any]) -> dict[str, Any]:
    """``values`` with the references in them replaced. Raises ConfigError."""
    written = {path: text for path, text in _texts(values) if "${" in text}
    if not written:
        return values
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        for path, text in written.items():
            _check(path, text)
        config = OmegaConf.create(values, flags={"allow_objects": True})  # a subclass of str
        resolved: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or next(iter(written))
        raise ConfigError(f"{key}: {str(error.msg or error).splitlines()[0]}") from None
    except RecursionError:
        keys = ", ".join(written)
        raise ConfigError(f"{keys}: the references go in a circle") from None
    return resolved


def _texts(values: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """All texts with the paths of their keys."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _texts(value, f"{where}.{key}" if where else key)
    elif isinstance(values, list):
        for value in values:
            yield from _texts(value, where)
    elif isinstance(values, str):
        yield where, values


def _check(path: str, text: str) -> None:
    """Raises ConfigError for what is not a reference to a key or to a variable of ours."""
    from omegaconf import grammar_parser
    from omegaconf.errors import OmegaConfBaseException
    from omegaconf.grammar.gen.OmegaConfGrammarParser import OmegaConfGrammarParser

    resolver: Any = OmegaConfGrammarParser.InterpolationResolverContext
    try:
        left: list[Any] = [grammar_parser.parse(text)]
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {error}") from None
    while left:
        part = left.pop()
        left += getattr(part, "children", None) or []
        if isinstance(part, resolver):
            name, arguments = part.resolverName().getText(), part.sequence()
            asked = "" if arguments is None else arguments.getText().split(",")[0].strip()
            if name != "oc.env" or not ENVIRONMENT.fullmatch(asked):
                raise ConfigError(
                    f"{path}: {part.getText()}: a file may refer to its own keys, such as"
                    " ${training.epochs},\n  and to variables called NOS_REPRO_..., such as"
                    " ${oc.env:NOS_REPRO_GROUP}"
                )
