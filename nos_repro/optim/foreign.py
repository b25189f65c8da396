"""What a row says of an optimizer from elsewhere, as its maker takes it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from nos_repro.errors import ConfigError

MARK = "mark"
"""The option whose values are put into every parameter group: `mark: {use_muon: true}`."""
MODELS = {"model", "module", "network", "net"}
# fmt: off
PLAIN: dict[Any, tuple[tuple[type, ...], str]] = {
    bool:  ((bool,),      "true or false"),
    int:   ((int,),       "a whole number"),
    float: ((int, float), "a number"),
    str:   ((str,),       "text"),
}
"""The types that a signature may ask for, what is given for them, and its name in an error."""
# fmt: on
VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def fitted_options(
    name: str, make: Callable[..., Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """The options with tuples where the maker's defaults are tuples: YAML and JSON have only lists.

    Raises ConfigError for a value that is not of the plain type which the signature asks for.
    """
    parameters = inspect.signature(make).parameters
    return {key: _fitted(name, parameters[key], value) for key, value in options.items()}


def _fitted(name: str, parameter: inspect.Parameter, value: Any) -> Any:
    if isinstance(parameter.default, tuple) and isinstance(value, list):
        return tuple(value)
    written = parameter.annotation
    asked = next((kind for kind in PLAIN if written in (kind, kind.__name__)), None)
    if asked is not None:
        kinds, expected = PLAIN[asked]
        if not isinstance(value, kinds) or (isinstance(value, bool) and asked is not bool):
            raise ConfigError(f"optimizer '{name}': {parameter.name} must be {expected},"
                              f" got {value!r}")  # fmt: skip
    return value


def marked(params: Any, mark: Any) -> Any:
    """The parameters, or groups of them, with the ``mark`` in every group. Raises ConfigError."""
    if not isinstance(mark, Mapping):
        raise ConfigError(f"mark: expected keys of a group, e.g. {{use_muon: true}}, got {mark!r}")
    if not mark:
        return params
    listed = list(params)
    grouped = bool(listed) and isinstance(listed[0], Mapping)
    groups = listed if grouped else [{"params": listed}]
    return [{**mark, **group} for group in groups]


def missing(make: Callable[..., Any], given: Mapping[str, Any], error: Exception) -> str:
    """What a maker that failed needs and is not given, in a sentence; "" if that is not known."""
    if "__contains__" in str(error):
        return "it looks for marks of its own in its groups: give them, e.g. mark: {use_muon: true}"
    try:
        first, *others = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):
        return ""
    needed = [
        p.name
        for p in others
        if p.default is p.empty and p.kind not in VARIABLE and p.name not in given
    ]
    asked = {first.name, *needed}
    if asked & MODELS:
        return "it needs the model itself, and is given its parameters alone"
    if asked & {"optimizer", "base_optimizer"}:
        return "it wraps another optimizer; a maker of your own can put the two together"
    if needed:
        return f"it needs the option{'s' * (len(needed) > 1)} {', '.join(needed)}"
    return ""
