"""The suites for GPUs with kernels on the CPU: what they find right and wrong, not how fast."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgead.types import Geometry, PostRecipe

SUITES = Path(__file__).resolve().parents[3] / "benchmarks" / "suites"


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SUITES))
    return importlib.import_module("cuda_kernels")


def test_kernels_that_agree_pass(suite: ModuleType, make_device: Callable[..., Any]) -> None:
    device = make_device(lazy=True)
    cases = [*suite.preprocess_cases(device, (20, 30), 1), *suite.post_cases(device, ((9, 40),), 2)]
    rows = suite.measure(device, cases, 1, 1e12, warm_up=0)
    assert [row["error"] for row in rows[:4]] == [0.0] * 4
    assert all(row["passed"] and row["device_us"] > 0 and row["bandwidth_fraction"] > 0 for row in rows)
    assert [row["images"] for row in rows] == [1] * 4 + [2] * 2
    result = {"rows": rows, "device": "host", "copy_gb_per_s": 1000.0, "resources": suite.resources(["9.0"])}
    assert suite.tables(result).count("\n| ") == 2 + len(rows) + len(result["resources"])


def test_a_kernel_that_does_nothing_is_seen(suite: ModuleType, make_device: Callable[..., Any]) -> None:
    device = make_device()
    device.launch = lambda *arguments: None
    cases = [*suite.preprocess_cases(device, (20, 30), 1), *suite.post_cases(device, ((9, 40),), 1)]
    rows = suite.measure(device, cases, 1, None, warm_up=0)
    assert not any(row["passed"] for row in rows)


@pytest.mark.parametrize("works", [True, False])
def test_searches_are_held_against_libedgead(
    works: bool, monkeypatch: pytest.MonkeyPatch, make_device: Callable[..., Any]
) -> None:
    monkeypatch.syspath_prepend(str(SUITES))
    searches = importlib.import_module("cuda_searches")
    monkeypatch.setattr(searches, "GRID", (24, 20))
    device = make_device(lazy=True)
    if not works:
        device.launch = lambda *arguments: None
    levels = ((6, 5, 3), (3, 2, 1))
    cases = [
        searches.bank_case(device, (20, 300, 12), 2),
        searches.window_case(device, 6, "int8", 2, levels),
    ]
    rows = searches.run(device, cases, 1, warm_up=0)
    assert [row["passed"] for row in rows] == [works] * 2
    if works:
        assert [row["case"] for row in rows] == ["bank 20×300×12", "windows D=6 int8"]
        assert all(row["tflop_per_s"] > 0 for row in rows)
        assert searches.table({"device": "host", "rows": rows}).count("\n| ") == 1 + len(rows)


def test_the_headline_s_inspection_decides_what_libedgead_decides(
    monkeypatch: pytest.MonkeyPatch, make_device: Callable[..., Any], make_graph: Any, host_engine: Any
) -> None:
    monkeypatch.syspath_prepend(str(SUITES))
    sides = importlib.import_module("gpu_sides")
    geometry = Geometry(height=32, width=48, resampler="opencv_linear")
    recipe = PostRecipe(grid=(8, 12), output=(32, 48), blur_sigma=1.0)
    device, graph = make_device(lazy=True), make_graph(images=2)
    samples = sides.samples_of(geometry, 2)
    side = sides.OnGpu(device, host_engine(graph, device), geometry, recipe, graph)
    suts = [kind("x", side, geometry, recipe, samples) for kind in (sides.Inspection, sides.GpuInspection)]
    assert (suts[1].difference, suts[1].finite, side.why_eager) == (0.0, True, "")
    for sample in samples:
        for sut in suts:
            assert len(sut.issue(sample)) == len(sut.stages)
        assert suts[0].decisions == suts[1].decisions == ["OK", "OK"]
    for sut in suts:
        sut._limits = type(sut._limits)(image=-1e9, pixel=-1e9, image_median=-2e9, pixel_median=-2e9)
        sut.issue(samples[0])
        assert sut.decisions == ["NG", "NG"]
    side.close()
    assert device.taken == 0
