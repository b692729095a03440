"""`MANIFEST.sha256`: the hash of every other file, in the format of ``sha256sum``."""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgead.bundle._tree import HASH_LIST, check_names
from edgead.bundle.hashes import PREFIX
from edgead.errors import BundleError

_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def dump(hashes: Mapping[str, str]) -> bytes:
    """The list as bytes, sorted by name; `hashes` maps a file name to its content hash."""
    lines = (f"{hashes[name].removeprefix(PREFIX)}  {name}\n" for name in sorted(hashes))
    return "".join(lines).encode("ascii")


def parse(data: bytes, source: object) -> dict[str, str]:
    """Read the list: file name → content hash.

    Raises:
        BundleError: a malformed line, an unsafe name, names that are not sorted or not unique.
    """
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as err:
        raise BundleError(f"{source}: {HASH_LIST} is damaged: {err}") from err
    hashes: dict[str, str] = {}
    names: list[str] = []
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise BundleError(f"{source}: {HASH_LIST} is damaged in line {number}: {line[:80]!r}")
        names.append(match[2])
        hashes[match[2]] = PREFIX + match[1]
    check_names(names, f"{source}: {HASH_LIST}")
    if not text.endswith("\n") or names != sorted(names):
        raise BundleError(f"{source}: {HASH_LIST} is damaged: cut off or not sorted")
    return hashes
