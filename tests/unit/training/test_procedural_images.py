from __future__ import annotations

import hashlib

import numpy as np
import pytest

from edgead.training._procedural_images import draw


def test_a_seed_and_an_index_give_one_image() -> None:
    assert np.array_equal(draw(3, 5, (64, 96)), draw(3, 5, (64, 96)))
    seen = {hashlib.sha256(draw(seed, index, (64, 64))).digest() for seed in (0, 1) for index in range(10)}
    assert len(seen) == 20


@pytest.mark.parametrize("size", [(64, 64), (64, 160), (257, 33)])
def test_size_and_type(size: tuple[int, int]) -> None:
    image = draw(0, 0, size)
    assert (image.shape, image.dtype) == ((*size, 3), np.dtype(np.uint8))


def test_images_have_structure_and_differ_in_colour() -> None:
    """Neighbours are alike (no white noise), most images are not flat, their mean colours are far apart."""
    images = [draw(0, index, (128, 128)).astype(float) for index in range(30)]
    deviations = np.array([image.std() for image in images])
    steps = np.array([np.abs(np.diff(image, axis=1)).mean() for image in images])
    assert np.median(deviations) > 20
    assert np.median(steps / deviations) < 0.5
    assert np.std([image.mean((0, 1)) for image in images], axis=0).min() > 15
