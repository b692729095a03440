"""The GPU through pycuda, imported only where the driver's library is; every failure says what is missing."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from edgead.errors import EngineError, RuntimeMissingError

_INSTALL = "pip install 'edgead[cuda]', which compiles it: that needs g++ and the CUDA toolkit's headers"


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """One GPU: its name, compute capability and memory."""

    name: str
    capability: tuple[int, int]
    memory_bytes: int


def driver_missing() -> str:
    """What to do where there is no NVIDIA driver; empty where there is one. Raises nothing."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver here (libcuda.so.1 is missing): install the driver of your GPU"
    return ""


def cuda_missing() -> str:
    """What keeps pycuda from running here and what to do; empty where nothing does. Raises nothing."""
    if missing := driver_missing():
        return missing
    try:
        import pycuda.driver as driver
    except ImportError as err:
        return f"pycuda is not installed ({err}): {_INSTALL}"
    try:
        driver.init()
        count = driver.Device.count()
    except Exception as err:
        return f"the NVIDIA driver cannot be used ({err}): update it, or look whether a GPU is there"
    return "" if count else "the NVIDIA driver finds no GPU"


def cuda_driver() -> Any:
    """``pycuda.driver``, initialised.

    Raises:
        RuntimeMissingError: driver, pycuda or GPU is missing.
    """
    if missing := cuda_missing():
        raise RuntimeMissingError(missing)
    import pycuda.driver

    return pycuda.driver


def device_facts(index: int) -> DeviceFacts:
    """What GPU `index` is.

    Raises:
        RuntimeMissingError: driver or pycuda is missing.
        EngineError: there are fewer GPUs.
    """
    driver = cuda_driver()
    if index >= driver.Device.count():
        raise EngineError(f"there is no GPU cuda{index}: this machine has {driver.Device.count()}")
    device = driver.Device(index)
    major, minor = device.compute_capability()
    return DeviceFacts(device.name(), (int(major), int(minor)), int(device.total_memory()))
