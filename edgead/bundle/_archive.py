"""The zip form: the tree in a stored (uncompressed), reproducible zip without zip64."""

from __future__ import annotations

import shutil
import stat
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path

from edgead.bundle._storage import output_error
from edgead.bundle._tree import MAX_FILES, MAX_NAME, check_names, check_size
from edgead.errors import BundleError, OutputError

MAX_ZIP_BYTES = zipfile.ZIP64_LIMIT  # 2 GiB - 1: beyond it Python's zipfile writes zip64
MAGIC = b"PK\x03\x04"

_END = struct.Struct("<4s4H2LH")  # end of central directory (PKWARE APPNOTE 4.3.16)
_ENTRY = 46 + MAX_NAME + 128  # bytes of one directory entry: fixed part, name, room for other tools' fields
_DATE = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1 << 20

# All that zipfile raises on damaged archives.
_DAMAGE = (
    zipfile.BadZipFile,
    EOFError,
    ValueError,
    OverflowError,
    struct.error,
    NotImplementedError,
    RuntimeError,
    OSError,
)


def pack_files(root: Path, names: Iterable[str], archive: Path) -> None:
    """Write `names` under `root` into the new file `archive`: same tree, same bytes.

    Raises:
        OutputError: more than 2 GiB; the directory form has no such limit.
        OSError: the archive cannot be written.
    """
    sizes = {name: (root / name).stat().st_size for name in sorted(names)}
    if (total := sum(sizes.values()) + _END.size + 2 * _ENTRY * len(sizes)) > MAX_ZIP_BYTES:
        raise OutputError(f"{total:,} bytes do not fit into a zip of 2 GiB; write the directory form")
    with zipfile.ZipFile(archive, "x", zipfile.ZIP_STORED, allowZip64=False) as target:
        for name in sizes:
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system = 3  # Unix, on every machine
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            with (root / name).open("rb") as source, target.open(info, "w") as entry:
                shutil.copyfileobj(source, entry, _CHUNK)


def unpack(archive: Path, folder: Path) -> None:
    """Extract a bundle's zip into the empty `folder`, after its limits were checked.

    Raises:
        BundleError: cut off, damaged, compressed, encrypted, too large, or with an entry that is not safe.
        OutputError: `folder` cannot take the files.
    """
    try:
        _check_end(archive)
        with zipfile.ZipFile(archive) as source:
            infos = [info for info in source.infolist() if not _is_folder(info, archive)]
            check_names((info.orig_filename for info in infos), archive)
            _check_entries(infos, archive)
            for info in infos:
                _extract(source, info, folder / info.orig_filename)
    except _DAMAGE as err:
        raise BundleError(f"{archive} is a damaged or unfinished zip: {err}; copy it again") from err


def _check_end(archive: Path) -> None:
    """Bound the directory before zipfile reads it: the file ends with a plain end record, no comment."""
    size = archive.stat().st_size
    with archive.open("rb") as file:
        file.seek(max(0, size - 20 - _END.size))
        tail = file.read()
    if size < _END.size or size > MAX_ZIP_BYTES or tail[-_END.size :][:4] != b"PK\x05\x06":
        raise BundleError(f"{archive} is cut off, larger than 2 GiB or no plain zip; copy it again")
    _, _, _, _, count, length, start, comment = _END.unpack(tail[-_END.size :])
    if tail[:4] == b"PK\x06\x07" or comment or start + length + _END.size != size:
        raise BundleError(f"{archive} has data that a bundle's zip may not have (zip64, comment or prefix)")
    if count > 2 * MAX_FILES or length > 2 * MAX_FILES * _ENTRY:
        raise BundleError(f"{archive}: more than {MAX_FILES:,} files")


def _is_folder(info: zipfile.ZipInfo, archive: Path) -> bool:
    """Folder entries, which other tools write, carry nothing; their names are checked like files'."""
    if not info.orig_filename.endswith("/"):
        return False
    check_names([info.orig_filename[:-1]], archive)
    return info.file_size == info.compress_size == 0


def _check_entries(infos: list[zipfile.ZipInfo], archive: Path) -> None:
    for info in infos:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise BundleError(
                f"{archive}: {info.orig_filename!r} is compressed; a bundle's zip must be stored"
            )
        if info.flag_bits & 1 or kind not in (0, stat.S_IFREG):
            raise BundleError(f"{archive}: {info.orig_filename!r} is encrypted, a link or a special file")
        check_size(info.orig_filename, info.file_size, archive)
    if sum(info.file_size for info in infos) > archive.stat().st_size:
        raise BundleError(f"{archive}: its entries overlap; do not use this bundle")


def _extract(source: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    with source.open(info) as entry:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("xb")
        except OSError as err:
            raise output_error(path, err) from err
        with file:
            while chunk := entry.read(_CHUNK):
                try:
                    file.write(chunk)
                except OSError as err:
                    raise output_error(path, err) from err
