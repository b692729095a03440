"""Training by steps of batches; the reserved good images choose which of the saved states is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from edgead.detectors._base import Detector
from edgead.progress import Progress
from edgead.training._device import training_device
from edgead.training._loop import Steps, check_enough
from edgead.training._seeds import generator, place
from edgead.training._state import ResumeState, Snapshot, pack, unpack

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_LOOKED_AT = 8  # reserved images at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long, and in which portions: the part of a recipe that all such trainings have.

    Attributes:
        steps: optimiser steps.
        batch: images per step.
        save_every: steps between two looks at the reserved images and saved states.
        min_images: good images to train on, at least.
    """

    steps: int
    batch: int = 32
    save_every: int = 50
    min_images: int = 8


class BestOnReserved(Steps):
    """One training.

    Args:
        detector: is switched between training and evaluation.
        trained: its part that `optimiser` changes.
        losses: of (N, H, W, 3) uint8 pixels on the detector's device; one per name.
        names: of the losses.
        plan: how long.
        seed: of the images' order.

    Attributes:
        best: `trained`'s state with the lowest loss on the reserved images.
        best_step: after which step that was.
    """

    def __init__(
        self,
        detector: Detector,
        trained: nn.Module,
        optimiser: Optimizer,
        losses: Callable[[Tensor], Tensor],
        names: Sequence[str],
        plan: Plan,
        seed: int,
    ) -> None:
        super().__init__()
        self.detector, self.trained, self.optimiser = detector, trained, optimiser
        self.losses, self.names, self.plan, self.seed = losses, names, plan, seed
        self.device = next(trained.parameters()).device
        self.best = {key: value.clone() for key, value in trained.state_dict().items()}
        self.best_step = 0

    def run(
        self,
        images: npt.NDArray[np.uint8],
        reserved: npt.NDArray[np.uint8],
        state: ResumeState,
        progress: Progress,
    ) -> None:
        """Take the steps that are left, then put the best state into `trained`; see `fit` for the errors."""
        found = state.load()
        if found is not None:
            unpack(found.tensors, self.trained, self.optimiser, self._kept())
            self.done, self.history = found.values["done"], found.values["history"]
            self.best_step = found.values["best"]
            progress.say(f"resuming after {self.done} of {self.plan.steps} steps")
        self.detector.train()

        def save() -> None:
            self._look(reserved)
            tensors = pack(self.trained, self.optimiser, self._kept())
            values = {"done": self.done, "history": self.history, "best": self.best_step}
            state.save(Snapshot(tensors, values))

        self.go_on(
            lambda: self._step(images),
            self.names,
            until=self.plan.steps,
            save_every=self.plan.save_every,
            save=save,
            progress=progress,
        )
        self.trained.load_state_dict(self.best)
        self.detector.eval()

    def _step(self, images: npt.NDArray[np.uint8]) -> list[float]:
        first = self.done * self.plan.batch
        chosen = [place(self.seed, number, len(images)) for number in range(first, first + self.plan.batch)]
        pixels = torch.from_numpy(images[chosen]).to(self.device)
        return self.descend(self.losses(pixels), self.names, self.optimiser)

    @torch.no_grad()
    def _look(self, reserved: npt.NDArray[np.uint8]) -> None:
        """Loss on the reserved images as the detector is now; keeps the best so far."""
        self.detector.eval()
        total = 0.0
        for start in range(0, len(reserved), _LOOKED_AT):
            batch = torch.from_numpy(reserved[start : start + _LOOKED_AT]).to(self.device)
            total += float(self.losses(batch).sum()) * len(batch)
        self.detector.train()
        loss = total / max(1, len(reserved))
        if not self.best_step or loss < min(entry["reserved"] for entry in self.history[:-1]):
            self.best_step = self.done
            for key, value in self.trained.state_dict().items():
                self.best[key].copy_(value)
        self.history[-1]["reserved"] = loss

    def _kept(self) -> dict[str, Tensor]:
        return {f"best.{key}": value for key, value in self.best.items()}


def train(
    detector: Detector,
    trained: nn.Module,
    images: npt.NDArray[np.uint8],
    reserved: npt.NDArray[np.uint8],
    *,
    optimiser: Callable[[nn.Module], Optimizer],
    losses: Callable[[Tensor], Tensor],
    names: Sequence[str],
    plan: Plan,
    seed: int,
    state: ResumeState,
    progress: Progress,
) -> dict[str, Any]:
    """Train `trained`, a part of `detector`, on a GPU where there is one; what `fit` of such a training does.

    Args:
        detector: comes back on the CPU.
        trained: see `BestOnReserved`, as for losses, names and plan.
        images: (N, H, W, 3) uint8 RGB, good images to train on.
        reserved: likewise, good images that choose which of the saved states is kept.
        optimiser: makes the one of `trained`, which lies on its device then.
        losses: see there.
        names: see there.
        plan: see there.
        seed: of the images' order.
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
    check_enough(detector.name, len(images), len(reserved), plan.min_images)
    detector.to(training_device())
    try:
        training = BestOnReserved(detector, trained, optimiser(trained), losses, names, plan, seed)
        training.run(images, reserved, state, progress)
    finally:
        detector.cpu()
    return {"history": training.history, "best": training.best_step}


def initialise(network: nn.Module, seed: int) -> None:
    """Give `network` its random start as torchvision's ResNets have it: He's deviation over the outputs."""
    random = generator(seed, "weights")
    for module in network.modules():
        if isinstance(module, nn.ConvTranspose2d):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=random)  # torch's own
        elif isinstance(module, nn.Conv2d):
            outputs = module.weight[:, 0].numel() / module.groups
            nn.init.normal_(module.weight, 0, math.sqrt(2 / outputs), generator=random)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
