"""From an image file to the pixels of one view of it.

The route was chosen by measurement (ImageNet photographs at 341 x 256, milliseconds per image on
one core). Decoding: simplejpeg 0.34, OpenCV 0.40, torchvision.io 0.43 (deprecated since 0.29),
Pillow into an array 0.68. Resizing a crop to 224: torch's uint8 kernel over channels-last memory
0.12, Pillow 0.41. Both together: simplejpeg and torch 0.68, Pillow and torch 1.2; torchvision's
default transforms, with jitter and ToTensor, 2.6. So simplejpeg decodes where it is installed and
Pillow elsewhere: both are libjpeg-turbo, and the pixels are the same.

If an image is shown at half its size or less, libjpeg shrinks it while decoding, which saves 22 %
of the time at a factor of 2 and 37 % at 4 (Pillow alone: 41 % and 61 %). The price is a crop whose
edges lie on whole pixels of the smaller image, at most half a pixel of the result away.

Pillow also decodes files that are not JPEG or that simplejpeg refuses: CMYK, harmless damage.

Greyscale and CMYK become RGB as Pillow converts them; of greyscale with 16 bits the upper 8 are
taken, as Pillow does with colours of 16 bits. An orientation in EXIF is ignored, as torchvision's
ImageFolder does.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from nos_repro.data.files import read_file
from nos_repro.data.views import Box, Size, View, recolour
from nos_repro.errors import DataError

__all__ = ["UNSUITABLE", "as_rgb", "reason", "show", "simplejpeg"]

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

SCALES = (8, 4, 2)
"""The factors by which libjpeg can shrink an image while decoding."""

MOST_PIXELS = 178_956_970
"""Pillow refuses larger images, which may be a small file that fills the memory."""

DEEP = ("PNG", "PPM")
"""Formats whose greyscale of 16 bits Pillow may open with 32 (mode I)."""

UNSUITABLE = (
    OSError,  # Pillow's UnidentifiedImageError is one
    SyntaxError,
    ValueError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,  # where warnings are errors
)
"""What Pillow and this module raise for a file that is not an image, damaged, or too large."""

Choose = Callable[[Size], View]
Part = UInt8[Tensor, "3 height width"]


def show(file: str, choose: Choose, target: UInt8[Tensor, "3 size size"]) -> None:
    """Writes into `target` the view that `choose` picks for an image of the file's size.

    Raises DataError, which names the file, if it is missing, truncated, too large or not an image.
    """
    size = target.shape[-1]
    try:
        data = read_file(file)
        view, part = _by_simplejpeg(data, choose, size) or _by_pillow(data, choose, size)
    except UNSUITABLE as error:
        message = f"{file} cannot be used: {reason(error)}\n  replace it: no image is left out"
        raise DataError(message) from error
    # torch's fast kernel needs channels-last memory; without it a slow one runs silently
    part = part[None].contiguous(memory_format=torch.channels_last)
    seen = F.interpolate(part, (size, size), mode="bilinear", antialias=True)[0]
    recolour(seen.flip(2) if view.mirrored else seen, view.colours, target)


def _by_simplejpeg(data: bytes, choose: Choose, size: int) -> tuple[View, Part] | None:
    """The view and its box's pixels; None where Pillow must decode."""
    if simplejpeg is None:
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
        if space in ("CMYK", "YCCK"):  # Pillow converts differently, by one level
            return None
        if height * width > MOST_PIXELS:
            return None
        view = choose(Size(height, width))
        _, whole, box = _scaled(view.box, Size(height, width), size)
        pixels = simplejpeg.decode_jpeg(data, min_height=whole.height, min_width=whole.width)
    except ValueError:
        return None
    part = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
    return view, torch.from_numpy(part).permute(2, 0, 1)


def _by_pillow(data: bytes, choose: Choose, size: int) -> tuple[View, Part]:
    """The view and its box's pixels. Raises what Pillow raises."""
    with Image.open(io.BytesIO(data)) as image:
        view = choose(Size(image.height, image.width))
        box = view.box
        if image.format in ("JPEG", "MPO"):
            scale, _, box = _scaled(box, Size(image.height, image.width), size)
            if scale > 1:
                image.draft(None, (image.width // scale, image.height // scale))
        part = image.crop((box.left, box.top, box.left + box.width, box.top + box.height))
        pixels = as_rgb(part, image.format)
    return view, torch.from_numpy(pixels).permute(2, 0, 1)


def as_rgb(image: Image.Image, format: str | None = None) -> UInt8[np.ndarray, "height width 3"]:
    """The pixels of an image from a file of that format (default: the image's own).

    Raises ValueError for greyscale of 32 bits: what its black and white are is not in the file.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and (format or image.format) in DEEP):
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ValueError(f"greyscale of 32 bits (mode {image.mode}), save it with 8 or 16")
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _scaled(box: Box, whole: Size, size: int) -> tuple[int, Size, Box]:
    """The factor by which a JPEG may be shrunk in decoding, its size then, and the box in it."""
    scale = max((s for s in SCALES if min(box.height, box.width) >= s * size), default=1)
    if scale == 1:
        return scale, whole, box
    small = Size(-(-whole.height // scale), -(-whole.width // scale))
    return scale, small, box.scaled(scale, small)


def reason(error: Exception) -> str:
    """What is wrong with a file, from an error of `UNSUITABLE`."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
