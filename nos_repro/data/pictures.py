"""One file becomes the pixels that are to be seen of it.

The route was chosen by measurement (one busy core, 341 x 256 photographs of ImageNet, milliseconds
an image): decoding by torchvision.io 2.1, by Pillow into an array 3.1, by OpenCV 1.9, by simplejpeg
1.7; cutting and resizing to 224 by torch's uint8 kernel over channels-last memory 1.0, by Pillow
2.7. So torchvision decodes and torch resizes. What simplejpeg would save, a tenth of the whole, is
no reason for a dependency. Pillow reads the header (0.04), and decodes what is no JPEG, and what is
shown at half its size or less: libjpeg then makes the smaller image itself, which takes 20 to 30 %
off photographs of one to three megapixels, and moves a pixel by about half a level of 255.

Greyscale and CMYK become RGB as Pillow converts them. An orientation in EXIF is ignored, as
torchvision's ImageFolder does.
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
from torchvision.io import ImageReadMode, decode_jpeg

from nos_repro.data.views import Box, Size, View, recolour
from nos_repro.errors import DataError

SCALES = (8, 4, 2)
"""By which libjpeg can divide an image's size while it decodes."""


def show(file: str, choose: Callable[[Size], View], target: UInt8[Tensor, "3 size size"]) -> None:
    """Writes into `target` what `choose` wants seen of an image of the file's size.

    Raises DataError naming the file where it is missing, truncated or no image.
    """
    try:
        data = np.fromfile(file, dtype=np.uint8)
        with Image.open(io.BytesIO(data.data)) as image:
            view = choose(Size(image.height, image.width))
            pixels, box = _decode(image, data, view.box, target.shape[-1])
    except UnidentifiedImageError as error:
        raise DataError(_message(file, "not an image")) from error
    except (OSError, RuntimeError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(_message(file, _reason(error))) from error
    part = pixels[:, box.top : box.top + box.height, box.left : box.left + box.width][None]
    # torch's quick kernel wants the channels together, and says nothing where they are not
    part = part.contiguous(memory_format=torch.channels_last)
    seen = F.interpolate(part, target.shape[-2:], mode="bilinear", antialias=True)[0]
    recolour(seen.flip(2) if view.mirrored else seen, view.colours, target)


def _decode(
    image: Image.Image, data: np.ndarray, box: Box, size: int
) -> tuple[UInt8[Tensor, "3 height width"], Box]:
    """The image's pixels, and where the box lies in them: they may be fewer than the file's."""
    jpeg = image.format in ("JPEG", "MPO")
    scale = max((s for s in SCALES if min(box.height, box.width) >= s * size), default=1)
    if jpeg and scale == 1:
        return decode_jpeg(torch.from_numpy(data), mode=ImageReadMode.RGB), box
    if jpeg:
        whole = Size(image.height, image.width)
        image.draft(None, (image.width // scale, image.height // scale))
        if (image.height, image.width) != whole:
            box = box.scaled(scale, Size(image.height, image.width))
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1), box


def _message(file: str, reason: str) -> str:
    return f"{file} cannot be used: {reason}\n  replace it: no image is left out"


def _reason(error: Exception) -> str:
    """The error in a line, less the place in torchvision's own source that it begins with."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    words = str(error).splitlines()[0] if str(error) else type(error).__name__
    return words.rpartition(".cpp:")[2].partition(", ")[2] or words
