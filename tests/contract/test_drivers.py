"""libedgead and Python drive the same engine: every bit of what they say of a frame is the same."""

from __future__ import annotations

import dataclasses
import math
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgead.bundle.reader import open_bundle
from edgead.errors import (
    BundleError,
    EngineError,
    ImageError,
    InternalError,
    RuntimeMissingError,
    UsageError,
)
from edgead.imaging.frame import Frame, read_image
from edgead.runtimes.session import Session
from edgead.types import PIXEL_FORMATS, Prediction

OPENVINO = "openvino:fp32"
BITS = {"MONO10": 10, "MONO12": 12, "MONO16": 16}


def frame_of(pixel_format: str, height: int, width: int, seed: int, padding: int = 0) -> Frame:
    """Random pixels with a few flat blocks; rows lie `padding` pixels further apart than they must."""
    random = np.random.default_rng(seed)
    channels = 3 if pixel_format in ("RGB8", "BGR8") else 4 if pixel_format in ("RGBA8", "BGRA8") else 1
    bits = BITS.get(pixel_format, 8)
    shape = (height, width + padding) if channels == 1 else (height, width + padding, channels)
    pixels = random.integers(0, 1 << bits, shape, np.uint16 if bits > 8 else np.uint8)
    y, x = random.integers(0, height), random.integers(0, width)
    pixels[y : y + height // 3 + 1, x : x + width // 3 + 1] = random.integers(0, 1 << bits)
    return Frame(pixels[:, :width], pixel_format)


def assert_same(native: Prediction, python: Prediction) -> None:
    assert np.float32(native.score_raw).tobytes() == np.float32(python.score_raw).tobytes()
    assert native.score == python.score or (math.isnan(native.score) and math.isnan(python.score))
    assert (native.decision, native.target) == (python.decision, python.target)
    assert native.regions == python.regions
    for name in ("anomaly_map", "heatmap", "mask"):
        left, right = getattr(native, name), getattr(python, name)
        assert (left.dtype, left.shape) == (right.dtype, right.shape)
        assert left.tobytes() == right.tobytes(), name


@pytest.fixture(scope="module")
def pair(spine: Any) -> Iterator[tuple[Session, Session]]:
    """(native, python) on the spine's bundle, one thread each."""
    with (
        open_bundle(spine.bundle) as bundle,
        Session.open(bundle, OPENVINO, threads=1, runtime="native") as native,
        Session.open(bundle, OPENVINO, threads=1, runtime="python") as python,
    ):
        assert (native.runtime, python.runtime) == ("native", "python")
        yield native, python


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pixel_format=st.sampled_from(sorted(PIXEL_FORMATS)),
    height=st.integers(3, 333),
    width=st.integers(3, 333),
    seed=st.integers(0, 2**32),
    padding=st.integers(0, 9),
)
def test_predictions_are_the_same_bits(
    pair: tuple[Session, Session], pixel_format: str, height: int, width: int, seed: int, padding: int
) -> None:
    native, python = pair
    frame = frame_of(pixel_format, height, width, seed, padding)
    assert_same(native.predict(frame), python.predict(frame))


@pytest.mark.parametrize("pixel_format", sorted(PIXEL_FORMATS))
def test_every_pixel_format_at_a_camera_s_size(pair: tuple[Session, Session], pixel_format: str) -> None:
    native, python = pair
    frame = frame_of(pixel_format, 1024, 1281, 7, 3)
    found = native.predict(frame)
    assert_same(found, python.predict(frame))
    for left, right in zip(native.scores(frame), python.scores(frame), strict=True):
        assert np.asarray(left).tobytes() == np.asarray(right).tobytes()


def test_real_images_and_network_pixels(spine: Any, pair: tuple[Session, Session]) -> None:
    native, python = pair
    decisions = set()
    for path in sorted((spine.data / "test").rglob("*.png")):
        frame = read_image(path)
        found = native.predict(frame)
        assert_same(found, python.predict(frame))
        decisions.add(found.decision)
        assert set(found.timings_ms) == {"preprocess", "engine", "post"}
        assert all(value > 0 for value in found.timings_ms.values())
    assert "NG" in decisions
    random = np.random.default_rng(3)
    pixels = random.integers(0, 256, (1, *native.geometry.input_size, 3), np.uint8)
    left, right = native.scores_of(pixels), python.scores_of(pixels)
    assert (left.score_raw, left.map_max) == (right.score_raw, right.map_max)
    assert left.anomaly_map.tobytes() == right.anomaly_map.tobytes()
    for session in pair:
        with pytest.raises(InternalError, match="uint8"):
            session.scores_of(pixels[:, 1:])


