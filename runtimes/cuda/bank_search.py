"""Launches of bank_search.cu: the nearest vector of a bank for each query in device memory, exactly."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import numpy as np

from edgead.bundle.head import MAX_DIM, MAX_NEIGHBOURS, MAX_QUERIES, MAX_VECTORS
from edgead.errors import UsageError
from edgead.runtimes.cuda._device import Device, constant

if TYPE_CHECKING:
    import numpy.typing as npt

# As bank_search.cu has them.
_THREADS, _TILE, _STEP, _GROUPS, _CODED = 256, 128, 8, 4, 32
_MOST_VALUE = 1e15  # as libedgead has it
_LEAST = 1e-30  # of squares: more than what floats lose to underflow
_SCRATCH_BYTES = 1 << 26  # about what codes and bounds of the queries of one launch may take
_CODED_TILES = 64  # of the bank, at a time


class BankParams(ctypes.Structure):
    """`BankParams` of bank_search.cu."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("queries", "bank", "centre", "bank_codes", "base")),
        *((name, ctypes.c_void_p) for name in ("query_codes", "lowest", "squares", "indices", "distances")),
        *((name, ctypes.c_uint32) for name in ("count", "vectors", "dim", "steps")),
        ("margin", ctypes.c_double),
    )


class ScoreParams(ctypes.Structure):
    """`ScoreParams` of bank_search.cu."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("queries", "bank", "near", "squares", "indices", "score")),
        *((name, ctypes.c_uint32) for name in ("cells", "dim", "neighbours")),
    )


class CudaBankSearch:
    """A bank made ready on a device; runs find what `edgead._native.bank_search.BankSearch` finds.

    Indices and distances are the same bits: products in fp32 only rule vectors out, by a proven bound, and
    the rest is compared in double. The score is in double, too, but for its exponentials: it may round to a
    neighbouring float. The bank lies on the device twice, as it is and coded.

    Attributes:
        indices: address of (images, cells) int32, written by each run: the nearest vector, the first of
            equally near ones; 0 for a query that is not finite.
    """

    def __init__(
        self,
        device: Device,
        bank: npt.NDArray[np.float32],
        *,
        cells: int,
        images: int = 1,
        near: npt.NDArray[np.int32] | None = None,
    ) -> None:
        """Put the bank on the device and take the memory that runs need.

        Args:
            device: where to run.
            bank: (V, D) float32, finite, at most 1e15 in size; a memory map will do.
            cells: queries per image.
            images: N, of a batch.
            near: (V, K) int32: for each vector of the bank those nearest to it, itself first; None = runs
                give no score.

        Raises:
            UsageError: a bank or neighbours of another shape or type, or a value out of range.
            EngineError: not enough device memory.
        """
        if bank.ndim != 2 or bank.dtype.name != "float32":
            raise UsageError(f"the bank is {bank.dtype} {bank.shape}; it must be float32 (V, D)")
        vectors, dim = bank.shape
        if not 1 <= vectors <= MAX_VECTORS or not 1 <= dim <= MAX_DIM:
            raise UsageError(
                f"a bank of {vectors} vectors of {dim} values; use 1 to {MAX_VECTORS} of 1 to {MAX_DIM}"
            )
        if not 1 <= cells * images <= MAX_QUERIES:
            raise UsageError(f"{images} images of {cells} queries; use 1 to {MAX_QUERIES} in all")
        self._device, self._images, self._cells = device, images, cells
        count, groups = cells * images, -(-vectors // _TILE) * _GROUPS
        steps = -(-dim // _STEP)
        tiles = max(1, _SCRATCH_BYTES // (4 * _TILE * (steps * _STEP + groups)))
        self._most = min(tiles, -(-count // _TILE)) * _TILE

        def taken(size: int, what: str) -> int:
            return device.allocate(size, f"the bank search's {what}")

        p = self._params = BankParams()
        p.vectors, p.dim, p.steps = vectors, dim, steps
        p.margin = (dim + 64) * 2.0**-23  # more than twice what bank_search.cu derives
        p.bank = constant(device, bank, "the bank search's bank")
        self._code_bank(bank)
        p.query_codes = taken(4 * self._most * steps * _STEP, "queries")
        p.lowest = taken(4 * self._most * groups, "bounds")
        self._squares = taken(8 * count, "squares")
        self.indices = taken(4 * count, "indices")
        self._score: ScoreParams | None = None
        if near is not None:
            s = self._score = ScoreParams()
            s.near = constant(device, _checked(near, vectors), "the bank search's neighbours")
            s.bank, s.squares, s.indices = p.bank, self._squares, self.indices
            s.cells, s.dim, s.neighbours = cells, dim, near.shape[1]

    def enqueue(self, queries: int, distances: int, score: int = 0) -> None:
        """Put the search into the stream.

        Args:
            queries: address of (images, cells, D) float32.
            distances: address for (images, cells) float32: Euclidean; NaN for a query that is not finite.
            score: address for (images,) float32, as `edgead.h` has it, where there are neighbours.

        Raises:
            UsageError: an address for a score that there is not, or the other way round.
        """
        if bool(score) != (self._score is not None):
            raise UsageError("a search gives a score exactly where it was made with near=…")
        p, device = self._params, self._device
        tiles = -(-p.vectors // _TILE)
        for first in range(0, self._cells * self._images, self._most):
            p.count = min(self._most, self._cells * self._images - first)
            p.queries = queries + 4 * first * p.dim
            p.squares = self._squares + 8 * first
            p.indices, p.distances = self.indices + 4 * first, distances + 4 * first
            query_tiles = -(-p.count // _TILE)
            coded = (query_tiles, -(-p.steps * _STEP // _CODED), 1)
            device.launch("bank_search", "bank_code", coded, _THREADS, p)
            device.launch("bank_search", "bank_screen", (query_tiles * tiles, 1, 1), _THREADS, p)
            device.launch("bank_search", "bank_refine", (p.count, 1, 1), _THREADS, p)
        if self._score is not None:
            self._score.queries, self._score.score = queries, score
            device.launch("bank_search", "bank_score", (self._images, 1, 1), _THREADS, self._score)

    def _code_bank(self, bank: npt.NDArray[np.float32]) -> None:
        """Centre, codes and bounds to the device: tiles of 128 vectors, channel by channel.

        The mean is subtracted, which leaves distances as they are and makes the bounds narrow.

        Raises:
            UsageError: a value is not finite or too large.
        """
        p, device = self._params, self._device
        channels, tiles = p.steps * _STEP, -(-p.vectors // _TILE)
        rows = _CODED_TILES * _TILE
        total = np.zeros(p.dim)
        for first in range(0, p.vectors, rows):
            part = bank[first : first + rows]
            fine = np.abs(part) <= _MOST_VALUE
            if not fine.all():
                row, column = np.argwhere(~fine)[0]
                raise UsageError(
                    f"vector {first + row} of the bank holds {part[row, column]}; values must be finite and "
                    "at most 1e15"
                )
            total += part.sum(axis=0, dtype=np.float64)
        centre = (total / p.vectors).astype(np.float32)
        p.centre = constant(device, centre, "the bank search's centre")
        p.bank_codes = device.allocate(4 * tiles * _TILE * channels, "the bank search's codes")
        base = np.full(tiles * _TILE, np.inf, np.float32)
        for first in range(0, p.vectors, rows):
            part = bank[first : first + rows]
            codes = np.zeros((-(-len(part) // _TILE) * _TILE, channels), np.float32)
            codes[: len(part), : p.dim] = part.astype(np.float64) - centre
            squares = np.square(codes[: len(part)], dtype=np.float64).sum(axis=1)
            bounds = ((1.0 - p.margin) * squares - _LEAST).astype(np.float32)
            base[first : first + len(part)] = np.nextafter(bounds, np.float32(-np.inf))
            turned = np.ascontiguousarray(codes.reshape(-1, _TILE, channels).swapaxes(1, 2))
            device.copy_in(p.bank_codes + 4 * first * channels, turned)
            device.synchronize()  # the array goes
        p.base = constant(device, base, "the bank search's bounds")


def _checked(near: npt.NDArray[np.int32], vectors: int) -> npt.NDArray[np.int32]:
    """Neighbours, (V, K) int32.

    Raises:
        UsageError: of another shape or type, or not all of the bank.
    """
    if near.ndim != 2 or near.dtype.name != "int32" or len(near) != vectors:
        raise UsageError(f"near is {near.dtype} {near.shape}; it must be int32 ({vectors}, K)")
    if not 1 <= near.shape[1] <= MAX_NEIGHBOURS:
        raise UsageError(f"{near.shape[1]} neighbours; use 1 to {MAX_NEIGHBOURS}")
    outside = (near < 0) | (near >= vectors)
    if outside.any():
        row, column = np.argwhere(outside)[0]
        raise UsageError(
            f"a neighbour of vector {row} is {near[row, column]}, the bank has 0 .. {vectors - 1}"
        )
    return near
