"""NativeModel and NativeSession on the golden bundle: a frame of grey value v scores 0.75·v."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgead._native.model import NativeModel
from edgead._native.session import NativeSession
from edgead.errors import BundleError, ImageError, InternalError, UsageError
from edgead.runtimes._probe import native_engines
from edgead.runtimes.native_runtime import packaged_library

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "bundle_v1.edgead"


def grey(value: int, size: tuple[int, ...] = (8, 8)) -> np.ndarray:
    return np.full(size, value, np.uint8)


@pytest.fixture
def model() -> Iterator[NativeModel]:
    made = NativeModel(GOLDEN, target="openvino:fp32", engine_library=packaged_library("openvino"), threads=1)
    yield made
    made.close()


def test_a_model_says_what_it_is(model: NativeModel) -> None:
    from edgead.bundle.reader import open_bundle

    info = model.info
    with open_bundle(GOLDEN) as bundle:
        assert info.digest == bundle.digest
        assert info.targets == bundle.targets
        limits = bundle.thresholds("openvino:fp32")
        assert model.thresholds == dataclasses.replace(limits, method={})
    assert (info.input_size, info.map_size, info.roi) == ((8, 8), (8, 8), None)
    assert (info.self_test, info.generation, info.target) == ("passed", 1, "openvino:fp32")
    assert info.engine_version.count(".") == 2
    assert Path(info.engine_library).name.startswith("libopenvino_c.so")


def test_figures_of_the_self_test(model: NativeModel) -> None:
    figures = model.self_test()
    assert (figures.passed, figures.images) == (True, 2)
    assert figures.score_shift_max <= figures.score_tolerance == 0.001
    assert figures.map_shift_max <= figures.map_tolerance == 0.001


def test_a_session_judges_by_arithmetic(model: NativeModel) -> None:
    session = NativeSession(model)
    session.prepare(8, 8, "MONO8")
    session.warm_up(2)
    found = session.run(grey(200), "MONO8")
    assert (found.decision, found.score_raw, found.map_max) == ("NG", 150.0, 150.0)
    assert found.score == 0.5 + 0.5 * (150 - 126) / (126 - 60.75)
    assert found.regions[0].box == (0, 0, 8, 8)
    assert found.regions_total == 1
    assert found.total_ns >= found.preprocess_ns + found.engine_ns + found.post_ns
    assert (found.anomaly_map == 150).all()
    plain = session.run(grey(40), "MONO8", full=False)
    assert (plain.decision, plain.score_raw, plain.mask, plain.heatmap, plain.regions) == (
        *("OK", 30.0, None, None),
        (),
    )
    pixels = session.run_pixels(grey(40, (8, 8, 3)))
    assert (pixels.score_raw, pixels.regions) == (30.0, ())


def test_thresholds_and_reload_reach_open_sessions(model: NativeModel, tmp_path: Path) -> None:
    session = NativeSession(model)
    assert session.run(grey(40), "MONO8").decision == "OK"
    model.thresholds = dataclasses.replace(model.thresholds, image=29.0, image_median=1.0)
    assert session.run(grey(40), "MONO8").decision == "NG"
    with pytest.raises(UsageError):
        model.reload(tmp_path / "nowhere")
    assert session.run(grey(40), "MONO8").generation == 1
    model.reload(GOLDEN)
    found = session.run(grey(40), "MONO8")
    assert (found.decision, found.generation, model.info.generation) == ("OK", 2, 2)


def test_deadlines(model: NativeModel) -> None:
    soft = NativeSession(model, deadline_ms=1e-6).run(grey(40), "MONO8")
    assert (soft.decision, soft.deadline_missed) == ("OK", True)
    hard = NativeSession(model, deadline_ms=1e-6, deadline_hard=True).run(grey(40), "MONO8")
    assert (hard.decision, hard.deadline_missed) == ("ERROR", True)
    assert not NativeSession(model, deadline_ms=60_000).run(grey(40), "MONO8").deadline_missed


def test_sessions_outlive_their_model(model: NativeModel) -> None:
    session = NativeSession(model)
    model.close()
    model.close()
    assert session.run(grey(40), "MONO8").score_raw == 30.0
    with pytest.raises(InternalError, match="the model is closed"):
        _ = model.info
    session.close()
    session.close()
    with pytest.raises(InternalError, match="the session is closed"):
        session.run(grey(40), "MONO8")


def test_a_model_for_inspection_has_no_engine() -> None:
    model = NativeModel(GOLDEN, without_engine=True)
    assert (model.info.target, model.info.self_test) == ("", "not run")
    with pytest.raises((UsageError, InternalError)):
        NativeSession(model)


def test_log_lines_name_what_runs() -> None:
    lines: list[tuple[int, str]] = []
    NativeModel(
        GOLDEN,
        engine_library=packaged_library("openvino"),
        threads=1,
        log=lambda level, text: lines.append((level, text)),
    ).close()
    assert any("openvino:fp32" in text for _, text in lines)


def test_keep_warm_can_be_set_and_stopped(model: NativeModel) -> None:
    model.keep_warm(0.002)
    session = NativeSession(model)
    assert session.run(grey(40), "MONO8").score_raw == 30.0
    model.keep_warm(0)
    with pytest.raises(UsageError, match="keep warm every -1 s"):
        model.keep_warm(-1)


def test_bad_arguments(model: NativeModel, tmp_path: Path) -> None:
    for words, kind, told in (
        ({"path": tmp_path / "none"}, UsageError, "none"),
        ({"path": GOLDEN, "target": "openvino:int8"}, UsageError, "openvino:int8"),
        ({"path": GOLDEN, "threads": -1}, UsageError, "threads -1"),
        ({"path": "a\0b"}, UsageError, "NUL"),
        ({"path": Path(__file__)}, BundleError, "test_model.py"),
    ):
        with pytest.raises(kind, match=told):
            NativeModel(**words)
    session = NativeSession(model)
    for frame, pixel_format in (
        (grey(1, (8, 8, 3)), "MONO8"),
        (grey(1), "MONO12"),
        (grey(1), "CMYK"),
        (grey(1, (2, 2)), "BAYER_RG8"),
    ):
        with pytest.raises(ImageError):
            session.run(frame, pixel_format)
    with pytest.raises(UsageError, match="out of range"):
        NativeSession(model, min_area=-1)
    assert session.run(grey(40), "MONO8").score_raw == 30.0, "a refused frame leaves the session as it was"


def test_one_session_in_two_threads_is_refused_or_right(model: NativeModel) -> None:
    session = NativeSession(model)
    results: list[object] = []

    def work() -> None:
        for _ in range(300):
            try:
                results.append(session.run(grey(40, (600, 600)), "MONO8", full=False).score_raw)
            except InternalError as error:
                results.append(type(error))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 600
    assert set(results) <= {30.0, InternalError}


def test_what_libedgead_can_open_is_tried() -> None:
    found = native_engines()
    assert found["openvino"].available
    assert found["openvino"].version.count(".") == 2
    assert set(found) == {"openvino", "onnxruntime", "tensorrt"}
    assert found["tensorrt"].why.startswith(("not built: ", "built, not run"))
    for state in found.values():
        assert state.available or state.why
