"""Bad input, end to end through the command line: the documented exit code, a clear message, nothing lost.

What is tested where (files of tests/cli unless a path is given):

=============================  ====  ==================================================================
input                          code  proven by
=============================  ====  ==================================================================
folder with no images          5     here (export, verify), test_train_verb, test_run, test_bench_verb
one corrupt PNG among good     8     here (train, export, verify, run), test_train_verb, test_run
16-bit PNG                     8/0   here (without and with --bit-depth), test_run
palette, grey and RGBA PNG     0     here (train, export, verify, run), unit/imaging/test_image_frame
dangling link                  8     here (train, export, verify, run)
0-byte file                    8     here (train, export, verify, run), test_train_verb, test_run
1×1 image                      0     here (train, export, verify, run), test_run
20,000×20,000 image            8     here (time and memory too), unit/imaging/test_image_frame
wrong MVTec layout             5     here (train, export), test_verify_verb, unit/data/test_folder
masks of another size          5     test_verify_verb, unit/data/test_masks
test among training images     5     test_verify_verb, unit/workflows/test_verify_workflow
all calibration trained on     5     unit/workflows/test_export_workflow
disk full                      2     here (train, export), test_run, unit/bundle/test_writer
read-only output               2     here (train, export, run, quickstart), unit/bundle/test_writer
Ctrl-C                         130   here (export), test_train_verb, test_run, unit/bundle/test_writer
kill -9, resume                      test_train_verb
one flipped byte               6     here (every verb), unit/bundle/test_reader
truncated zip                  6     here (every verb), unit/bundle/test_zip
zip with ../ entries           6     here (every verb), unit/bundle/test_zip
manifest of schema 99          6     here (every verb), unit/bundle/test_manifest
weights of another backbone    5     here (train), test_train_verb, test_import_verb
=============================  ====  ==================================================================
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from edgead.bundle.writer import pack

ORT = ("--target", "onnxruntime:fp32")
UNREADABLE = ["corrupt.png", "dangling.png", "huge.png", "sixteen.png", "zero.png"]


def huge_png() -> bytes:
    """A whole, valid PNG of 20,000×20,000 black and white pixels in 50 kB; 400 MB once it is decoded."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(20_000 * (1 + 20_000 // 8)), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def add_kinds(folder: Path) -> None:
    """Files of every kind beside those in `folder`: four that can be used and the `UNREADABLE`."""
    random = np.random.default_rng(3)
    colours = random.integers(80, 140, (96, 96, 3)).astype(np.uint8)
    Image.fromarray(colours).quantize(32).save(folder / "palette.png")
    Image.fromarray(np.dstack([colours, colours[..., :1]])).save(folder / "rgba.png")
    Image.fromarray(colours[..., 0]).save(folder / "grey.png")
    Image.new("RGB", (1, 1), (90, 100, 110)).save(folder / "one_pixel.png")
    (folder / "zero.png").write_bytes(b"")
    (folder / "dangling.png").symlink_to("nowhere.png")
    whole = cv2.imencode(".png", colours)[1].tobytes()
    (folder / "corrupt.png").write_bytes(whole[: len(whole) // 2])
    (folder / "huge.png").write_bytes(huge_png())
    assert cv2.imwrite(str(folder / "sixteen.png"), random.integers(1600, 2200, (96, 96)).astype(np.uint16))


@pytest.fixture
def motley(spine: Any, tmp_path: Path) -> Path:
    """The spine's 24 good images, and every kind of file among them."""
    folder = tmp_path / "motley"
    shutil.copytree(spine.data / "train" / "good", folder)
    add_kinds(folder)
    return folder


def skipped(result: Any) -> list[str]:
    return sorted(Path(item["path"]).name for item in json.loads(result.stdout)["skipped"])


@pytest.mark.usefixtures("tiny")
def test_every_kind_of_file_in_training(edgead: Any, motley: Path, tmp_path: Path) -> None:
    result = edgead("train", "tiny", motley, "-o", tmp_path / "m", "--json")
    assert result.exit_code == 8, result.stderr
    assert skipped(result) == UNREADABLE
    values = json.loads(result.stdout)
    assert values["trained"] + values["reserved"] == 28
    told = " ".join(result.stderr.split())
    assert "--bit-depth" in told
    assert "has more than 134,217,728 pixels" in told
    result = edgead("train", "tiny", motley, "-o", tmp_path / "m", "--json", "--bit-depth", 12, "--overwrite")
    assert result.exit_code == 8
    assert skipped(result) == [name for name in UNREADABLE if name != "sixteen.png"]


def test_every_kind_of_file_in_calibration(
    edgead: Any, tiny_model: Path, motley: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "b.edgead"
    result = edgead("export", tiny_model, "--calib", motley, "-o", bundle, *ORT, "--json")
    assert result.exit_code == 8, result.stderr
    assert skipped(result) == UNREADABLE
    assert json.loads(result.stdout)["held_out"] == 14
    assert len(json.loads((bundle / "manifest.json").read_text())["provenance"]["held_out"]) == 14


def test_every_kind_of_file_in_a_test_set(edgead: Any, spine: Any, tmp_path: Path) -> None:
    shutil.copytree(spine.data / "test", tmp_path / "data" / "test")
    add_kinds(tmp_path / "data" / "test" / "good")
    result = edgead("verify", spine.bundle, tmp_path / "data", *ORT, "--json")
    assert result.exit_code == 8, result.stderr
    assert skipped(result) == UNREADABLE
    assert json.loads(result.stdout)["images"] == 16


def test_every_kind_of_file_on_the_line(edgead: Any, spine: Any, motley: Path, tmp_path: Path) -> None:
    result = edgead("run", spine.bundle, motley, "-o", tmp_path / "out", *ORT, "--overlays", "none")
    assert result.exit_code == 8, result.stderr
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 33
    errors = [line for line in lines if line["decision"] == "ERROR"]
    assert [Path(line["path"]).name for line in errors] == UNREADABLE


def test_a_huge_image_costs_neither_time_nor_memory(part: Path, tmp_path: Path) -> None:
    """A process of its own: OpenCV takes its limit at import, and peak memory is the process's."""
    (tmp_path / "huge.png").write_bytes(huge_png())
    code = (
        "import atexit, resource, sys\n"
        "from edgead.cli.app import main\n"
        "atexit.register(lambda: print(resource.getrusage(resource.RUSAGE_SELF), file=sys.stderr))\n"
        "main()\n"
    )
    peaks = {}
    (tmp_path / "none.png").write_bytes(b"")
    for name in ("none.png", "huge.png"):
        done = subprocess.run(
            [sys.executable, "-c", code, "run", part, tmp_path / name, "-o", tmp_path / f"{name}.out", *ORT],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 5, done.stderr
        words = done.stderr.replace("(", " ").replace(",", " ").split()
        usage = dict(word.split("=") for word in words if word.startswith("ru_"))
        peaks[name] = (int(usage["ru_maxrss"]) / 1024, float(usage["ru_utime"]))
    assert "has more than 134,217,728 pixels" in done.stderr
    assert peaks["huge.png"][0] - peaks["none.png"][0] < 50, "MB"
    assert peaks["huge.png"][1] - peaks["none.png"][1] < 2, "seconds"


def test_no_images(edgead: Any, spine: Any, tiny_model: Path, tmp_path: Path) -> None:
    empty = tmp_path / "data"
    for folder in ("test/good", "train/good"):
        (empty / folder).mkdir(parents=True)
    (empty / "test" / "good" / "readme.txt").write_text("none yet")
    for arguments in (
        ("export", tiny_model, "--calib", empty, "-o", tmp_path / "b", *ORT),
        ("export", tiny_model, "--calib", empty / "test" / "good", "-o", tmp_path / "b", *ORT),
        ("export", tiny_model, "--calib", tmp_path / "missing", "-o", tmp_path / "b", *ORT),
        ("verify", spine.bundle, empty),
        ("verify", spine.bundle, tmp_path / "missing"),
    ):
        result = edgead(*arguments)
        assert (result.exit_code, result.stdout) == (5, ""), arguments
        assert "no images in" in result.stderr or "does not exist" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_folder_of_nothing_but_broken_images(
    edgead: Any, spine: Any, tiny_model: Path, tmp_path: Path
) -> None:
    for folder in ("test/good", "train/good"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        (tmp_path / "data" / folder / f"{folder[:4]}.png").write_bytes(b"\x89PNG " + folder.encode())
    for arguments in (
        ("train", "simplenet", tmp_path / "data", "-o", tmp_path / "m"),
        ("export", tiny_model, "--calib", tmp_path / "data", "-o", tmp_path / "b", *ORT),
        ("verify", spine.bundle, tmp_path / "data"),
    ):
        result = edgead(*arguments)
        assert (result.exit_code, result.stdout) == (5, ""), arguments
        assert "not one of 1 images could be read" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_layouts_that_mix_good_and_bad(edgead: Any, spine: Any, tiny_model: Path, tmp_path: Path) -> None:
    """Defects never slip in among good images: not from a test folder, nor from a root without train/good."""
    root = tmp_path / "data"
    shutil.copytree(spine.data / "test", root / "test")
    for data in (root, root / "test"):
        for arguments in (
            ("train", "simplenet", data, "-o", tmp_path / "m"),
            ("export", tiny_model, "--calib", data, "-o", tmp_path / "b", *ORT),
        ):
            result = edgead(*arguments)
            assert (result.exit_code, result.stdout) == (5, ""), arguments
            assert "good" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.usefixtures("tiny")
def test_weights_of_another_backbone(edgead: Any, spine: Any, tmp_path: Path) -> None:
    import torch

    from edgead.backbones.resnet18 import build

    torch.save(build(("layer4",)).state_dict(), tmp_path / "resnet18.pth")
    result = edgead("train", "tiny", spine.data, "-o", tmp_path / "m", "--weights", tmp_path / "resnet18.pth")
    assert (result.exit_code, result.stdout) == (5, "")
    told = " ".join(result.stderr.split())
    assert "does not fit the backbone efficientnet_lite0" in told
    assert "It looks like the weights of resnet18" in told
    assert not (tmp_path / "m").exists()


def flipped_byte(part: Path) -> Path:
    graph = part / "graph.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 0x10
    graph.write_bytes(data)
    return part


def truncated_zip(part: Path) -> Path:
    pack(part, part.with_name("whole.zip"))
    whole = part.with_name("whole.zip").read_bytes()
    cut = part.with_name("cut.zip")
    cut.write_bytes(whole[: len(whole) * 2 // 3])
    return cut


def zip_that_climbs(part: Path) -> Path:
    pack(part, part.with_name("climbing.zip"))
    with zipfile.ZipFile(part.with_name("climbing.zip"), "a") as archive:
        archive.writestr("../../climbed.txt", "outside")
    return part.with_name("climbing.zip")


def schema_99(part: Path) -> Path:
    import hashlib

    manifest = part / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema": 1,', '"schema": 99,', 1))
    hashes = part / "MANIFEST.sha256"
    lines = [line for line in hashes.read_text().splitlines() if not line.endswith("manifest.json")]
    lines.append(f"{hashlib.sha256(manifest.read_bytes()).hexdigest()}  manifest.json")
    hashes.write_text("".join(f"{line}\n" for line in sorted(lines, key=lambda line: line[66:])))
    return part


@pytest.mark.parametrize("verb", ["run", "verify", "bench", "inspect", "threshold"])
@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (flipped_byte, "graph.onnx is damaged"),
        (truncated_zip, "zip"),
        (zip_that_climbs, "../../climbed.txt"),
        (schema_99, "schema 99"),
    ],
)
def test_a_bundle_that_is_not_sound_is_6_everywhere(
    edgead: Any,
    part: Path,
    grey: Callable[..., Path],
    tmp_path: Path,
    verb: str,
    damage: Callable[[Path], Path],
    told: str,
) -> None:
    image = grey("data/test/good/a.png", 40)
    bundle = damage(part)
    before = sorted(tmp_path.rglob("*"))
    options: dict[str, tuple[object, ...]] = {
        "run": (image, "-o", tmp_path / "out"),
        "verify": (tmp_path / "data",),
        "bench": ("--images", image),
        "inspect": (),
        "threshold": ("--set", 100),
    }
    result = edgead(verb, bundle, *options[verb])
    assert (result.exit_code, result.stdout) == (6, "")
    assert told in result.stderr.replace("\n", "")
    assert sorted(tmp_path.rglob("*")) == before
    assert not list(tmp_path.parent.glob("climbed.txt"))


START = """
import json, resource, signal, sys
from edgead.cli.app import main
from edgead.detectors import _presets
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job may ignore it
preset, limit = json.loads(sys.argv.pop(1)), int(sys.argv.pop(1))
_presets.PRESETS["tiny"] = preset
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
main()
"""


def start(preset: dict[str, Any], limit: int, *arguments: object) -> subprocess.Popen[str]:
    """The command line in a process of its own; files may grow to `limit` bytes, as on a disk almost full."""
    return subprocess.Popen(
        [sys.executable, "-c", START, json.dumps(preset), str(limit), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore", "NO_COLOR": "1"},
    )


def test_a_full_disk_in_training(edgead: Any, spine: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
    process = start(tiny, 20_000, "train", "tiny", spine.data, "-o", tmp_path / "m")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (2, ""), err
    assert "cannot be written" in err
    assert not (tmp_path / "m").exists()
    assert edgead("train", "tiny", spine.data, "-o", tmp_path / "m").exit_code == 0, "with room again"


def test_a_full_disk_in_export(spine: Any, tiny: dict[str, Any], tiny_model: Path, tmp_path: Path) -> None:
    words = ("export", tiny_model, "--calib", spine.data, "-o", tmp_path / "b.edgead", *ORT)
    process = start(tiny, 60_000, *words)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (2, ""), err
    assert "cannot write" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("line", ["lowering", "compiling openvino:fp32"])
def test_ctrl_c_in_export(
    edgead: Any, spine: Any, tiny: dict[str, Any], tiny_model: Path, tmp_path: Path, line: str
) -> None:
    words = ["export", tiny_model, "--calib", spine.data, "-o", tmp_path / "b.edgead"]
    words += ["--target", "openvino:fp32", *ORT]
    process = start(tiny, 0, *words)
    assert process.stderr is not None
    until = time.monotonic() + 120
    while line not in process.stderr.readline() and time.monotonic() < until and process.poll() is None:
        pass
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, ""), err
    assert "interrupted; no bundle was written" in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())
    if line == "lowering":
        assert edgead(*words).exit_code == 0


@pytest.mark.usefixtures("tiny")
@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder that even root cannot write to")
def test_an_output_that_cannot_be_written(
    edgead: Any, spine: Any, tiny_model: Path, part: Path, grey: Callable[..., Path], tmp_path: Path
) -> None:
    locked, below_a_file = Path("/sys/kernel"), grey("a.png", 40)
    for folder in (locked, below_a_file):
        for arguments in (
            ("train", "tiny", spine.data, "-o", folder / "m"),
            ("export", tiny_model, "--calib", spine.data, "-o", folder / "b.edgead", *ORT),
            ("run", part, grey("a.png", 40), "-o", folder / "out"),
            ("quickstart", "-o", folder / "quickstart"),
        ):
            result = edgead(*arguments)
            assert (result.exit_code, result.stdout) == (2, ""), result.stderr
            assert "cannot be written" in " ".join(result.stderr.split())
