"""Python's ways of reaching code: a change in what a module of one's own reaches changes its
trial's digest, however it is reached."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from nos_repro.experiments.digest import Sources


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package's own modules are kept, so that they are read once."""
    return tmp_path_factory.mktemp("kept")


def digest(folder: Path, kept: Path, modules: Mapping[str, str]) -> str:
    """That of `run` in the module `main`."""
    for name, text in modules.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(dedent(text), "utf-8")
    return Sources({"mine": folder}, kept=kept).digest(["mine.main:run"])


def changes(folder: Path, kept: Path, modules: dict[str, str], old: str, new: str) -> bool:
    """Whether the digest is another with ``new`` for ``old``, which must be in one place."""
    assert sum(text.count(old) for text in modules.values()) == 1
    edited = {name: text.replace(old, new) for name, text in modules.items()}
    return digest(folder, kept, modules) != digest(folder, kept, edited)


TWICE = "def twice(x):\n    return x * 2\n"
CALLS = TWICE + "def run(x):\n    "

# fmt: off
NAMES = {
    "a method of the same name":   TWICE + "class T:\n    def twice(self, x):\n"
                                   "        return twice(x)\n"
                                   "def run(x):\n    return T().twice(x)\n",
    "a comprehension's variable":  CALLS + "return [twice for twice in x], twice(x)\n",
    "a lambda's parameter":        CALLS + "return (lambda twice: twice)(twice(x))\n",
    "an inner parameter":          CALLS + "def inner(twice):\n        return twice\n"
                                   "    return inner(twice(x))\n",
    "an inner variable":           CALLS + "def inner():\n        twice = 1\n        return twice\n"
                                   "    return twice(inner())\n",
    "a default of its own name":   CALLS + "return (lambda y, twice=twice: twice(y))(x)\n",
    "a name of the class's body":  "class T:\n    width = x * 2\n    height = 1 + width\n"
                                   "def run(x):\n    return T.height\n",
    "a dispatching dictionary":    "class T:\n    def a(self, x):\n        return x * 2\n"
                                   "    table = {'first': a}\n"
                                   "def run(x):\n    return T.table['first'](T(), x)\n",
    "a decorator in its class":    "class T:\n    def wrap(f):\n        return lambda x: x * 2\n"
                                   "    @wrap\n    def go(self):\n        return 1\n"
                                   "def run(x):\n    return T().go()\n",
    "a class's pattern":           "class P:\n    @property\n    def side(self):\n"
                                   "        return x * 2\n"
                                   "def run(x):\n    match P():\n        case P(side=y):\n"
                                   "            return y\n",
    "what runs beside the hints":  "from typing import TYPE_CHECKING\n"
                                   "if TYPE_CHECKING:\n    twice = int\n"
                                   "else:\n    def twice(x):\n        return x * 2\n"
                                   "def run(x):\n    return twice(x)\n",
    "what no hint needs":          "from typing import TYPE_CHECKING\n"
                                   "if not TYPE_CHECKING:\n    def twice(x):\n"
                                   "        return x * 2\n"
                                   "def run(x):\n    return twice(x)\n",
    "what runs when imported":     "if __name__ == '__main__':\n    pass\nelse:\n    K = x * 2\n"
                                   "def run(x):\n    return K\n",
    "a case":                      "match x:\n    case 1:\n        K = x * 2\n"
                                   "def run(x):\n    return K\n",
    "an assigning expression":     "if (K := x * 2) > 3:\n    pass\ndef run(x):\n    return K\n",
    "a loop's variable":           "for K in (x * 2,):\n    pass\ndef run(x):\n    return K\n",
    "an opened file":              "with open(x * 2) as K:\n    pass\ndef run(x):\n    return K\n",
    "a library's replacement":     "try:\n    from fastlib import twice\n"
                                   "except ImportError:\n    def twice(x):\n        return x * 2\n"
                                   "def run(x):\n    return twice(x)\n",
}
# fmt: on


@pytest.mark.parametrize("source", NAMES.values(), ids=NAMES)
def test_a_name_means_what_python_takes_it_for(tmp_path: Path, kept: Path, source: str) -> None:
    assert changes(tmp_path, kept, {"main": source}, "x * 2", "x * 3")


