"""Training of STFPM: the student learns the teacher's features of good images, by plain SGD.

The authors' scheme, with the kept student chosen as they do, by its loss on held-out good images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from edgead.backbones._weights import LoadedWeights, load_weights
from edgead.detectors.stfpm import Stfpm
from edgead.progress import Progress
from edgead.training._device import training_device
from edgead.training._loop import Steps, check_enough
from edgead.training._seeds import generator, place
from edgead.training._state import ResumeState, Snapshot, pack, unpack

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FROZEN = "backbone"
OPTIONS: frozenset[str] = frozenset()

_LOOKED_AT = 8  # reserved images at once


@dataclass(frozen=True, slots=True, kw_only=True)
class StfpmRecipe:
    """The numbers of a training.

    Attributes:
        steps: optimiser steps.
        batch: images per step.
        rate: of SGD.
        momentum: likewise.
        decay: likewise, the weight decay.
        save_every: steps between two looks at the reserved images and saved states.
        min_images: good images to train on, at least.
    """

    steps: int
    batch: int = 32
    rate: float = 0.4
    momentum: float = 0.9
    decay: float = 1e-4
    save_every: int = 50
    min_images: int = 8


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
    check_enough("stfpm", len(images), len(reserved), numbers.min_images)
    initialise(detector.student, seed)
    detector.to(training_device())
    try:
        training = _Training(detector, numbers, seed)
        training.run(images, reserved, state, progress)
        detector.student.load_state_dict(training.best)
        detector.eval()
    finally:
        detector.cpu()
    return {"history": training.history, "best": training.best_step}


def initialise(network: nn.Module, seed: int) -> None:
    """Give `network` its random start as torchvision's ResNets have it: He's deviation over the outputs."""
    random = generator(seed, "weights")
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            outputs = module.weight[:, 0].numel() / module.groups
            nn.init.normal_(module.weight, 0, math.sqrt(2 / outputs), generator=random)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()


class _Training(Steps):
    def __init__(self, detector: Stfpm, recipe: StfpmRecipe, seed: int) -> None:
        super().__init__()
        self.detector, self.recipe, self.seed = detector, recipe, seed
        self.names = [f"difference {tap}" for tap in detector.config.taps]
        self.device = detector.teacher.mean.device
        self.optimiser = torch.optim.SGD(
            detector.student.parameters(), lr=recipe.rate, momentum=recipe.momentum, weight_decay=recipe.decay
        )
        self.best = {key: value.clone() for key, value in detector.student.state_dict().items()}
        self.best_loss, self.best_step = math.inf, 0

    def run(
        self,
        images: npt.NDArray[np.uint8],
        reserved: npt.NDArray[np.uint8],
        state: ResumeState,
        progress: Progress,
    ) -> None:
        found = state.load()
        if found is not None:
            unpack(found.tensors, self.detector.student, self.optimiser, self._kept())
            self.done, self.history = found.values["done"], found.values["history"]
            self.best_step = found.values["best"]
            self.best_loss = min(entry["reserved"] for entry in self.history)
            progress.say(f"resuming after {self.done} of {self.recipe.steps} steps")
        self.detector.train()

        def save() -> None:
            self._look(reserved)
            tensors = pack(self.detector.student, self.optimiser, self._kept())
            values = {"done": self.done, "history": self.history, "best": self.best_step}
            state.save(Snapshot(tensors, values))

        self.go_on(
            lambda: self._step(images),
            self.names,
            until=self.recipe.steps,
            save_every=self.recipe.save_every,
            save=save,
            progress=progress,
        )

    def _step(self, images: npt.NDArray[np.uint8]) -> list[float]:
        first, count = self.done * self.recipe.batch, len(images)
        chosen = [place(self.seed, number, count) for number in range(first, first + self.recipe.batch)]
        return self.descend(self._losses(images[chosen]), self.names, self.optimiser)

    def _losses(self, images: npt.NDArray[np.uint8]) -> Tensor:
        """Mean difference per tap, (taps,)."""
        pixels = torch.from_numpy(images).to(self.device)
        found = self.detector.differences(self.detector.teacher.normalise(pixels))
        return torch.stack([difference.mean() for difference in found])

    @torch.no_grad()
    def _look(self, reserved: npt.NDArray[np.uint8]) -> None:
        """Loss of the student as it is on the reserved images; keeps the best so far."""
        self.detector.eval()
        total = 0.0
        for start in range(0, len(reserved), _LOOKED_AT):
            batch = reserved[start : start + _LOOKED_AT]
            total += float(self._losses(batch).sum()) * len(batch)
        self.detector.train()
        loss = total / max(1, len(reserved))
        self.history[-1]["reserved"] = loss
        if loss < self.best_loss or not self.best_step:
            self.best_loss, self.best_step = loss, self.done
            for key, value in self.detector.student.state_dict().items():
                self.best[key].copy_(value)

    def _kept(self) -> dict[str, Tensor]:
        return {f"best.{key}": value for key, value in self.best.items()}
