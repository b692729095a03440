"""Training of FastFlow: norms and flows make good images' features likely, by Adam.

Which saved state is kept, the reserved good images say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from edgead.backbones._weights import LoadedWeights, load_weights
from edgead.detectors._flow import FlowStep
from edgead.detectors.fastflow import FastFlow
from edgead.progress import Progress
from edgead.training._best_on_reserved import Plan, train
from edgead.training._seeds import derive, generator
from edgead.training._state import ResumeState

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FROZEN = "backbone"
OPTIONS: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class FastFlowRecipe(Plan):
    """The numbers of a training, beside those of `Plan`.

    Attributes:
        rate: of Adam.
        decay: Adam's weight decay.
    """

    rate: float = 1e-3
    decay: float = 1e-5


def load_frozen(detector: FastFlow, file: Path | None, *, progress: Progress) -> LoadedWeights:
    """Fill the part that is not trained, the backbone; see `load_weights`."""
    return load_weights(detector.backbone, detector.config.backbone, file, progress=progress)


def fit(
    detector: FastFlow,
    images: npt.NDArray[np.uint8],
    reserved: npt.NDArray[np.uint8],
    *,
    recipe: Mapping[str, Any],
    seed: int,
    state: ResumeState,
    progress: Progress,
) -> dict[str, Any]:
    """Train norms and flows of `detector` in place; resumes where `state` holds an earlier run.

    A resumed training ends with the same bits on a CPU; a GPU adds in no fixed order.

    Args:
        detector: with its backbone's weights loaded; the rest is initialised here. Runs on a GPU where there
            is one; comes back on the CPU.
        images: (N, H, W, 3) uint8 RGB, good images to train on.
        reserved: likewise, good images that choose which of the saved states is kept.
        recipe: values of `FastFlowRecipe`.
        seed: of every random choice here, the order of channels in each step included.
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
    numbers = FastFlowRecipe(**recipe)
    trained = nn.ModuleDict({"norms": detector.norms, "flows": detector.flows})
    initialise(trained, seed)
    return train(
        detector,
        trained,
        images,
        reserved,
        optimiser=lambda network: torch.optim.Adam(
            network.parameters(), lr=numbers.rate, weight_decay=numbers.decay
        ),
        losses=lambda pixels: losses(detector, pixels),
        names=[f"unlikeliness {tap}" for tap in detector.config.taps],
        plan=numbers,
        seed=seed,
        state=state,
        progress=progress,
    )


def initialise(trained: nn.Module, seed: int) -> None:
    """Torch's own start for convolutions, 1 and 0 for norms and global scales, channel orders by chance."""
    random = generator(seed, "channel order")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights"))
        for module in trained.modules():
            if isinstance(module, nn.Conv2d | nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, FlowStep):
                module.order.copy_(torch.randperm(len(module.order), generator=random))


def losses(detector: FastFlow, pixels: Tensor) -> Tensor:
    """Mean negative log-likelihood per tap, without its constant, (taps,): ½·‖z‖² − log|det J|."""
    found = detector.latent(detector.backbone.normalise(pixels))
    return torch.stack([(0.5 * z.square().sum((1, 2, 3)) - jacobian).mean() for z, jacobian in found])
