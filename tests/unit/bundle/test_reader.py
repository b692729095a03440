from __future__ import annotations

import concurrent.futures
import contextlib
import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgead.bundle import _tree, hash_list, sidecar
from edgead.bundle.reader import open_bundle
from edgead.bundle.writer import pack
from edgead.errors import BundleError, UsageError
from edgead.types import Thresholds

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "bundle_v1.edgead"
FILES = sorted(path.relative_to(GOLDEN).as_posix() for path in GOLDEN.rglob("*") if path.is_file())


def test_directory_and_zip_are_the_same_bundle(tmp_path: Path) -> None:
    pack(GOLDEN, tmp_path / "zipped.edgead")
    with open_bundle(GOLDEN) as folder, open_bundle(str(tmp_path / "zipped.edgead")) as zipped:
        assert zipped.digest == folder.digest
        assert zipped.manifest == folder.manifest
        assert zipped.sizes == folder.sizes
        assert all(zipped.path(name).read_bytes() == folder.path(name).read_bytes() for name in FILES)
        assert zipped.root != tmp_path
        assert zipped.root.stat().st_mode & 0o777 == 0o700
    assert not zipped.root.exists()
    assert folder.root.exists()


def test_the_digest_is_what_sha256sum_says() -> None:
    with open_bundle(GOLDEN) as bundle:
        told = subprocess.run(
            ["sha256sum", GOLDEN / "MANIFEST.sha256"], capture_output=True, text=True, check=True
        )
        assert bundle.digest == "sha256:" + told.stdout.split()[0]
    subprocess.run(
        ["sha256sum", "-c", "--strict", "MANIFEST.sha256"], cwd=GOLDEN, capture_output=True, check=True
    )


def test_entries_are_found_by_target() -> None:
    with open_bundle(GOLDEN) as bundle:
        assert bundle.targets == ("openvino:fp32", "onnxruntime:fp32")
        assert bundle.entry("onnxruntime:fp32").engine == "onnxruntime"
        assert bundle.entry("onnxruntime:fp32:cpu").engine == "onnxruntime"
        with pytest.raises(
            UsageError, match="has several targets; name one of openvino:fp32, onnxruntime:fp32"
        ):
            bundle.entry()
        with pytest.raises(
            UsageError, match="has no target openvino:int8; there is openvino:fp32, onnxruntime:fp32"
        ):
            bundle.entry("openvino:int8")
        with pytest.raises(UsageError, match="is not of the form"):
            bundle.entry("openvino")
        with pytest.raises(BundleError, match=r"has no file '\.\./golden'"):
            bundle.path("../golden")


def test_arrays_have_the_types_that_the_kernel_takes() -> None:
    with open_bundle(GOLDEN) as bundle:
        for matrix in bundle.operator():
            assert (matrix.start.dtype, matrix.weights.dtype) == (np.int32, np.float32)
            assert (matrix.start.shape, matrix.weights.shape) == ((8,), (8, 2))
            np.testing.assert_array_equal(matrix.weights.sum(axis=1), 1)  # bilinear weights, exact in float32
        values = bundle.golden_map(bundle.golden[1].expected[0])
        assert (values.dtype, values.shape) == (np.float32, (8, 8))


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_found_in_every_file(name: str, copy: Path) -> None:
    data = (copy / name).read_bytes()
    for position in {0, 1, len(data) // 3, len(data) // 2, len(data) - 1}:
        for bit in (0x01, 0x20, 0x80):
            flipped = bytearray(data)
            flipped[position] ^= bit
            (copy / name).write_bytes(flipped)
            expected = name if name != "MANIFEST.sha256" else "MANIFEST.sha256|is damaged|missing"
            with pytest.raises(BundleError, match=expected):
                open_bundle(copy)
    (copy / name).write_bytes(data)
    open_bundle(copy).close()


def test_every_byte_of_the_hash_list_counts() -> None:
    data = (GOLDEN / "MANIFEST.sha256").read_bytes()
    sound = hash_list.parse(data, "x")
    assert hash_list.dump(sound) == data
    for position in range(len(data)):
        for bit in (0x01, 0x20, 0x80):
            flipped = bytearray(data)
            flipped[position] ^= bit
            with contextlib.suppress(BundleError):
                assert hash_list.parse(bytes(flipped), "x") != sound


@pytest.mark.parametrize(
    "lines",
    [
        "\n",
        "x",
        "{0}  a",
        "{0} *a\n",
        "{0}  a\r\n",
        "{0}  ../a\n",
        "{0}  b\n{0}  a\n",
        "{0}  a\n{0}  a\n",
        "{1}  a\n",
    ],
)
def test_a_malformed_hash_list_is_refused(lines: str) -> None:
    with pytest.raises(BundleError, match=r"MANIFEST\.sha256"):
        hash_list.parse(lines.format("0" * 64, "A" * 64).encode(), "x")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_cut_file_is_named(name: str, copy: Path) -> None:
    path = copy / name
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(BundleError, match=name):
        open_bundle(copy)
    path.unlink()
    with pytest.raises(BundleError, match=name):
        open_bundle(copy)


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "targets/model.xml", "golden/extra.png"])
def test_a_file_that_does_not_belong_is_named(name: str, copy: Path) -> None:
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_bytes(b"x")
    with pytest.raises(BundleError, match=name):
        open_bundle(copy)