@pytest.mark.parametrize(
    "geometry",
    [
        {"roi": [11, 5, 61, 70]},
        {"roi": [0, 0, 1, 1]},
        {"resampler": "opencv_linear", "roi": [3, 2, 90, 77]},
        {"mode": "shorter_side", "height": 293, "width": 293, "window": [256, 256]},
        {"mode": "shorter_side", "height": 280, "width": 280, "window": [256, 256], "roi": [7, 9, 50, 80]},
        {"height": 300, "width": 270, "window": [256, 256]},
    ],
    ids=str,
)
def test_geometries(altered: Callable[..., Path], geometry: dict[str, Any]) -> None:
    def change(root: Path, manifest: dict[str, Any]) -> None:
        manifest["geometry"] |= geometry

    with (
        open_bundle(altered(change)) as bundle,
        Session.open(bundle, OPENVINO, threads=1, runtime="native") as native,
        Session.open(bundle, OPENVINO, threads=1, runtime="python") as python,
    ):
        for seed, (pixel_format, height, width) in enumerate(
            [("MONO8", 96, 101), ("BAYER_GB8", 97, 99), ("BGRA8", 480, 641), ("MONO12", 119, 128)]
        ):
            frame = frame_of(pixel_format, height, width, seed, 5)
            assert_same(native.predict(frame), python.predict(frame))
        if "roi" in geometry and geometry["roi"][2] > 1:
            small = frame_of("MONO8", 20, 20, 1)
            for session in (native, python):
                with pytest.raises(ImageError):
                    session.predict(small)
            assert_same(native.predict(frame), python.predict(frame))


def test_frames_that_are_not_packed_or_run_upwards(pair: tuple[Session, Session]) -> None:
    native, python = pair
    random = np.random.default_rng(5)
    wide = random.integers(0, 256, (120, 200, 3), np.uint8)
    for pixels in (wide[:, ::2], wide[::-1], wide[::3], wide[:, 10:150, :], wide.transpose(1, 0, 2)):
        frame = Frame(pixels, "RGB8")
        assert_same(native.predict(frame), python.predict(frame))
        assert_same(native.predict(frame), native.predict(Frame(np.ascontiguousarray(pixels), "RGB8")))


def test_rows_apart_are_taken_without_a_copy() -> None:
    from edgead._native.image import image_view

    buffer = np.zeros((50, 128), np.uint8)
    image, kept = image_view(buffer[:, :100], "MONO8")
    assert np.shares_memory(kept, buffer)
    assert (image.data, image.row_stride_bytes) == (buffer.ctypes.data, 128)
    _, copied = image_view(buffer[:, ::2], "MONO8")
    assert not np.shares_memory(copied, buffer)


def test_arrays_of_a_prediction_stay_when_the_next_frame_comes(pair: tuple[Session, Session]) -> None:
    native, _ = pair
    first = native.predict(frame_of("MONO8", 90, 90, 1))
    kept = [array.copy() for array in (first.anomaly_map, first.heatmap, first.mask)]
    native.predict(frame_of("MONO8", 90, 90, 2))
    for now, before in zip((first.anomaly_map, first.heatmap, first.mask), kept, strict=True):
        assert (now == before).all()


