"""The view of an image, against Pillow's pixels and torchvision's distributions and formulas."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as tv

from nos_repro.data import pictures
from nos_repro.data.pictures import show
from nos_repro.data.views import COLOURS, Box, Size, View, central_view, draw_view, recolour
from nos_repro.errors import DataError


def photograph(width: int, height: int, detail: int = 20) -> Image.Image:
    """Smooth colours that change every `detail` pixels: as rich as a photograph, without a file."""
    shape = (height // detail, width // detail, 3)
    coarse = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def jpeg(picture: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", **options)
    return file.getvalue()


def seen(file: Path, box: Box, size: int, **view: object) -> Tensor:
    target = torch.empty(3, size, size, dtype=torch.uint8)
    show(str(file), lambda shape: View(box, **view), target)
    return target


def pillows(file: Path, box: Box, size: int) -> Tensor:
    """Pillow decodes in full, cuts, and resizes the cut with its own antialiased filter."""
    with Image.open(file) as image:
        corners = (box.left, box.top, box.left + box.width, box.top + box.height)
        part = image.convert("RGB").crop(corners)
        return tv.pil_to_tensor(part.resize((size, size), Image.Resampling.BILINEAR))


def difference(a: Tensor, b: Tensor) -> tuple[float, int]:
    """Mean and largest, in levels of 255."""
    gap = (a.int() - b.int()).abs()
    return float(gap.float().mean()), int(gap.max())


# fmt: off
FORMS = {
    "jpeg":        lambda p: jpeg(p),
    "progressive": lambda p: jpeg(p, progressive=True),
    "full colour": lambda p: jpeg(p, subsampling=0),
    "greyscale":   lambda p: jpeg(p.convert("L")),
    "cmyk":        lambda p: jpeg(p.convert("CMYK")),
}
SIZES = [200, 140, 66, 45]
BOXES = [Box(0, 0, 200, 300), Box(10, 33, 150, 120), Box(60, 100, 40, 40), Box(199, 299, 1, 1)]
# fmt: on


@pytest.fixture(params=["simplejpeg", "Pillow"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both decoders, since a user without the one has the other."""
    if request.param == "simplejpeg":
        pytest.importorskip("simplejpeg")
    else:
        monkeypatch.setattr(pictures, "simplejpeg", None)
    return request.param


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_jpeg_is_within_a_level_of_pillow(
    tmp_path: Path, form: str, decoder: str
) -> None:
    file = tmp_path / "a.JPEG"
    file.write_bytes(FORMS[form](photograph(300, 200)))
    for box in BOXES:
        assert difference(seen(file, box, 120), pillows(file, box, 120))[1] <= 1


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1", "LA"])
def test_a_png_of_any_mode_is_rgb_even_if_it_is_called_jpeg(tmp_path: Path, mode: str) -> None:
    """One of ImageNet's files is such a PNG."""
    photograph(300, 200).convert(mode).save(tmp_path / "a.JPEG", "PNG")
    box = Box(10, 33, 150, 120)
    mean, largest = difference(
        seen(tmp_path / "a.JPEG", box, 64), pillows(tmp_path / "a.JPEG", box, 64)
    )
    assert largest <= 1, mean


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("scale", "side"), [(2, 90), (2, 140), (4, 185), (8, 360), (8, 495)])
def test_a_jpeg_decoded_small_is_close_to_all_of_it(
    tmp_path: Path, form: str, scale: int, side: int, decoder: str
) -> None:
    """The crop's edges move to whole pixels of the smaller image; of what lies between them Pillow,
    which decodes in full and filters, sees the same within two levels in the mean."""
    file = tmp_path / "a.JPEG"
    file.write_bytes(FORMS[form](photograph(701, 533, detail=60)))
    whole = Size(533, 701)
    small = Size(-(-whole.height // scale), -(-whole.width // scale))
    for box in (Box(7, 11, side, side), Box(533 - side, 3, side, side)):
        snapped = box.scaled(scale, small)
        top, left = snapped.top * scale, snapped.left * scale
        bottom = min(top + snapped.height * scale, whole.height)
        right = min(left + snapped.width * scale, whole.width)
        edges = np.array([top, left, bottom, right])
        asked = np.array([box.top, box.left, box.top + box.height, box.left + box.width])
        assert (np.abs(edges - asked) <= scale / 2).all()
        with Image.open(file) as image:
            part = image.convert("RGB").crop((left, top, right, bottom))
            theirs = tv.pil_to_tensor(part.resize((45, 45), Image.Resampling.BILINEAR))
        assert difference(seen(file, box, 45), theirs)[0] < 2


@pytest.mark.parametrize("form", FORMS)
def test_both_decoders_make_the_same_pixels(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("simplejpeg")
    file = tmp_path / "a.JPEG"
    file.write_bytes(FORMS[form](photograph(701, 533)))
    cases = [(box, size) for box in (Box(0, 0, 533, 701), Box(7, 11, 301, 399)) for size in SIZES]
    first = [seen(file, box, size) for box, size in cases]
    monkeypatch.setattr(pictures, "simplejpeg", None)
    assert all(torch.equal(a, seen(file, *case)) for a, case in zip(first, cases, strict=True))


def test_damage_that_pillow_forgives_is_forgiven(tmp_path: Path, decoder: str) -> None:
    """Extra bytes before the end, as in some of ImageNet's files."""
    whole = jpeg(photograph(300, 200))
    (tmp_path / "a.JPEG").write_bytes(whole)
    (tmp_path / "b.JPEG").write_bytes(whole[:-2] + b"abc" + whole[-2:])
    for size in (120, 40):
        first = seen(tmp_path / "a.JPEG", BOXES[0], size)
        assert torch.equal(seen(tmp_path / "b.JPEG", BOXES[0], size), first)


def test_a_large_jpeg_is_not_decoded_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "simplejpeg", None)
    sizes = []
    crop = Image.Image.crop
    monkeypatch.setattr(
        Image.Image, "crop", lambda image, box: (sizes.append(image.size), crop(image, box))[1]
    )
    (tmp_path / "a.JPEG").write_bytes(jpeg(photograph(700, 500)))
    for side in (100, 199, 200, 399, 400, 500):
        seen(tmp_path / "a.JPEG", Box(0, 0, side, side), 50)
    assert sizes == [(350, 250)] * 2 + [(175, 125)] * 2 + [(88, 63)] * 2


def test_an_orientation_in_exif_is_ignored_as_image_folders_do(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / "a.JPEG").write_bytes(jpeg(photograph(300, 200), exif=exif))
    for size in (120, 40):
        got = seen(tmp_path / "a.JPEG", BOXES[0], size)
        assert difference(got, pillows(tmp_path / "a.JPEG", BOXES[0], size))[0] < 1


def test_a_mirrored_view_is_torchvisions_flip(tmp_path: Path) -> None:
    (tmp_path / "a.JPEG").write_bytes(jpeg(photograph(300, 200)))
    box = BOXES[1]
    flipped = tv.horizontal_flip(seen(tmp_path / "a.JPEG", box, 90))
    assert torch.equal(seen(tmp_path / "a.JPEG", box, 90, mirrored=True), flipped)


# fmt: off
BAD = [
    (b"",                                      "not an image"),
    (b"this is a text file\n" * 40,            "not an image"),
    (jpeg(photograph(300, 200))[:150],         "[Tt]runcated|not an image"),
    (jpeg(photograph(300, 200))[:1500],        "truncated"),
    (jpeg(photograph(300, 200))[:-2],          "truncated"),
]
# fmt: on


@pytest.mark.parametrize("size", [120, 40])
@pytest.mark.parametrize(("content", "reason"), BAD)
def test_a_bad_file_is_one_error_that_names_it(
    tmp_path: Path, content: bytes, reason: str, size: int, decoder: str
) -> None:
    (tmp_path / "n01_7.JPEG").write_bytes(content)
    with pytest.raises(DataError, match=f"n01_7.JPEG cannot be used: .*({reason})") as refused:
        seen(tmp_path / "n01_7.JPEG", BOXES[0], size)
    assert ".cpp" not in str(refused.value)


def test_a_file_that_disappeared_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone.JPEG cannot be used: No such file"):
        seen(tmp_path / "gone.JPEG", BOXES[0], 40)


def views(count: int, size: Size, **jitter: float) -> list[View]:
    return [draw_view(np.random.default_rng(i), size, jitter) for i in range(count)]


@pytest.mark.parametrize("size", [Size(256, 341), Size(400, 250), Size(64, 64), Size(90, 500)])
def test_crops_follow_torchvisions_law(size: Size) -> None:
    """Area, aspect and place of 3,000 of our crops and 3,000 of theirs: a Kolmogorov-Smirnov test
    does not tell the samples apart, at a level of one in a thousand."""
    torch.manual_seed(0)
    image = torch.empty(3, *size, dtype=torch.uint8)
    theirs = np.array(
        [RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(3000)]
    )
    ours = np.array([view.box for view in views(3000, size)])
    for measure in (
        lambda b: b[:, 2] * b[:, 3],
        lambda b: b[:, 3] / b[:, 2],
        lambda b: b[:, 0],
        lambda b: b[:, 1],
        lambda b: b[:, 1] + b[:, 3],
    ):
        assert kolmogorov_smirnov(measure(ours), measure(theirs)) < 1.95 * (2 / 3000) ** 0.5


def kolmogorov_smirnov(a: np.ndarray, b: np.ndarray) -> float:
    """The largest distance between two samples' distributions."""
    places = np.concatenate([a, b])
    shares = (np.searchsorted(np.sort(x), places, side="right") / len(x) for x in (a, b))
    first, second = shares
    return float(np.abs(first - second).max())


@pytest.mark.parametrize("size", [Size(1, 1), Size(2, 3), Size(5, 900), Size(900, 5)])
def test_a_crop_lies_within_an_image_of_any_size(size: Size) -> None:
    for view in [*views(200, size), central_view(size)]:
        top, left, height, width = view.box
        assert 0 <= top < top + height <= size.height
        assert 0 <= left < left + width <= size.width


@pytest.mark.parametrize("size", [Size(5, 900), Size(900, 5)])
def test_if_no_crop_fits_the_largest_central_one_is_torchvisions(size: Size) -> None:
    image = torch.empty(3, *size, dtype=torch.uint8)
    theirs = RandomResizedCrop.get_params(image, [0.9, 1.0], [3 / 4, 4 / 3])
    assert Box(*theirs) in {view.box for view in views(50, size)}


def test_mirrors_are_fair_and_colours_move_within_their_strengths() -> None:
    drawn = views(2000, Size(64, 64), brightness=0.25, saturation=0.5)
    assert 900 < sum(view.mirrored for view in drawn) < 1100
    assert 900 < sum(view.colours[0][0] == "brightness" for view in drawn) < 1100
    for name, strength in (("brightness", 0.25), ("saturation", 0.5)):
        factors = np.array([dict(view.colours)[name] for view in drawn])
        grid = np.linspace(1 - strength, 1 + strength, 2000)
        assert kolmogorov_smirnov(factors, grid) < 1.95 * (2 / 2000) ** 0.5


def test_every_view_differs_and_depends_on_its_generator_alone() -> None:
    size = Size(256, 341)
    first, again = views(300, size, brightness=0.1), views(300, size, brightness=0.1)
    assert first == again
    assert len({view.box for view in first}) > 290


ADJUST = {
    "brightness": tv.adjust_brightness,
    "contrast": tv.adjust_contrast,
    "saturation": tv.adjust_saturation,
}


@pytest.mark.parametrize("name", COLOURS)
@pytest.mark.parametrize("factor", [0.0, 0.5, 0.9, 1.0, 1.3, 2.0])
def test_a_colour_step_is_torchvisions(name: str, factor: float) -> None:
    image = tv.pil_to_tensor(photograph(80, 60))
    ours = torch.empty_like(image)
    recolour(image, ((name, factor),), ours)
    theirs = ADJUST[name](image.float() / 255, factor) * 255
    assert (ours - theirs).abs().max() <= 0.51


def test_steps_follow_each_other_and_each_is_clipped_as_torchvisions() -> None:
    image = tv.pil_to_tensor(photograph(80, 60))
    steps = (("saturation", 1.5), ("brightness", 1.4), ("contrast", 1.5))
    theirs = image.float() / 255
    for name, factor in steps:
        theirs = ADJUST[name](theirs, factor)
    ours = torch.empty_like(image)
    recolour(image, steps, ours)
    assert (ours - theirs * 255).abs().max() <= 0.51


# fmt: off
CENTRES = [
    # TensorFlow's `central_crop(image, 0.875)`: height and width -> top, left, height, width
    (Size(375, 500), Box(23, 31, 329, 438)),
    (Size(256, 256), Box(16, 16, 224, 224)),
    (Size(64, 64),   Box(4, 4, 56, 56)),
    (Size(500, 333), Box(31, 20, 438, 293)),
    (Size(1, 3),     Box(0, 0, 1, 3)),
]
# fmt: on


@pytest.mark.parametrize(("size", "box"), CENTRES)
def test_an_evaluation_sees_seven_eighths_of_each_side_as_tensorflow_rounds_them(
    size: Size, box: Box
) -> None:
    assert central_view(size) == View(box)


@pytest.mark.parametrize("size", [(341, 256), (256, 300), (500, 375), (64, 64), (700, 500)])
def test_the_centre_is_squashed_into_a_square(tmp_path: Path, size: tuple[int, int]) -> None:
    """Red and green encode the place, which is the same within a pixel of the image."""
    width, height = size
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    ramps = Image.fromarray(np.stack([across, down, 0 * down], axis=2).round().astype(np.uint8))
    ramps.save(tmp_path / "a.png")
    target = torch.empty(3, 224, 224, dtype=torch.uint8)
    show(str(tmp_path / "a.png"), central_view, target)
    seen = 255 * (1 / 16 + 7 / 8 * (torch.arange(224) + 0.5) / 224)
    inner = slice(2, -2)  # at its edges the filter has fewer pixels
    for ramp, place, side in ((target[0], seen, width), (target[1], seen[:, None], height)):
        apart = (ramp - place).abs()
        assert apart[inner, inner].max() <= 1 + 255 / side