@pytest.mark.parametrize("make", ["symlink", "folder link", "fifo", "dangling"])
def test_links_and_special_files_are_refused(make: str, copy: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    if make == "symlink":
        shutil.move(copy / "graph.onnx", outside)
        (copy / "graph.onnx").symlink_to(outside)
    elif make == "folder link":
        shutil.move(copy / "post", outside)
        (copy / "post").symlink_to(outside)
    elif make == "fifo":
        (copy / "graph.onnx").unlink()
        os.mkfifo(copy / "graph.onnx")
    else:
        (copy / "reports" / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="is a link or a special file"):
        open_bundle(copy)


@pytest.mark.parametrize(
    "name",
    ["a b", "back\\slash", "c:", "-rf", "dot.", "ünï", "new\nline", "a/b/c/d/e/f/g/h/i", "x" * 201, "\udcff"],
)
def test_unsafe_names_are_refused(name: str, copy: Path, rehash: Callable[[Path], None]) -> None:
    path = copy / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    with pytest.raises(BundleError, match="do not use this bundle"):
        open_bundle(copy)


def test_names_that_differ_in_case_are_refused(copy: Path, rehash: Callable[[Path], None]) -> None:
    (copy / "GRAPH.onnx").write_bytes(b"x")
    rehash(copy)
    with pytest.raises(BundleError, match=r"'(graph|GRAPH)\.onnx' are the same file on some systems"):
        open_bundle(copy)


def test_too_many_files_are_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tree, "MAX_FILES", 11)
    with pytest.raises(BundleError, match="more than 11 files"):
        open_bundle(copy)


def test_too_many_folders_are_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tree, "MAX_FILES", 20)
    for number in range(40):
        (copy / f"f{number}").mkdir()
    with pytest.raises(BundleError, match="more than 20 files"):
        open_bundle(copy)


@pytest.mark.parametrize(
    ("name", "size"), [("manifest.json", (16 << 20) + 1), ("MANIFEST.sha256", (4 << 20) + 1)]
)
def test_sizes_are_checked_before_reading(name: str, size: int, copy: Path) -> None:
    os.truncate(copy / name, size)
    with pytest.raises(BundleError, match=f"{name} has {size:,} bytes, more than the limit"):
        open_bundle(copy)


def test_a_huge_sparse_file_is_refused_unread(copy: Path) -> None:
    os.truncate(copy / "graph.onnx", (64 << 30) + 1)
    with pytest.raises(BundleError, match="more than the limit of 68,719,476,736"):
        open_bundle(copy)


def test_hashes_come_before_the_manifest(copy: Path) -> None:
    (copy / "manifest.json").write_bytes(b"not JSON")
    with pytest.raises(BundleError, match=r"manifest\.json is damaged, its hash"):
        open_bundle(copy)


