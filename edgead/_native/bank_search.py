"""ctypes binding of edgead_bank_search: the nearest vector of a bank for each query, exactly."""

from __future__ import annotations

import ctypes
import functools
import weakref
from typing import TYPE_CHECKING

from edgead._native._library import ALL_CPU_FEATURES, check, error_buffer, library
from edgead._native.image import address
from edgead.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class _Options(ctypes.Structure):
    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        ("dim", ctypes.c_uint32),
        ("vectors", ctypes.c_uint32),
        ("queries", ctypes.c_uint32),
        ("threads", ctypes.c_uint32),
        ("neighbours", ctypes.c_uint32),
        ("bank", ctypes.c_void_p),
        ("bank_bytes", ctypes.c_size_t),
        ("near", ctypes.c_void_p),
        ("near_bytes", ctypes.c_size_t),
        ("cpu_mask", ctypes.c_uint64),
    )


@functools.cache
def _functions() -> ctypes.CDLL:
    lib = library()
    lib.edgead_bank_search_create.restype = ctypes.c_int32
    lib.edgead_bank_search_create.argtypes = [
        ctypes.POINTER(_Options),
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    lib.edgead_bank_search_run.restype = ctypes.c_int32
    lib.edgead_bank_search_run.argtypes = [
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    lib.edgead_bank_search_destroy.restype = None
    lib.edgead_bank_search_destroy.argtypes = [ctypes.c_void_p]
    return lib


class BankSearch:
    """One prepared search; `edgead.h` says what it computes. One thread at a time.

    Args:
        bank: (N, D) float32, C-contiguous, finite, at most 1e15 in size. It is read in place by every run.
        queries: the most that a run is given.
        near: (N, K) int32, C-contiguous: for each vector of the bank those nearest to it, itself first;
            None = runs give no score.
        threads: that a run uses; 0 = the process's cores, at most 16.
        cpu_mask: instruction sets that may be used, bits `CPU_*` of `edgead._native._library`.

    Raises:
        UsageError: a bank of another shape or type, or a value out of range.
        RuntimeMissingError: the library is missing, or there is no memory.
    """

    def __init__(
        self,
        bank: npt.NDArray[np.float32],
        *,
        queries: int,
        near: npt.NDArray[np.int32] | None = None,
        threads: int = 0,
        cpu_mask: int = ALL_CPU_FEATURES,
    ) -> None:
        if bank.ndim != 2 or bank.dtype.name != "float32" or not bank.flags.c_contiguous:
            raise UsageError(f"the bank is {bank.dtype} {bank.shape}; it must be C-contiguous float32 (N, D)")
        if min(queries, threads) < 0 or max(*bank.shape, queries, threads) >= 2**32:
            raise UsageError(
                f"queries {queries}, threads {threads} or a bank of {bank.shape} is out of range"
            )
        if near is not None and (near.ndim != 2 or near.dtype.name != "int32" or not near.flags.c_contiguous):
            raise UsageError(f"near is {near.dtype} {near.shape}; it must be C-contiguous int32 (N, K)")
        self._lib, self._bank, self._near, self._message = _functions(), bank, near, error_buffer()
        options = _Options(
            struct_size=ctypes.sizeof(_Options),
            dim=bank.shape[1],
            vectors=bank.shape[0],
            queries=queries,
            threads=threads,
            bank=address(bank),
            bank_bytes=bank.nbytes,
            neighbours=0 if near is None else near.shape[1],
            near=None if near is None else address(near),
            near_bytes=0 if near is None else near.nbytes,
            cpu_mask=cpu_mask,
        )
        self._handle = ctypes.c_void_p()
        status = self._lib.edgead_bank_search_create(
            ctypes.byref(options), ctypes.byref(self._handle), self._message, len(self._message)
        )
        check(status, self._message)
        weakref.finalize(self, self._lib.edgead_bank_search_destroy, self._handle)

    def run(
        self,
        queries: npt.NDArray[np.float32],
        *,
        indices: npt.NDArray[np.int32],
        distances: npt.NDArray[np.float32],
        score: npt.NDArray[np.float32] | None = None,
    ) -> None:
        """Find the nearest vector of each query; of equally near ones the first.

        Args:
            queries: (M, D) float32, C-contiguous; leading sides of 1 are fine.
            indices: (M,) int32, written.
            distances: (M,) float32, written: Euclidean. NaN for a query that is not finite.
            score: (1,) float32, written: weighted by the neighbours, see `edgead.h`; None = not wanted.

        Raises:
            UsageError: an array of another size, type or layout, or too many queries.
        """
        count, dim = queries.shape[-2:]
        fits = dim == self._bank.shape[1] and queries.size == count * dim and queries.dtype.name == "float32"
        written = indices.shape == distances.shape == (count,)
        if not fits or not written or (indices.dtype.name, distances.dtype.name) != ("int32", "float32"):
            raise UsageError(
                f"queries {queries.dtype} {queries.shape}, indices {indices.dtype} {indices.shape} and "
                f"distances {distances.dtype} {distances.shape} do not fit each other and a bank of "
                f"{self._bank.shape}"
            )
        if score is not None and (score.dtype.name, score.shape) != ("float32", (1,)):
            raise UsageError(f"the score is {score.dtype} {score.shape}; it must be float32 (1,)")
        if not all(array.flags.c_contiguous for array in (queries, indices, distances)):
            raise UsageError("the search takes C-contiguous arrays")
        status = self._lib.edgead_bank_search_run(
            self._handle,
            address(queries),
            count,
            address(indices),
            address(distances),
            count,
            None if score is None else address(score),
            self._message,
            len(self._message),
        )
        check(status, self._message)
