"""What an EfficientAD checkpoint lacks (statistics, map quantiles), from good images or a JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from edgead.checkpoints._base import Calibration
from edgead.detectors._efficientad_networks import CHANNELS
from edgead.detectors.efficientad import EfficientAd
from edgead.errors import WeightsError
from edgead.progress import Progress
from edgead.training._efficientad_statistics import set_quantiles, set_teacher_statistics

# As nelson1425's code calls its variables.
STATISTICS = ("teacher_mean", "teacher_std")
QUANTILES = ("q_st_start", "q_st_end", "q_ae_start", "q_ae_end")


def complete(
    detector: EfficientAd, checkpoint: Path, calib: Calibration | None, *, progress: Progress
) -> None:
    """Give `detector` what its `checkpoint` lacks.

    Raises:
        WeightsError: there is nothing to take it from, or the side-car's values do not fit.
    """
    if calib is None:
        raise WeightsError(
            f"{checkpoint} does not hold the teacher's statistics and the map quantiles; give a folder of "
            f"good images or a JSON file with {', '.join((*STATISTICS, *QUANTILES))} (--calib)"
        )
    if calib.values is not None:
        _take(detector, calib.path, calib.values)
        return
    assert calib.pixels is not None
    set_teacher_statistics(detector, calib.pixels, progress=progress)
    set_quantiles(detector, calib.pixels, progress=progress)


def _take(detector: EfficientAd, path: Path, values: Mapping[str, object]) -> None:
    missing = [key for key in (*STATISTICS, *QUANTILES) if key not in values]
    if missing:
        raise WeightsError(f"{path} lacks {', '.join(missing)}")
    try:
        mean, std = (torch.tensor(values[key], dtype=torch.float64).flatten() for key in STATISTICS)
        quantiles = torch.tensor([values[key] for key in QUANTILES], dtype=torch.float64).view(2, 2)
    except (TypeError, ValueError, RuntimeError) as err:
        raise WeightsError(f"{path}: a value is not a number or a list of numbers: {err}") from err
    for key, found in zip(STATISTICS, (mean, std), strict=True):
        if len(found) != CHANNELS or not bool(found.isfinite().all()):
            raise WeightsError(f"{path}: {key} must hold {CHANNELS} finite numbers, it holds {len(found)}")
    if not bool((std > 0).all()):
        raise WeightsError(f"{path}: teacher_std must be positive, its least value is {float(std.min())}")
    detector.teacher_mean.copy_(mean.view(-1, 1, 1))
    detector.teacher_std.copy_(std.view(-1, 1, 1))
    set_pairs(detector, path, quantiles)


def set_pairs(detector: EfficientAd, path: Path, quantiles: torch.Tensor) -> None:
    """Set the (2, 2) quantiles.

    Raises:
        WeightsError: the upper quantile of a map is not above the lower one.
    """
    if not bool(quantiles.isfinite().all()) or not bool((quantiles[:, 1] > quantiles[:, 0]).all()):
        raise WeightsError(f"{path}: the map quantiles {quantiles.tolist()} do not rise")
    detector.quantiles.copy_(quantiles)
