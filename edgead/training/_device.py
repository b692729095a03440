"""Where a training runs and in which precision, and memory that is kept between its steps."""

from __future__ import annotations

import ctypes
import sys

import torch

# Of glibc's mallopt; see its manual page.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_LARGEST = 2**31 - 1


def training_device() -> torch.device:
    """The GPU where there is one, else the CPU, whose freed memory the process then keeps.

    glibc gives large blocks back to the system as soon as they are freed, and a training frees and takes the
    same blocks in every step: on two cores, up to half of a step went into mapping pages anew.
    """
    if torch.cuda.is_available():
        return torch.device("cuda")
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
        if mallopt is not None:
            mallopt(_MMAP_MAX, 0)
            mallopt(_TRIM_THRESHOLD, _LARGEST)
    return torch.device("cpu")


def mixed_precision(device: torch.device) -> torch.autocast:
    """Context in which convolutions and products run in bfloat16 where `device` has instructions for it."""
    enabled = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
