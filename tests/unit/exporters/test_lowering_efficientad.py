"""Every fold is the same function: proved in float64 on weights without any structure."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from edgead.detectors.efficientad import EfficientAd
from edgead.exporters.lowering import lower
from edgead.exporters.lowering.efficientad import Folds
from edgead.exporters.lowering.efficientad import lower as lower_with
from edgead.exporters.onnx_exporter import export_graph
from edgead.runtimes.ort_runtime import OnnxRuntime
from edgead.types import Target

# Rounding of float64, relative to the map's range.
EXACT = 1e-12

NAMES = [field.name for field in dataclasses.fields(Folds)]
EVERY = [dict(zip(NAMES, values, strict=True)) for values in itertools.product((False, True), repeat=4)]


@pytest.fixture
def make_efficientad() -> Callable[..., EfficientAd]:
    def make(size: str = "edge", sides: tuple[int, int] = (64, 64), *, padding: bool = False) -> EfficientAd:
        random = torch.Generator().manual_seed(5)
        detector = EfficientAd.from_config(
            {"size": size, "padding": padding, "geometry": {"height": sides[0], "width": sides[1]}}
        )
        for module in detector.modules():
            if isinstance(module, nn.Conv2d):
                assert module.bias is not None
                fan_in = module.weight[0].numel()
                module.weight.data.normal_(0, (2 / fan_in) ** 0.5, generator=random)
                module.bias.data.normal_(0, 0.3, generator=random)
        detector.teacher_mean.normal_(0, 1, generator=random)
        detector.teacher_std.uniform_(0.05, 2, generator=random)
        return detector.eval()

    return make


def relative_error(got: Tensor, expected: Tensor) -> float:
    """The worse of the two maps, each by its own range."""
    ranges = expected.amax((0, 2, 3)) - expected.amin((0, 2, 3))
    return float(((got - expected).abs().amax((0, 2, 3)) / ranges).max())


def noise(sides: tuple[int, int], batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (batch, *sides, 3), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("folds", EVERY, ids=lambda folds: "+".join(n for n in NAMES if folds[n]) or "none")
@pytest.mark.parametrize("padding", [False, True], ids=["", "padded"])
def test_every_fold_is_exact(
    make_efficientad: Callable[..., EfficientAd], folds: dict[str, bool], padding: bool
) -> None:
    detector = make_efficientad("edge", (64, 96), padding=padding).double()
    image = noise((64, 96), 2)
    with torch.inference_mode():
        expected = detector(image).anomaly_map
        got = lower_with(detector, Folds(**folds))(image).anomaly_map
    assert got.dtype == torch.float64
    assert got.shape == expected.shape
    assert relative_error(got, expected) <= EXACT


@pytest.mark.parametrize("padding", [False, True], ids=["", "padded"])
@pytest.mark.parametrize("size", ["small", "medium"])
@pytest.mark.parametrize("folds", [EVERY[0], EVERY[-1]], ids=["none", "all"])
def test_the_paper_s_sizes_fold_exactly(
    make_efficientad: Callable[..., EfficientAd], size: str, padding: bool, folds: dict[str, bool]
) -> None:
    detector = make_efficientad(size, padding=padding).double()
    with torch.inference_mode():
        expected = detector(noise((64, 64))).anomaly_map
        got = lower_with(detector, Folds(**folds))(noise((64, 64))).anomaly_map
    assert relative_error(got, expected) <= EXACT


@pytest.mark.parametrize("padding", [False, True], ids=["", "padded"])
@pytest.mark.parametrize("level", [0, 255])
def test_flat_images_show_no_border_error(
    make_efficientad: Callable[..., EfficientAd], level: int, padding: bool
) -> None:
    detector = make_efficientad("small", padding=padding).double()
    image = torch.full((1, 64, 64, 3), level, dtype=torch.uint8)
    with torch.inference_mode():
        expected, got = detector(image).anomaly_map, lower(detector)(image).anomaly_map
    # Without padding a flat image gives a flat first map, so its value is the measure here, not its range.
    assert float((got - expected).abs().max() / expected.max()) <= EXACT


def test_the_border_is_the_mean_colour(make_efficientad: Callable[..., EfficientAd]) -> None:
    """Folding the mean into a padded first convolution would be wrong: the fold must not do it."""
    detector = make_efficientad("small", padding=True).double()
    lowered = lower_with(detector, Folds(raw_pixels=True))
    assert lowered.raw_pixels is False
    lowered.raw_pixels = True  # what a careless fold would compute
    with torch.inference_mode():
        expected = detector(noise((64, 64))).anomaly_map
        assert relative_error(lowered(noise((64, 64))).anomaly_map, expected) > 1e-3


def test_float32_stays_as_close_to_float64_as_the_straightforward_form(
    make_efficientad: Callable[..., EfficientAd],
) -> None:
    detector = make_efficientad("small", (96, 96))
    image = noise((96, 96))
    with torch.inference_mode():
        exact = copy.deepcopy(detector).double()(image).anomaly_map
        lowered = lower(detector)(image).anomaly_map
        assert lowered.dtype == torch.float32
        assert relative_error(lowered.double(), exact) <= 1e-5
        assert relative_error(detector(image).anomaly_map.double(), exact) <= 1e-5


def test_the_detector_is_left_alone(make_efficientad: Callable[..., EfficientAd]) -> None:
    detector = make_efficientad()
    before = copy.deepcopy(detector.state_dict())
    lower(detector)
    after = detector.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("padding", [False, True], ids=["", "padded"])
def test_the_graph_has_constant_sizes_and_nothing_of_training(
    make_efficientad: Callable[..., EfficientAd], tmp_path: Path, padding: bool
) -> None:
    detector = make_efficientad("small", (64, 96), padding=padding)
    lowered = lower(detector)
    assert not any(isinstance(module, nn.Dropout) for module in lowered.modules())
    graph = export_graph(lowered, (64, 96), tmp_path / "graph.onnx")
    model = onnx.load(graph.path)
    kinds = Counter(node.op_type for node in model.graph.node)
    # 7 of the autoencoder; T 3 and S 3 before the last; t − s1, s2; the autoencoder 6 + 8.
    assert (kinds["Resize"], kinds["Conv"]) == (7, 3 + 3 + 2 + 14)
    assert not set(kinds) & {"Shape", "Slice", "Gather", "Dropout", "If", "Loop", "Div"}
    constants = {entry.name for entry in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Resize":
            assert node.input[3] in constants
    with torch.inference_mode():
        expected = detector(noise((64, 96))).anomaly_map.numpy()
    with OnnxRuntime().open(graph.path, Target("onnxruntime", "fp32")) as runtime:
        found = runtime.infer(noise((64, 96)).numpy()).anomaly_map
    np.testing.assert_allclose(found, expected, atol=1e-5 * float(np.ptp(expected)))
