from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from edgead.benchmarks.sut import STAGES, DecodingSut, NullSut, PredictorSut, stages_of
from edgead.errors import EngineError
from edgead.imaging.frame import Frame
from edgead.types import Decision, Prediction

FRAME = Frame(np.zeros((2, 2), np.uint8), "MONO8")


class Fixed:
    """Predicts the same decision for every frame, with known stage times."""

    def __init__(self, decision: Decision) -> None:
        self.decision: Decision = decision

    def predict(self, frame: Frame) -> Prediction:
        picture = np.zeros((1, 1), np.uint8)
        return Prediction(
            score_raw=1.0,
            score=0.5,
            decision=self.decision,
            regions=(),
            anomaly_map=picture.astype(np.float32),
            heatmap=picture,
            mask=picture,
            target="fixed:fp32",
            timings_ms={"post": 0.000003, "engine": 2.5, "preprocess": 1.0},
        )


def test_stage_times_come_in_the_order_of_the_names_in_nanoseconds() -> None:
    sut = PredictorSut(Fixed("NG"), name="fixed:fp32", runtime="python")
    assert sut.stages == ("preprocess", "engine", "post")
    assert sut.issue(FRAME) == (1_000_000, 2_500_000, 3)


def test_the_copies_to_and_from_a_device_are_stages_where_a_runtime_times_them() -> None:
    def prediction(*stages: str) -> Prediction:
        return replace(Fixed("OK").predict(FRAME), timings_ms=dict.fromkeys(stages, 1.0))

    assert stages_of(prediction("post", "engine", "preprocess")) == ("preprocess", "engine", "post")
    assert stages_of(
        prediction("engine", "device_to_host", "post", "host_to_device", "preprocess", "other")
    ) == ("preprocess", "host_to_device", "engine", "device_to_host", "post")


def test_decoding_comes_first_and_is_timed_apart() -> None:
    seen: list[bytes] = []

    def decode(content: bytes) -> Frame:
        seen.append(content)
        time.sleep(0.002)
        return FRAME

    sut = DecodingSut(PredictorSut(Fixed("NG"), name="fixed:fp32", runtime="python"), decode)
    assert sut.stages == ("decode", "preprocess", "engine", "post")
    first, *rest = sut.issue(b"file")
    assert first >= 2_000_000
    assert rest == [1_000_000, 2_500_000, 3]
    assert seen == [b"file"]


def test_an_error_is_no_answer() -> None:
    with pytest.raises(EngineError, match="fixed:fp32"):
        PredictorSut(Fixed("ERROR"), name="fixed:fp32", runtime="python").issue(FRAME)


def test_the_null_sut_has_the_same_stages() -> None:
    assert len(NullSut().issue(None)) == len(NullSut.stages) == len(STAGES)
