"""Content hashes: the one place that says how edgead writes them, ``sha256:<64 lower-case hex digits>``."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

PREFIX = "sha256:"

_CONTENT_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_CHUNK = 1 << 20


def sha256_bytes(data: bytes | bytearray | memoryview) -> str:
    """Content hash of `data`, as ``sha256:<hex>``."""
    return PREFIX + hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Content hash of the file's bytes, as ``sha256:<hex>``, read in pieces of 1 MiB.

    Raises:
        OSError: the file cannot be read; the caller knows what kind of file that was.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return PREFIX + digest.hexdigest()


def is_content_hash(text: str) -> bool:
    """Whether `text` is written as these functions write it."""
    return _CONTENT_HASH.fullmatch(text) is not None
