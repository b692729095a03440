"""Which int8 engines compute in bf16 what is not quantised: those that stay within error and gate with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgead.calibration.int8 import CalibrationTable, Range
from edgead.exporters._base import CompiledTarget, Exporter
from edgead.exporters._qdq import OPENVINO, Encoding, Int8Recipe
from edgead.progress import Progress, Silent
from edgead.types import Precision, Rest, Target
from edgead.workflows._int8 import Int8Builder, map_error, shape_error
from edgead.workflows._sides import Side

TARGET = Target("pretended", "int8")
GOAL = 0.1
MAPS = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32)
NOISE = np.random.default_rng(1).normal(size=MAPS.shape)
NOISE -= NOISE.mean() + (MAPS - MAPS.mean()) * (NOISE * (MAPS - MAPS.mean())).mean() / MAPS.var()
NOISE /= NOISE.std()
PIXELS = np.zeros((4, 2, 2, 3), np.uint8)


class Pretended(Exporter):
    """Takes the graph as it is."""

    engine: ClassVar[str] = "pretended"
    precisions: ClassVar[tuple[Precision, ...]] = ("int8",)
    encoding: ClassVar[Encoding | None] = OPENVINO
    chooses_rest: ClassVar[bool] = True

    def compile_impl(self, graph: Path, target: Target, folder: Path) -> CompiledTarget:
        return CompiledTarget(target=target, main_file=graph, files=(graph,), tools={})


class Deaf(Pretended):
    """Cannot choose."""

    chooses_rest: ClassVar[bool] = False


def disturbed(error: float) -> np.ndarray:
    """The maps with noise that neither scale nor offset explains, `error` of their deviation."""
    return (MAPS + error * MAPS.std() * NOISE).astype(np.float32)


def build(
    folder: Path,
    *,
    error: float = 0.06,
    fails: Callable[[Side], tuple[str, ...]] = lambda side: (),
    float_layers: int = 1,
    has_bf16: bool = True,
    exporter: type[Exporter] = Pretended,
    target: Target = TARGET,
) -> tuple[CompiledTarget, Side, list[Rest]]:
    """The engine of a graph with one layer in 8 bits; with bf16 its map has `error`, else 0.05."""
    weights = numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w")
    nodes, last = [helper.make_node("Cast", ["image"], ["x0"], to=TensorProto.FLOAT)], "x0"
    for index in range(1 + float_layers):
        nodes.append(helper.make_node("Conv", [last, "w"], [f"x{index + 1}"], name=f"{index}/Conv"))
        last = f"x{index + 1}"
    nodes.append(helper.make_node("Relu", [last], ["anomaly_map"], name="tail/Relu"))
    made = helper.make_graph(
        nodes,
        "rest",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 3, 2, 2])],
        [helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, [1, 3, 2, 2])],
        [weights],
    )
    graph = folder / "graph.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), graph)
    rests: list[Rest] = []

    def score(path: Path, target: Target, pixels: Any, progress: Progress, rest: Rest) -> Side:
        rests.append(rest)
        maps = disturbed(error if rest == "bf16" else 0.05)
        return Side(maps.max((1, 2)), maps.max((1, 2)), maps)

    table = CalibrationTable(
        rule="minmax", images=(), seed=0, graphs={"graph.onnx": {"x0": Range(0.0, 255.0)}}
    )
    builder = Int8Builder(
        graph=graph,
        table=table,
        recipe=Int8Recipe(keep_float=tuple(f"{index}/*" for index in range(1, 1 + float_layers))),
        out=folder / "targets",
        pixels=PIXELS,
        maps=MAPS,
        score=score,
        goal=GOAL,
        has_bf16=has_bf16,
        progress=Silent(),
    )
    engine, side = builder.build(exporter(), target, PIXELS, fails)
    return engine, side, rests


def test_scale_and_offset_are_no_error_of_the_shape() -> None:
    assert map_error(disturbed(0.2), MAPS) == pytest.approx(0.2, rel=1e-5)
    # At right angles to the maps: the nearest multiple is 1 / (1 + 0.2²) of it.
    expected = pytest.approx(0.2 / np.sqrt(1 + 0.2**2), rel=1e-5)
    assert shape_error(disturbed(0.2), MAPS) == expected
    assert shape_error(3 * disturbed(0.2) + 100, MAPS) == expected
    assert shape_error(7 * MAPS - 5, MAPS) == pytest.approx(0, abs=1e-6)
    assert shape_error(-MAPS, MAPS) == 1


def test_extreme_maps_have_a_shape_error() -> None:
    constant = np.full_like(MAPS, 3)
    assert shape_error(constant, constant) == 0
    assert shape_error(constant, MAPS) == shape_error(MAPS, constant) + 1 == 1
    assert shape_error(np.where(MAPS > 0, np.nan, MAPS), MAPS) == np.inf
    assert shape_error(1e30 * MAPS, MAPS) == pytest.approx(0, abs=1e-6)


def error_of(side: Side) -> float:
    return map_error(side.maps, MAPS)


def test_bf16_is_taken_with_its_own_scores_where_it_holds(tmp_path: Path) -> None:
    engine, side, _ = build(tmp_path)
    assert engine.rest == "bf16"
    assert error_of(side) == pytest.approx(0.06, abs=1e-4)


def test_fp32_stays_where_bf16_is_too_far_off(tmp_path: Path) -> None:
    engine, side, _ = build(tmp_path, error=0.72 * GOAL)
    assert engine.rest == "fp32"
    assert error_of(side) == pytest.approx(0.05, abs=1e-4)


def test_fp32_stays_where_the_gate_refuses_bf16(tmp_path: Path) -> None:
    engine, side, _ = build(tmp_path, fails=lambda side: ("flips",) if error_of(side) > 0.055 else ())
    assert engine.rest == "fp32"
    assert error_of(side) == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize(
    "case",
    [
        {"has_bf16": False},
        {"exporter": Deaf},
        {"target": replace(TARGET, device="gpu")},
        {"float_layers": 0},
    ],
    ids=["no bf16 here", "no choice", "a GPU", "no product in float"],
)
def test_bf16_is_not_tried(tmp_path: Path, case: dict[str, Any]) -> None:
    engine, _, rests = build(tmp_path, **case)
    assert engine.rest == "fp32"
    assert set(rests) == {"fp32"}
