"""The runner that proves kernels on the CPU sees what it is there to see."""

from __future__ import annotations

import ctypes
from types import ModuleType

import pytest

_KERNELS = """
#include "common.cuh"
struct Out { u32 *values; };
EDGEAD_KERNEL(diverges, 64, Out) { if (threadIdx.x < 40) __syncthreads(); p.values[threadIdx.x] = 1; }
EDGEAD_KERNEL(shuffles_in_part, 64, Out) {
  if (threadIdx.x % 2 == 0) p.values[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1u, 2);
}
EDGEAD_KERNEL(lacks_a_barrier, 64, Out) {
  __shared__ u32 left[64];
  left[threadIdx.x] = 0;
  __syncthreads();
  left[threadIdx.x] = threadIdx.x + 1;
  p.values[threadIdx.x] = left[63 - threadIdx.x];
}
EDGEAD_KERNEL(sums, 64, Out) {
  const double sum = block_sum(static_cast<double>(threadIdx.x));
  p.values[threadIdx.x] = static_cast<u32>(sum) + block_max(threadIdx.x);
}
"""


class _Out(ctypes.Structure):
    _fields_ = (("values", ctypes.c_void_p),)


@pytest.fixture(scope="module")
def library(host: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("faulty")
    source = folder / "faulty.cu"
    source.write_text(_KERNELS)
    built: ctypes.CDLL = host.build(source, folder)
    return built


def _run(host: ModuleType, library: ctypes.CDLL, kernel: str, backwards: bool) -> list[int]:
    values = (ctypes.c_uint * 64)()
    host.run(library, kernel, (2, 1, 1), 64, _Out(ctypes.addressof(values)), backwards=backwards)
    return list(values)


@pytest.mark.parametrize("kernel", ["diverges", "shuffles_in_part"])
def test_a_barrier_that_not_all_reach_is_an_error(
    host: ModuleType, library: ctypes.CDLL, kernel: str
) -> None:
    with pytest.raises(AssertionError, match="not all threads reach"):
        _run(host, library, kernel, False)
    assert _run(host, library, "sums", False) == [2016 + 63] * 64  # and the next kernel runs


def test_a_missing_barrier_shows_in_the_reverse_order(host: ModuleType, library: ctypes.CDLL) -> None:
    forwards, backwards = (_run(host, library, "lacks_a_barrier", order) for order in (False, True))
    assert forwards != backwards


@pytest.mark.parametrize("backwards", [False, True])
def test_sums_and_maxima_reach_every_thread(host: ModuleType, library: ctypes.CDLL, backwards: bool) -> None:
    assert _run(host, library, "sums", backwards) == [2016 + 63] * 64
