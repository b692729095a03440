"""Wide ResNet-50-2 as torchvision names it, with its first ImageNet weights (IMAGENET1K_V1)."""

from __future__ import annotations

from collections.abc import Sequence

from edgead.backbones._base import IMAGENET_MEAN, IMAGENET_STD, Backbone, BackboneSpec, Tap, WeightsSource
from edgead.backbones._resnet import Bottleneck, ResNet

SPEC = BackboneSpec(
    taps={"layer1": Tap(256, 4), "layer2": Tap(512, 8), "layer3": Tap(1024, 16), "layer4": Tap(2048, 32)},
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    weights=WeightsSource(
        file="wide_resnet50_2-95faca4d.pth",
        sha256="95faca4d",
        url="https://download.pytorch.org/models/wide_resnet50_2-95faca4d.pth",
    ),
)


def build(taps: Sequence[str]) -> Backbone:
    """Make the network up to the deepest of `taps`, with random weights."""
    return ResNet(SPEC, taps, block=Bottleneck, depths=(3, 4, 6, 3), width_factor=2)
