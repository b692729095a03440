"""The lowered graph is the same function: proved in float64 on weights without any structure."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgead.detectors.simplenet import SimpleNet
from edgead.errors import InternalError
from edgead.exporters.lowering import lower
from edgead.exporters.lowering._fold import fold_backbone
from edgead.exporters.lowering._patch_affine import forms, pool_matrix

# Rounding of float64 over a backbone and a head, relative to the map's range.
EXACT = 1e-12

LITE0, RESNET, WIDE = "efficientnet_lite0", "resnet18", "wide_resnet50_2"

CASES = {
    "bins of whole rows": (LITE0, ("stage2", "stage3"), {"tap_dim": 72, "embedding_dim": 72}),
    "uneven bins": (LITE0, ("stage3", "stage5"), {"tap_dim": 101, "embedding_dim": 77}),
    "more bins than values": (LITE0, ("stage1", "stage3"), {"tap_dim": 400, "embedding_dim": 350}),
    "more embedding than tap values": (LITE0, ("stage2", "stage3"), {"tap_dim": 30, "embedding_dim": 100}),
    "one tap": (LITE0, ("stage4",), {"tap_dim": 60, "embedding_dim": 60}),
    "three taps, deepest first": (LITE0, ("stage5", "stage2", "stage3"), {}),
    "single-cell patches": (LITE0, ("stage2", "stage3"), {"patch_size": 1}),
    "5 × 5 patches": (LITE0, ("stage2", "stage3"), {"patch_size": 5, "tap_dim": 90, "embedding_dim": 120}),
    "no projection": (LITE0, ("stage2", "stage3"), {"projection": False}),
    "one hidden channel": (LITE0, ("stage2", "stage3"), {"hidden_dim": 1}),
    "residual basic blocks": (RESNET, ("layer2", "layer3"), {"tap_dim": 384, "embedding_dim": 384}),
    "three strides": (RESNET, ("layer1", "layer2", "layer3"), {"tap_dim": 129, "embedding_dim": 97}),
    "wide bottlenecks": (WIDE, ("layer2", "layer3"), {"tap_dim": 1536, "embedding_dim": 1536}),
}


def relative_error(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).abs().max() / (expected.max() - expected.min()))


def noise(size: tuple[int, int], batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (batch, *size, 3), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("case", CASES)
def test_lowered_is_the_same_function_in_float64(make_simplenet: Callable[..., SimpleNet], case: str) -> None:
    backbone, taps, dims = CASES[case]
    size = (32, 48)
    detector = make_simplenet(backbone, taps, size=size, **dims).double()
    image = noise(size)
    with torch.inference_mode():
        expected = detector(image).anomaly_map
        got = lower(detector)(image).anomaly_map
    assert got.dtype == torch.float64
    assert got.shape == expected.shape
    assert relative_error(got, expected) <= EXACT


@pytest.mark.parametrize("size", [(33, 47), (50, 31), (17, 32)])
def test_odd_input_sizes_and_batches(make_simplenet: Callable[..., SimpleNet], size: tuple[int, int]) -> None:
    detector = make_simplenet(taps=("stage2", "stage3", "stage5"), size=size).double()
    with torch.inference_mode():
        expected = detector(noise(size, 2)).anomaly_map
        assert relative_error(lower(detector)(noise(size, 2)).anomaly_map, expected) <= EXACT


@pytest.mark.parametrize("level", [0, 255])
def test_flat_images_show_no_border_error(make_simplenet: Callable[..., SimpleNet], level: int) -> None:
    detector = make_simplenet(RESNET, ("layer1", "layer2"), size=(32, 32)).double()
    image = torch.full((1, 32, 32, 3), level, dtype=torch.uint8)
    with torch.inference_mode():
        assert relative_error(lower(detector)(image).anomaly_map, detector(image).anomaly_map) <= EXACT


def test_float32_stays_as_close_to_float64_as_the_straightforward_form(
    make_simplenet: Callable[..., SimpleNet],
) -> None:
    detector = make_simplenet(taps=("stage3", "stage5"), size=(96, 96), tap_dim=336, embedding_dim=672)
    image = noise((96, 96))
    with torch.inference_mode():
        exact = copy.deepcopy(detector).double()(image).anomaly_map
        lowered = lower(detector)(image).anomaly_map
        assert lowered.dtype == torch.float32
        assert relative_error(lowered, detector(image).anomaly_map) <= 1e-5
        assert relative_error(lowered.double(), exact) <= 1e-5


def test_the_detector_is_left_alone(make_simplenet: Callable[..., SimpleNet]) -> None:
    detector = make_simplenet()
    before = copy.deepcopy(detector.state_dict())
    lower(detector)
    after = detector.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize(("length", "bins"), [(360, 336), (7, 3), (3, 7), (12, 4), (5, 5), (1, 4), (9, 1)])
def test_pool_matrix_is_adaptive_pooling(length: int, bins: int) -> None:
    values = torch.randn(2, length, dtype=torch.float64)
    expected = nn.functional.adaptive_avg_pool1d(values, bins)
    torch.testing.assert_close(values @ pool_matrix(length, bins).T, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("channels", "bins", "size", "names"),
    [
        (8, 24, 3, {"dense", "rows", "pooled"}),
        (8, 12, 3, {"dense", "rows", "pooled"}),
        (8, 10, 3, {"dense", "pooled"}),
        (7, 5, 3, {"dense", "pooled"}),
        (6, 6, 1, {"dense", "pooled"}),
        (4, 10, 5, {"dense", "rows", "pooled"}),
    ],
)
def test_every_form_is_the_same_map(channels: int, bins: int, size: int, names: set[str]) -> None:
    pooling = pool_matrix(channels * size**2, bins)
    mixing = torch.randn(11, bins, dtype=torch.float64)
    feature = torch.randn(1, channels, 9, 6, dtype=torch.float64)
    patches = nn.functional.unfold(feature, size, padding=size // 2)
    expected = (mixing @ pooling @ patches).view(1, 11, 9, 6)
    found = forms(mixing, pooling, size)
    assert {form.name for form in found} == names
    assert [form.macs_per_cell for form in found] == sorted(form.macs_per_cell for form in found)
    for form in found:
        torch.testing.assert_close(form.layers(feature), expected, rtol=0, atol=1e-13)


def test_the_papers_sizes_cost_what_the_specification_says() -> None:
    """Layer2: 4608 patch values to 768 of the 1536; 1 × 1 mixing to 1024 and 27·2 MACs per channel pair."""
    stacked = pool_matrix(3072, 1536)[:, :1536]
    form = forms(torch.ones(1024, 1536, dtype=torch.float64), stacked @ pool_matrix(4608, 1536), 3)[0]
    assert form.name == "pooled"
    assert form.macs_per_cell == 768 * 1024 + 768 * 2 * 9


class _Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.norm(self.conv(self.conv(x))),)


class _Branching(_Shared):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.conv(x)
        return (self.norm(y) + y,)


@pytest.mark.parametrize("kind", [_Shared, _Branching])
def test_networks_that_do_not_fold_are_refused(kind: type[_Shared]) -> None:
    network = kind().eval()
    network.norm.running_mean = torch.tensor([0.3, -0.2, 0.5])
    with pytest.raises(InternalError, match=r"batch norm norm|folding changed"):
        fold_backbone(network, torch.rand(1, 3, 8, 8))


def test_a_convolution_with_a_bias_and_a_norm_without_weights_fold() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.norm = nn.BatchNorm2d(4, affine=False)

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return (self.norm(self.conv(x)),)

    network = Net().double().eval()
    network.norm.running_var = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
    image = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    scale = torch.tensor([0.1, 2.0, 3.0])
    folded = fold_backbone(network, image, scale)
    got = folded(image / scale.double().view(1, 3, 1, 1))[0]
    torch.testing.assert_close(got, network(image)[0], rtol=0, atol=1e-14)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
