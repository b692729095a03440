"""Training of Reverse Distillation: the decoder learns to rebuild the teacher's features of good images.

The authors' scheme, Adam on 1 − cos of each tap's whole feature vector (all positions as one, as their code
has it, not per position as in the paper). Which saved state is kept, the reserved good images say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.backbones._weights import LoadedWeights, load_weights
from edgead.detectors.reverse_distillation import ReverseDistillation
from edgead.progress import Progress
from edgead.training._best_on_reserved import Plan, initialise, train
from edgead.training._state import ResumeState

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FROZEN = "backbone"
OPTIONS: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReverseDistillationRecipe(Plan):
    """The numbers of a training, beside those of `Plan`.

    Attributes:
        rate: of Adam, whose first moment keeps a half per step.
    """

    batch: int = 16
    rate: float = 5e-3


def load_frozen(detector: ReverseDistillation, file: Path | None, *, progress: Progress) -> LoadedWeights:
    """Fill the part that is not trained, the teacher; see `load_weights`."""
    return load_weights(detector.encoder, detector.config.backbone, file, progress=progress)


def fit(
    detector: ReverseDistillation,
    images: npt.NDArray[np.uint8],
    reserved: npt.NDArray[np.uint8],
    *,
    recipe: Mapping[str, Any],
    seed: int,
    state: ResumeState,
    progress: Progress,
) -> dict[str, Any]:
    """Train embedding and decoder of `detector` in place; resumes where `state` holds an earlier run.

    A resumed training ends with the same bits on a CPU; a GPU adds in no fixed order.

    Args:
        detector: with its teacher's weights loaded; the rest is initialised here. Runs on a GPU where there
            is one; comes back on the CPU.
        images: (N, H, W, 3) uint8 RGB, good images to train on.
        reserved: likewise, good images that choose which of the saved states is kept.
        recipe: values of `ReverseDistillationRecipe`.
        seed: of every random choice here.
        state: where to resume from and to save to.
        progress: bars and messages.

    Returns:
        What happened, as JSON values: history (mean losses between two saved states, and that of the reserved
        images) and best (the step that was kept).

    Raises:
        DatasetError: too few good images.
        InputError: a loss is no longer a number; `state` keeps the last good one.
        OutputError: `state` cannot be read or written, or belongs to another training.
    """
    numbers = ReverseDistillationRecipe(**recipe)
    trained = nn.ModuleDict({"bottleneck": detector.bottleneck, "decoder": detector.decoder})
    initialise(trained, seed)
    return train(
        detector,
        trained,
        images,
        reserved,
        optimiser=lambda network: torch.optim.Adam(network.parameters(), lr=numbers.rate, betas=(0.5, 0.999)),
        losses=lambda pixels: _losses(detector, pixels),
        names=[f"difference {tap}" for tap in detector.config.taps],
        plan=numbers,
        seed=seed,
        state=state,
        progress=progress,
    )


def _losses(detector: ReverseDistillation, pixels: Tensor) -> Tensor:
    """Mean 1 − cos of the flattened maps per tap, (3,)."""
    pairs = zip(*detector.features(detector.encoder.normalise(pixels)), strict=True)
    return torch.stack(
        [(1 - F.cosine_similarity(taught.flatten(1), rebuilt.flatten(1))).mean() for taught, rebuilt in pairs]
    )
