"""Images of nothing in particular, drawn from a seed: where no folder of other images is given.

A random texture (noise of several scales), stripes, and shapes with textures of their own, in random
colours, contrast and sharpness. They are no photographs: they only show a network edges, corners, gratings
and surfaces that the good images do not have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgead.training._seeds import derive

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float32]

_MOST_SHAPES = 14
_SURFACES = 3  # that the shapes of one image share


def draw(seed: int, index: int, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Image `index` of the endless series `seed`: (H, W, 3) uint8 RGB, the same on every machine.

    Args:
        seed: of the series.
        index: which image.
        size: (H, W).
    """
    random = np.random.default_rng(derive(seed, "procedural image", index))
    picture = _surface(random, size)
    surfaces = [_surface(random, size) for _ in range(_SURFACES)]
    for _ in range(int(random.integers(0, _MOST_SHAPES + 1))):
        mask, (top, bottom, left, right) = _shape(random, size)
        part = picture[top:bottom, left:right]
        surface = surfaces[int(random.integers(_SURFACES))][top:bottom, left:right]
        colour = random.uniform(-0.4, 0.4, 3).astype(np.float32)
        opacity = np.float32(random.uniform(0.4, 1.0))
        part += opacity * mask[..., None] * (surface + colour - part)
    if random.random() < 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), random.uniform(0.5, 3.0))
    picture = 0.5 + (picture - picture.mean()) * np.float32(random.uniform(0.5, 1.6))
    picture += np.float32(random.uniform(-0.2, 0.2))
    grain = np.float32(random.uniform(0, 0.04))
    picture += grain * random.standard_normal(picture.shape, dtype=np.float32)
    return np.asarray(np.clip(picture * 255, 0, 255), np.uint8)


def _surface(random: np.random.Generator, size: tuple[int, int]) -> Array:
    """A colour, noise around it, and with luck a grating: (H, W, 3), about 0 … 1."""
    colour = random.uniform(0, 1, 3).astype(np.float32)
    noise = _noise(random, size)
    if random.random() < 0.4:
        noise = noise + _grating(random, size)
    tint = random.uniform(0.3, 1.0, 3).astype(np.float32) * np.float32(random.uniform(0.02, 0.35))
    return np.asarray(colour + noise[..., None] * tint, np.float32)


def _noise(random: np.random.Generator, size: tuple[int, int]) -> Array:
    """Noise of deviation 1: coarse grids, enlarged and added, their weights falling at random."""
    total = np.zeros(size, np.float32)
    fall, weight = random.uniform(0.4, 1.3), 1.0
    cells = 2
    while cells <= min(size) // 2:
        grid = random.normal(0, 1, (cells, cells)).astype(np.float32)
        total += np.float32(weight) * cv2.resize(grid, size[::-1], interpolation=cv2.INTER_LINEAR)
        cells, weight = cells * 2, weight * fall
    return np.asarray(total / max(float(total.std()), 1e-6), np.float32)


def _grating(random: np.random.Generator, size: tuple[int, int]) -> Array:
    """Stripes of a random direction, period (3 … 60 pixels) and sharpness."""
    rows, cols = np.mgrid[: size[0], : size[1]].astype(np.float32)
    angle, period = random.uniform(0, np.pi), float(np.exp(random.uniform(np.log(3), np.log(60))))
    wave = np.sin((rows * np.sin(angle) + cols * np.cos(angle)) * (2 * np.pi / period) + random.uniform(0, 6))
    sharp = random.uniform(1, 8)
    return np.asarray(1.5 * np.tanh(sharp * wave), np.float32)


def _shape(random: np.random.Generator, size: tuple[int, int]) -> tuple[Array, tuple[int, int, int, int]]:
    """An ellipse, a polygon or a line: mask 0 … 1 of its box, and the box (top, bottom, left, right)."""
    height, width = size
    mask = np.zeros(size, np.uint8)
    centre = np.array([random.uniform(0, width), random.uniform(0, height)])
    reach = float(np.exp(random.uniform(np.log(4), np.log(min(size) / 2))))
    kind = random.integers(3)
    if kind == 0:
        axes = (max(1, int(reach)), max(1, int(reach * random.uniform(0.3, 1))))
        middle = (int(centre[0]), int(centre[1]))
        cv2.ellipse(mask, middle, axes, random.uniform(0, 180), 0, 360, 255, -1, cv2.LINE_AA)
    elif kind == 1:
        angles = np.sort(random.uniform(0, 2 * np.pi, int(random.integers(3, 8))))
        points = centre + reach * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        cv2.fillPoly(mask, [points.astype(np.int32)], 255, cv2.LINE_AA)
    else:
        end = centre + random.normal(0, min(size) / 3, 2)
        ends = [tuple(int(value) for value in point) for point in (centre, end)]
        cv2.line(mask, ends[0], ends[1], 255, int(random.integers(1, 12)), cv2.LINE_AA)
    x, y, box_width, box_height = cv2.boundingRect(mask)
    box = (y, y + box_height, x, x + box_width)
    part = np.asarray(mask[box[0] : box[1], box[2] : box[3]], np.float32)
    return part / np.float32(255), box
