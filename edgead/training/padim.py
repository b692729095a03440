"""Training of PaDiM, in closed form: mean and covariance of each position's features over the good images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from edgead.backbones._weights import LoadedWeights, load_weights
from edgead.detectors.padim import Padim
from edgead.errors import InputError
from edgead.progress import Progress
from edgead.training._loop import check_enough
from edgead.training._seeds import generator
from edgead.training._state import ResumeState

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FROZEN = "backbone"
OPTIONS: frozenset[str] = frozenset()


_IMAGES, _POSITIONS = 8, 256  # at once, of the sums and of the inversion


@dataclass(frozen=True, slots=True, kw_only=True)
class PadimRecipe:
    """The numbers of a training.

    Attributes:
        epsilon: added to each covariance's diagonal, so that it can be inverted.
        min_images: good images to train on, at least.
    """

    epsilon: float = 0.01
    min_images: int = 8


def no_tiles(options: Mapping[str, Any]) -> str:
    """Why `edgead train --tiles` refuses it."""
    return (
        "it learns what is normal at each place of an aligned object, and a place in a tile is another place "
        "of the object in each tile; take a larger --size instead, or another detector such as patchcore"
    )


def load_frozen(detector: Padim, file: Path | None, *, progress: Progress) -> LoadedWeights:
    """Fill the part that is not trained, the backbone; see `load_weights`."""
    return load_weights(detector.backbone, detector.config.backbone, file, progress=progress)


def fit(
    detector: Padim,
    images: npt.NDArray[np.uint8],
    reserved: npt.NDArray[np.uint8],
    *,
    recipe: Mapping[str, Any],
    seed: int,
    state: ResumeState,
    progress: Progress,
) -> dict[str, Any]:
    """Fill the Gaussians of `detector` in one pass over `images`; the same bits each time on a CPU.

    Args:
        detector: with its backbone's weights loaded.
        images: (N, H, W, 3) uint8 RGB, good images to train on.
        reserved: not used.
        recipe: values of `PadimRecipe`.
        seed: of the choice of features.
        state: not used: one pass takes as long as reading the images, so an interrupted one begins anew.
        progress: bars.

    Returns:
        What happened, as JSON values: images.

    Raises:
        DatasetError: too few good images.
        InputError: the backbone gives values that are not finite.
    """
    numbers = PadimRecipe(**recipe)
    check_enough("padim", len(images), len(reserved), numbers.min_images)
    detector.eval()
    chosen = torch.randperm(detector.features, generator=generator(seed, "features"))[: detector.config.dim]
    detector.index.copy_(chosen.sort().values)
    mean, scatter = _moments(detector, images, progress)
    if not bool(scatter.isfinite().all()):
        raise InputError("the backbone gives values that are not finite; its weights are damaged")
    detector.mean.copy_(mean)
    ridge = numbers.epsilon * torch.eye(detector.config.dim, dtype=torch.float64)
    with progress.task("covariances", len(mean)) as task:
        for start in range(0, len(mean), _POSITIONS):
            part = slice(start, min(start + _POSITIONS, len(mean)))
            factor = torch.linalg.cholesky(scatter[part] / (len(images) - 1) + ridge)
            detector.inv_covariance[part] = torch.cholesky_inverse(factor).float()
            task.advance(part.stop - part.start)
    return {"images": len(images)}


@torch.no_grad()
def _moments(detector: Padim, images: npt.NDArray[np.uint8], progress: Progress) -> tuple[Tensor, Tensor]:
    """Mean (h·w, dim) and Σ (x − mean)(x − mean)ᵀ (h·w, dim, dim) per position, float64.

    Sums are taken of x − x₀, x₀ the first image's features: then what all images share cancels before it is
    squared, not after.
    """
    origin = detector.embed(torch.from_numpy(images[:1])).double()[0]
    positions, dim = origin.shape
    total = torch.zeros(positions, dim, dtype=torch.float64)
    scatter = torch.zeros(positions, dim, dim, dtype=torch.float64)
    with progress.task("features", len(images)) as task:
        for start in range(0, len(images), _IMAGES):
            batch = torch.from_numpy(images[start : start + _IMAGES])
            rows = detector.embed(batch).double() - origin
            total += rows.sum(0)
            scatter.baddbmm_(rows.permute(1, 2, 0), rows.transpose(0, 1))
            task.advance(len(batch))
    shift = total / len(images)
    scatter.baddbmm_(total[:, :, None], shift[:, None], alpha=-1)
    return origin + shift, scatter
