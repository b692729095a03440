"""Zips that an attacker or a bad copy could hand us."""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgead.bundle import _archive
from edgead.bundle.reader import open_bundle
from edgead.bundle.writer import pack
from edgead.errors import BundleError, OutputError

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "bundle_v1.edgead"
FILES = {
    path.relative_to(GOLDEN).as_posix(): path.read_bytes() for path in GOLDEN.rglob("*") if path.is_file()
}

Edit = Callable[[zipfile.ZipFile], None]


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    pack(GOLDEN, tmp_path / "zipped.edgead")
    return tmp_path / "zipped.edgead"


def write_zip(path: Path, edit: Edit, *, leave_out: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in FILES.items():
            if name != leave_out:
                archive.writestr(name, data)
        edit(archive)
    return path


def test_a_zip_of_another_tool_is_read(tmp_path: Path) -> None:
    def folders(archive: zipfile.ZipFile) -> None:
        archive.mkdir("golden") if hasattr(archive, "mkdir") else archive.writestr("golden/", b"")

    with open_bundle(write_zip(tmp_path / "z", folders)) as bundle, open_bundle(GOLDEN) as golden:
        assert bundle.digest == golden.digest


def test_a_zip_that_is_cut_anywhere_is_refused(zipped: Path) -> None:
    data = zipped.read_bytes()
    for length in {*range(0, len(data), 211), *range(len(data) - 30, len(data))}:
        zipped.write_bytes(data[:length])
        with pytest.raises(BundleError):
            open_bundle(zipped)


def test_a_flipped_byte_never_changes_what_is_read(zipped: Path) -> None:
    """Content is covered by CRC and hashes; a flip in a date or an attribute may pass and changes nothing."""
    data = zipped.read_bytes()
    refused = 0
    for position in range(0, len(data), 37):
        flipped = bytearray(data)
        flipped[position] ^= 0x10
        zipped.write_bytes(flipped)
        try:
            with open_bundle(zipped) as bundle:
                assert all(bundle.path(name).read_bytes() == content for name, content in FILES.items())
        except BundleError:
            refused += 1
    assert refused > 0.9 * sum(map(len, FILES.values())) / 37


UNSAFE = [
    "../evil",
    "golden/../../evil",
    "/etc/evil",
    "C:/evil",
    "C:evil",
    "a\\..\\evil",
    "./evil",
    "a//b",
    "",
]
UNSAFE += [".hidden", "nul\0byte", "é", "a/", "x" * 201, "../", "-o"]


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_names_are_refused(name: str, tmp_path: Path) -> None:
    def add(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("placeholder")
        info.filename = name
        archive.writestr(info, b"evil")

    with pytest.raises(BundleError):
        open_bundle(write_zip(tmp_path / "z", add))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["z"]


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    def add(archive: zipfile.ZipFile) -> None:
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("graph.onnx", b"other")

    with pytest.raises(BundleError, match=r"'graph\.onnx' and 'graph\.onnx' are the same file"):
        open_bundle(write_zip(tmp_path / "z", add))


def test_a_file_that_is_a_folder_too_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"'graph\.onnx' is both a file and the folder of 'graph\.onnx/x'"):
        open_bundle(write_zip(tmp_path / "z", lambda archive: archive.writestr("graph.onnx/x", b"")))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compressed_bomb_is_refused_unopened(method: int, tmp_path: Path) -> None:
    def bomb(archive: zipfile.ZipFile) -> None:
        archive.writestr("graph.onnx", bytes(16 << 20), compress_type=method)

    path = write_zip(tmp_path / "z", bomb, leave_out="graph.onnx")
    assert path.stat().st_size < 1 << 20
    with pytest.raises(BundleError, match=r"'graph\.onnx' is compressed; a bundle's zip must be stored"):
        open_bundle(path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR])
def test_links_and_devices_are_refused(kind: int, tmp_path: Path) -> None:
    def link(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("graph.onnx")
        info.create_system = 3
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, b"/etc/passwd")

    with pytest.raises(BundleError, match=r"'graph\.onnx' is encrypted, a link or a special file"):
        open_bundle(write_zip(tmp_path / "z", link, leave_out="graph.onnx"))


def test_an_encrypted_entry_is_refused(zipped: Path) -> None:
    data = bytearray(zipped.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 8] |= 1
    zipped.write_bytes(data)
    with pytest.raises(BundleError, match="is encrypted"):
        open_bundle(zipped)


def test_overlapping_entries_are_refused(tmp_path: Path) -> None:
    """Two directory entries of one large file: each is stored, together they are more than the archive."""
    path = tmp_path / "z"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", bytes(1 << 20))
        archive.filelist.append(archive.filelist[0])
    data = path.read_bytes()
    second = data.rindex(b"PK\x01\x02")
    path.write_bytes(data[: second + 46] + b"b" + data[second + 47 :])
    with pytest.raises(BundleError, match="its entries overlap"):
        open_bundle(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data + b"x", "cut off, larger than 2 GiB or no plain zip"),
        (lambda data: data[:-2] + b"\1\0x", "cut off, larger than 2 GiB or no plain zip"),
        (lambda data: data[:-2] + b"\1\0", "may not have"),
        (lambda data: data[:4] + b"prefix" + data[4:], "may not have"),
        (lambda data: data[:-12] + struct.pack("<H", 65535) + data[-10:], "more than 10,000 files"),
        (lambda data: data[:-22] + b"PK\x06\x07" + bytes(16) + data[-22:], "may not have"),
    ],
)
def test_data_around_the_zip_is_refused(damage: Callable[[bytes], bytes], message: str, zipped: Path) -> None:
    data = damage(zipped.read_bytes())
    zipped.write_bytes(data)
    with pytest.raises(BundleError, match=message):
        open_bundle(zipped)


def test_the_directory_is_bounded_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "z"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(20_001):
            archive.writestr(zipfile.ZipInfo(f"f{number}"), b"")
    with pytest.raises(BundleError, match="more than 10,000 files"):
        open_bundle(path)


def test_a_tree_too_large_for_a_zip_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_archive, "MAX_ZIP_BYTES", 10_000)
    with pytest.raises(OutputError, match="do not fit into a zip of 2 GiB; write the directory form"):
        pack(GOLDEN, tmp_path / "z")
    assert not list(tmp_path.iterdir())


def test_pack_checks_what_it_packs_and_where(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"my data")
    with pytest.raises(OutputError, match="exists; choose another name"):
        pack(copy, tmp_path / "there")
    with pytest.raises(OutputError, match="exists and is not a bundle, so it is not overwritten"):
        pack(copy, tmp_path / "there", overwrite=True)
    assert (tmp_path / "there").read_bytes() == b"my data"
    pack(copy, tmp_path / "z")
    assert pack(copy, tmp_path / "z", overwrite=True)
    (copy / "graph.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match=r"graph\.onnx is damaged"):
        pack(copy, tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.edgead", "there", "z"]
