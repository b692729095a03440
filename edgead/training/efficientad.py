"""Training of EfficientAD: a student that imitates its teacher on good images, and an autoencoder beside it.

The paper's scheme as nelson1425's code has it: batch 1, the loss of the hardest 0.1 % of the values, a
penalty for answering to images that are not of the product, colour jitter for the autoencoder, a tenth of the
rate for the last 5 % of the steps. The map quantiles come from the reserved good images, never from test
images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.backbones._weights import LoadedWeights
from edgead.detectors._efficientad_networks import CHANNELS, initialise_deep
from edgead.detectors.efficientad import EfficientAd
from edgead.progress import Progress
from edgead.training._device import mixed_precision, training_device
from edgead.training._efficientad_statistics import set_quantiles, set_teacher_statistics
from edgead.training._jitter import grey, jitter
from edgead.training._loop import Schedule, Steps, check_enough, set_rate
from edgead.training._other_images import OtherImages
from edgead.training._seeds import derive, generator, place
from edgead.training._state import ResumeState, Snapshot, pack, unpack
from edgead.training._teacher import load_teacher

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FROZEN = "teacher"
OPTIONS = frozenset({"penalty"})

_LOSSES = ("hard", "penalty", "autoencoder", "student of autoencoder")


@dataclass(frozen=True, slots=True, kw_only=True)
class EfficientAdRecipe:
    """The numbers of a training.

    Attributes:
        steps: optimiser steps, one image each.
        rate: of Adam, the highest.
        schedule: ``paper``: a tenth of the rate after `drop_at` of the steps; ``one_cycle``: it rises for a
            tenth of the steps, then falls to 0 as a cosine does.
        decay: Adam's weight decay.
        hard_share: of a step's squared differences that count, the largest. The paper's thousandth teaches
            little in few steps: presets take more for those.
        grey_share: of the penalty images that are shown in grey.
        save_every: steps between two saved states.
        min_images: good images to train on, at least.
    """

    steps: int
    rate: float = 1e-4
    schedule: Schedule = "paper"
    decay: float = 1e-5
    drop_at: float = 0.95
    hard_share: float = 0.001
    grey_share: float = 0.3
    save_every: int = 500
    min_images: int = 8


def load_frozen(detector: EfficientAd, file: Path | None, *, progress: Progress) -> LoadedWeights:
    """Fill the part that is not trained, the teacher; see `load_teacher`."""
    return load_teacher(detector, file, progress=progress)


def fit(
    detector: EfficientAd,
    images: npt.NDArray[np.uint8],
    reserved: npt.NDArray[np.uint8],
    *,
    recipe: Mapping[str, Any],
    seed: int,
    state: ResumeState,
    progress: Progress,
    penalty: Path | None = None,
) -> dict[str, Any]:
    """Train student and autoencoder of `detector` in place; resumes where `state` holds an earlier run.

    A resumed training ends with the same bits on a CPU; a GPU adds in no fixed order.

    Args:
        detector: with its teacher's weights loaded; the rest is initialised here. Runs on a GPU where there
            is one, in mixed precision; comes back on the CPU.
        images: (N, H, W, 3) uint8 RGB, good images to train on.
        reserved: likewise, good images for the map quantiles only.
        recipe: values of `EfficientAdRecipe`.
        seed: of every random choice here.
        state: where to resume from and to save to.
        progress: bars and messages.
        penalty: folder of images that are not of the product; None = drawn ones, which is said.

    Returns:
        What happened, as JSON values: history (mean losses between two saved states) and penalty.

    Raises:
        DatasetError: too few good images, or no penalty images in the folder.
        InputError: a loss is no longer a number; `state` keeps the last good one.
        OutputError: `state` cannot be read or written, or belongs to another training.
    """
    numbers = EfficientAdRecipe(**recipe)
    check_enough("efficientad", len(images), len(reserved), numbers.min_images)
    others = OtherImages(
        penalty, detector.geometry.input_size, seed=seed, progress=progress, use="penalty images"
    )
    device = training_device()
    detector.to(device)
    try:
        training = _Training(detector, numbers, seed, others)
        history = training.run(images, state, progress)
        detector.eval()
        set_quantiles(detector, reserved, progress=progress)
    finally:
        detector.cpu()
    return {"history": history, "penalty": others.identity()}


def initialise(detector: EfficientAd, seed: int) -> None:
    """Give student and autoencoder their random start: torch's own, He for the deep edge student."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights"))
        for network in (detector.student, detector.ae):
            for module in network.modules():
                if isinstance(module, nn.Conv2d):
                    module.reset_parameters()
    if detector.config.size == "edge":
        initialise_deep(detector.student, generator(seed, "student"))


