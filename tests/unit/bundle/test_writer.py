from __future__ import annotations

import dataclasses
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgead.bundle import _tree, writer
from edgead.bundle.manifest import Manifest
from edgead.bundle.reader import BandedArrays, open_bundle
from edgead.bundle.writer import BundleWriter, Form
from edgead.errors import InternalError, OutputError

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "bundle_v1.edgead"

Build = Callable[..., str]


def add_all(new: BundleWriter, manifest: Manifest) -> None:
    for name in sorted(manifest.files()):
        new.add_file(name, GOLDEN / name)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("form", ["directory", "zip"])
def test_what_is_written_is_read(form: Form, build: Build, manifest: Manifest, tmp_path: Path) -> None:
    digest = build(tmp_path / "new.edgead", form=form)
    assert (tmp_path / "new.edgead").is_dir() == (form == "directory")
    with open_bundle(tmp_path / "new.edgead") as bundle, open_bundle(GOLDEN) as golden:
        assert bundle.digest == digest == golden.digest
        assert bundle.manifest == manifest
    assert left(tmp_path) == ["new.edgead"]


def test_tools_write_files_themselves(manifest: Manifest, build: Build, tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b") as new:
        for name in sorted(manifest.files()):
            new.path(name).write_bytes((GOLDEN / name).read_bytes())
        new.path("targets/openvino-fp32/model.xml").write_text("<net/>")
        new.path("targets/openvino-fp32/model.bin").write_bytes(b"")
        new.finish(manifest)
    with open_bundle(tmp_path / "b") as bundle:
        assert bundle.path("targets/openvino-fp32/model.xml").read_text() == "<net/>"


def test_arrays_come_back_as_they_were_given(manifest: Manifest, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    start = np.sort(rng.integers(0, 3, 8)).astype(">i4")  # another byte order in memory changes nothing
    matrix = BandedArrays(8, 4, 2, start, rng.normal(size=(8, 2)).astype(">f4"))
    values = rng.normal(size=(8, 8)).astype(np.float32)[::-1]
    taken = {name for name in manifest.files() if name.startswith("post/") or name.endswith("good.map.f32")}
    with BundleWriter(tmp_path / "b") as new:
        for name in manifest.files() - taken:
            new.add_file(name, GOLDEN / name)
        new.add_map("golden/good.map.f32", values)
        new.finish(dataclasses.replace(manifest, operator=new.add_operator(matrix, matrix)))
    with open_bundle(tmp_path / "b") as bundle:
        for read in bundle.operator():
            np.testing.assert_array_equal(read.start, matrix.start)
            np.testing.assert_array_equal(read.weights, matrix.weights)
            assert (read.rows, read.cols, read.band) == (8, 4, 2)
        np.testing.assert_array_equal(bundle.golden_map(bundle.golden[0].expected[0]), values)


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize("form", ["directory", "zip"])
def test_an_error_leaves_nothing(error: BaseException, form: Form, tmp_path: Path) -> None:
    def fail() -> None:
        with BundleWriter(tmp_path / "b", form=form) as new:
            new.add_file("graph.onnx", b"data")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert left(tmp_path) == []


@pytest.mark.parametrize("form", ["directory", "zip"])
@pytest.mark.parametrize("step", ["_sync_tree", "_move", "_check_free"])
def test_an_interrupt_in_finish_leaves_nothing(
    form: Form, step: str, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def interrupt(*args: object) -> None:
        nonlocal calls
        calls += 1
        if step != "_check_free" or calls == 2:  # the first look is made before anything is written
            raise KeyboardInterrupt

    monkeypatch.setattr(writer, step, interrupt)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "b", form=form)
    assert left(tmp_path) == []


def test_ctrl_c_in_another_process_leaves_nothing(tmp_path: Path) -> None:
    script = """
import signal, sys, time
from pathlib import Path
from edgead.bundle.writer import BundleWriter
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job may have been told to ignore it
with BundleWriter(Path(sys.argv[1]) / "b") as new:
    new.add_file("graph.onnx", b"x" * 100000)
    print("writing", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        assert len(left(tmp_path)) == 1
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert left(tmp_path) == []


def test_forgetting_to_finish_is_a_bug_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InternalError, match="was not finished"), BundleWriter(tmp_path / "b"):
        pass
    assert left(tmp_path) == []


def test_something_in_the_place_is_never_lost(build: Build, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.png").write_bytes(b"mine")
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    for name in ("mine", "file", "link"):
        with pytest.raises(OutputError, match=f"{name} exists; choose another name or ask to overwrite it"):
            build(tmp_path / name)
        with pytest.raises(OutputError, match=f"{name} exists and is not a bundle, so it is not overwritten"):
            build(tmp_path / name, overwrite=True)
    assert (tmp_path / "mine" / "photo.png").read_bytes() == (tmp_path / "file").read_bytes() == b"mine"
    assert left(tmp_path) == ["file", "link", "mine"]


@pytest.mark.parametrize("old", ["directory", "zip"])
@pytest.mark.parametrize("new", ["directory", "zip"])
def test_overwriting_swaps_any_form_for_any_other(old: Form, new: Form, build: Build, tmp_path: Path) -> None:
    first = build(tmp_path / "b", form=old)
    second = build(tmp_path / "b", form=new, overwrite=True, extra=b"more")
    assert first != second
    with open_bundle(tmp_path / "b") as bundle:
        assert bundle.digest == second
    assert left(tmp_path) == ["b"]


@pytest.mark.parametrize("form", ["directory", "zip"])
def test_a_failed_overwrite_keeps_the_old_bundle(
    form: Form, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = build(tmp_path / "b")
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if target == tmp_path / "b" and self.name != "old":
            raise OSError(errno.ENOSPC, "full")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OutputError, match="no room is left"):
        build(tmp_path / "b", form=form, overwrite=True, extra=b"more")
    with open_bundle(tmp_path / "b") as bundle:
        assert bundle.digest == digest
    assert left(tmp_path) == ["b"]


def test_a_place_taken_meanwhile_is_not_overwritten(manifest: Manifest, tmp_path: Path) -> None:
    def take() -> None:
        with BundleWriter(tmp_path / "b") as new:
            add_all(new, manifest)
            (tmp_path / "b").write_bytes(b"mine")
            new.finish(manifest)

    with pytest.raises(OutputError, match="exists; choose another name"):
        take()
    assert (tmp_path / "b").read_bytes() == b"mine"
    assert left(tmp_path) == ["b"]


@pytest.mark.parametrize("folder", ["missing", "file", "/proc"])
def test_a_place_that_cannot_be_written(folder: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written"), BundleWriter(tmp_path / folder / "b"):
        pass


def test_a_read_only_file_system_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mkdtemp(*args: object, **options: object) -> str:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.mkdtemp", mkdtemp)
    with (
        pytest.raises(OutputError, match="the place is read-only for this user"),
        BundleWriter(tmp_path / "b"),
    ):
        pass


@pytest.mark.parametrize("step", ["add_file", "tool", "finish"])
def test_no_room_left_says_so_and_leaves_nothing(step: str, tmp_path: Path) -> None:
    """A file size limit stands in for the full disk: the kernel refuses the write in the same way."""
    script = """
import resource, sys
from pathlib import Path
from edgead.bundle.manifest import Manifest
from edgead.bundle.writer import BundleWriter
from edgead.errors import OutputError
step, place, golden = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
manifest = Manifest.from_json((golden / "manifest.json").read_bytes())
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    with BundleWriter(place / "b") as new:
        for name in manifest.files():
            new.add_file(name, golden / name)
        if step == "add_file":
            new.add_file("targets/model.bin", bytes(5000))
        if step == "tool":
            new.path("targets/model.bin").write_bytes(bytes(5000))
        new.finish(manifest)
except OutputError as err:
    print(err)
"""
    command = [sys.executable, "-c", script, step, tmp_path, GOLDEN]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "b cannot be written: no room is left (disk, quota or file size limit)" in result.stdout
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("manifest.json", "is reserved"),
        ("MANIFEST.sha256", "is reserved"),
        ("../evil", "is not a plain relative name"),
        ("/evil", "is not a plain relative name"),
        ("sub/.cache", "is not a plain relative name"),
        ("taken", "is taken"),
    ],
)
def test_names_are_checked_when_they_are_added(name: str, message: str, tmp_path: Path) -> None:
    def add() -> None:
        with BundleWriter(tmp_path / "b") as new:
            new.add_file("taken", b"")
            new.add_file(name, b"")

    with pytest.raises(InternalError, match=message):
        add()
    assert left(tmp_path) == []


def test_a_bundle_that_cannot_be_read_is_not_written(manifest: Manifest, tmp_path: Path) -> None:
    def link() -> None:
        with BundleWriter(tmp_path / "b") as new:
            add_all(new, manifest)
            new.path("targets/model.xml").symlink_to("/etc/passwd")
            new.finish(manifest)

    with pytest.raises(InternalError, match="refused to write a bundle"):
        link()
    with pytest.raises(InternalError, match="which was not added"), BundleWriter(tmp_path / "b") as new:
        new.finish(manifest)
    with pytest.raises(InternalError, match="is not a file"), BundleWriter(tmp_path / "b") as new:
        new.add_file("graph.onnx", tmp_path / "missing")
    with pytest.raises(InternalError, match="inside a with block"):
        BundleWriter(tmp_path / "b").add_file("graph.onnx", b"")
    assert left(tmp_path) == []


def test_a_reader_during_a_swap_sees_one_bundle_or_the_other(build: Build, tmp_path: Path) -> None:
    """The zip form is replaced by one rename: there is no moment without a bundle."""
    digests = {build(tmp_path / "b", form="zip")}
    script = """
import sys, time
from edgead.bundle.reader import open_bundle
end = time.monotonic() + 0.5
print("reading", flush=True)
while time.monotonic() < end:
    open_bundle(sys.argv[1]).close()
"""
    reading = subprocess.Popen([sys.executable, "-c", script, tmp_path / "b"], stdout=subprocess.PIPE)
    with reading:
        assert reading.stdout is not None
        assert reading.stdout.readline() == b"reading\n"
        while reading.poll() is None:
            digests.add(build(tmp_path / "b", form="zip", overwrite=True, extra=bytes(len(digests) % 2 + 1)))
    assert reading.returncode == 0
    assert len(digests) > 1


def test_the_bundle_is_readable_by_others(build: Build, tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        build(tmp_path / "b")
        build(tmp_path / "z", form="zip")
    finally:
        os.umask(old)
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "b" / _tree.MANIFEST).stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "z").stat().st_mode & 0o777 == 0o644
