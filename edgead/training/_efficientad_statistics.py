"""What an EfficientAD knows of good images beside its weights: teacher statistics and map quantiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.progress import Progress

if TYPE_CHECKING:
    import numpy.typing as npt

    from edgead.detectors.efficientad import EfficientAd

# The paper's: values above the first are 'high' among good images, the second becomes 0.1.
LEVELS = (0.9, 0.995)
_MIN_STD = 1e-6


@torch.no_grad()
def set_teacher_statistics(
    detector: EfficientAd, pixels: npt.NDArray[np.uint8], *, progress: Progress
) -> None:
    """Set mean and deviation per channel of the teacher's output over all positions of all `pixels`.

    Sums of squares are about each image's own mean, in float64, so that nothing cancels.

    Args:
        detector: with its teacher's weights; on any device.
        pixels: (N, H, W, 3) uint8 RGB, the images that are trained on.
        progress: a bar.
    """
    means, squares = [], []
    with progress.task("teacher statistics", len(pixels)) as task:
        for image in pixels:
            described = detector.teacher(_normalised(detector, image))[0].double().flatten(1)
            mean = described.mean(1)
            means.append(mean)
            squares.append((described - mean[:, None]).square().mean(1))
            task.advance()
    each = torch.stack(means)
    mean = each.mean(0)
    variance = torch.stack(squares).mean(0) + (each - mean).square().mean(0)
    detector.teacher_mean.copy_(mean.view(-1, 1, 1))
    detector.teacher_std.copy_(variance.sqrt().clamp_min(_MIN_STD).view(-1, 1, 1))


@torch.no_grad()
def set_quantiles(detector: EfficientAd, pixels: npt.NDArray[np.uint8], *, progress: Progress) -> None:
    """Set the 0.9 and 0.995 quantiles of both maps over all positions of all `pixels`.

    Of the raw maps or of the padded and up-sampled ones, as the detector's `map_order` says.

    Args:
        detector: trained, in evaluation mode.
        pixels: (N, H, W, 3) uint8 RGB, good images that were not trained on.
        progress: a bar.
    """
    maps: list[npt.NDArray[np.float32]] = []
    with progress.task("map quantiles", len(pixels)) as task:
        for image in pixels:
            raw = detector(torch.from_numpy(image)[None].to(detector.mean.device)).anomaly_map
            maps.append(_shown(detector, raw)[0].flatten(1).float().cpu().numpy())
            task.advance()
    found = np.quantile(np.concatenate(maps, axis=1).astype(np.float64), LEVELS, axis=1)
    detector.quantiles.copy_(torch.from_numpy(found.T.copy()))


def _shown(detector: EfficientAd, raw: Tensor) -> Tensor:
    """The maps at the step that the quantiles are of."""
    config = detector.config
    if config.map_order == "quantile_then_upsample":
        return raw
    padded = F.pad(raw, (config.map_padding,) * 4)
    size = config.geometry.input_size
    return F.interpolate(padded, size=size, mode="bilinear", align_corners=False)


def _normalised(detector: EfficientAd, image: npt.NDArray[np.uint8]) -> Tensor:
    return detector.normalise(torch.from_numpy(image)[None].to(detector.mean.device))
