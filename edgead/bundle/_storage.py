"""Writing that survives a power cut: whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from edgead.errors import OutputError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}


def output_error(path: Path, err: OSError) -> OutputError:
    """The `OutputError` that says why `path` cannot be written and what to do about it."""
    if err.errno in _FULL:
        fix = "no room is left (disk, quota or file size limit); free some or choose another place"
    elif err.errno in _CLOSED:
        fix = "the place is read-only for this user; choose another or change its permissions"
    else:
        fix = f"{err.strerror or err}; choose another place"
    return OutputError(f"{path} cannot be written: {fix}")


def is_full(err: OSError) -> bool:
    """Whether `err` says that no room is left, whoever was writing."""
    return err.errno in _FULL


def sync(path: Path) -> None:
    """Wait until the file or folder at `path` is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` at `path` at once: a reader sees the old file or the new one, never a part.

    Raises:
        OutputError: the folder is missing, read-only or full; an old file stays as it was.
    """
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync(path.parent)
    except OSError as err:
        raise output_error(path, err) from err
