"""The gather against torchvision's per-image transforms, and the draws against their laws."""

import numpy as np
import torch
import torchvision.transforms.v2.functional as tv
from torch import Tensor
from torchvision.transforms import v2

from nos_repro.data.batches import Crops, Normalise, cut, draw_crops, epoch_order


def pictures(count: int, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)


def slowly(image: Tensor, top: int, left: int, flipped: bool) -> Tensor:
    """torchvision's reading of one crop: reflect-pad, crop, mirror."""
    padded = tv.pad(image.permute(2, 0, 1), [4, 4, 4, 4], padding_mode="reflect")
    cropped = tv.crop(padded, top, left, *image.shape[:2])
    return (tv.horizontal_flip(cropped) if flipped else cropped).permute(1, 2, 0)


def test_every_offset_and_both_sides_are_torchvisions_pixels() -> None:
    images = pictures(7)
    cases = [(t, x, bool(f)) for t in range(9) for x in range(9) for f in range(2)]
    chosen = torch.arange(len(cases)) % 7
    top, left, flipped = (torch.tensor(column) for column in zip(*cases, strict=True))
    ours = cut(images, chosen, Crops(top, left, flipped))
    theirs = torch.stack([slowly(images[i], *case) for i, case in zip(chosen, cases, strict=True)])
    assert torch.equal(ours, theirs)


def test_images_of_another_size_are_cut_in_the_same_way() -> None:
    images = pictures(1, size=12)
    ours = cut(images, torch.tensor([0]), Crops(*torch.tensor([[3], [8]]), torch.tensor([True])))
    assert torch.equal(ours[0], slowly(images[0], 3, 8, True))


def test_all_81_offsets_come_equally_often() -> None:
    draws = [draw_crops(1000, 0, 0, batch) for batch in range(81)]
    counts = torch.zeros(9, 9)
    for crops in draws:
        counts.index_put_((crops.top, crops.left), torch.ones(1000), accumulate=True)
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_square < 124.8  # 99.9 % of 80 degrees of freedom


def test_half_of_the_images_are_mirrored() -> None:
    mirrored = sum(int(draw_crops(1000, 0, 0, batch).flipped.sum()) for batch in range(50))
    assert abs(mirrored - 25_000) < 3.3 * np.sqrt(50_000 / 4)


def test_flips_and_offsets_are_independent() -> None:
    crops = draw_crops(100_000, 5, 0, 0)
    draws = torch.stack([crops.top, crops.left, crops.flipped.long()]).double()
    assert (torch.corrcoef(draws) - torch.eye(3)).abs().max() < 0.015


def test_draws_depend_on_seed_epoch_and_batch_and_on_nothing_else() -> None:
    def offsets(*key: int) -> list[int]:
        return draw_crops(100, *key).top.tolist()

    torch.manual_seed(0)
    first = offsets(1, 2, 3)
    torch.manual_seed(1)
    assert offsets(1, 2, 3) == first
    assert len({tuple(offsets(*key)) for key in [(1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4)]}) == 4


def test_an_epoch_visits_every_image_once_in_its_own_order() -> None:
    orders = [epoch_order(500, seed, epoch) for seed in range(2) for epoch in range(3)]
    for order in orders:
        assert torch.equal(order.sort().values, torch.arange(500))
    assert len({tuple(order.tolist()) for order in orders}) == 6
    assert torch.equal(epoch_order(500, 1, 2), orders[5])


def test_normalisation_is_torchvisions() -> None:
    images, mean, std = pictures(4), (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)
    theirs = v2.Normalize([x / 255 for x in mean], [x / 255 for x in std])(
        images.permute(0, 3, 1, 2).float() / 255
    )
    ours = Normalise(mean, std, 32)(images)
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=0)
    assert ours.is_contiguous(memory_format=torch.channels_last)
