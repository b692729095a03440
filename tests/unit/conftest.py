"""EfficientAD's networks as nelson1425's code builds them: from the specification, not from edgead's code."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import nn


def _small(outputs: int, pad: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 128, 4, padding=3 * pad),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(2, 2, padding=pad),
        nn.Conv2d(128, 256, 4, padding=3 * pad),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(2, 2, padding=pad),
        nn.Conv2d(256, 256, 3, padding=pad),
        nn.ReLU(inplace=True),
        nn.Conv2d(256, outputs, 4),
    )


def _medium(outputs: int, pad: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 256, 4, padding=3 * pad),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(2, 2, padding=pad),
        nn.Conv2d(256, 512, 4, padding=3 * pad),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(2, 2, padding=pad),
        nn.Conv2d(512, 512, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(512, 512, 3, padding=pad),
        nn.ReLU(inplace=True),
        nn.Conv2d(512, outputs, 4),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 1),
    )


def _autoencoder() -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 32), (32, 32), (32, 64), (64, 64), (64, 64)):
        layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.ReLU(inplace=True)]
    layers.append(nn.Conv2d(64, 64, 8))
    for size in (3, 8, 15, 32, 63, 127):
        layers += [
            nn.Upsample(size=size, mode="bilinear"),
            nn.Conv2d(64, 64, 4, stride=1, padding=2),
            nn.ReLU(inplace=True),
            nn.Dropout(0.2),
        ]
    layers += [
        nn.Upsample(size=56, mode="bilinear"),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(64, 384, 3, padding=1),
    ]
    return nn.Sequential(*layers)


@pytest.fixture
def nelson() -> Callable[..., SimpleNamespace]:
    """Builds teacher, student and autoencoder with random weights, in evaluation mode."""

    def build(size: str = "small", *, padding: bool = False, seed: int = 0) -> SimpleNamespace:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            pdn = {"small": _small, "medium": _medium}[size]
            return SimpleNamespace(
                teacher=pdn(384, int(padding)).eval(),
                student=pdn(768, int(padding)).eval(),
                autoencoder=_autoencoder().eval(),
            )

    return build