def hard_loss(squares: Tensor, share: float) -> Tensor:
    """Mean of the values at or above the quantile 1 − share of (C, H, W) squared differences.

    The quantile lies between two neighbours in size (linear interpolation), so the values above are counted,
    not compared: torch.quantile ends at 2^24 values.
    """
    values = squares.flatten()
    above = len(values) - math.ceil((1 - share) * (len(values) - 1))
    return values.topk(max(1, above), sorted=False).values.mean()


class _Training(Steps):
    def __init__(
        self, detector: EfficientAd, recipe: EfficientAdRecipe, seed: int, others: OtherImages
    ) -> None:
        super().__init__()
        self.detector, self.recipe, self.seed, self.others = detector, recipe, seed, others
        self.device = detector.mean.device
        detector.cpu()
        initialise(detector, seed)
        detector.to(self.device)
        self.trained = nn.ModuleDict({"student": detector.student, "ae": detector.ae})
        self.optimiser = torch.optim.Adam(
            self.trained.parameters(), lr=recipe.rate, weight_decay=recipe.decay
        )

    def run(
        self, images: npt.NDArray[np.uint8], state: ResumeState, progress: Progress
    ) -> list[dict[str, float]]:
        found = state.load()
        if found is not None:
            self._restore(found)
            progress.say(f"resuming after {self.done} of {self.recipe.steps} steps")
        else:
            set_teacher_statistics(self.detector, images, progress=progress)
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
        """One image, one jittered copy, one penalty image; all losses in one step of Adam."""
        set_rate(self.optimiser, self.recipe, self.done)
        good, jittered, other = self._inputs(images)
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(derive(self.seed, "dropout", self.done))
            losses = self._losses(good, jittered, other)
        return self.descend(losses, _LOSSES, self.optimiser)

    def _inputs(self, images: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised (1, 3, H, W) each: a good image, the same with other colours, a penalty image."""
        random = generator(self.seed, "jitter", self.done)
        good = self._unit(images[place(self.seed, self.done, len(images))])
        other = self._unit(self.others.image(self.done))
        jittered = jitter(good, random)
        if float(torch.rand((), generator=random)) < self.recipe.grey_share:
            other = grey(other).expand_as(other)
        mean, std = self.detector.mean, self.detector.std
        return (good - mean) / std, (jittered - mean) / std, (other - mean) / std

    def _unit(self, image: npt.NDArray[np.uint8]) -> Tensor:
        pixels = torch.from_numpy(image).to(self.device)
        return pixels.permute(2, 0, 1)[None].to(self.detector.mean.dtype) / 255.0

    def _losses(self, good: Tensor, jittered: Tensor, other: Tensor) -> Tensor:
        """(4,): one per name in `_LOSSES`.

        The student sees its three images as one batch, and of its last layer only the half that a loss reads.
        """
        # In full precision: dividing by a small deviation would enlarge the rounding that students learn.
        with torch.no_grad():
            taught, taught_jittered = self.detector.describe(torch.cat([good, jittered])).chunk(2)
        with mixed_precision(self.device):
            features = self.detector.student[:-1](torch.cat([good, other, jittered]))
            last = self.detector.student[-1]
            assert isinstance(last, nn.Conv2d)
            assert last.bias is not None
            first = F.conv2d(features[:2], last.weight[:CHANNELS], last.bias[:CHANNELS]).float()
            second = F.conv2d(features[2:], last.weight[CHANNELS:], last.bias[CHANNELS:]).float()
            rebuilt = self.detector.ae(jittered).float()
        return torch.stack(
            [
                hard_loss((taught - first[:1]).square(), self.recipe.hard_share),
                first[1:].square().mean(),
                (taught_jittered - rebuilt).square().mean(),
                (rebuilt - second).square().mean(),
            ]
        )

    def _statistics_tensors(self) -> dict[str, Tensor]:
        return {"teacher_mean": self.detector.teacher_mean, "teacher_std": self.detector.teacher_std}

    def _snapshot(self) -> Snapshot:
        tensors = pack(self.trained, self.optimiser, self._statistics_tensors())
        return Snapshot(tensors, {"done": self.done, "history": self.history})

    def _restore(self, found: Snapshot) -> None:
        unpack(found.tensors, self.trained, self.optimiser, self._statistics_tensors())
        self.done, self.history = found.values["done"], found.values["history"]
