"""Training of RADAR: guess the noise in good images. Nothing here looks at reserved or test images."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from edgead.backbones._weights import LoadedWeights
from edgead.detectors.radar import Radar
from edgead.errors import UsageError
from edgead.progress import Progress
from edgead.training._denoising import initialise, take_average
from edgead.training._device import mixed_precision, training_device
from edgead.training._loop import Steps, check_enough, one_cycle
from edgead.training._muon import optimiser
from edgead.training._seeds import generator, place
from edgead.training._state import ResumeState, Snapshot, pack, unpack

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FROZEN = None
OPTIONS: frozenset[str] = frozenset()

_LOSSES = ("noise",)


@dataclass(frozen=True, slots=True, kw_only=True)
class RadarRecipe:
    """The numbers of a training.

    Attributes:
        steps: optimiser steps.
        batch: images per step.
        rate: of Muon (`_muon`); rises for a tenth of the steps, then falls to 0 as a cosine does.
        levels: steps t of noise are below it; the detector's own must be.
        average: how much of the running average a step keeps, in the long run.
        save_every: steps between two saved states.
        min_images: good images to train on, at least.
    """

    steps: int
    batch: int
    rate: float
    levels: int = 300
    average: float = 0.99
    save_every: int = 100
    min_images: int = 8


def load_frozen(detector: Radar, file: Path | None, *, progress: Progress) -> LoadedWeights | None:
    """None: all of it is trained.

    Raises:
        UsageError: there is a `file`.
    """
    if file is not None:
        raise UsageError(f"--weights {file}: radar trains all of its network; leave it out")
    return None


def fit(
    detector: Radar,
    images: npt.NDArray[np.uint8],
    reserved: npt.NDArray[np.uint8],
    *,
    recipe: Mapping[str, Any],
    seed: int,
    state: ResumeState,
    progress: Progress,
) -> dict[str, Any]:
    """Train the network of `detector` in place and draw its noise; resumes from an earlier run's `state`.

    A resumed training ends with the same bits on a CPU; a GPU adds in no fixed order.

    Args:
        detector: is initialised here. Runs on a GPU where there is one, in mixed precision; comes back on the
            CPU.
        images: (N, H, W, 3) uint8 RGB, good images to train on.
        reserved: not used: a fixed number of steps needs none.
        recipe: values of `RadarRecipe`.
        seed: of every random choice here, the detector's noise included.
        state: where to resume from and to save to.
        progress: bars and messages.

    Returns:
        What happened, as JSON values: history (mean losses between two saved states).

    Raises:
        DatasetError: too few good images.
        InputError: a loss is no longer a number; `state` keeps the last good one.
        OutputError: `state` cannot be read or written, or belongs to another training.
    """
    numbers = RadarRecipe(**recipe)
    check_enough("radar", len(images), len(reserved), numbers.min_images)
    detector.to(training_device())
    try:
        training = _Training(detector, numbers, seed)
        history = training.run(images, state, progress)
        detector.load_state_dict(training.average.state_dict())
        detector.eval()
    finally:
        detector.cpu()
    return {"history": history}


def rate(recipe: RadarRecipe, step: int) -> float:
    """In step `step`, which counts from 0."""
    return recipe.rate * one_cycle(step, recipe.steps)


class _Training(Steps):
    def __init__(self, detector: Radar, recipe: RadarRecipe, seed: int) -> None:
        super().__init__()
        self.detector, self.recipe, self.seed = detector, recipe, seed
        self.device = detector.noise.device
        detector.cpu()
        initialise(detector, seed)
        detector.to(self.device)
        self.average = copy.deepcopy(detector).requires_grad_(False).eval()
        self.optimiser = optimiser("muon", [detector.unet], 0.0)

    def run(
        self, images: npt.NDArray[np.uint8], state: ResumeState, progress: Progress
    ) -> list[dict[str, float]]:
        found = state.load()
        if found is not None:
            unpack(found.tensors, self.detector.unet, self.optimiser, self._averages())
            self.done, self.history = found.values["done"], found.values["history"]
            progress.say(f"resuming after {self.done} of {self.recipe.steps} steps")
        self.detector.train()
        self.go_on(
            lambda: self._step(images),
            _LOSSES,
            until=self.recipe.steps,
            save_every=self.recipe.save_every,
            save=lambda: state.save(self._snapshot()),
            progress=progress,
        )
        return self.history

    def _step(self, images: npt.NDArray[np.uint8]) -> list[float]:
        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.recipe, self.done)
        first, count = self.done * self.recipe.batch, len(images)
        chosen = [place(self.seed, number, count) for number in range(first, first + self.recipe.batch)]
        random = generator(self.seed, "levels and noise", self.done)
        levels = torch.randint(0, self.recipe.levels, (len(chosen),), generator=random).to(self.device)
        noise = torch.randn((len(chosen), *self.detector.noise.shape[1:]), generator=random).to(self.device)
        x = self.detector.pixels(torch.from_numpy(images[chosen]).to(self.device))
        with mixed_precision(self.device):
            guess = self.detector.guess(x, noise, levels)
        losses = (guess - noise).square().mean()[None]
        values = self.descend(losses, _LOSSES, self.optimiser)
        take_average(self.average, self.detector, self.recipe.average, self.done)
        return values

    def _averages(self) -> dict[str, Tensor]:
        return {f"average.{key}": value for key, value in self.average.state_dict().items()}

    def _snapshot(self) -> Snapshot:
        tensors = pack(self.detector.unet, self.optimiser, self._averages())
        return Snapshot(tensors, {"done": self.done, "history": self.history})
