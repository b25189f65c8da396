"""One registry for every kind of thing that a settings file may name."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nos_repro.errors import ConfigError
from nos_repro.registry import Registry

Write = Callable[[str, str], None]

SAW = "from shop.tools import TOOLS, Tool\n@TOOLS.register('{0}')\nclass {1}(Tool): ...\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes modules that Python can import, and removes them afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)

    def module(name: str, source: str) -> None:
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)

    yield module
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def tools(write: Write) -> Any:
    """A registry of tools, one of which ships."""
    write(
        "shop.tools",
        "from nos_repro.registry import Registry\n"
        "class Tool: ...\n"
        "TOOLS = Registry('tool', 'shop.shelf',\n"
        "    recognise=lambda thing: isinstance(thing, type) and Tool in thing.__mro__[1:])\n",
    )
    write("shop.shelf.saw", SAW.format("saw", "Saw"))
    from shop.tools import TOOLS  # type: ignore[import-not-found]

    return TOOLS


def test_the_modules_of_its_package_are_found_by_themselves(tools: Any) -> None:
    assert tools.names() == ["saw"]
    assert tools.find("saw").__name__ == "Saw"
    assert tools.entry("saw").origin == "shop.shelf.saw:Saw"


def test_an_unknown_name_is_answered_with_the_nearest_and_the_choice(tools: Any) -> None:
    with pytest.raises(ConfigError, match=r"unknown tool 'sav'\n  did you mean 'saw'.*one of: saw"):
        tools.find("sav")


def test_an_error_shows_twenty_of_many_names_and_how_many_there_are() -> None:
    registry: Registry[Any] = Registry("tool", "json")
    for number in range(25):
        registry.register(f"tool{number:02}")(lambda: None)
    with pytest.raises(ConfigError, match=r"one of: tool00 .* tool19 \.\.\. \(25 in all\)$"):
        registry.find("axe")


def test_a_module_from_outside_is_named_by_its_path(tools: Any, write: Write) -> None:
    write("mine.axe", SAW.format("axe", "Axe"))
    assert tools.find("mine.axe") is tools.find("mine.axe.Axe") is tools.find("mine.axe.axe")
    assert tools.entry("mine.axe").origin == "mine.axe:Axe"


def test_a_module_s_only_definition_will_do_even_if_unregistered(tools: Any, write: Write) -> None:
    write("mine.axe", "from shop.tools import Tool\nclass Axe(Tool): ...\nSame = Axe\n")
    assert tools.entry("mine.axe").origin == "mine.axe:Axe"


def test_a_package_may_offer_what_one_of_its_modules_defines(tools: Any, write: Write) -> None:
    write("mine.__init__", "from mine.axe import Axe\n")
    write("mine.axe", SAW.format("axe", "Axe"))
    assert tools.entry("mine.Axe").origin == "mine.axe:Axe"


def test_one_of_several_definitions_in_a_module_must_be_named(tools: Any, write: Write) -> None:
    write("mine.two", SAW.format("axe", "Axe") + SAW.format("rasp", "Rasp"))
    with pytest.raises(ConfigError, match=r"^row\.tool: mine\.two must define one tool, not 2: say "
                                          r"which, as in mine\.two\.Axe"):  # fmt: skip
        tools.find("mine.two", "row.tool")
    assert tools.find("mine.two.Rasp").__name__ == "Rasp"
    assert "mine.two" not in tools
    assert "mine.two.Rasp" in tools


def test_a_module_that_is_missing_or_empty_is_an_error(tools: Any, write: Write) -> None:
    write("mine.nothing", "")
    with pytest.raises(ConfigError, match=r"mine\.nothing must define one tool, not 0"):
        tools.find("mine.nothing")
    with pytest.raises(ConfigError, match=r"(?s)tool: no Python module 'no\.such'.*PYTHONPATH"):
        tools.find("no.such")
    with pytest.raises(ConfigError, match=r"no tool 'axe' in mine\.nothing"):
        tools.find("mine.nothing.axe")


def test_an_error_inside_a_module_is_one_line_that_says_where(tools: Any, write: Write) -> None:
    write("mine.broken", "import a_module_that_is_missing")
    write("bad.__init__", "import a_module_that_is_missing")
    for name in ("mine.broken", "mine.broken.Axe", "bad.axe"):
        with pytest.raises(
            ConfigError,
            match=r"^the module [\w.]+ cannot be imported: ModuleNotFoundError: No module named"
            r" 'a_module_that_is_missing' \(\w+\.py, line \d+\)$",
        ):
            tools.find(name)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        # W&B's client, once imported, gives `exit` a default of 0
        ("import sys; sys.exit()", r"EndsProgram: it ends the program: sys\.exit\(0?\)"),
        ("raise SystemExit(3)", r"EndsProgram: it ends the program: sys\.exit\(3\)"),
        ("raise GeneratorExit", "GeneratorExit:"),
        ("class Ends(BaseException): pass\nraise Ends('so')", "Ends: so"),
    ],
)
def test_a_module_that_ends_the_program_is_an_error_not_the_end(
    text: str, problem: str, tools: Any, write: Write
) -> None:
    write("mine.script", text)
    with pytest.raises(ConfigError, match=rf"mine\.script cannot be imported: {problem}.*script"):
        tools.find("mine.script")


def test_a_name_that_ships_cannot_be_taken(tools: Any, write: Write) -> None:
    write("mine.saw", SAW.format("saw", "Saw"))
    with pytest.raises(
        ConfigError, match=r"tool 'saw' of mine\.saw is already registered by shop\.shelf\.saw"
    ):
        tools.find("mine.saw")


def test_a_name_that_ships_cannot_be_taken_before_what_ships_is_imported(tools: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"tool 'saw' of builtins is already registered by shop\.shelf\.saw"
    ):
        tools.register("saw")(list) and tools.names()


def test_two_packages_from_outside_may_use_the_same_name(tools: Any, write: Write) -> None:
    write("mine.axe", SAW.format("axe", "Axe"))
    write("theirs.axe", SAW.format("axe", "BattleAxe"))
    assert tools.find("mine.axe").__name__ == "Axe"
    assert tools.find("theirs.axe").__name__ == "BattleAxe"
    assert tools.find("mine.axe").__name__ == "Axe"


def test_facts_and_the_decorated_thing_make_the_value(write: Write) -> None:
    def build(name: str, thing: Any, *, metres: int) -> tuple[str, str, int]:
        return name, thing.__name__, metres

    registry: Registry[tuple[str, str, int]] = Registry("plank", "json", build=build)

    @registry.register("long", metres=7)
    def make() -> None: ...

    assert registry.find("long") == ("long", "make", 7)
    write("mine.planks", "def unregistered(): ...\n")
    with pytest.raises(ConfigError, match="no plank 'unregistered' in mine"):
        registry.find("mine.planks.unregistered")


def test_a_contract_is_checked_when_an_entry_is_found(write: Write) -> None:
    def check(name: str, value: object) -> None:
        if not callable(value):
            raise ConfigError(f"{name} cannot be called")

    registry: Registry[Any] = Registry("tool", "json", check=check)
    with pytest.raises(ConfigError, match=r"math\.pi cannot be called"):
        registry.find("math.pi")
    assert registry.find("math.floor")(2.5) == 2


def test_a_misspelt_name_in_a_module_is_answered_with_the_nearest(tools: Any, write: Write) -> None:
    write("mine.sharp", SAW.format("axe", "Axe"))
    with pytest.raises(ConfigError, match=r"no tool 'Axee' in mine\.sharp\n  did you mean 'axe'"):
        tools.find("mine.sharp.Axee")


def test_an_empty_module_is_answered_with_what_to_put_there(tools: Any, write: Write) -> None:
    write("mine.bare", "")
    with pytest.raises(ConfigError, match=r'not 0\n  put the decorator .*\.register\("a_name"\)'):
        tools.find("mine.bare")


def test_a_decorator_without_its_name_or_keywords_is_an_error() -> None:
    def build(name: str, defined: object, *, size: int) -> object:
        return (name, defined, size)

    sizes: Registry[Any] = Registry("size", "nos_repro.errors", build=build)
    with pytest.raises(ConfigError, match=r'needs a name, e\.g\. \.register\("build"\)'):
        sizes.register(build)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^size 'a': its decorator: missing .* 'size'"):
        sizes.register("a")(build)
