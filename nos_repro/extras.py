"""What is imported if it is there: the optional packages, and modules of a user's own.

The optimizers need torch alone, everything else comes by extras.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from nos_repro.errors import ConfigError, NosError, in_a_line, no_exit

if TYPE_CHECKING:
    from types import ModuleType

# fmt: off
EXTRA_OF = {
    # module:             extra of pyproject.toml that brings it
    "PIL":                "suite",
    "jaxtyping":          "suite",
    "lightning_fabric":   "suite",
    "lightning_utilities":"suite",
    "numpy":              "suite",
    "omegaconf":          "suite",
    "orjson":             "suite",
    "pytorch_lightning":  "suite",
    "rich":               "suite",
    "torchvision":        "suite",
    "yaml":               "suite",
    "jinja2":             "report",
    "markupsafe":         "report",
    "matplotlib":         "report",
    "num2words":          "text",
    "sacrebleu":          "text",
    "sentencepiece":      "text",
    "torchtext":          "text",
    "submitit":           "slurm",
    "pydantic":           "wandb",
    "wandb":              "wandb",
    "wandb_workspaces":   "wandb",
    "simplejpeg":         "imagenet",
    "optuna":             "optuna",
    "pytorch_optimizer":  "optimizers",
    "schedulefree":       "optimizers",
}
# fmt: on


def installed_versions(packages: tuple[str, ...]) -> dict[str, str]:
    """The versions of those packages that are installed."""
    import importlib.metadata  # a tenth of what a verb that reads takes in all

    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def advice(error: ModuleNotFoundError) -> str | None:
    """One line that says which extra to install; None if no extra brings the missing module."""
    module = (error.name or "").partition(".")[0]
    if module not in EXTRA_OF:
        return None
    return (
        f"this needs the package {module}: install nos-repro with its extra '{EXTRA_OF[module]}'"
        f' (in a checkout: pip install ".[{EXTRA_OF[module]}]")'
    )


def import_own(name: str) -> ModuleType | None:
    """The module of that name; None if there is none. Raises ConfigError for what goes wrong inside
    it; that a package of an extra is missing is passed on unchanged."""
    import importlib.util

    try:
        with no_exit():
            there = name in sys.modules or importlib.util.find_spec(name) is not None
            return importlib.import_module(name) if there else None
    except (NosError, KeyboardInterrupt):
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            return None
        if advice(error) is not None:
            raise
        problem = in_a_line(error)
    except BaseException as error:  # noqa: BLE001 whatever the module does
        problem = in_a_line(error)
    raise ConfigError(f"the module {name} cannot be imported: {problem}")