def test_a_newer_bundle_asks_for_an_upgrade(copy: Path, rehash: Callable[[Path], None]) -> None:
    text = (copy / "manifest.json").read_text()
    (copy / "manifest.json").write_text(text.replace('"schema": 1', '"schema": 99'))
    rehash(copy)
    with pytest.raises(
        BundleError, match=r"copy\.edgead/manifest\.json: schema 99 was made by a newer edgead; upgrade"
    ):
        open_bundle(copy)


def test_a_file_that_the_manifest_names_must_be_there(copy: Path, rehash: Callable[[Path], None]) -> None:
    (copy / "reports" / "recipe.txt").unlink()
    rehash(copy)
    with pytest.raises(BundleError, match=r"names reports/recipe\.txt, which the bundle lacks"):
        open_bundle(copy)


@pytest.mark.parametrize(
    "name", ["post/operator_h.start.i32", "post/operator_w.weights.f32", "golden/good.map.f32"]
)
def test_arrays_of_another_size_are_refused(name: str, copy: Path, rehash: Callable[[Path], None]) -> None:
    (copy / name).write_bytes((copy / name).read_bytes() + b"\0\0\0\0")
    rehash(copy)
    with pytest.raises(BundleError, match=f"{name} has .* bytes, its shape asks for"):
        open_bundle(copy)


@pytest.mark.parametrize("start", [-1, 3, 2**31 - 1])
def test_a_band_outside_of_the_matrix_is_refused(
    start: int, copy: Path, rehash: Callable[[Path], None]
) -> None:
    data = bytearray((copy / "post/operator_h.start.i32").read_bytes())
    data[8:12] = struct.pack("<i", start)
    (copy / "post/operator_h.start.i32").write_bytes(data)
    rehash(copy)
    with open_bundle(copy) as bundle, pytest.raises(BundleError, match="leaves the columns"):
        bundle.operator()


def test_what_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no bundle at"):
        open_bundle(tmp_path / "nothing")
    with pytest.raises(BundleError, match=r"not a finished edgead bundle: it has no MANIFEST\.sha256"):
        open_bundle(tmp_path)
    for data in (b"", b"PK", b"#!/bin/sh\n", b"PK\x05\x06" + bytes(18)):
        (tmp_path / "file").write_bytes(data)
        with pytest.raises(BundleError, match="neither a folder nor a zip"):
            open_bundle(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BundleError, match="neither a folder nor a file"):
        open_bundle(tmp_path / "pipe")


def test_readers_do_not_disturb_each_other(tmp_path: Path) -> None:
    pack(GOLDEN, tmp_path / "zipped")

    def read(number: int) -> tuple[str, float]:
        with open_bundle(tmp_path / "zipped" if number % 2 else GOLDEN) as bundle:
            return bundle.digest, float(bundle.golden_map(bundle.golden[1].expected[0]).max())

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(read, range(40)))) == 1


def test_no_temporary_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(GOLDEN, tmp_path / "zipped")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    data = bytearray((tmp_path / "zipped").read_bytes())
    with open_bundle(tmp_path / "zipped") as bundle:
        assert bundle.root.parent == temporary
        bundle.close()
    data[len(data) // 2] ^= 1
    (tmp_path / "zipped").write_bytes(data)
    with pytest.raises(BundleError):
        open_bundle(tmp_path / "zipped")
    assert not list(temporary.iterdir())


def test_site_thresholds_take_precedence(copy: Path) -> None:
    with open_bundle(copy) as bundle:
        own = bundle.thresholds("openvino:fp32")
        site = Thresholds(image=99.0, pixel=own.pixel, image_median=1.0, pixel_median=0.0, method={"set": 99})
        sidecar.write(bundle.source, bundle.digest, "openvino:fp32", site)
        assert bundle.thresholds("openvino:fp32") == site
        assert bundle.thresholds("onnxruntime:fp32") == own
    open_bundle(copy).close()  # the side-car lies outside
