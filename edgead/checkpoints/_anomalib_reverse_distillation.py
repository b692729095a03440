"""anomalib's ReverseDistillation: a timm encoder, and embedding and decoder by the authors' names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from edgead.backbones._restricted_pickle import Inert
from edgead.checkpoints._anomalib_file import AnomalibFile
from edgead.checkpoints._base import Imported
from edgead.detectors.reverse_distillation import ReverseDistillation
from edgead.errors import UsageError, WeightsError

_ENCODER = "model.encoder.feature_extractor."
_UNUSED = ("conv4.", "bn4.")  # of the embedding: in no path to its output
_COUNTER = "num_batches_tracked"
_PRESETS = {"resnet18": "reverse_distillation_resnet18", "wide_resnet50_2": "reverse_distillation_wrn50"}


def read(file: AnomalibFile, geometry: Mapping[str, Any]) -> Imported:
    """The detector in `file`.

    Raises:
        UsageError: it was trained on images of another size, or multiplies its maps.
        WeightsError: a network is missing, damaged or none that edgead has.
    """
    mode = file.options.get("anomaly_map_mode", "add")
    mode = mode.arguments[0] if isinstance(mode, Inert) and mode.arguments else mode
    if mode != "add":
        raise UsageError(f"{file.path}: anomaly_map_mode is {mode!r}; edgead reads add, anomalib's default")
    backbone = file.backbone_name(_ENCODER)
    detector = ReverseDistillation.from_config(
        {
            "backbone": backbone,
            "taps": file.layers(),
            "geometry": geometry,
            "border": "mirror",
            "embedding_width": _embedding_width(file),
        }
    )
    file.check_size(detector)
    file.fill_backbone(detector.encoder, backbone, _ENCODER)
    for name, network in (("bottleneck", detector.bottleneck), ("decoder", detector.decoder)):
        tensors = file.part(f"model.{name}.")
        _fill(network, name, {k: v for k, v in tensors.items() if not k.startswith(_UNUSED)}, file)
    return Imported(detector.eval(), preset=_PRESETS[backbone])


def _embedding_width(file: AnomalibFile) -> int:
    """1 for anomalib's own bottleneck blocks, Wide ResNet-50-2 or not: a sixth of what enters."""
    weight = file.state.get("model.bottleneck.bn_layer.0.conv1.weight")
    return 1 if weight is not None and weight.ndim == 4 and 6 * weight.shape[0] == weight.shape[1] else 2


def _fill(network: nn.Module, name: str, tensors: Mapping[str, Tensor], file: AnomalibFile) -> None:
    own = network.state_dict()
    wanted = {key for key in own if not key.endswith(_COUNTER)}
    given = {key for key in tensors if not key.endswith(_COUNTER)}
    odd = sorted(wanted ^ given) or sorted(key for key in wanted if own[key].shape != tensors[key].shape)
    if odd:
        raise WeightsError(
            f"{file.path}: model.{name} is not the one that belongs to the encoder: {odd[0]} is missing, too "
            "much or of another shape"
        )
    network.load_state_dict({key: tensors.get(key, value) for key, value in own.items()})
