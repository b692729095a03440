"""ResNet-18 as torchvision names it."""

from __future__ import annotations

from collections.abc import Sequence

from edgead.backbones._base import IMAGENET_MEAN, IMAGENET_STD, Backbone, BackboneSpec, Tap, WeightsSource
from edgead.backbones._resnet import BasicBlock, ResNet

SPEC = BackboneSpec(
    taps={"layer1": Tap(64, 4), "layer2": Tap(128, 8), "layer3": Tap(256, 16), "layer4": Tap(512, 32)},
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    weights=WeightsSource(
        file="resnet18-f37072fd.pth",
        sha256="f37072fd",
        url="https://download.pytorch.org/models/resnet18-f37072fd.pth",
    ),
)


def build(taps: Sequence[str]) -> Backbone:
    """Make the network up to the deepest of `taps`, with random weights."""
    return ResNet(SPEC, taps, block=BasicBlock, depths=(2, 2, 2, 2))
