"""`Session.predict` beside a chain of other libraries: Pillow, ONNX Runtime, SciPy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from PIL import Image
from scipy import ndimage

from edgead.bundle.reader import open_bundle
from edgead.errors import RuntimeMissingError, UsageError
from edgead.imaging.frame import Frame, read_image
from edgead.runtimes.session import Session, first_available
from edgead.types import Prediction, Thresholds

ORT = "onnxruntime:fp32"


def chain(graph: Path, image: Path) -> tuple[float, np.ndarray]:
    """(score, map) by other means, the map in float64; the preset's score is the map's maximum."""
    with Image.open(image) as picture:
        pixels = np.asarray(picture.convert("RGB").resize((256, 256), Image.Resampling.BILINEAR))
    session = onnxruntime.InferenceSession(graph.read_bytes(), providers=["CPUExecutionProvider"])
    raw = session.run(["anomaly_map"], {"image": pixels[None]})[0][0, 0]
    large = ndimage.zoom(raw.astype(np.float64), 8, order=1, mode="nearest", grid_mode=True)
    blurred = ndimage.gaussian_filter(large, 4.0, mode="reflect", truncate=4.0)
    return float(blurred.max()), blurred


def check(prediction: Prediction, limits: Thresholds, score: float, wanted: np.ndarray, size: Any) -> None:
    scale = np.ptp(wanted)
    assert prediction.score_raw == pytest.approx(score, abs=1e-5 * scale)
    assert np.abs(prediction.anomaly_map - wanted).max() <= 1e-5 * scale
    normalised = 0.5 + 0.5 * (score - limits.image) / (limits.image - limits.image_median)
    assert prediction.score == pytest.approx(normalised, abs=1e-4)
    assert prediction.decision == ("NG" if normalised >= 0.5 else "OK")
    over = wanted >= limits.pixel
    unsure = np.abs(wanted - limits.pixel) <= 1e-5 * scale
    assert ((prediction.mask == 255) == over)[~unsure].all()
    low = limits.pixel_median
    heat = np.clip(255 * (wanted - low) / (2 * (limits.pixel - low)), 0, 255)
    assert np.abs(prediction.heatmap - heat).max() <= 0.51
    labels, count = ndimage.label(prediction.mask, np.ones((3, 3)))
    boxes, areas, peaks = [], [], []
    for index, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        x, x_end = math.floor(columns.start * size[0] / 256), math.ceil(columns.stop * size[0] / 256)
        y, y_end = math.floor(rows.start * size[1] / 256), math.ceil(rows.stop * size[1] / 256)
        boxes.append((x, y, x_end - x, y_end - y))
        areas.append(max(1, round((labels == index).sum() * size[0] * size[1] / 256**2)))
        peaks.append(wanted[labels == index].max())
    order = np.argsort(peaks)[::-1]
    assert [region.box for region in prediction.regions] == [boxes[place] for place in order]
    assert [region.area for region in prediction.regions] == [areas[place] for place in order]
    found = [region.peak for region in prediction.regions]
    assert found == pytest.approx([peaks[place] for place in order], abs=1e-5 * scale)
    assert len(found) == count


@pytest.mark.parametrize("name", ["test/good/000.png", "test/spot/001.png", "test/spot/004.png"])
def test_predict_is_the_chain_of_other_libraries(spine: Any, name: str) -> None:
    path = spine.data / name
    score, wanted = chain(spine.bundle / "graph.onnx", path)
    with open_bundle(spine.bundle) as bundle, Session.open(bundle, ORT, threads=2) as session:
        prediction = session.predict(read_image(path))
        check(prediction, bundle.entry(ORT).thresholds, score, wanted, (96, 96))
        assert prediction.target == ORT
        assert set(prediction.timings_ms) == {"preprocess", "engine", "post"}
        assert all(value > 0 for value in prediction.timings_ms.values())


@pytest.mark.realdata
def test_predict_on_a_real_frame_of_another_size(spine: Any, bottle: Path) -> None:
    """A 900×900 photograph through the same bundle: far from what it was trained on, so full of regions."""
    path = bottle / "test" / "broken_large" / "000.png"
    with Image.open(path) as picture:
        size = picture.size
    score, wanted = chain(spine.bundle / "graph.onnx", path)
    with open_bundle(spine.bundle) as bundle, Session.open(bundle, ORT, threads=2) as session:
        check(session.predict(read_image(path)), bundle.entry(ORT).thresholds, score, wanted, size)


def test_results_stay_when_the_next_frame_comes(spine: Any) -> None:
    with open_bundle(spine.bundle) as bundle, Session.open(bundle, threads=2) as session:
        first = session.predict(read_image(spine.data / "test" / "spot" / "000.png"))
        kept = [array.copy() for array in (first.anomaly_map, first.heatmap, first.mask)]
        session.predict(read_image(spine.data / "test" / "good" / "000.png"))
        for now, before in zip((first.anomaly_map, first.heatmap, first.mask), kept, strict=True):
            assert (now == before).all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_an_error(altered: Any, value: float) -> None:
    def change(root: Path, manifest: dict[str, Any]) -> None:
        model = onnx.load(root / "graph.onnx")
        (tail,) = (one for one in model.graph.initializer if one.name == model.graph.node[-1].input[1])
        tail.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tail) * np.float32(value), tail.name))
        onnx.save(model, root / "graph.onnx")

    with open_bundle(altered(change)) as bundle, Session.open(bundle, ORT, threads=2) as session:
        prediction = session.predict(Frame(np.full((40, 50), 90, np.uint8), "MONO8"))
    assert prediction.decision == "ERROR"
    assert math.isnan(prediction.score)


def test_the_first_target_that_can_run_here_is_taken(spine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    with open_bundle(spine.bundle) as bundle:
        assert first_available(bundle) == bundle.targets[0]
        monkeypatch.setitem(sys.modules, "openvino", None)
        # for libedgead: a library that this process has loaded before is found by its name alone
        monkeypatch.setenv("EDGEAD_OPENVINO_LIBRARY", "/none/libopenvino_c.so")
        assert first_available(bundle) == ORT
        with pytest.raises(RuntimeMissingError, match=r"edgead\[openvino\]"):
            Session.open(bundle, "openvino:fp32")
        with pytest.raises(UsageError, match="no target"):
            Session.open(bundle, "openvino:int8")
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        monkeypatch.setenv("EDGEAD_ONNXRUNTIME_LIBRARY", "/none/libonnxruntime.so")
        with pytest.raises(RuntimeMissingError, match="no target of this bundle can run here"):
            Session.open(bundle)
