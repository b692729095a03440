"""A strip from frame to decision: a rectangular network, trained, exported, run natively and in Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from edgead.bundle.reader import open_bundle
from edgead.detectors import model_file
from edgead.detectors._presets import PRESETS
from edgead.errors import UsageError
from edgead.imaging.frame import read_image
from edgead.runtimes.session import Session
from edgead.workflows.export import export, installed_defaults
from edgead.workflows.train import train
from edgead.workflows.verify import verify

FRAME = (60, 300)  # height, width
SIZE = (32, 160)
SMALL: dict[str, Any] = {
    "detector": "patchcore",
    "summary": "for tests",
    "config": {
        "backbone": "efficientnet_lite0",
        "taps": ["stage2", "stage3"],
        "geometry": {"height": 64, "width": 64},
    },
    "training": {"share": 1.0, "most": 500, "projection": 32},
}


@pytest.fixture(autouse=True)
def _small_preset(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(PRESETS, "strip", SMALL)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def strips(tmp_path: Path) -> Path:
    """MVTec layout: 20 good strips; for the test 4 good ones and 4 with a spot near the right end."""
    random = np.random.default_rng(3)
    root = tmp_path / "strips"

    def write(name: str, image: np.ndarray) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(root / name), image)

    def strip() -> np.ndarray:
        x = np.arange(FRAME[1])
        stripes = 25 * np.sin(x * 0.35 + random.uniform(0, 6))
        return np.clip(120 + stripes[None, :, None] + random.normal(0, 4, (*FRAME, 3)), 0, 255).astype(
            np.uint8
        )

    for number in range(20):
        write(f"train/good/{number:02}.png", strip())
    for number in range(4):
        write(f"test/good/{number:02}.png", strip())
        image, mask = strip(), np.zeros(FRAME, np.uint8)
        cv2.circle(mask, (260, 20), 9, 255, -1)
        image[mask > 0] = (20, 40, 230)
        write(f"test/spot/{number:02}.png", image)
        write(f"ground_truth/spot/{number:02}_mask.png", mask)
    return root


@pytest.mark.slow
def test_a_strip_is_trained_exported_and_judged_in_frame_coordinates(strips: Path, tmp_path: Path) -> None:
    model, bundle = tmp_path / "m", tmp_path / "b.edgead"
    train("strip", strips, model, size=SIZE)
    assert model_file.load(model)[0].geometry.input_size == SIZE
    targets = [*installed_defaults(search="+bank_search")[:1], "onnxruntime:fp32"]
    export(model, bundle, calib=strips, targets=targets, threads=1)

    report = verify(bundle, strips, model=model, threads=1)
    assert report.passed, report.to_json()
    for verdict in report.targets.values():
        assert verdict.accuracy.image_auroc == 1.0
        assert verdict.accuracy.pixel_auroc is not None
        assert verdict.accuracy.pixel_auroc > 0.95  # the mask went through the same window

    frame = read_image(strips / "test" / "spot" / "00.png")
    for target in targets:
        with open_bundle(bundle) as opened:
            with Session.open(opened, target=target, runtime="python", threads=1) as session:
                python = session.predict(frame)
            with Session.open(opened, target=target, threads=1) as session:  # native where it can be
                native, driver = session.predict(frame), session.runtime
        assert driver == "native" or not target.startswith("openvino")
        assert native.score_raw == python.score_raw
        assert native.regions == python.regions
        np.testing.assert_array_equal(native.anomaly_map, python.anomaly_map)
        assert native.anomaly_map.shape == SIZE
        assert native.decision == "NG"
        x, y, width, height = native.regions[0].box
        assert x <= 260 < x + width <= FRAME[1]
        assert y <= 20 < y + height <= FRAME[0]
        assert x > FRAME[1] / 2  # of the frame's pixels, not of the network's


def test_a_size_that_cannot_be_is_refused_before_any_image_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="input size 16x160"):
        train("strip", tmp_path / "nowhere", tmp_path / "m", size=(16, 160))
    with pytest.raises(UsageError, match=r"cpr: input size 90x200.* give multiples of 20"):
        train("cpr", tmp_path / "nowhere", tmp_path / "m", size=(90, 200))