def test_thresholds_are_set_on_both(spine: Any) -> None:
    frame = frame_of("BGR8", 96, 96, 3)
    with (
        open_bundle(spine.bundle) as bundle,
        Session.open(bundle, OPENVINO, threads=1, runtime="native") as native,
        Session.open(bundle, OPENVINO, threads=1, runtime="python") as python,
    ):
        limits = native.thresholds
        assert limits == python.thresholds == bundle.thresholds(OPENVINO)
        score = native.predict(frame).score_raw
        for image, decision in ((score, "NG"), (math.nextafter(score, math.inf), "OK")):
            for session in (native, python):
                median = min(limits.image_median, image - 1)
                session.thresholds = dataclasses.replace(limits, image=image, image_median=median)
            found = native.predict(frame)
            assert found.decision == decision
            assert_same(found, python.predict(frame))
        with pytest.raises(UsageError, match="median"):
            native.thresholds = dataclasses.replace(limits, pixel=limits.pixel_median)


def test_thresholds_of_the_site_count_on_both(spine: Any, tmp_path: Path) -> None:
    from edgead.types import Target
    from edgead.workflows.threshold import set_raw

    path = tmp_path / "part.edgead"
    shutil.copytree(spine.bundle, path)
    set_raw(path, image=123.5, target=Target.parse(OPENVINO))
    frame = frame_of("BGR8", 96, 96, 3)
    with (
        open_bundle(path) as bundle,
        Session.open(bundle, OPENVINO, threads=1, runtime="native") as native,
        Session.open(bundle, OPENVINO, threads=1, runtime="python") as python,
    ):
        assert native.thresholds.image == 123.5
        assert_same(native.predict(frame), python.predict(frame))


def test_the_zip_is_the_folder(spine: Any, tmp_path: Path, pair: tuple[Session, Session]) -> None:
    from edgead.bundle.writer import pack

    pack(spine.bundle, tmp_path / "part.zip")
    frame = frame_of("BGR8", 96, 96, 3)
    with (
        open_bundle(tmp_path / "part.zip") as bundle,
        Session.open(bundle, OPENVINO, threads=1, runtime="native") as native,
    ):
        assert_same(native.predict(frame), pair[1].predict(frame))


def test_other_threads_go_on_during_a_run(spine: Any) -> None:
    """ctypes releases the interpreter lock: while one thread is inside libedgead, another counts."""
    frame = frame_of("BGR8", 2048, 2448, 3)
    with (
        open_bundle(spine.bundle) as bundle,
        Session.open(bundle, OPENVINO, threads=1, runtime="native") as session,
    ):
        session.predict(frame)
        stop = threading.Event()
        ticks: list[float] = []

        def count() -> None:
            while not stop.is_set():
                ticks.append(time.perf_counter())
                time.sleep(0)

        counter = threading.Thread(target=count)
        counter.start()
        inside = []
        for _ in range(10):
            begin = time.perf_counter()
            timings = session.predict(frame).timings_ms
            spent = sum(timings.values()) / 1e3
            # ticks that fell well inside the C call, whose own clock says how long it was
            inside.append(sum(begin + 0.2 * spent < tick < begin + 0.8 * spent for tick in ticks))
        stop.set()
        counter.join()
    assert sorted(inside)[5] >= 5, inside


