"""Random changes of images in training: what they are by definition, and that they depend on seed, epoch and example
alone."""

from itertools import chain

import numpy as np
import pytest
import torch

from elman.data.examples import Example
from elman.data.image_maps import BEND, KNOTS, SHIFT, draw_bend, draw_map, mapped
from elman.tasks.image.options import ImageOptions
from elman.tasks.image.task import TASK, ImageCodec
from tests.tasks.test_image import bars


def sampled(image: np.ndarray, theta: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Map an image (rows, columns) pixel by pixel: its value where the map leads, between four pixels."""
    rows, columns = image.shape
    result = np.empty_like(image)
    for i in range(rows):
        for k in range(columns):
            x, y = theta @ [(2 * k + 1) / columns - 1, (2 * i + 1) / rows - 1, 1] + shifts[:, i, k]
            at = np.clip([((y + 1) * rows - 1) / 2, ((x + 1) * columns - 1) / 2], 0, [rows - 1, columns - 1])
            low = np.minimum(at.astype(int), [rows - 1, columns - 1])
            high = np.minimum(low + 1, [rows - 1, columns - 1])
            v, u = at - low
            upper = (1 - u) * image[low[0], low[1]] + u * image[low[0], high[1]]
            lower = (1 - u) * image[high[0], low[1]] + u * image[high[0], high[1]]
            result[i, k] = (1 - v) * upper + v * lower
    return result


@pytest.mark.parametrize("flip", [False, True])
def test_an_image_is_mapped_by_definition(flip: bool) -> None:
    """The shifts of knots that are pixels are those of the pixels; a single knot shifts the whole image."""
    rng = np.random.default_rng(1)
    images = rng.random((2, 3, KNOTS, KNOTS))
    maps, bends = [draw_map(0.3, flip, rng) for _ in images], [draw_bend(0.3, rng) for _ in images]
    expected = [[sampled(plane, *item) for plane in image] for image, *item in zip(images, maps, bends, strict=True)]
    np.testing.assert_allclose(mapped(torch.from_numpy(images), maps, bends), expected, atol=1e-12)
    images, knots = rng.random((2, 1, 4, 7)), [rng.normal(0, 0.2, (2, 1, 1)) for _ in images]
    shifts = [np.broadcast_to(knot, (2, 4, 7)) for knot in knots]
    expected = [[sampled(image[0], *item)] for image, *item in zip(images, maps, shifts, strict=True)]
    np.testing.assert_allclose(mapped(torch.from_numpy(images), maps, knots), expected, atol=1e-12)


def test_maps_are_small_and_mirror_only_when_asked() -> None:
    rng, amount = np.random.default_rng(0), 0.2
    for flip in (False, True):
        maps = np.array([draw_map(amount, flip, rng) for _ in range(500)])
        assert np.abs(maps[:, :, 2]).max() <= SHIFT * amount
        determinants = np.linalg.det(maps[:, :, :2])
        assert np.all(np.abs(np.log(np.abs(determinants))) <= 2 * np.log(1 + amount) + 1e-12)
        assert (np.mean(determinants < 0) == 0) if not flip else (0.4 < np.mean(determinants < 0) < 0.6)
        angles = np.arctan2(maps[:, 1, 0] * np.sign(determinants), maps[:, 0, 0] * np.sign(determinants))
        assert np.abs(angles).max() <= amount + 1e-12


def test_bends_are_small() -> None:
    rng = np.random.default_rng(0)
    bends = np.array([draw_bend(0.2, rng) for _ in range(400)])
    assert bends.std() == pytest.approx(BEND * 0.2, rel=0.02)
    assert not draw_bend(0.0, rng).any()


def test_digits_are_not_mirrored_by_default() -> None:
    assert ImageOptions().perturb > 0
    assert not ImageOptions().flip


@pytest.mark.parametrize("color", [False, True])
def test_changes_depend_on_seed_epoch_and_example_alone(color: bool) -> None:
    """So a resumed training, and one on several processes, sees the same images."""
    images, labels = bars(10)
    inputs = np.stack([images, images / 2, images / 3], axis=3) if color else images
    examples = [Example(pixels, label) for pixels, label in zip(inputs, labels, strict=True)]
    options = ImageOptions(flip=True)
    codec = ImageCodec.fit(examples, options)
    batches = TASK.batches(codec, examples, 4, seed=5)
    again = TASK.batches(codec, examples, 4, seed=5)
    for i in (7, 1):  # of the third epoch, then of the first
        whole = batches[i][0]
        assert torch.equal(again[i][0], whole)
        parts = [batches.part(rank, 2)[i][0] for rank in (0, 1)]
        assert torch.equal(torch.stack([*chain(*zip(*(part.unbind(1) for part in parts), strict=True))], 1), whole)
    assert not torch.equal(TASK.batches(codec, examples, 4, seed=6)[1][0], batches[1][0])
    first, second = (torch.cat([batches[epoch * 3 + i][0] for i in range(3)], 1) for epoch in (0, 1))
    assert len({image.numpy().tobytes() for part in (first, second) for image in part.unbind(1)}) == 20
    plain = [codec.encode(example)[0][0] for example in examples]
    assert torch.equal(TASK.batches(codec, examples, 10, seed=None)[0][0], torch.stack(plain, 1))
