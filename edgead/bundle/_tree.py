"""What may lie in a bundle's tree: names, kinds of files, counts and sizes, checked before reading."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable
from pathlib import Path

from edgead.errors import BundleError

MANIFEST = "manifest.json"
HASH_LIST = "MANIFEST.sha256"

MAX_FILES = 10_000
MAX_NAME = 200  # characters of a whole name
MAX_DEPTH = 8  # parts of a name
MAX_TOTAL_BYTES = 64 << 30
MAX_MANIFEST_BYTES = 16 << 20
MAX_HASH_LIST_BYTES = 4 << 20

_PART = r"[A-Za-z0-9_][A-Za-z0-9._+-]*(?<!\.)"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")


def name_problem(name: str) -> str | None:
    """Why `name` may not stand in a bundle, or None.

    A name is relative, ASCII, with ``/`` between its parts; a part holds ``A-Z a-z 0-9 . _ + -``, begins with
    a letter, a digit or ``_`` and does not end with a dot. So ``..``, absolute names, drive letters,
    backslashes and hidden files cannot be written down.
    """
    if len(name) > MAX_NAME or name.count("/") >= MAX_DEPTH:
        return f"is longer than {MAX_NAME} characters or deeper than {MAX_DEPTH} parts"
    if _NAME.fullmatch(name) is None:
        return "is not a plain relative name (letters, digits and . _ + - between slashes)"
    return None


def check_names(names: Iterable[str], source: object) -> None:
    """Check a tree's file names one by one and against each other.

    Raises:
        BundleError: too many, an unsafe name, one name twice (letter case apart), or a file that is also a
            folder; the message names `source` and the offender.
    """
    seen: dict[str, str] = {}
    for name in names:
        if problem := name_problem(name):
            raise BundleError(f"{source}: the name {name!r} {problem}; do not use this bundle")
        key = name.casefold()
        if key in seen:
            raise BundleError(f"{source}: {name!r} and {seen[key]!r} are the same file on some systems")
        seen[key] = name
        if len(seen) > MAX_FILES:
            raise BundleError(f"{source}: more than {MAX_FILES:,} files")
    for key, name in seen.items():
        parts = key.split("/")
        for depth in range(1, len(parts)):
            if (folder := "/".join(parts[:depth])) in seen:
                raise BundleError(f"{source}: {seen[folder]!r} is both a file and the folder of {name!r}")


def check_size(name: str, size: int, source: object) -> None:
    """Check the size of one file in bytes before it is read.

    Raises:
        BundleError: the manifest or the hash list is larger than a reader must accept.
    """
    limit = {MANIFEST: MAX_MANIFEST_BYTES, HASH_LIST: MAX_HASH_LIST_BYTES}.get(name, MAX_TOTAL_BYTES)
    if size > limit:
        raise BundleError(f"{source}: {name} has {size:,} bytes, more than the limit of {limit:,}")


def list_files(root: Path) -> dict[str, int]:
    """Every file under `root`: name → size in bytes, sorted by name.

    Raises:
        BundleError: a link, a device or another thing that is neither file nor folder; a name or a size that
            a bundle may not have; a folder that cannot be read.
    """
    sizes: dict[str, int] = {}
    pending, entries = [root], 0
    try:
        while pending:
            children = sorted(pending.pop().iterdir())
            entries += len(children)
            if entries > 2 * MAX_FILES:
                raise BundleError(f"{root}: more than {MAX_FILES:,} files")
            for path in children:
                name, status = path.relative_to(root).as_posix(), path.lstat()
                if stat.S_ISREG(status.st_mode):
                    check_size(name, status.st_size, root)
                    sizes[name] = status.st_size
                elif not stat.S_ISDIR(status.st_mode):
                    raise BundleError(
                        f"{root}: {name!r} is a link or a special file; a bundle has only files"
                    )
                elif problem := name_problem(name):
                    raise BundleError(f"{root}: the folder {name!r} {problem}; do not use this bundle")
                else:
                    pending.append(path)
    except OSError as err:
        raise BundleError(f"{root} cannot be read: {err}") from err
    check_names(sizes, root)
    if (total := sum(sizes.values())) > MAX_TOTAL_BYTES:
        raise BundleError(f"{root}: {total:,} bytes in all, more than the limit of {MAX_TOTAL_BYTES:,}")
    return dict(sorted(sizes.items()))
