"""Small detectors with weights and statistics that no initialisation would give."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from edgead.detectors.simplenet import SimpleNet, SimpleNetConfig
from edgead.types import Geometry


def _scatter(detector: SimpleNet, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
    for name, parameter in detector.named_parameters():
        if name.startswith(("projection", "discriminator.hidden")):
            parameter.data.normal_(0, 0.1, generator=generator)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small spend more on torch's barriers than on work, several times so on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_simplenet() -> Callable[..., SimpleNet]:
    def make(
        backbone: str = "efficientnet_lite0",
        taps: tuple[str, ...] = ("stage2", "stage3"),
        *,
        size: tuple[int, int] = (64, 64),
        seed: int = 0,
        **changes: int | bool,
    ) -> SimpleNet:
        torch.manual_seed(seed)
        dims = {"tap_dim": 40, "embedding_dim": 48, "hidden_dim": 24} | changes
        geometry = Geometry(height=size[0], width=size[1])
        config = SimpleNetConfig(backbone=backbone, taps=taps, geometry=geometry, **dims)  # type: ignore[arg-type]
        detector = SimpleNet(config)
        _scatter(detector, seed)
        return detector.eval()

    return make
