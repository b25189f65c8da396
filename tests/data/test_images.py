"""Splits, statistics and the registry of data sets."""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from nos_repro.data import CORPORA, IMAGES, data_folder
from nos_repro.data.digits import ARRAYS
from nos_repro.data.images import balanced_order, channel_statistics
from nos_repro.data.parallel import find_parallel_text
from nos_repro.data.trees import find_images
from nos_repro.errors import ConfigError

PLUGIN = """
import torch
from nos_repro.data.images import ImageSet, Labelled, IMAGES

@IMAGES.register("stripes", classes=2, size=8, validation_images=4)
def read(data_dir):
    part = Labelled(torch.zeros(20, 8, 8, 3, dtype=torch.uint8), torch.arange(20) % 2)
    return ImageSet(part, part, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""


def test_every_beginning_of_the_balanced_order_is_balanced() -> None:
    labels = torch.arange(10).repeat_interleave(5000)
    order = balanced_order(labels)
    assert torch.equal(order.sort().values, torch.arange(50_000))
    for part in (order[:5000], order[5000:15_000], order[5000:]):
        assert torch.equal(labels[part].bincount(), torch.full((10,), len(part) // 10))


def test_unequal_classes_keep_their_proportions() -> None:
    labels = torch.cat([torch.zeros(600), torch.ones(300), torch.full((100,), 2)]).long()
    assert labels[balanced_order(labels)[:200]].bincount().tolist() == [120, 60, 20]


def test_the_validation_split_never_changes() -> None:
    order = balanced_order(torch.arange(10).repeat_interleave(5000))
    assert order[:6].tolist() == [2192, 9263, 14798, 18787, 22031, 26610]


def test_channel_statistics_are_numpys() -> None:
    images = torch.randint(0, 256, (9, 4, 4, 3), dtype=torch.uint8)
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, images.numpy().mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, images.numpy().std(axis=(0, 1, 2)), rtol=1e-12)


def test_digits_are_1797_real_images_without_any_download(tmp_path: Path) -> None:
    digits = IMAGES.find("digits").read(tmp_path / "nowhere")
    assert digits.train.images.shape == (1500, 32, 32, 3)
    assert digits.test.images.shape == (297, 32, 32, 3)
    assert digits.train.images.max() == 255
    assert len(digits.test.labels.bincount()) == 10
    blocks = digits.train.images.view(1500, 8, 4, 8, 4, 3)
    assert (blocks == blocks[:, :, :1, :, :1, :1]).all()
    assert not (tmp_path / "nowhere").exists()


def test_the_digits_are_scikit_learns_to_the_last_value(tmp_path: Path) -> None:
    digits = IMAGES.find("digits").read(tmp_path)
    tensors = (*digits.train, *digits.test)
    content = b"".join(part.numpy().tobytes() for part in tensors)
    content += repr((digits.mean, digits.std)).encode()
    # taken from scikit-learn 1.9.1, when it was still asked for them
    assert hashlib.sha256(content).hexdigest() == (
        "f524b4f99979427b596bb439348d8b38bb4518a2957a419bdad8532615e7962e"
    )
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    values, labels = load_digits(return_X_y=True)
    with np.load(ARRAYS) as arrays:
        assert np.array_equal(arrays["values"], values)
        assert np.array_equal(arrays["labels"], labels)


@pytest.mark.parametrize("name", IMAGES.names())
def test_a_data_set_describes_itself_before_it_is_read(name: str) -> None:
    dataset = IMAGES.find(name)
    assert dataset.name == name
    assert dataset.classes >= 2
    assert dataset.validation_images >= 1


def test_an_unknown_data_set_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"unknown image set 'cifar'\n  did you mean 'cifar10'"):
        IMAGES.find("cifar")


def test_a_third_partys_data_set_registers_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_package").mkdir()
    (tmp_path / "their_package" / "their_images.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    dataset = IMAGES.find("their_package.their_images")
    assert (dataset.name, dataset.classes, dataset.size) == ("stripes", 2, 8)
    assert "their_package.their_images" in sys.modules
    with pytest.raises(ConfigError, match=r"task\.data: no Python module 'their_package\.other'"):
        IMAGES.find("their_package.other")


BROKEN = """
import torch
from nos_repro.data import CORPORA, IMAGES, PARALLEL_TEXTS, PHOTOGRAPHS
from nos_repro.data.images import ImageSet, Labelled

def both(count, size, labels, dtype="uint8"):
    part = Labelled(torch.zeros(count, size, size, 3, dtype=getattr(torch, dtype)), labels)
    return ImageSet(part, part, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

REGISTER
def read(*given):
    return RETURNED
"""
STRIPES = '@IMAGES.register("stripes", classes=2, size=8, validation_images=4)'


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Makes a module with a broken set; returns its path."""
    (tmp_path / "broken_sets").mkdir()
    monkeypatch.syspath_prepend(tmp_path)

    def make(register: str, returned: str) -> str:
        name = f"set_{hashlib.sha256((register + returned).encode()).hexdigest()[:8]}"
        text = BROKEN.replace("REGISTER", register).replace("RETURNED", returned)
        (tmp_path / "broken_sets" / f"{name}.py").write_text(text)
        return f"broken_sets.{name}"

    monkeypatch.delitem(sys.modules, "broken_sets", raising=False)
    return make


@pytest.mark.parametrize(("returned", "message"), [
    ("None",                                       "must return ImageSet, got None"),
    ("both(4, 8, torch.arange(4) % 2).train",      r"must return ImageSet, got Labelled"),
    ("both(4, 8, torch.arange(3) % 2)",            r"train images must be uint8 of shape \(3, 8, "),
    ("both(4, 9, torch.arange(4) % 2)",            r"got uint8 of shape \(4, 9, 9, 3\)"),
    ("both(4, 8, torch.arange(4) % 2, 'float32')", "got float32 of shape"),
    ("both(4, 8, torch.arange(4))",                "train labels must be int64, from 0 to 1"),
    ("both(0, 8, torch.arange(0))",                "it has no train images"),
])  # fmt: skip
def test_a_set_that_is_not_what_its_decorator_says_is_one_error(
    tmp_path: Path, broken: Callable[[str, str], str], returned: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=f"image set stripes: .*{message}"):
        IMAGES.find(broken(STRIPES, returned)).read(tmp_path)


def test_so_are_texts_and_photographs_whose_function_returns_nothing(
    tmp_path: Path, broken: Callable[[str, str], str]
) -> None:
    corpus = broken('@CORPORA.register("stripes", vocabulary=5)', "None")
    with pytest.raises(ConfigError, match="corpus stripes: its function must return Texts"):
        CORPORA.find(corpus).read(tmp_path)
    photographs = broken('@PHOTOGRAPHS.register("stripes")', "None")
    with pytest.raises(ConfigError, match="its function must return ImageTrees, got None"):
        find_images(photographs, tmp_path)
    parallel = broken('@PARALLEL_TEXTS.register("stripes")', "None")
    with pytest.raises(ConfigError, match="its function must return ParallelCorpus, got None"):
        find_parallel_text(parallel, ("en", "de"), tmp_path)


def test_the_data_folder_is_the_argument_then_the_variable_then_the_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    monkeypatch.setenv("NOS_REPRO_DATA", "/else")
    assert data_folder("/given") == Path("/given")
    assert data_folder() == Path("/else")
    monkeypatch.delenv("NOS_REPRO_DATA")
    assert data_folder() == Path("/somewhere/nos_repro/data")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_folder() == Path.home() / ".cache/nos_repro/data"
