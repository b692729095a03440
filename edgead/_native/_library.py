"""Find, open and check libedgead, and turn its status codes into edgead's errors."""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path

from edgead.errors import (
    BundleError,
    EdgeadError,
    EngineError,
    ImageError,
    InternalError,
    RuntimeMissingError,
    UsageError,
)

ABI_VERSION = 1
ALL_CPU_FEATURES = 2**64 - 1
CPU_AVX2, CPU_AVX512, CPU_NEON, CPU_VNNI = 1, 2, 4, 8

_ERRORS: dict[int, type[Exception]] = {
    1: UsageError,
    2: ImageError,
    3: UsageError,
    4: RuntimeMissingError,
    5: RuntimeMissingError,
    6: InternalError,
    7: UsageError,
    8: BundleError,
    9: RuntimeMissingError,
    10: EngineError,
    11: EngineError,
    12: InternalError,
}


def library_path() -> Path:
    """Where libedgead lies: `EDGEAD_LIBRARY` (a development build), else inside the installed package."""
    override = os.environ.get("EDGEAD_LIBRARY")
    if override:
        return Path(override)
    import edgead

    for folder in edgead.__path__:
        path = Path(folder) / "_native_lib" / "libedgead.so"
        if path.exists():
            return path
    raise RuntimeMissingError("libedgead.so is not in the installed package; reinstall with: pip install .")


@functools.cache
def library() -> ctypes.CDLL:
    """The opened library.

    Raises:
        RuntimeMissingError: the file is missing, cannot be opened, or has another ABI than this package.
    """
    path = library_path()
    try:
        lib = ctypes.CDLL(str(path))
    except OSError as err:
        raise RuntimeMissingError(f"{path} cannot be opened: {err}") from err
    lib.edgead_abi_version.restype = ctypes.c_uint32
    found = lib.edgead_abi_version()
    if found != ABI_VERSION:
        raise RuntimeMissingError(
            f"{path} has ABI {found}, this package needs {ABI_VERSION}; reinstall edgead"
        )
    if not hasattr(lib, "edgead_session_run"):  # an ABI only grows: the same number, but fewer functions
        raise RuntimeMissingError(f"{path} is older than this package; reinstall edgead")
    lib.edgead_version_string.restype = ctypes.c_char_p
    lib.edgead_status_string.restype = ctypes.c_char_p
    lib.edgead_status_string.argtypes = [ctypes.c_int32]
    lib.edgead_cpu_features.restype = ctypes.c_uint64
    lib.edgead_kernel_name.restype = ctypes.c_char_p
    lib.edgead_kernel_name.argtypes = [ctypes.c_uint64]
    return lib


def kernel_name(cpu_mask: int = ALL_CPU_FEATURES) -> str:
    """Name of the kernel level that `cpu_mask` selects on this CPU: scalar, avx2, avx512 or neon."""
    name: bytes = library().edgead_kernel_name(cpu_mask)
    return name.decode()


def cpu_features() -> int:
    """Bits `CPU_*` of the instruction sets that this CPU has and libedgead has kernels for."""
    return int(library().edgead_cpu_features())


def error_buffer() -> ctypes.Array[ctypes.c_char]:
    """A buffer for one message."""
    return ctypes.create_string_buffer(512)


def check(status: int, message: ctypes.Array[ctypes.c_char]) -> None:
    """Raise the error that `status` stands for, with the library's own sentence.

    Raises:
        EdgeadError: the class that fits the status.
    """
    if status == 0:
        return
    text = message.value.decode(errors="replace")
    if not text:
        text = library().edgead_status_string(status).decode()
    error = _ERRORS.get(status, InternalError)
    assert issubclass(error, (EdgeadError, InternalError))
    raise error(text)