# fmt: off
IMPORTS = {
    "the first of two": {
        "main": "try:\n    from mine.one import twice\nexcept ImportError:\n"
                "    from mine.two import twice\ndef run(x):\n    return twice(x)\n",
        "one":  TWICE, "two": "def twice(x):\n    return x + x\n",
    },
    "the second of two": {
        "main": "try:\n    from mine.one import twice\nexcept ImportError:\n"
                "    from mine.two import twice\ndef run(x):\n    return twice(x)\n",
        "one":  "def twice(x):\n    return x + x\n", "two": TWICE,
    },
    "one's own before a library's": {
        "main": "try:\n    from mine.one import twice\nexcept ImportError:\n"
                "    from fastlib import twice\ndef run(x):\n    return twice(x)\n",
        "one":  TWICE,
    },
    "wrapped under its name": {
        "main": "from mine.one import twice\ntwice = print(twice)\ndef run(x):\n"
                "    return twice(x)\n",
        "one":  TWICE,
    },
    "a base from either library": {
        "main": "try:\n    import lightning as pl\nexcept ImportError:\n    import pl\n"
                "class T(pl.Module):\n    def hook(self, x):\n        return x * 2\n"
                "def run(x):\n    return T()\n",
    },
    "a starred name of a builtin": {
        "main": "from mine.one import *\ndef run(x):\n    return sum(x)\n",
        "one":  "def sum(x):\n    return x * 2\n",
    },
    "for what it does": {
        "main": "import mine.one\ndef run(x):\n    return 1\n",
        "one":  "import torch\ntorch.manual_seed(x * 2)\n",
    },
    "late, for what it does": {
        "main": "def run(x):\n    import mine.one\n",
        "one":  "import torch\ntorch.manual_seed(x * 2)\n",
    },
    "late, for what it does, by its package": {
        "main": "def run(x):\n    from mine import one\n",
        "one":  "import torch\ntorch.manual_seed(x * 2)\n",
    },
    "what is done without a library": {
        "main": "import torch\ntry:\n    import fastlib\nexcept ImportError:\n"
                "    torch.manual_seed(x * 2)\ndef run(x):\n    return 1\n",
    },
    "a registry of one's own": {
        "main":     "from mine.registry import Registry\nR = Registry('layers', x * 2)\n"
                    "def run(x):\n    return R.get(x)\n",
        "registry": "class Registry(dict):\n    pass\n",
    },
    "a table of one's own": {
        "main":     "from mine.registry import Table\nT = Table([x * 2])\n"
                    "def run(x):\n    return T[x]\n",
        "registry": "class Table(list):\n    pass\n",
    },
}
# fmt: on


@pytest.mark.parametrize("modules", IMPORTS.values(), ids=IMPORTS)
def test_an_import_counts_for_what_it_binds_and_does(
    tmp_path: Path, kept: Path, modules: dict[str, str]
) -> None:
    assert changes(tmp_path, kept, modules, "x * 2", "x * 3")


@pytest.mark.parametrize("value", ["True", "object()", "('label', str(1))"])
def test_a_class_may_have_any_attribute_named_display(
    tmp_path: Path, kept: Path, value: str
) -> None:
    main = (
        f"class T:\n    display: ClassVar[object] = {value}\ndef run(x):\n    return T().display\n"
    )
    assert changes(tmp_path, kept, {"main": main}, value, "None")


@pytest.mark.parametrize(
    "head", [b"\xef\xbb\xbf", b"# coding: latin-1\n# caf\xe9\n"], ids=["a mark", "a cookie"]
)
def test_a_module_may_be_in_any_encoding_that_python_reads(
    tmp_path: Path, kept: Path, head: bytes
) -> None:
    source = b"def run(x):\n    return x * 2\n"
    digests = set()
    for text in (source, head + source, (head + source).replace(b"\n", b"\r\n")):
        (tmp_path / "main.py").write_bytes(text)
        digests.add(Sources({"mine": tmp_path}, kept=kept).digest(["mine.main:run"]))
    assert len(digests) == 1


