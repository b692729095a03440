"""anomalib's Patchcore: a timm backbone and the memory bank of its patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgead.checkpoints._anomalib_file import AnomalibFile
from edgead.checkpoints._base import Imported
from edgead.detectors.patchcore import PatchCore
from edgead.errors import WeightsError

_BACKBONE = "model.feature_extractor.feature_extractor."
_BANK = "model.memory_bank"
_LAYERS = ("layer2", "layer3")
_NEIGHBOURS = 9  # anomalib's own default


def read(file: AnomalibFile, geometry: Mapping[str, Any]) -> Imported:
    """The detector in `file`.

    Raises:
        UsageError: it was trained on images of another size.
        WeightsError: the bank is missing, damaged or of other features, or was saved before it was filled.
    """
    bank = file.state[_BANK]
    if bank.numel() == 0:
        raise WeightsError(
            f"{file.path} was saved before its memory bank was filled; finish the training in anomalib"
        )
    backbone = file.backbone_name(_BACKBONE)
    neighbours = file.options.get("num_neighbors", _NEIGHBOURS)
    if not isinstance(neighbours, int) or neighbours < 1:
        raise WeightsError(f"{file.path}: num_neighbors is {neighbours!r}")
    detector = PatchCore.from_config(
        {
            "backbone": backbone,
            "taps": file.layers(_LAYERS),
            "geometry": geometry,
            # One neighbour would be the vector that was found: anomalib takes the highest distance then.
            "neighbours": neighbours if neighbours > 1 else 0,
            "upsample": "nearest",
            "border": "mirror",
        }
    )
    assert isinstance(detector, PatchCore)
    file.check_size(detector)
    if bank.ndim != 2 or bank.shape[1] != detector.dim:
        raise WeightsError(
            f"{file.path}: a memory bank of {tuple(bank.shape)}, {' and '.join(detector.config.taps)} of "
            f"{backbone} give vectors of {detector.dim} values"
        )
    if not bool(bank.isfinite().all()):
        raise WeightsError(f"{file.path}: its memory bank holds values that are not finite")
    file.fill_backbone(detector.backbone, backbone, _BACKBONE)
    detector.set_bank(bank.float())
    return Imported(detector.eval(), preset="patchcore_wrn50" if backbone != "resnet18" else "patchcore")
