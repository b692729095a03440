from __future__ import annotations

import resource
import sys
from pathlib import Path

import pytest
import torch

from edgead.training._device import mixed_precision, training_device


def test_a_cpu_is_used_where_there_is_no_gpu() -> None:
    assert training_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_blocks_are_taken_again_without_new_pages() -> None:
    training_device()

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.zeros(1 << 24)  # 64 MiB: 16,384 pages, which glibc gives back by default
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()
    assert min(faults() for _ in range(5)) < 1000


def test_mixed_precision_is_on_exactly_where_the_cpu_has_it() -> None:
    with Path("/proc/cpuinfo").open(encoding="ascii") as file:
        has_it = "avx512_bf16" in file.read()
    with mixed_precision(torch.device("cpu")):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if has_it else torch.float32)
