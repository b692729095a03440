"""Launches of window_search.cu: from query descriptors in device memory to a map."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgead.bundle.head import MAX_DIM, MAX_LEVELS, MAX_REFERENCES, MAX_SIDE, MAX_WINDOW
from edgead.errors import EngineError, UsageError
from edgead.runtimes.cuda._device import Device, constant

if TYPE_CHECKING:
    import numpy.typing as npt

# As window_search.cu has them.
_PACK_THREADS, _MATCH_THREADS, _CELL_THREADS = 256, 128, 128
_ROWS, _COLUMNS, _CHANNELS = 16, 32, 4
_ROWS_AT_A_TIME = {1: 1, 3: 3, 5: 1, 7: 1}  # of a window, by its side
_SUFFIX = {"float32": "fp32", "float16": "fp16", "int8": "int8"}
_MOST_BLOCKS = 65535  # in a grid's second side
_UPLOAD_BYTES = 1 << 26  # of a bank, at a time
_TAP = np.dtype([("low", "<u4"), ("high", "<u4"), ("weight_low", "<f4"), ("weight_high", "<f4")])


class WindowLevel(ctypes.Structure):
    """`WindowLevel` of window_search.cu."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("query", "bank", "packed", "total", "best", "distances")),
        *((name, ctypes.c_void_p) for name in ("columns", "rows")),
        *((name, ctypes.c_uint32) for name in ("height", "width", "window", "stride")),
        *((name, ctypes.c_uint32) for name in ("packed_rows", "packed_quads")),
    )


class WindowParams(ctypes.Structure):
    """`WindowParams` of window_search.cu."""

    _fields_ = (
        ("levels", WindowLevel * MAX_LEVELS),
        *((name, ctypes.c_void_p) for name in ("references", "weight", "map", "outside")),
        ("scale", ctypes.c_double),
        *((name, ctypes.c_uint32) for name in ("level_count", "reference_count", "nearest")),
        *((name, ctypes.c_uint32) for name in ("query_dim", "dim", "map_height", "map_width")),
    )


class MatchParams(ctypes.Structure):
    """`MatchParams` of window_search.cu."""

    _fields_ = (
        ("level", WindowLevel),
        ("references", ctypes.c_void_p),
        *((name, ctypes.c_uint32) for name in ("reference_count", "nearest", "dim")),
    )


