"""Training of DiffusionAD: a network that guesses noise on good images, and one that finds drawn anomalies.

The authors' scheme: half of the images get a synthetic anomaly; the denoising network learns from the others
at two random noise levels, and both networks from all of them, through the guided step. Both end as running
averages of themselves. Nothing here looks at reserved or test images.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.backbones._weights import LoadedWeights
from edgead.detectors._diffusion_schedule import STEPS
from edgead.detectors.diffusionad import DiffusionAd
from edgead.errors import UsageError
from edgead.progress import Progress
from edgead.training._denoising import initialise, take_average
from edgead.training._device import mixed_precision, training_device
from edgead.training._loop import Steps, check_enough, drawn_ahead, one_cycle
from edgead.training._muon import Method, optimiser
from edgead.training._other_images import OtherImages
from edgead.training._seeds import generator, place
from edgead.training._state import ResumeState, Snapshot, pack, unpack
from edgead.training._synthetic_anomalies import AnomalyRecipe, SyntheticAnomalies

if TYPE_CHECKING:
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

FROZEN = None
OPTIONS = frozenset({"textures"})

_LOSSES = ("noise, light", "noise, heavy", "focal", "smooth L1")
# Light noise is of steps below it, heavy noise of the others.
_BORDER = 300
_FOCAL_WEIGHT, _FOCAL_BALANCE, _FOCAL_POWER = 5.0, 0.5, 4
# Of the authors' rate for the segmentation network, which swings between the rate and 0.
_HALF_PERIOD = 10
_PREVIEWS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionAdRecipe:
    """The numbers of a training; the defaults are the authors'.

    Attributes:
        steps: optimiser steps.
        batch: images per step.
        optimiser: ``adam``, or ``muon``, which gets farther in few steps (`_muon`).
        unet_rate, segmentation_rate: of the optimiser.
        schedule: ``paper``: the first rate is constant, the second swings between itself and 0 every 20
            steps; ``one_cycle``: both rise for a tenth of the steps, then fall to 0 as a cosine does.
        average: how much of the running average a step keeps, in the long run.
        shuffled: share of the anomalies that are the image's own squares in disorder.
        save_every: steps between two saved states.
        min_images: good images to train on, at least.
    """

    steps: int
    batch: int
    optimiser: Method = "adam"
    unet_rate: float = 1e-4
    segmentation_rate: float = 1e-5
    schedule: Literal["paper", "one_cycle"] = "paper"
    average: float = 0.999
    shuffled: float = 0.5
    save_every: int = 100
    min_images: int = 8


def load_frozen(detector: DiffusionAd, file: Path | None, *, progress: Progress) -> LoadedWeights | None:
    """None: every part is trained.

    Raises:
        UsageError: there is a `file`.
    """
    if file is not None:
        raise UsageError(f"--weights {file}: diffusionad trains all of its networks; leave it out")
    return None


def fit(
    detector: DiffusionAd,
    images: Pixels,
    reserved: Pixels,
    *,
    recipe: Mapping[str, Any],
    seed: int,
    state: ResumeState,
    progress: Progress,
    textures: Path | None = None,
) -> dict[str, Any]:
    """Train both networks of `detector` in place and draw its noise; resumes from an earlier run's `state`.

    A resumed training ends with the same bits on a CPU; a GPU adds in no fixed order. With every saved state,
    ``preview.png`` beside it shows good images with anomalies, their reconstructions, maps, and masks.

    Args:
        detector: is initialised here. Runs on a GPU where there is one, in mixed precision; comes back on the
            CPU.
        images: (N, H, W, 3) uint8 RGB, good images to train on.
        reserved: not used: a fixed number of steps needs none.
        recipe: values of `DiffusionAdRecipe`.
        seed: of every random choice here, the detector's noise included.
        state: where to resume from and to save to.
        progress: bars and messages.
        textures: folder of textures for the anomalies; None = drawn ones, which is said.

    Returns:
        What happened, as JSON values: history (mean losses between two saved states) and textures.

    Raises:
        DatasetError: too few good images, or no textures in the folder.
        InputError: a loss is no longer a number; `state` keeps the last good one.
        OutputError: `state` cannot be read or written, or belongs to another training.
    """
    numbers = DiffusionAdRecipe(**recipe)
    check_enough("diffusionad", len(images), len(reserved), numbers.min_images)
    series = OtherImages(
        textures,
        detector.geometry.input_size,
        seed=seed,
        progress=progress,
        use="textures of the anomalies",
        enlarge=False,
    )
    detector.to(training_device())
    try:
        training = _Training(detector, numbers, seed, series)
        history = training.run(images, state, progress)
        detector.load_state_dict(training.average.state_dict())
        detector.eval()
    finally:
        detector.cpu()
    return {"history": history, "textures": series.identity()}


def anomaly_recipe(shuffled: float) -> AnomalyRecipe:
    """DRAEM's anomalies with the authors' opacities and squares, anywhere in the image."""
    return AnomalyRecipe(
        share=0.5, opacity=(0.2, 0.8), smallest=0.0, shuffled=shuffled, grid=8, vary_textures=True
    )


def focal_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean of −½·(1 − p)⁴·ln p, p the probability of the right answer: pixels that are right hardly count."""
    right = torch.where(mask > 0, logits, -logits)
    return -_FOCAL_BALANCE * (torch.sigmoid(-right) ** _FOCAL_POWER * F.logsigmoid(right)).mean()


