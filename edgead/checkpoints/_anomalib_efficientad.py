"""anomalib's EfficientAd: three networks, with statistics and quantiles beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgead.checkpoints._anomalib_file import AnomalibFile
from edgead.checkpoints._base import Calibration, Imported
from edgead.checkpoints._efficientad_calibration import complete, set_pairs
from edgead.checkpoints.efficientad import PRESETS_BY_SIZE
from edgead.detectors._efficientad_weights import fill, identify, told
from edgead.detectors.efficientad import EfficientAd
from edgead.errors import UsageError, WeightsError
from edgead.progress import Progress

_NETWORKS = ("teacher", "student", "ae")
_QUANTILES = ("qa_st", "qb_st", "qa_ae", "qb_ae")


def read(
    file: AnomalibFile, geometry: Mapping[str, Any], *, calib: Calibration | None, progress: Progress
) -> Imported:
    """The detector in `file`; `calib` only where its training had not set its statistics.

    Raises:
        UsageError: `calib` is given although the file lacks nothing, or the file names another input size.
        WeightsError: networks are missing or of mixed sizes, or statistics are damaged or missing without
            `calib`.
    """
    parts = {name: file.part(f"model.{name}.") for name in _NETWORKS}
    size = _size(file.path, parts)
    detector = EfficientAd.from_config(
        {
            "geometry": geometry,
            "size": size,
            "padding": file.flag("padding", default=False),
            "map_padding": 4 if file.flag("pad_maps", default=True) else 0,
            "map_order": "upsample_then_quantile",
        }
    )
    file.check_size(detector)
    fill(detector.teacher, f"a {size} teacher", parts["teacher"], file.path)
    fill(detector.student, f"a {size} student", parts["student"], file.path)
    fill(detector.ae, "an autoencoder", parts["ae"], file.path)
    detector.eval()
    if not _take_statistics(detector, file):
        complete(detector, file.path, calib, progress=progress)
    elif calib is not None:
        raise UsageError(f"--calib {calib.path}: {file.path} has its statistics and quantiles; leave it out")
    return Imported(detector, preset=PRESETS_BY_SIZE[size])


def _size(checkpoint: Path, parts: Mapping[str, Mapping[str, Tensor]]) -> str:
    missing = [name for name, tensors in parts.items() if not tensors]
    if missing:
        raise WeightsError(f"{checkpoint} is no checkpoint of EfficientAd: it has no {', '.join(missing)}")
    kinds = {name: identify(parts[name]) for name in ("teacher", "student")}
    teacher, student = kinds["teacher"], kinds["student"]
    if teacher is None or student is None or teacher[0] != student[0] or teacher[1] != "teacher":
        raise WeightsError(
            f"{checkpoint}: as teacher it holds {told(parts['teacher'])}, as student "
            f"{told(parts['student'])}; edgead reads teachers of 384 channels, students of 768, of one size"
        )
    return teacher[0]


def _take_statistics(detector: EfficientAd, file: AnomalibFile) -> bool:
    """Set statistics and quantiles where the file has them; anomalib leaves zeros where it has not."""
    statistics = [file.state.get(f"model.mean_std.{name}") for name in ("mean", "std")]
    quantiles = [file.state.get(f"model.quantiles.{name}") for name in _QUANTILES]
    found = [[value for value in group if value is not None] for group in (statistics, quantiles)]
    unset = any(all(not bool(value.any()) for value in group) for group in found)
    if unset or len(found[0]) != len(statistics) or len(found[1]) != len(quantiles):
        return False
    mean, std = (value.flatten() for value in found[0])
    sound = bool(mean.isfinite().all() and std.isfinite().all() and (std > 0).all())
    if len(mean) != len(std) or len(mean) != len(detector.teacher_mean) or not sound:
        raise WeightsError(
            f"{file.path}: model.mean_std holds no {len(detector.teacher_mean)} positive deviations"
        )
    detector.teacher_mean.copy_(mean.view(-1, 1, 1))
    detector.teacher_std.copy_(std.view(-1, 1, 1))
    pairs = torch.stack([value.detach().double().reshape(()) for value in found[1]]).view(2, 2)
    set_pairs(detector, file.path, pairs)
    return True