class CudaWindowSearch:
    """Banks made ready on a device; runs make the map that `edgead._native.window_search.WindowSearch` makes.

    Products are the same bits where libedgead's CPU has a fused multiply-add. The squares of a query's length
    are added in another order, in double, so that a distance may round to a neighbouring float.
    """

    def __init__(
        self,
        device: Device,
        banks: Sequence[npt.NDArray[np.generic]],
        windows: Sequence[int],
        *,
        nearest: int,
        grid: tuple[int, int],
        weighted: bool = False,
        images: int = 1,
    ) -> None:
        """Put the banks on the device and take the memory that runs need.

        Args:
            device: where to run.
            banks: for each level (references, height, dim, width) float32, float16 or int8 (= round(127·v)),
                all of one type; descriptors of length 1; memory maps will do.
            windows: for each level the side of the window, odd, 1 to 7.
            nearest: references that each image is compared with.
            grid: (H, W) of the map.
            weighted: whether runs are given a weight.
            images: N, of a batch.

        Raises:
            UsageError: arrays that do not fit each other, or a value out of range.
            EngineError: not enough device memory.
        """
        if not 1 <= len(banks) <= MAX_LEVELS or len(banks) != len(windows):
            raise UsageError(
                f"{len(banks)} banks, {len(windows)} windows: one of each per level, 1 to {MAX_LEVELS}"
            )
        first = banks[0]
        for bank in banks:
            fits = bank.ndim == 4 and bank.shape[::2] == first.shape[::2] and bank.dtype == first.dtype
            if not fits or bank.dtype.name not in _SUFFIX:
                raise UsageError(
                    f"a bank is {bank.dtype} {bank.shape}; all must be (references, height, dim, width) of "
                    f"one type, {', '.join(_SUFFIX)}"
                )
        references, _, dim, _ = first.shape
        _check("references", references, MAX_REFERENCES)
        _check("nearest", nearest, references)
        _check("dim", dim, MAX_DIM)
        for name, sides in (("grid", grid), *(("a bank's side", bank.shape[1::2]) for bank in banks)):
            for side in sides:
                _check(name, side, MAX_SIDE)
        if not set(windows) <= set(_ROWS_AT_A_TIME):
            raise UsageError(f"windows are {tuple(windows)}; each must be odd, 1 to {MAX_WINDOW}")

        self._device, self._images, self._weighted = device, images, weighted
        self._suffix = _SUFFIX[first.dtype.name]
        p = self._params = WindowParams()
        p.level_count, p.reference_count, p.nearest = len(banks), references, nearest
        p.query_dim, p.dim = dim, -(-dim // _CHANNELS) * _CHANNELS
        p.map_height, p.map_width = grid
        p.scale = 1.0 / 127.0 if self._suffix == "int8" else 1.0
        for index, (bank, window) in enumerate(zip(banks, windows, strict=True)):
            sizes = grid if index == 0 else (first.shape[1], first.shape[3])
            self._prepare(p.levels[index], index, bank, window, sizes)
        p.outside = device.allocate(4 * images, "the window search's problems")
        self._outside = device.pinned((images,), "uint32")

    def enqueue(self, queries: Sequence[int], references: int, out: int, weight: int = 0) -> None:
        """Put the search into the stream.

        Args:
            queries: for each level the address of (images, dim, height, width) float32, not normalised.
            references: address of (images, nearest) int32.
            out: address for the map, (images, H, W) float32; NaN all over where a reference is none of the
                bank.
            weight: address of (images, height, width) float32 of level 0, where the search is weighted.

        Raises:
            UsageError: the search is weighted and is given no weight, or the other way round.
        """
        if bool(weight) != self._weighted:
            raise UsageError("the search is given a weight exactly where it was made with weighted=True")
        p, device, images = self._params, self._device, self._images
        levels = p.levels[: p.level_count]
        for level, query in zip(levels, queries, strict=True):
            level.query = query
        p.references, p.weight, p.map = references, weight or None, out
        rows = max(level.packed_rows * level.packed_quads * 4 // _COLUMNS for level in levels)
        device.launch("window_search", "window_pack", (rows, len(levels), images), _PACK_THREADS, p)
        for level in levels:
            tiles = level.packed_rows // _ROWS * (level.packed_quads * 4 // _COLUMNS)
            blocks = tiles * (level.window // _ROWS_AT_A_TIME[level.window])
            match = MatchParams(level, references, p.reference_count, p.nearest, p.dim)
            kernel = f"window_match_{self._suffix}_{level.window}"
            across = (blocks, min(p.nearest, _MOST_BLOCKS), images)
            device.launch("window_search", kernel, across, _MATCH_THREADS, match)
        cells = max(-(-level.height * level.width // _CELL_THREADS) for level in levels)
        device.launch("window_search", "window_distances", (cells, len(levels), images), _CELL_THREADS, p)
        pixels = (-(-p.map_width // _CELL_THREADS), p.map_height, images)
        device.launch("window_search", "window_map", pixels, _CELL_THREADS, p)
        device.copy_out(self._outside, p.outside)

    def check(self) -> None:
        """Look whether the references of the last run, now ended, were all of the bank.

        Raises:
            EngineError: one was not.
        """
        for image in np.flatnonzero(self._outside):
            k = self._params.nearest - int(self._outside[image])
            raise EngineError(
                f"nearest reference {k} of image {image} has an index that is not in the bank, "
                f"0 .. {self._params.reference_count - 1}; export the MODEL again"
            )

    def _prepare(
        self,
        level: WindowLevel,
        index: int,
        bank: npt.NDArray[np.generic],
        window: int,
        sizes: tuple[int, int],
    ) -> None:
        """Fill in a level that is to be interpolated to `sizes`.

        Raises:
            UsageError: a reference is too large, or a value of the bank is no part of a vector of length 1.
        """
        device, images = self._device, self._images
        _, height, _, width = bank.shape
        level.height, level.width, level.window = height, width, window
        level.stride = -(-(width + window - 1) // 4) * 4
        level.packed_rows = -(-height // _ROWS) * _ROWS
        level.packed_quads = -(-width // _COLUMNS) * (_COLUMNS // 4)
        level.bank = self._upload(bank, index, level.stride, window // 2)
        name = f"the window search's level {index}"
        packed = images * self._params.dim * level.packed_rows * level.packed_quads
        level.packed = device.allocate(16 * packed, name)
        cells = images * height * width
        level.total = device.allocate(8 * cells, name)
        level.best, level.distances = device.allocate(4 * cells, name), device.allocate(4 * cells, name)
        level.rows = constant(device, _taps(sizes[0], height), name)
        level.columns = constant(device, _taps(sizes[1], width), name)

    def _upload(self, bank: npt.NDArray[np.generic], index: int, stride: int, radius: int) -> int:
        """The bank with borders repeated and channels padded, on the device.

        Raises:
            UsageError: as `_prepare`.
        """
        references, height, dim, width = bank.shape
        values = height * self._params.dim * stride  # of a reference
        if values >= 1 << 32:
            raise UsageError(
                f"a reference of level {index} has {values:,} values, the kernel counts to {1 << 32:,}; use "
                "smaller images or fewer values per descriptor"
            )
        name = f"the window search's bank of level {index}"
        address = self._device.allocate(references * values * bank.itemsize, name)
        step = max(1, _UPLOAD_BYTES // (values * bank.itemsize))
        for first in range(0, references, step):
            part = bank[first : first + step]
            # -128 has no size in int8. A little above 1 for rounding.
            sound = (
                np.not_equal(part, -128) if self._suffix == "int8" else np.abs(part) <= np.float32(1.0078125)
            )
            if not sound.all():
                raise UsageError(
                    f"the bank of level {index} has values that are no part of a vector of length 1"
                )
            wide = np.zeros((len(part), height, self._params.dim, stride), bank.dtype)
            wide[..., :dim, radius : radius + width] = part
            wide[..., :dim, :radius] = part[..., :1]
            wide[..., :dim, radius + width : 2 * radius + width] = part[..., -1:]
            self._device.copy_in(address + first * values * bank.itemsize, wide)
            self._device.synchronize()  # the array goes
        return address


def _check(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise UsageError(f"{name} is {value}; use 1 to {most}")


def _taps(pixels: int, cells: int) -> npt.NDArray[np.void]:
    """Bilinear interpolation along one side, as libedgead's window_search_plan.cpp has it.

    Half-pixel centres, the border repeated; a cell of weight 0 is not read.
    """
    band = min(cells, 2)
    inside = np.clip((np.arange(pixels) + 0.5) * cells / pixels - 0.5, 0.0, cells - 1)
    low = np.minimum(inside.astype(np.int64), cells - band)
    share = inside - low
    taps = np.empty(pixels, _TAP)
    taps["low"], taps["high"] = low, low + band - 1
    taps["weight_low"], taps["weight_high"] = 1.0 - share, share
    only_low, only_high = taps["weight_high"] == 0, taps["weight_low"] == 0
    taps["high"][only_low] = taps["low"][only_low]
    taps["low"][only_high] = taps["high"][only_high]
    taps["weight_low"][only_high], taps["weight_high"][only_high] = taps["weight_high"][only_high], 0.0
    return taps