def rates(recipe: DiffusionAdRecipe, step: int) -> tuple[float, float]:
    """Of the denoising and of the segmentation network, in step `step`, which counts from 0."""
    if recipe.schedule == "paper":
        swing = (1 + math.cos(math.pi * step / _HALF_PERIOD)) / 2
        return recipe.unet_rate, recipe.segmentation_rate * swing
    factor = one_cycle(step, recipe.steps)
    return recipe.unet_rate * factor, recipe.segmentation_rate * factor


@dataclass(frozen=True, slots=True)
class _Batch:
    """Images in 0 … 1, (N, 3, H, W); masks (N, 1, H, W), 0 or 1; levels (2, N); noise (2, N, 3, H, W)."""

    x: Tensor
    mask: Tensor
    levels: Tensor
    noise: Tensor


class _Training(Steps):
    """One training.

    Attributes:
        average: the detector that will be kept: running averages of the weights.
    """

    def __init__(
        self, detector: DiffusionAd, recipe: DiffusionAdRecipe, seed: int, textures: OtherImages
    ) -> None:
        super().__init__()
        self.detector, self.recipe, self.seed, self.textures = detector, recipe, seed, textures
        self.device = detector.noise.device
        detector.cpu()
        initialise(detector, seed)
        detector.to(self.device)
        self.average = copy.deepcopy(detector).requires_grad_(False).eval()
        self.trained = nn.ModuleDict({"unet": detector.unet, "segmentation": detector.segmentation})
        self.optimiser = optimiser(recipe.optimiser, list(self.trained.values()), 0.0)
        self.anomalies = SyntheticAnomalies(anomaly_recipe(recipe.shuffled), textures, seed=seed)

    def run(self, images: Pixels, state: ResumeState, progress: Progress) -> list[dict[str, float]]:
        found = state.load()
        if found is not None:
            self._restore(found)
            progress.say(f"resuming after {self.done} of {self.recipe.steps} steps")
        self.detector.train()
        ahead = drawn_ahead(lambda number: self._draw(images, number), self.recipe.batch, self.done)

        def save() -> None:
            state.save(self._snapshot())
            state.show("preview.png", self._preview(images))

        with contextlib.closing(ahead):
            self.go_on(
                lambda: self._step(self._batch(next(ahead), self.done)),
                _LOSSES,
                until=self.recipe.steps,
                save_every=self.recipe.save_every,
                save=save,
                progress=progress,
            )
        return self.history

    def _draw(self, images: Pixels, number: int) -> tuple[Pixels, npt.NDArray[np.bool_]]:
        """Image `number` of the training, half of the time with an anomaly, and its mask."""
        return self.anomalies.image(images[place(self.seed, number, len(images))], number)

    def _batch(self, drawn: Sequence[tuple[Pixels, npt.NDArray[np.bool_]]], step: int) -> _Batch:
        random = generator(self.seed, "levels and noise", step)
        count = len(drawn)
        levels = torch.stack(
            [
                torch.randint(0, _BORDER, (count,), generator=random),
                torch.randint(_BORDER, STEPS, (count,), generator=random),
            ]
        )
        noise = torch.randn((2, count, *self.detector.noise.shape[1:]), generator=random)
        image = torch.from_numpy(np.stack([image for image, _ in drawn])).to(self.device)
        mask = torch.from_numpy(np.stack([mask for _, mask in drawn])[:, None])
        return _Batch(
            self.detector.pixels(image),
            mask.to(self.device, torch.float32),
            levels.to(self.device),
            noise.to(self.device),
        )

    def _step(self, batch: _Batch) -> list[float]:
        for group, rate in zip(
            self.optimiser.param_groups, itertools.cycle(rates(self.recipe, self.done)), strict=False
        ):
            group["lr"] = rate
        values = self.descend(self._losses(batch), _LOSSES, self.optimiser)
        take_average(self.average, self.detector, self.recipe.average, self.done)
        return values

    def _losses(self, batch: _Batch) -> Tensor:
        """(4,): one per name in `_LOSSES`. Noise counts where there is no anomaly, equally per image."""
        with mixed_precision(self.device):
            clean, guesses = self.detector.reconstruct(batch.x, batch.noise, batch.levels)
            logits = self.detector.segment(batch.x, clean)
        good = 1 - batch.mask.amax((1, 2, 3))
        squares = (guesses - batch.noise).square().mean((2, 3, 4))
        of_noise = (squares * good).sum(1) / good.sum().clamp_min(1)
        of_mask = [
            _FOCAL_WEIGHT * focal_loss(logits, batch.mask),
            F.smooth_l1_loss(logits.sigmoid(), batch.mask),
        ]
        return torch.stack([*of_noise, *of_mask])

    @torch.no_grad()
    def _preview(self, images: Pixels) -> Pixels:
        """A row per image: with an anomaly, its reconstruction, its map, its mask; (rows·H, 4·W, 3)."""
        always = SyntheticAnomalies(
            AnomalyRecipe(shuffled=1.0, share=1.0, grid=8), self.textures, seed=self.seed
        )
        rows = []
        for index, good in enumerate(images[:_PREVIEWS]):
            changed, mask = always.image(good, index)
            x = self.average.pixels(torch.from_numpy(changed)[None].to(self.device))
            levels = torch.tensor(self.detector.config.levels, device=self.device)[:, None]
            clean, _ = self.average.reconstruct(x, self.average.noise[:, None], levels)
            heat = self.average.segment(x, clean).sigmoid().expand(1, 3, -1, -1)
            shown = [_picture(x), _picture(clean), _picture(heat)]
            rows.append(np.hstack([*shown, np.repeat(255 * mask[..., None].astype(np.uint8), 3, axis=2)]))
        return np.vstack(rows)

    def _averages(self) -> dict[str, Tensor]:
        return {f"average.{key}": value for key, value in self.average.state_dict().items()}

    def _snapshot(self) -> Snapshot:
        tensors = pack(self.trained, self.optimiser, self._averages())
        return Snapshot(tensors, {"done": self.done, "history": self.history})

    def _restore(self, found: Snapshot) -> None:
        unpack(found.tensors, self.trained, self.optimiser, self._averages())
        self.done, self.history = found.values["done"], found.values["history"]


def _picture(values: Tensor) -> Pixels:
    """(1, 3, H, W), 0 … 1 and what lies outside, to (H, W, 3)."""
    return (255 * values[0].clamp(0, 1)).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