def test_two_threads_with_a_session_each_agree_with_one(spine: Any, pair: tuple[Session, Session]) -> None:
    frames = [frame_of("BGR8", 100, 120, seed) for seed in range(12)]
    wanted = [pair[1].predict(frame) for frame in frames]
    found: list[list[Prediction]] = [[], []]
    with open_bundle(spine.bundle) as bundle:

        def work(place: int) -> None:
            with Session.open(bundle, OPENVINO, threads=1, runtime="native") as session:
                found[place].extend(session.predict(frame) for frame in frames)

        threads = [threading.Thread(target=work, args=(place,)) for place in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for side in found:
        assert len(side) == len(frames)
        for one, other in zip(side, wanted, strict=True):
            assert_same(one, other)


def test_what_each_runtime_is_asked_for_it_gives_or_refuses(
    spine: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with open_bundle(spine.bundle) as bundle:
        with Session.open(bundle, OPENVINO, threads=1) as session:
            assert session.runtime == "native", "where libedgead can open the engine, it drives it"
        with pytest.raises(UsageError, match="unknown runtime 'cobol'; there is native, python"):
            Session.open(bundle, OPENVINO, runtime="cobol")  # type: ignore[arg-type]
        for runtime in ("native", "python", None):
            with pytest.raises(UsageError, match="no target"):
                Session.open(bundle, "openvino:int8", runtime=runtime)  # type: ignore[arg-type]
        missing = tmp_path / "libopenvino_c.so"
        monkeypatch.setenv("EDGEAD_OPENVINO_LIBRARY", str(missing))
        with pytest.raises(RuntimeMissingError, match=str(missing)):
            Session.open(bundle, OPENVINO, runtime="native")
        with Session.open(bundle, OPENVINO, threads=1) as session:
            assert session.runtime == "python", "the package still drives it"


def test_a_self_test_that_fails_stops_a_line_and_not_an_inspection(altered: Callable[..., Path]) -> None:
    def change(root: Path, manifest: dict[str, Any]) -> None:
        for image in manifest["golden"]:
            for expected in image["expected"]:
                expected["score_raw"] += 100.0

    with open_bundle(altered(change)) as bundle:
        with pytest.raises(EngineError, match=OPENVINO):
            Session.open(bundle, OPENVINO, threads=1)
        with Session.open(bundle, OPENVINO, threads=1, self_test=False) as session:
            assert session.runtime == "native"
            assert math.isfinite(session.predict(frame_of("MONO8", 50, 50, 1)).score_raw)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_an_error(altered: Callable[..., Path], value: float) -> None:
    """The IR's last weights are the tail of its .bin: scaling all of them reaches every map value."""
    import openvino

    def change(root: Path, manifest: dict[str, Any]) -> None:
        (entry,) = (one for one in manifest["targets"] if one["target"] == OPENVINO)
        path = root / entry["main_file"]
        core = openvino.Core()
        model = core.read_model(path)
        source = model.output("anomaly_map").node.input_value(0)
        scaled = openvino.opset13.multiply(source, openvino.opset13.constant(np.float32(value)))
        model.output("anomaly_map").node.input(0).replace_source_output(scaled.output(0))
        made = root / "made.xml"
        openvino.save_model(model, made, compress_to_fp16=False)
        made.replace(path)
        made.with_suffix(".bin").replace(path.with_suffix(".bin"))

    path = altered(change)
    with open_bundle(path) as bundle:
        with pytest.raises(EngineError):
            Session.open(bundle, OPENVINO, threads=1, runtime="native")
        with (
            Session.open(bundle, OPENVINO, threads=1, runtime="native", self_test=False) as native,
            Session.open(bundle, OPENVINO, threads=1, runtime="python") as python,
        ):
            frame = frame_of("MONO8", 40, 50, 2)
            found = native.predict(frame)
            assert found.decision == "ERROR"
            assert_same(found, python.predict(frame))


def test_damage_is_refused_by_both(spine: Any, tmp_path: Path) -> None:
    from edgead._native.model import NativeModel

    path = tmp_path / "part.edgead"
    shutil.copytree(spine.bundle, path)
    bundle = open_bundle(path)
    file = path / "graph.onnx"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleError, match=r"graph\.onnx is damaged"):
        open_bundle(path)
    with pytest.raises(BundleError, match=r"graph\.onnx"):
        Session.open(bundle, OPENVINO, runtime="native")
    with pytest.raises(UsageError, match="nowhere"):
        NativeModel(tmp_path / "nowhere")


def test_a_bundle_that_was_replaced_is_not_mixed_with_the_one_that_python_read(
    spine: Any, tmp_path: Path
) -> None:
    path = tmp_path / "part.edgead"
    shutil.copytree(Path(__file__).resolve().parents[1] / "golden" / "bundle_v1.edgead", path)
    bundle = open_bundle(path)
    shutil.rmtree(path)
    shutil.copytree(spine.bundle, path)
    with pytest.raises(BundleError, match="was replaced"):
        Session.open(bundle, OPENVINO, runtime="native")


def test_closing(spine: Any) -> None:
    with open_bundle(spine.bundle) as bundle:
        session = Session.open(bundle, OPENVINO, threads=1, runtime="native")
    assert session.predict(frame_of("MONO8", 50, 50, 1)).decision in ("OK", "NG"), "the bundle is in memory"
    session.close()
    session.close()
    with pytest.raises(InternalError, match="closed"):
        session.predict(frame_of("MONO8", 50, 50, 1))
