"""`edgead train` on a handful of small photos made here; the killed one runs in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from edgead.cli.app import build
from edgead.data.folder import content_hash
from edgead.detectors import _presets, model_file
from edgead.errors import ModelError

SMALL = {
    "detector": "simplenet",
    "summary": "tiny, for tests",
    "config": {
        "backbone": "efficientnet_lite0",
        "taps": ["stage1", "stage2"],
        "tap_dim": 16,
        "embedding_dim": 24,
        "hidden_dim": 8,
        "geometry": {"height": 32, "width": 32},
    },
    "training": {"meta_epochs": 4, "steps": 3, "batch_patches": 256, "standardise": True, "noise": 0.5},
}


SMALL_CPR = {
    "detector": "cpr",
    "summary": "tiny, for tests",
    "config": {
        "backbone": "efficientnet_lite0",
        "taps": ["stage2", "stage3"],
        "dim": 4,
        "nearest": 3,
        "clusters": 4,
        "geometry": {"height": 80, "width": 80},
    },
    "training": {"steps": 9, "texture_steps": 7, "batch": 1, "pairs": 10},
}


@pytest.fixture(autouse=True)
def _small_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_presets.PRESETS, "small", SMALL)
    monkeypatch.setitem(_presets.PRESETS, "small_cpr", SMALL_CPR)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(12):
        pixels = random.integers(100, 150, (40, 50, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number:02}.png"), pixels)
    return folder


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(build(), [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_good_images_become_a_model(photos: Path, tmp_path: Path) -> None:
    code, out, err = run("train", "small", photos, "-o", tmp_path / "m", "--json", "--roi", "5,5,30,20")
    assert code == 0, err
    values = json.loads(out)
    assert (values["trained"], values["reserved"], values["skipped"]) == (6, 6, [])
    detector, info = model_file.load(tmp_path / "m")
    assert detector.geometry.roi == (5, 5, 30, 20)
    assert info.train_hashes is not None
    assert info.reserved_hashes is not None
    everything = {content_hash(path) for path in photos.iterdir()}
    assert set(info.train_hashes) | set(info.reserved_hashes) == everything
    assert not set(info.train_hashes) & set(info.reserved_hashes)
    assert info.provenance["kind"] == "trained"
    assert len(info.provenance["history"]) == 4
    assert not model_file.partial_path(tmp_path / "m").exists()


def test_large_frames_are_seen_in_tiles(photos: Path, tmp_path: Path) -> None:
    arguments = ("train", "small", photos, "-o", tmp_path / "m", "--json", "--tiles", "1x2", "--steps", "1")
    code, out, err = run(*arguments, "--size", "32x64", "--overlap", "12")
    assert code == 0, err
    assert "1x2 tiles of 32x64, of images of 32x116 pixels" in err
    assert (json.loads(out)["trained"], json.loads(out)["reserved"]) == (6, 6)  # by image
    detector, info = model_file.load(tmp_path / "m")
    assert detector.geometry.image_size == (32, 116)
    assert detector.geometry.input_size == (32, 64)
    assert info.config["geometry"]["tiles"] == {"rows": 1, "columns": 2, "height": 32, "width": 64}
    plain = run("train", "small", photos, "-o", tmp_path / "plain", "--steps", "1")
    assert plain[0] == 0, plain[2]
    assert "tiles" not in model_file.read_info(tmp_path / "plain").config["geometry"]
    for wrong, words in (
        (("--tiles", "6"), "--tiles '6': give rows x columns"),
        (("--tiles", "1x2", "--overlap", "13"), "an overlap of 13 pixels does not fit"),
        (("--overlap", "12"), "say how many, for instance --tiles 2x3"),
    ):
        code, _, err = run("train", "small", photos, "-o", tmp_path / "x", *wrong)
        assert code == 2, err
        assert words in " ".join(err.split())


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n broken"], ids=["empty", "corrupt"])
def test_one_bad_image_is_skipped_and_said(photos: Path, tmp_path: Path, content: bytes) -> None:
    (photos / "bad.png").write_bytes(content)
    code, out, err = run("train", "small", photos, "-o", tmp_path / "m", "--json")
    assert code == 8
    assert "bad.png" in err
    assert [Path(item["path"]).name for item in json.loads(out)["skipped"]] == ["bad.png"]
    info = model_file.read_info(tmp_path / "m")
    assert content_hash(photos / "bad.png") not in {*(info.train_hashes or ()), *(info.reserved_hashes or ())}


def test_bad_arguments_have_the_documented_codes(photos: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    taken = tmp_path / "taken"
    taken.mkdir()
    for code, words, arguments in [
        (2, "unknown detector 'simplenett'", ("simplenett", photos, "-o", tmp_path / "m")),
        (2, "exists", ("small", photos, "-o", taken)),
        (2, "is not a MODEL", ("small", photos, "-o", taken, "--overwrite")),
        (2, "make it first", ("small", photos, "-o", tmp_path / "no" / "m")),
        (2, "--roi", ("small", photos, "-o", tmp_path / "m", "--roi", "1,2,3")),
        (2, "between 0 and 1", ("small", photos, "-o", tmp_path / "m", "--reserve", "1")),
        (5, "no images", ("small", empty, "-o", tmp_path / "m")),
        (5, "does not exist", ("small", tmp_path / "none", "-o", tmp_path / "m")),
        (5, "looks like", ("small", photos, "-o", tmp_path / "m", "--weights", _wrong_weights(tmp_path))),
    ]:
        found, out, err = run("train", *arguments)
        assert (found, out) == (code, ""), err
        assert words in err
        assert "Traceback" not in err
    assert not (tmp_path / "m").exists()


def _wrong_weights(folder: Path) -> Path:
    path = folder / "wrong.pth"
    torch.save({"conv.weight": torch.ones(3)}, path)
    return path


def test_options_of_one_detector_reach_it_and_no_other(photos: Path, tmp_path: Path) -> None:
    textures = tmp_path / "textures"
    textures.mkdir()
    cv2.imwrite(str(textures / "red.png"), np.full((30, 40, 3), (0, 0, 255), np.uint8))
    options = ("--foreground", "off", "--textures", textures, "--bank-budget", 0.03, "--steps", 2)
    code, _, err = run("train", "small_cpr", photos, "-o", tmp_path / "m", *options)
    assert code == 0, err
    _, info = model_file.load(tmp_path / "m")
    assert info.provenance["textures"]["files"] == 1
    assert info.provenance["foreground"] == {"asked": "off", "used": False}
    assert [entry["step"] for entry in info.provenance["history"]] == [2]
    # 25 × 4 frequencies of 4 bytes; 4 values of 2 bytes at 20² and 10² positions: 4,400 of 31,457 bytes.
    assert info.config["references"] == min(31_457 // 4_400, 6)
    assert info.config["foreground"] is False
    for words, arguments in [
        ("--textures", ("small", "--textures", textures)),
        ("simplenet takes no such option, it learns from good images alone", ("small", "--foreground", "on")),
        (
            "cpr takes --bank-budget, --bank-type, --foreground, --textures",
            ("small_cpr", "--penalty", textures),
        ),
        ("--foreground maybe: use auto, on, off", ("small_cpr", "--foreground", "maybe")),
    ]:
        code, out, err = run("train", arguments[0], photos, "-o", tmp_path / "n", *arguments[1:])
        assert (code, out) == (2, ""), err
        assert words in err
    assert not (tmp_path / "n").exists()


@pytest.mark.parametrize(
    "change", [{"dim": 6}, {"geometry": {"height": 160, "width": 160}}, {"references": 5}]
)
def test_a_bank_of_another_shape_than_the_config_says_is_refused(
    photos: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    assert run("train", "small_cpr", photos, "-o", tmp_path / "m", "--steps", 1)[0] == 0
    file = tmp_path / "m" / "model.json"
    values = json.loads(file.read_text())
    values["config"] |= change
    file.write_text(json.dumps(values))
    with pytest.raises(ModelError, match="does not hold this detector's weights"):
        model_file.load(tmp_path / "m")


KILLED = """
import json, sys
from edgead.cli.app import main
from edgead.detectors import _presets
_presets.PRESETS["small"] = json.loads(sys.argv.pop(1))
main()
"""


def _start(preset: dict[str, object], *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, json.dumps(preset), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        # A shell's background job, and all below it, ignores Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_a_stopped_training_resumes_to_the_same_weights(
    photos: Path, tmp_path: Path, sign: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = {**SMALL, "training": {**SMALL["training"], "meta_epochs": 200, "patience": 200}}  # type: ignore[dict-item]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    process = _start(preset, "train", "small", photos, "-o", cut)
    state = model_file.partial_path(cut) / "state.safetensors"
    until = time.monotonic() + 60
    while not state.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    process.send_signal(sign)
    _, err = process.communicate(timeout=60)
    assert state.exists(), err
    assert not cut.exists()
    if sign == signal.SIGINT:
        assert process.returncode == 130
        assert "the same command goes on from there" in err
    again = _start(preset, "train", "small", photos, "-o", cut)
    _, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert "resuming after" in err
    monkeypatch.setitem(_presets.PRESETS, "small", preset)
    assert run("train", "small", photos, "-o", whole)[0] == 0
    hashes = [model_file.read_info(path).weights_sha256 for path in (whole, cut)]
    assert hashes[0] == hashes[1]
    assert not state.parent.exists()


def test_an_unfinished_training_of_other_images_is_refused_or_restarted(photos: Path, tmp_path: Path) -> None:
    partial = model_file.partial_path(tmp_path / "m")
    partial.mkdir()
    (partial / "state.safetensors").write_bytes(b"something else")
    code, _, err = run("train", "small", photos, "-o", tmp_path / "m")
    assert code == 2
    assert "--restart" in err
    assert run("train", "small", photos, "-o", tmp_path / "m", "--restart")[0] == 0
