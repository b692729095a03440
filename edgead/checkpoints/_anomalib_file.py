"""What all of anomalib's checkpoints share: Lightning's ``.ckpt`` of anomalib 0.7, 1 and 2.

The networks stand under ``model.`` in the state dict. Enums, paths, transforms and whatever else such a file
holds are not built (`Inert`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from edgead.backbones import _restricted_pickle
from edgead.backbones._base import Backbone
from edgead.backbones._weights import fill
from edgead.detectors._base import Detector
from edgead.errors import UsageError, WeightsError

# Name here to the names there, the newest first.
_LIMITS = {
    "image_threshold": ("post_processor._image_threshold", "image_threshold.value"),
    "pixel_threshold": ("post_processor._pixel_threshold", "pixel_threshold.value"),
    "image_min": (
        "post_processor.image_min",
        "normalization_metrics.pred_scores.min",
        "normalization_metrics.min",
    ),
    "image_max": (
        "post_processor.image_max",
        "normalization_metrics.pred_scores.max",
        "normalization_metrics.max",
    ),
    "pixel_min": (
        "post_processor.pixel_min",
        "normalization_metrics.anomaly_maps.min",
        "normalization_metrics.min",
    ),
    "pixel_max": (
        "post_processor.pixel_max",
        "normalization_metrics.anomaly_maps.max",
        "normalization_metrics.max",
    ),
}


@dataclass(frozen=True, slots=True)
class AnomalibFile:
    """A checkpoint as it was read.

    Attributes:
        path: for messages.
        state: the tensors of the state dict; its texts (names of metric classes) are left out.
        options: the model's arguments (``hyper_parameters``); what was not given is not there.
        pre_processor: nested config of the transform, which newer versions write down; None = unknown.
    """

    path: Path
    state: Mapping[str, Tensor]
    options: Mapping[Any, Any]
    pre_processor: object

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under `prefix`, without it."""
        return {
            key.removeprefix(prefix): value for key, value in self.state.items() if key.startswith(prefix)
        }

    def flag(self, name: str, *, default: bool) -> bool:
        """A true-or-false argument of the model."""
        value = self.options.get(name, default)
        return value if isinstance(value, bool) else default

    def layers(self, default: Sequence[str] = ("layer1", "layer2", "layer3")) -> list[str]:
        """The backbone's layers that the model reads; `default`: where the file does not say."""
        value = self.options.get("layers")
        known = isinstance(value, list | tuple) and bool(value) and all(isinstance(one, str) for one in value)
        return list(value) if known else list(default)  # type: ignore[arg-type]

    def check_size(self, detector: Detector) -> None:
        """Compare with the Resize that newer versions write down; older ones say nothing.

        Raises:
            UsageError: it is another size than the detector's.
        """
        sizes = list(_resizes(self.pre_processor))
        height, width = detector.geometry.input_size
        if sizes and sizes[-1] != [height, width]:
            raise UsageError(
                f"{self.path} was trained on images of {'×'.join(map(str, sizes[-1]))}, not "
                f"{height}×{width}; give that side with --input-size"
            )

    def backbone_name(self, prefix: str) -> str:
        """Which backbone stands under `prefix`, by timm's names of its layers.

        Raises:
            WeightsError: none that edgead has.
        """
        tensors = self.part(prefix)
        if "conv1.weight" not in tensors or "layer1.0.conv1.weight" not in tensors:
            raise WeightsError(
                f"{self.path}: the backbone under {prefix} is no ResNet; edgead reads resnet18 and "
                "wide_resnet50_2"
            )
        return "wide_resnet50_2" if "layer1.0.conv3.weight" in tensors else "resnet18"

    def fill_backbone(self, network: Backbone, name: str, prefix: str) -> None:
        """Fill `network`, the backbone `name`, with what stands under `prefix`.

        timm's names are torchvision's; its weights are others, so those in the file are taken.

        Raises:
            WeightsError: they are another network's.
        """
        fill(network, name, self.part(prefix), self.path)

    def limits(self) -> dict[str, float | None]:
        """Thresholds and normalisation in anomalib's raw units; None where the file has none."""
        limits: dict[str, float | None] = {}
        for name, keys in _LIMITS.items():
            values = [
                float(self.state[key]) for key in keys if key in self.state and self.state[key].numel() == 1
            ]
            limits[name] = next((value for value in values if math.isfinite(value)), None)
        return limits


def load(path: Path) -> AnomalibFile:
    """Read the checkpoint at `path`.

    Raises:
        WeightsError: it cannot be read, or is none of Lightning's.
    """
    content = _restricted_pickle.load(path, inert=None)
    state = content.get("state_dict") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping):
        raise WeightsError(
            f"{path} is no checkpoint of Lightning: it holds no state_dict; an exported model.pt is "
            "none either: give weights/lightning/model.ckpt"
        )
    options = content.get("hyper_parameters")
    return AnomalibFile(
        path,
        {str(key): value for key, value in state.items() if isinstance(value, Tensor)},
        options if isinstance(options, Mapping) else {},
        content.get("anomalib_pre_processor_config"),
    )


def _resizes(config: object) -> Iterator[list[int]]:
    """(H, W) of every Resize in a nested config, in order."""
    if isinstance(config, Mapping):
        options = config.get("init_args")
        if str(config.get("class_path", "")).endswith(".Resize") and isinstance(options, Mapping):
            size = options.get("size")
            size = [size, size] if isinstance(size, int) else size
            if isinstance(size, list) and len(size) == 2:
                yield size
        for value in config.values():
            yield from _resizes(value)
    elif isinstance(config, list):
        for value in config:
            yield from _resizes(value)
