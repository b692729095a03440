"""anomalib's Padim: a timm backbone, the features that were chosen, and a Gaussian per position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgead.checkpoints._anomalib_file import AnomalibFile
from edgead.checkpoints._base import Imported
from edgead.detectors.padim import Padim
from edgead.errors import UsageError, WeightsError

_BACKBONE = "model.feature_extractor.feature_extractor."
_GAUSSIANS = ("model.idx", "model.gaussian.mean", "model.gaussian.inv_covariance")


def read(file: AnomalibFile, geometry: Mapping[str, Any]) -> Imported:
    """The detector in `file`.

    Raises:
        UsageError: it was trained on images of another size, or is too large for a graph.
        WeightsError: tensors are missing, damaged or do not go together, or were saved before fitting.
    """
    missing = [key for key in _GAUSSIANS if key not in file.state]
    if missing:
        raise WeightsError(f"{file.path} is no checkpoint of Padim: it has no {', '.join(missing)}")
    index, mean, inverse = (file.state[key] for key in _GAUSSIANS)
    if 0 in (mean.numel(), inverse.numel()):
        raise WeightsError(
            f"{file.path} was saved before its Gaussians were fitted: they are empty; finish the training in "
            "anomalib"
        )
    dim, positions = len(index), mean.shape[-1]
    if index.ndim != 1 or mean.shape != (dim, positions) or inverse.shape != (positions, dim, dim):
        raise WeightsError(
            f"{file.path}: {dim} features, means {tuple(mean.shape)} and inverse covariances "
            f"{tuple(inverse.shape)} do not go together"
        )
    backbone = file.backbone_name(_BACKBONE)
    detector = Padim.from_config(
        {
            "backbone": backbone,
            "taps": file.layers(),
            "dim": dim,
            "geometry": geometry,
            "border": "mirror",
        }
    )
    file.check_size(detector)
    rows, cols = detector.grid
    if rows * cols != positions:
        raise UsageError(
            f"{file.path} holds Gaussians of {positions} positions, an input of "
            f"{'×'.join(map(str, detector.geometry.input_size))} has {rows * cols}; give the side of its "
            "training with --input-size"
        )
    whole = index.long()
    if len(set(whole.tolist())) != dim or int(whole.min()) < 0 or int(whole.max()) >= detector.features:
        raise WeightsError(
            f"{file.path}: model.idx chooses no {dim} different features of {detector.features}"
        )
    if not bool(mean.isfinite().all() and inverse.isfinite().all()):
        raise WeightsError(f"{file.path}: its Gaussians hold values that are not finite")
    file.fill_backbone(detector.backbone, backbone, _BACKBONE)
    detector.index.copy_(whole)
    detector.mean.copy_(mean.T)
    detector.inv_covariance.copy_(inverse)
    return Imported(detector.eval(), preset="padim_resnet18" if backbone == "resnet18" else "padim")
