"""Training of STFPM: the student learns the teacher's features of good images, by plain SGD.

The authors' scheme, with the kept student chosen as they do, by its loss on held-out good images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from edgead.backbones._weights import LoadedWeights, load_weights
from edgead.detectors.stfpm import Stfpm
from edgead.progress import Progress
from edgead.training._best_on_reserved import Plan, initialise, train
from edgead.training._state import ResumeState

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FROZEN = "backbone"
OPTIONS: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class StfpmRecipe(Plan):
    """The numbers of a training, beside those of `Plan`.

    Attributes:
        rate: of SGD.
        momentum: likewise.
        decay: likewise, the weight decay.
    """

    rate: float = 0.4
    momentum: float = 0.9
    decay: float = 1e-4


def load_frozen(detector: Stfpm, file: Path | None, *, progress: Progress) -> LoadedWeights:
    """Fill the part that is not trained, the teacher; see `load_weights`."""
    return load_weights(detector.teacher, detector.config.backbone, file, progress=progress)


def fit(
    detector: Stfpm,
    images: npt.NDArray[np.uint8],
    reserved: npt.NDArray[np.uint8],
    *,
    recipe: Mapping[str, Any],
    seed: int,
    state: ResumeState,
    progress: Progress,
) -> dict[str, Any]:
    """Train the student of `detector` in place; resumes where `state` holds an earlier run.

    A resumed training ends with the same bits on a CPU; a GPU adds in no fixed order.

    Args:
        detector: with its teacher's weights loaded; the student is initialised here. Runs on a GPU where
            there is one; comes back on the CPU.
        images: (N, H, W, 3) uint8 RGB, good images to train on.
        reserved: likewise, good images that choose which of the saved students is kept.
        recipe: values of `StfpmRecipe`.
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
    numbers = StfpmRecipe(**recipe)
    initialise(detector.student, seed)
    return train(
        detector,
        detector.student,
        images,
        reserved,
        optimiser=lambda network: torch.optim.SGD(
            network.parameters(),
            lr=numbers.rate,
            momentum=numbers.momentum,
            weight_decay=numbers.decay,
        ),
        losses=lambda pixels: _losses(detector, pixels),
        names=[f"difference {tap}" for tap in detector.config.taps],
        plan=numbers,
        seed=seed,
        state=state,
        progress=progress,
    )


def _losses(detector: Stfpm, pixels: Tensor) -> Tensor:
    """Mean difference per tap, (taps,)."""
    found = detector.differences(detector.teacher.normalise(pixels))
    return torch.stack([difference.mean() for difference in found])
