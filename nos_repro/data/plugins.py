"""Third parties' modules, named in a YAML file: `task: my_package.my_task`."""

from __future__ import annotations

import importlib
import importlib.util

from nos_repro.errors import ConfigError


def import_plugin(key: str, name: str) -> None:
    """Imports the module `name`, so that it registers what it brings.

    Raises ConfigError naming the setting `key` where there is no such module; an error inside the
    module is the module's, and comes through as it is.
    """
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ConfigError(
            f"{key}: no Python module '{name}'\n"
            "  a name with dots is a module of your own: is it installed, or on PYTHONPATH?"
        )
    importlib.import_module(name)
