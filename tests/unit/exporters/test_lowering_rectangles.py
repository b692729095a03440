"""Strips, tall and wide: each detector's lowered graph is its torch MODEL, or it says why it cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgead.detectors import _registry
from edgead.detectors._base import Detector
from edgead.detectors._presets import PRESETS
from edgead.detectors.cpr import Cpr
from edgead.detectors.padim import Padim
from edgead.detectors.patchcore import PatchCore
from edgead.discovery import load
from edgead.errors import UsageError
from edgead.exporters.onnx_exporter import export_graph
from edgead.imaging.map_operator import build
from edgead.progress import Silent
from edgead.runtimes.ort_runtime import OnnxRuntime
from edgead.types import Geometry, Target

DETECTORS = _registry.names()
# For the graphs, fewer layers than the presets have: it is those that take time to export.
LESS: dict[str, dict[str, Any]] = {
    "diffusionad": {"multipliers": [1, 1, 2], "attention": [4]},
    "radar": {"multipliers": [1, 1, 2], "attention": [4]},
    "fastflow": {"flow_steps": 2},
}
# Their sides are multiples of so many pixels; the others take any.
MULTIPLES = {"cpr": 20, "diffusionad": 32, "efficientad": 32, "radar": 32, "reverse_distillation": 32}


def network(name: str, size: tuple[int, int], less: dict[str, Any] | None = None) -> Detector:
    """The light preset at `size`, its backbone's weights, and random ones where training would put some."""
    config = PRESETS[name]["config"] | (less or {})
    geometry = Geometry.from_values(config["geometry"]).resized(size)
    torch.manual_seed(0)
    detector = _registry.detector_class(name).from_config({**config, "geometry": _values(geometry)}).eval()
    if name != "efficientad":  # its teacher comes with no package
        load("edgead.training", name, kind="training recipe").load_frozen(detector, None, progress=Silent())
    for parameter in detector.parameters():
        if not parameter.any() and parameter.dim() > 1:  # so that a part begins as the identity
            nn.init.normal_(parameter, 0, 0.02)
    if isinstance(detector, Padim):
        detector.mean.normal_()
        factor = torch.randn_like(detector.inv_covariance) / detector.config.dim**0.5
        detector.inv_covariance.copy_(factor @ factor.transpose(1, 2))
    with torch.inference_mode():
        if isinstance(detector, Cpr):  # words that differ, or every reference would be as similar
            words = detector.features(pixels(size, 1))[0][0].flatten(1).T
            detector.centres.copy_(words[:: len(words) // len(detector.centres)][: len(detector.centres)])
            detector.set_references(pixels(size, 12))
        if isinstance(detector, PatchCore):
            detector.set_bank(detector.embed(pixels(size, 1))[0].flatten(0, 1)[:40].clone())
    return detector


def _values(geometry: Geometry) -> dict[str, Any]:
    return {name: getattr(geometry, name) for name in Geometry.__dataclass_fields__}


def pixels(size: tuple[int, int], count: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *size, 3), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("size", [(160, 80), (72, 168)], ids=["tall", "wide"])
def test_a_rectangle_lowers_to_the_same_function(name: str, size: tuple[int, int]) -> None:
    if name in MULTIPLES:  # (160, 80) and (80, 160), (160, 96) and (96, 160)
        size = (160, 80) if size[0] == 160 else (80, 160)
        if MULTIPLES[name] == 32:
            size = (160, 96) if size[0] == 160 else (96, 160)
    detector = network(name, size).double()
    lowered = load("edgead.exporters.lowering", name, kind="lowering").lower(detector)
    image = pixels(size, 1, seed=2)
    with torch.inference_mode():
        expected, found = detector(image), lowered(image)
    recipe = detector.post_recipe
    assert expected.anomaly_map.shape == (1, recipe.channels, *recipe.grid)
    assert recipe.output == size
    rows, columns = build(recipe)
    assert (len(rows), len(columns)) == size
    values = expected.anomaly_map.numpy()
    np.testing.assert_allclose(found.anomaly_map.numpy(), values, rtol=0, atol=1e-9 * np.ptp(values))


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_the_graph_of_a_strip_is_the_model(name: str, tmp_path: Path) -> None:
    size = (64, 192) if MULTIPLES.get(name) == 32 else (80, 240)
    detector = network(name, size, LESS.get(name))
    lowered = load("edgead.exporters.lowering", name, kind="lowering").lower(detector)
    graph = export_graph(lowered, size, tmp_path / "graph.onnx")
    image = pixels(size, 1, seed=2)
    with torch.inference_mode():
        expected = detector(image).anomaly_map.numpy()
    with OnnxRuntime().open(graph.path, Target("onnxruntime", "fp32")) as runtime:
        found = runtime.infer(image.numpy()).anomaly_map
    # what fp32 gives: the gate of an export allows a shift of 1e-4 of the score range
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.ptp(expected))


@pytest.mark.parametrize("name", sorted(MULTIPLES))
def test_a_side_that_a_detector_cannot_take_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(UsageError, match=rf"{name}: input size 90x200.* {MULTIPLES[name]}"):
        network(name, (90, 200))


def test_sizes_have_bounds_and_a_window_falls_away() -> None:
    paper = Geometry.from_values(PRESETS["patchcore_wrn50"]["config"]["geometry"] | {"roi": [8, 0, 640, 100]})
    strip = paper.resized((128, 512))
    assert (strip.input_size, strip.roi, strip.resampler) == ((128, 512), (8, 0, 640, 100), "pillow_bilinear")
    resolved = strip.resolve(100, 640)
    assert (resolved.height, resolved.width, resolved.window) == (128, 512, (0, 0, 128, 512))
    for size in ((31, 512), (128, 4097), (0, 0)):
        with pytest.raises(
            UsageError, match=f"input size {size[0]}x{size[1]} .height x width.: give sides from"
        ):
            paper.resized(size)
