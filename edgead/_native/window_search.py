"""ctypes binding of edgead_window_search: query descriptors against a bank of references, to a map."""

from __future__ import annotations

import ctypes
import functools
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgead._native._library import ALL_CPU_FEATURES, check, error_buffer, library
from edgead._native.image import address
from edgead.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

BANK_TYPES = {"float32": 1, "float16": 2, "int8": 3}


class LevelStruct(ctypes.Structure):
    """`edgead_search_level`."""

    _fields_ = (
        ("height", ctypes.c_uint32),
        ("width", ctypes.c_uint32),
        ("window", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("bank", ctypes.c_void_p),
        ("bank_bytes", ctypes.c_size_t),
    )


class _Options(ctypes.Structure):
    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        ("references", ctypes.c_uint32),
        ("nearest", ctypes.c_uint32),
        ("dim", ctypes.c_uint32),
        ("bank_type", ctypes.c_uint32),
        ("weighted", ctypes.c_uint32),
        ("levels_count", ctypes.c_uint32),
        ("map_height", ctypes.c_uint32),
        ("map_width", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("levels", ctypes.POINTER(LevelStruct)),
        ("cpu_mask", ctypes.c_uint64),
    )


@functools.cache
def _functions() -> ctypes.CDLL:
    lib = library()
    lib.edgead_window_search_create.restype = ctypes.c_int32
    lib.edgead_window_search_create.argtypes = [
        ctypes.POINTER(_Options),
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    lib.edgead_window_search_run.restype = ctypes.c_int32
    lib.edgead_window_search_run.argtypes = [
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    lib.edgead_window_search_destroy.restype = None
    lib.edgead_window_search_destroy.argtypes = [ctypes.c_void_p]
    return lib


class WindowSearch:
    """One prepared search; `edgead.h` says what it computes. One thread at a time.

    Args:
        banks: for each level (references, height, dim, width) float32, float16 or int8 (= round(127·v)), all
            of one type, C-contiguous; descriptors of length 1. They are read in place by every run.
        windows: for each level the side of the window, odd, 1 to 7.
        nearest: references that each run searches.
        grid: (H, W) of the map.
        weighted: whether runs are given a weight.
        cpu_mask: instruction sets that may be used, bits `CPU_*` of `edgead._native._library`.

    Raises:
        UsageError: arrays that do not fit each other, or a value out of range.
        RuntimeMissingError: the library is missing, or there is no memory.
    """

    def __init__(
        self,
        banks: Sequence[npt.NDArray[np.generic]],
        windows: Sequence[int],
        *,
        nearest: int,
        grid: tuple[int, int],
        weighted: bool = False,
        cpu_mask: int = ALL_CPU_FEATURES,
    ) -> None:
        if not banks or len(banks) != len(windows):
            raise UsageError(f"{len(banks)} banks, {len(windows)} windows: one of each per level is needed")
        first = banks[0]
        for bank in banks:
            fits = bank.ndim == 4 and bank.shape[::2] == first.shape[::2] and bank.dtype == first.dtype
            if not fits or bank.dtype.name not in BANK_TYPES or not bank.flags.c_contiguous:
                raise UsageError(
                    f"a bank is {bank.dtype} {bank.shape}; all must be C-contiguous (references, height, "
                    f"dim, width) of one type, {', '.join(BANK_TYPES)}"
                )
        numbers = (nearest, *grid, *windows)
        if min(numbers) < 0 or max(numbers) >= 2**32:
            raise UsageError(f"nearest {nearest}, grid {grid} or windows {tuple(windows)} is out of range")
        self._lib = _functions()
        self._banks = tuple(banks)
        references, _, dim, _ = first.shape
        self._queries = tuple((dim, bank.shape[1], bank.shape[3]) for bank in banks)
        self._nearest, self._grid, self._weighted = nearest, grid, weighted
        levels = (LevelStruct * len(banks))(
            *(
                LevelStruct(bank.shape[1], bank.shape[3], window, 0, address(bank), bank.nbytes)
                for bank, window in zip(banks, windows, strict=True)
            )
        )
        options = _Options(
            struct_size=ctypes.sizeof(_Options),
            references=references,
            nearest=nearest,
            dim=dim,
            bank_type=BANK_TYPES[first.dtype.name],
            weighted=int(weighted),
            levels_count=len(banks),
            map_height=grid[0],
            map_width=grid[1],
            levels=levels,
            cpu_mask=cpu_mask,
        )
        handle = ctypes.c_void_p()
        self._message = error_buffer()
        status = self._lib.edgead_window_search_create(
            ctypes.byref(options), ctypes.byref(handle), self._message, len(self._message)
        )
        check(status, self._message)
        self._handle = handle
        weakref.finalize(self, self._lib.edgead_window_search_destroy, handle)

    def run(
        self,
        queries: Sequence[npt.NDArray[np.float32]],
        references: npt.NDArray[np.int32],
        weight: npt.NDArray[np.float32] | None = None,
        *,
        out: npt.NDArray[np.float32],
    ) -> None:
        """Search and write the map.

        Args:
            queries: for each level (dim, height, width) float32, not normalised; leading sides of 1 are fine.
            references: `nearest` indices of the bank, int32.
            weight: (height, width) of level 0, where the search is weighted.
            out: (H, W) of `grid`.

        Raises:
            UsageError: an array of another size, type or layout.
            EngineError: an index outside of the bank.
        """
        pointers = [
            _pointer(query, "float32", shape) for query, shape in zip(queries, self._queries, strict=True)
        ]
        weighed = None
        if weight is not None or self._weighted:
            weighed = _pointer(weight, "float32", self._queries[0][1:])
        status = self._lib.edgead_window_search_run(
            self._handle,
            (ctypes.c_void_p * len(pointers))(*pointers),
            _pointer(references, "int32", (self._nearest,)),
            weighed,
            _pointer(out, "float32", self._grid),
            out.size,
            self._message,
            len(self._message),
        )
        check(status, self._message)


def _pointer(array: npt.NDArray[np.generic] | None, dtype: str, shape: tuple[int, ...]) -> int:
    """Address of an array of `shape`, leading sides of 1 aside."""
    if array is None:
        raise UsageError("the search is weighted and is given no weight")
    extra = array.ndim - len(shape)
    if array.shape[max(0, extra) :] != shape or set(array.shape[: max(0, extra)]) - {1}:
        raise UsageError(f"the search takes {dtype} {shape}, not an array of {array.shape}")
    if array.dtype.name != dtype or not array.flags.c_contiguous:
        raise UsageError(f"the search takes C-contiguous {dtype}, not {array.dtype}")
    return address(array)