# fmt: off
UNNAMED = {
    "by its own decorator": {
        "main": "from mine import layers\nfrom mine.names import NAMES\n"
                "def run(x):\n    return NAMES[x](x)\n",
        "names": "NAMES = {}\ndef layer(name):\n    def add(f):\n        NAMES[name] = f\n"
                 "    return add\n",
        "layers": "from mine.names import layer\n@layer('a')\n" + TWICE,
    },
    "by the type of what is given": {
        "main": "from functools import singledispatch\n@singledispatch\ndef f(x):\n"
                "    return x\n@f.register(int)\n" + TWICE + "def run(x):\n    return f(x)\n",
    },
    "by its base class": {
        "main": "NAMES = {}\nclass Base:\n    def __init_subclass__(cls):\n"
                "        NAMES[cls.__name__] = cls\n"
                "class A(Base):\n    def go(self, x):\n        return x * 2\n"
                "def run(x):\n    return NAMES['A']().go(x)\n",
    },
    "by its metaclass": {
        "main": "NAMES = {}\nclass Meta(type):\n    def __init__(cls, *given):\n"
                "        NAMES[cls.__name__] = cls\nclass Base(metaclass=Meta):\n    pass\n"
                "class A(Base):\n    def go(self, x):\n        return x * 2\n"
                "def run(x):\n    return NAMES['A']().go(x)\n",
    },
    "by a list of subclasses": {
        "main": "class Base:\n    pass\n"
                "class A(Base):\n    def go(self, x):\n        return x * 2\n"
                "def run(x):\n    return Base.__subclasses__()[0]().go(x)\n",
    },
    "by a text that is put together": {
        "main": "class T:\n    def loss_a(self, x):\n        return x * 2\n"
                "def run(x):\n    return getattr(T(), f'loss_{x}')(x)\n",
    },
    "by another's text": {
        "main": "class T:\n    kind = 'loss'\n    def loss(self, x):\n        return x * 2\n"
                "    def go(self, x):\n        return getattr(self, self.kind)(x)\n"
                "def run(x):\n    return T().go(x)\n",
    },
    "by a library, through a base": {
        "main": "import torch\nclass Base(torch.nn.Module):\n    size = 1\n"
                "class Net(Base):\n    def _apply(self, x):\n        return x * 2\n"
                "def run(x):\n    return Net()\n",
    },
    "by a module's name": {
        "main": "from importlib import import_module\ndef run(x):\n"
                "    return import_module('mine.late').twice(x)\n",
        "late": TWICE,
    },
    "by the module's names": {
        "main": TWICE + "def run(x):\n    return globals()[x](x)\n",
    },
    "by a module that imports when asked": {
        "__init__": "def __getattr__(name):\n    from mine.late import twice\n"
                    "    return twice\n",
        "main": "from mine import twice\ndef run(x):\n    return twice(x)\n",
        "late": TWICE,
    },
    "by all fields": {
        "main": "from dataclasses import asdict, dataclass\n@dataclass\nclass S:\n"
                "    width: int = x * 2\ndef run(x):\n    return dict(**asdict(S()))\n",
    },
    "by a table's rows": {
        "main": "from nos_repro.registry import Table\nT = Table(dict(name='a', value=x * 2))\n"
                "def run(x):\n    return T[x]\n",
    },
}
# fmt: on


@pytest.mark.parametrize("modules", UNNAMED.values(), ids=UNNAMED)
def test_what_is_reached_without_its_name_counts(
    tmp_path: Path, kept: Path, modules: dict[str, str]
) -> None:
    assert changes(tmp_path, kept, modules, "x * 2", "x * 3")


# fmt: off
ORDERED = {
    "a dataclass":   ("@dataclass\nclass S:\n", "    a: int\n", "    b: int\n"),
    "a named tuple": ("class S(NamedTuple):\n", "    a: int\n", "    b: int\n"),
    "an enumeration": ("from enum import Enum, auto\nclass S(Enum):\n",
                       "    a = auto()\n", "    b = auto()\n"),
}
# fmt: on


@pytest.mark.parametrize(("head", "first", "second"), ORDERED.values(), ids=ORDERED)
def test_the_order_of_fields_counts(
    tmp_path: Path, kept: Path, head: str, first: str, second: str
) -> None:
    tail = "def run(x):\n    return S.a, S.b\n"
    main = {"main": head + first + second + tail}
    assert changes(tmp_path, kept, main, first + second, second + first)


def test_a_registration_with_this_package_is_no_reason_to_count(tmp_path: Path, kept: Path) -> None:
    main = (
        "from nos_repro.optim.registry import OPTIMIZERS\n"
        "@OPTIMIZERS.register('other')\ndef other(x):\n    return x * 2\n"
        "def run(x):\n    return x\n"
    )
    assert not changes(tmp_path, kept, {"main": main}, "x * 2", "x * 3")


# fmt: off
UNREADABLE = {
    "no Python":         "def (x * 2:\n",
    "too deep a sum":    f"def run(x):\n    return x * 2{' + x' * 900}\n",
    "a computed table":  "from nos_repro.registry import Table\nT = Table(*[x * 2])\n"
                         "def run(x):\n    return T\n",
}
# fmt: on


@pytest.mark.parametrize("source", UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_taken_apart_counts_whole(tmp_path: Path, kept: Path, source: str) -> None:
    modules = {
        "main": "try:\n    from mine import one\nexcept SyntaxError:\n    one = None\n"
        "def run(x):\n    return one\n",
        "one": source,
    }
    assert changes(tmp_path, kept, modules, "x * 2", "x * 3")


def test_a_module_in_one_file_counts_by_what_it_executes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    digests = []
    for source in ("K = 2\n", "K = 2  # two\n", "K = 3\n"):
        (tmp_path / "one_file.py").write_text(f"{source}def run(x):\n    return K * x\n", "utf-8")
        digests.append(Sources().digest(["one_file:run"]))
    assert digests[0] == digests[1] != digests[2]


def test_a_package_may_lie_in_several_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("first", "second"):
        (tmp_path / folder / "parted").mkdir(parents=True)
        monkeypatch.syspath_prepend(tmp_path / folder)
    digests = set()
    for number in range(3):
        for folder in ("first", "second"):
            path = tmp_path / folder / "parted" / f"{folder}.py"
            path.write_text(f"def run(x):\n    return x * {number}\n", "utf-8")
            digests.add(Sources().digest([f"parted.{folder}:run"]))
    assert len(digests) == 3
