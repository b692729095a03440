"""Files in the layout that anomalib 2 writes, made by hand, and its blur."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.backbones import _base as backbones


@pytest.fixture
def timm_weights() -> Callable[..., dict[str, Tensor]]:
    """Random weights of a backbone up to layer3: timm's names of its layers are torchvision's."""

    def make(name: str = "resnet18", prefix: str = "", seed: int = 0) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        network = backbones.build(name, ["layer1", "layer2", "layer3"])
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)
        return {prefix + key: value for key, value in network.state_dict().items()}

    return make


@pytest.fixture
def lightning_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a state dict as Lightning does, with anomalib 2's post-processor beside it."""

    def write(state: Mapping[str, Tensor], **options: Any) -> Path:
        extras = {
            "post_processor._image_threshold": torch.tensor(0.75),
            "post_processor._pixel_threshold": torch.tensor(float("nan")),
        }
        content = {
            "epoch": 1,
            "pytorch-lightning_version": "2.4.0",
            "callbacks": {"ModelCheckpoint": {"dirpath": Path("results")}},
            "hyper_parameters": options,
            "state_dict": {**state, **extras},
        }
        torch.save(content, tmp_path / "model.ckpt")
        return tmp_path / "model.ckpt"

    return write


@pytest.fixture
def anomalib_blur() -> Callable[[Tensor], Tensor]:
    """(N, 1, H, W): σ = 4, 33 × 33, torch's "reflect" border."""

    def blur(anomaly_map: Tensor) -> Tensor:
        line = torch.exp(-0.5 * (torch.arange(-16, 17) / 4.0) ** 2)
        kernel = (line / line.sum()).outer(line / line.sum()).view(1, 1, 33, 33).to(anomaly_map.dtype)
        return F.conv2d(F.pad(anomaly_map, (16, 16, 16, 16), mode="reflect"), kernel)

    return blur
