"""Which samples an output of a resize reads, and with which integer weights: one axis, reduced to a window.

The twin of libedgead's resample_plan.cpp: the same operations in the same order and precision, so the same
weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

TAP = np.dtype([("low", "<u4"), ("high", "<u4"), ("weight_low", "<u4"), ("weight_high", "<u4")])


@dataclass(frozen=True, slots=True, eq=False)
class FilterAxis:
    """Weights of 2²² = 1: ``weights[k, i]`` belongs to sample ``start[i] + k``, k < ``count[i]``.

    Attributes:
        start: (n,) uint32.
        count: (n,) uint32, at least 1.
        weights: (band, n) uint32.
    """

    start: npt.NDArray[np.uint32]
    count: npt.NDArray[np.uint32]
    weights: npt.NDArray[np.uint32]

    @property
    def first(self) -> int:
        """The first sample that any output reads."""
        return int(self.start.min())

    @property
    def end(self) -> int:
        """One past the last one."""
        return int((self.start + self.count).max())


def pillow_axis(source: int, resized: int, first: int, n: int) -> FilterAxis:
    """Pillow's antialiased BILINEAR, a triangle filter.

    Args:
        source: samples that there are.
        resized: samples that they become.
        first: the first output that is wanted.
        n: how many are.
    """
    scale = source / resized
    support = max(scale, 1.0)  # the triangle reaches 1 sample at scale 1
    band = min(int(np.ceil(support)) * 2 + 1, source)
    center = (np.arange(first, first + n) + 0.5) * scale
    start = np.maximum((center - support + 0.5).astype(np.int64), 0)
    end = np.minimum((center + support + 0.5).astype(np.int64), source)
    samples = start + np.arange(band)[:, None]
    distance = np.abs((samples - center + 0.5) * (1.0 / support))
    exact = np.where((samples < end) & (distance < 1.0), 1.0 - distance, 0.0)
    total = np.add.accumulate(exact)[-1]  # one after the other: sum() would add pairs
    weights = (0.5 + exact / total * 2.0**22).astype(np.uint32)
    count = band - (weights[::-1] != 0).argmax(axis=0)
    return FilterAxis(start.astype(np.uint32), count.astype(np.uint32), weights)


def opencv_axis(source: int, resized: int, first: int, n: int, *, columns: bool) -> npt.NDArray[np.void]:
    """OpenCV's INTER_LINEAR for 8 bit: (n,) `TAP`, weights of 2¹¹ = 1.

    Columns beyond the edge get the edge with weight 1; rows repeat the edge and keep both weights, as OpenCV
    does. Equal sizes give every sample itself, and half the size the rounded mean of two: 2 x 2 pixels then
    give what OpenCV makes by another way.

    Args:
        source: as `pillow_axis`.
        resized: as there.
        first: as there.
        n: as there.
        columns: whether the axis is x.
    """
    scale = 1.0 / (resized / source)
    last = source - 1
    at = ((np.arange(first, first + n) + 0.5) * scale - 0.5).astype(np.float32)
    low = np.floor(at).astype(np.int64)
    fraction = at - low.astype(np.float32)
    if columns:
        fraction[(low < 0) | (low >= last)] = 0.0
        low = np.clip(low, 0, last)
    taps = np.empty(n, TAP)
    taps["low"], taps["high"] = np.clip(low, 0, last), np.clip(low + 1, 0, last)
    taps["weight_low"] = np.rint((np.float32(1.0) - fraction) * np.float32(2048.0))
    taps["weight_high"] = np.rint(fraction * np.float32(2048.0))
    return taps
