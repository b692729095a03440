"""The self-test finds an engine, or an expectation, that is not what it was; hashes are right throughout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgead.bundle.reader import open_bundle
from edgead.errors import UsageError
from edgead.workflows.self_test import SelfTest, self_test

ORT = "onnxruntime:fp32"


def tried(bundle: Path, target: str | None = ORT) -> SelfTest:
    with open_bundle(bundle) as opened:
        return self_test(opened, target, threads=2)


def test_every_target_gives_what_it_gave(spine: Any) -> None:
    result = tried(spine.bundle, None)
    assert result.passed
    assert list(result.targets) == list(spine.report.targets)
    for one in result.targets.values():
        assert (one.passed, one.images, one.why) == (True, 4, "")
        assert one.score_shift_max is not None
        assert one.score_shift_max <= one.score_tolerance


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_an_expected_score_beyond_the_tolerance(spine: Any, altered: Any, factor: float) -> None:
    tolerance = next(
        entry.score_tolerance for entry in open_bundle(spine.bundle).manifest.targets if entry.target == ORT
    )

    def change(root: Path, manifest: dict[str, Any]) -> None:
        for expected in manifest["golden"][2]["expected"]:
            if expected["target"] == ORT:
                expected["score_raw"] += factor * tolerance

    result = tried(altered(change)).targets[ORT]
    assert result.passed == (factor < 1)
    assert result.score_shift_max == pytest.approx(factor * tolerance, rel=0.02)
    assert result.passed or "gives other values here than where it was compiled" in result.why


@pytest.mark.parametrize("value", [9.0, np.nan])
def test_one_map_value_beyond_the_tolerance(altered: Any, value: float) -> None:
    def change(root: Path, manifest: dict[str, Any]) -> None:
        (expected,) = (one for one in manifest["golden"][0]["expected"] if one["target"] == ORT)
        file = root / expected["map_file"]
        values = np.fromfile(file, "<f4")
        values[12345] = value
        file.write_bytes(values.tobytes())

    result = tried(altered(change)).targets[ORT]
    assert not result.passed
    assert result.map_shift_max is not None
    assert result.map_shift_max > result.map_tolerance


def scale_graph(factor: float) -> Callable[[Path, dict[str, Any]], None]:
    """Multiplies the last convolution of graph.onnx, so every raw value."""

    def change(root: Path, manifest: dict[str, Any]) -> None:
        model = onnx.load(root / "graph.onnx")
        (tail,) = (one for one in model.graph.initializer if one.name == model.graph.node[-1].input[1])
        values = numpy_helper.to_array(tail) * np.float32(factor)
        tail.CopyFrom(numpy_helper.from_array(values, tail.name))
        onnx.save(model, root / "graph.onnx")

    return change


@pytest.mark.parametrize("factor", [1.05, float("nan"), float("inf")])
def test_an_engine_that_is_off(altered: Any, factor: float) -> None:
    result = tried(altered(scale_graph(factor))).targets[ORT]
    assert not result.passed
    assert result.score_shift_max is not None
    assert result.score_shift_max > result.score_tolerance


def test_a_graph_that_no_engine_reads_is_a_failure_with_its_reason(altered: Any) -> None:
    bundle = altered(lambda root, manifest: (root / "graph.onnx").write_bytes(b"no graph"))
    result = tried(bundle).targets[ORT]
    assert (result.passed, result.images, result.score_shift_max) == (False, 0, None)
    assert "graph.onnx" in result.why


def test_an_unknown_target(spine: Any) -> None:
    with pytest.raises(UsageError, match="has no target onnxruntime:bf16"):
        tried(spine.bundle, "onnxruntime:bf16")
