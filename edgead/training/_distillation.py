"""Distillation of an EfficientAD teacher: a small network learns to say what a backbone says of any image.

As in the paper, the target is the backbone's features of an image twice as large, its patches averaged to 384
values per position (PatchCore's way) and standardised; the loss is the mean squared error, so 1 means that
nothing was learned. Any backbone of edgead serves. Which images are shown decides what the teacher can tell
apart: photographs are better than drawn ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.backbones import _base
from edgead.backbones._base import IMAGENET_MEAN, IMAGENET_STD, Backbone
from edgead.detectors._efficientad_networks import CHANNELS, Size, description_network, initialise_deep
from edgead.errors import InputError, UsageError
from edgead.progress import Progress
from edgead.training._device import mixed_precision, training_device
from edgead.training._jitter import grey
from edgead.training._loop import Schedule, Steps, set_rate
from edgead.training._muon import Method, optimiser
from edgead.training._other_images import OtherImages
from edgead.training._seeds import derive, generator
from edgead.training._state import ResumeState, Snapshot, pack, unpack

if TYPE_CHECKING:
    import numpy.typing as npt

# Values per tap before all taps are averaged to 384 together, as in the paper.
_TAP_DIM = 1024
_STRIDES = (8, 16)
# Images of the statistics lie far behind those of the steps in the series.
_STATISTICS_START = 1 << 40
_MIN_STD = 1e-6


# Below so many steps the paper's rate, which is meant for 60,000, hardly leaves the start.
SHORT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillationRecipe:
    """The numbers of a distillation; the defaults are the paper's.

    Attributes:
        steps: optimiser steps of `batch` cuts.
        side: of the network's square input, in pixels; the backbone sees twice that.
        scene: pixels that the network would have of the whole image's side; images are 2·scene squares.
        optimiser: ``adam``, or ``muon``, which gets farther in few steps (`_muon`).
        rate: of the optimiser, the highest.
        schedule: ``paper``: a tenth of the rate after `drop_at` of the steps; ``one_cycle``: it rises for a
            tenth of the steps, then falls to 0 as a cosine does.
        decay: weight decay.
        grey_share: of the images that are shown in grey.
        crops: smallest and largest share of an image's side that a cut shows, mirrored half of the time.
        cuts_per_image: batches in a row that cut the same images, which are read or drawn once for them.
        statistics_images: to standardise the target with.
        save_every: steps between two saved states.
    """

    steps: int = 60_000
    batch: int = 16
    side: int = 256
    scene: int = 256
    optimiser: Method = "adam"
    rate: float = 1e-4
    schedule: Schedule = "paper"
    decay: float = 1e-5
    drop_at: float = 0.95
    grey_share: float = 0.1
    crops: tuple[float, float] = (0.6, 1.0)
    cuts_per_image: int = 1
    statistics_images: int = 1000
    save_every: int = 200

    def __post_init__(self) -> None:
        counts = (self.steps, self.batch, self.statistics_images, self.save_every, self.cuts_per_image)
        if min(counts) < 1:
            raise UsageError(f"distillation: steps {self.steps} and batch {self.batch} must be at least 1")
        if self.side < 64 or self.side % 32:
            raise UsageError(f"distillation: side {self.side} must be a multiple of 32, at least 64")
        if not 0 < self.crops[0] <= self.crops[1] <= 1:
            raise UsageError(f"distillation: crops {self.crops} must be in 0 … 1, the smallest first")

    @classmethod
    def of_steps(cls, steps: int | None = None, **given: Any) -> DistillationRecipe:
        """The paper's numbers, or for fewer than `SHORT` steps those that teach most in little time.

        Few steps go further with Muon and a high rate that falls to nothing, and with many small cuts
        instead of few whole images: a teacher's answer depends on 33 × 33 pixels only.

        Args:
            steps: None = the paper's.
            given: other values, which win.
        """
        if steps is None:
            return cls(**given)
        if steps >= SHORT:
            return cls(steps=steps, **given)
        short: dict[str, Any] = {
            "batch": 8,
            "side": 128,
            "optimiser": "muon",
            "rate": 2e-3,
            "schedule": "one_cycle",
            "decay": 0.0,
            "crops": (0.3, 0.8),
            "cuts_per_image": 4,
            "statistics_images": 240,
        }
        return cls(steps=steps, **{**short, **given})


def default_taps(name: str) -> tuple[str, ...]:
    """The backbone's deepest taps of strides 8 and 16: layers 2 and 3 of a ResNet.

    Raises:
        UsageError: no such backbone, or it has no tap of such a stride.
    """
    taps = _base.module(name).SPEC.taps
    found = [[key for key, tap in taps.items() if tap.stride == stride] for stride in _STRIDES]
    if not all(found):
        raise UsageError(f"the backbone {name} has no taps of strides 8 and 16, which a teacher imitates")
    return tuple(names[-1] for names in found)


class Target(nn.Module):
    """What the teacher shall say: a frozen backbone's patch features, standardised.

    Averaging patches is linear, so per tap it is one 3 × 3 convolution, and the up-sampling to the finest
    tap's grid comes after it: hundreds of values per position are never laid out.

    Args:
        backbone: with its weights, cut at the taps.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        for place, tap in enumerate(backbone.taps):
            kernel = _averaging(backbone.spec.taps[tap].channels, place, len(backbone.taps))
            self.register_buffer(f"kernel{place}", kernel)
        self.register_buffer("mean", torch.zeros(CHANNELS, 1, 1))
        self.register_buffer("std", torch.ones(CHANNELS, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 2·side, 2·side, 3) uint8 RGB to (N, 384, side/4, side/4)."""
        taps = self.backbone(self.backbone.normalise(pixels))
        grid = max((tap.shape[2:] for tap in taps), key=lambda size: size[0] * size[1])
        raw = torch.zeros_like(self.mean)
        for place, tap in enumerate(taps):
            part = F.conv2d(tap, self.get_buffer(f"kernel{place}"), padding=1)
            raw = raw + F.interpolate(part, size=grid, mode="bilinear", align_corners=False)
        return (raw - self.mean) / self.std


def _averaging(channels: int, place: int, taps: int) -> Tensor:
    """(384, channels, 3, 3): a patch's values, averaged to 1024, with those of the other taps to 384.

    What the averages do to each value by itself are their weights.
    """
    each = F.adaptive_avg_pool1d(torch.eye(9 * channels)[None], _TAP_DIM)
    together = F.pad(each, (place * _TAP_DIM, (taps - 1 - place) * _TAP_DIM))
    weights = F.adaptive_avg_pool1d(together, CHANNELS)[0]
    return weights.T.reshape(CHANNELS, channels, 3, 3).contiguous()


def distil(
    size: Size,
    target: Target,
    images: OtherImages,
    *,
    recipe: DistillationRecipe,
    seed: int,
    state: ResumeState,
    progress: Progress,
) -> tuple[nn.Sequential, list[dict[str, float]]]:
    """Train a teacher; resumes where `state` holds an earlier run, on a CPU to the same bits.

    Args:
        size: of the description network.
        target: its statistics are set here.
        images: squares of twice `recipe.scene`.
        recipe: the numbers.
        seed: of every random choice here.
        state: where to resume from and to save to.
        progress: bars and messages.

    Returns:
        (network, history): the teacher on the CPU; mean losses between two saved states.

    Raises:
        InputError: the loss is no longer a number; `state` keeps the last good one.
        OutputError: `state` cannot be read or written, or belongs to another distillation.
    """
    return _Distillation(size, target, images, recipe, seed).run(state, progress)


def cut(
    image: npt.NDArray[np.uint8], crops: tuple[float, float], side: int, random: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """A random part of a square image, `crops` of its side, as (side, side, 3); half of them mirrored."""
    whole = len(image)
    part = round(whole * random.uniform(*crops))
    top, left = (int(value) for value in random.integers(0, whole - part + 1, 2))
    shown = image[top : top + part, left : left + part]
    if part != side:
        how = cv2.INTER_AREA if part > side else cv2.INTER_LINEAR
        shown = np.asarray(cv2.resize(shown, (side, side), interpolation=how), np.uint8)
    return np.ascontiguousarray(shown[:, ::-1] if random.random() < 0.5 else shown)


class _Distillation(Steps):
    def __init__(
        self, size: Size, target: Target, images: OtherImages, recipe: DistillationRecipe, seed: int
    ) -> None:
        super().__init__()
        self.recipe, self.seed, self.images = recipe, seed, images
        self.block, self.kept = -1, dict[int, "npt.NDArray[np.uint8]"]()
        self.device = training_device()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "weights"))
            network = description_network(size, CHANNELS, padding=True)
        if size == "edge" or recipe.optimiser == "muon":
            initialise_deep(network, generator(seed, "teacher"))
        self.network = network.to(self.device)
        self.target = target.to(self.device).eval()
        self.optimiser = optimiser(recipe.optimiser, [self.network], recipe.rate, recipe.decay)
        self.mean = torch.tensor(IMAGENET_MEAN, device=self.device).view(3, 1, 1)
        self.std = torch.tensor(IMAGENET_STD, device=self.device).view(3, 1, 1)

    def run(self, state: ResumeState, progress: Progress) -> tuple[nn.Sequential, list[dict[str, float]]]:
        found = state.load()
        if found is not None:
            self._restore(found)
            progress.say(f"resuming after {self.done} of {self.recipe.steps} steps")
        else:
            self._statistics(progress)
        self.go_on(
            lambda: (self._step(),),
            ("loss",),
            until=self.recipe.steps,
            save_every=self.recipe.save_every,
            save=lambda: state.save(self._snapshot()),
            progress=progress,
            task="distilling",
        )
        return self.network.cpu().eval(), self.history

    @torch.no_grad()
    def _statistics(self, progress: Progress) -> None:
        """Mean and deviation per channel over images that no step sees, in float64."""
        total = torch.zeros(2, CHANNELS, dtype=torch.float64)
        with progress.task("target statistics", self.recipe.statistics_images) as task:
            for index in range(self.recipe.statistics_images):
                said = self.target(self._pixels([_STATISTICS_START + index]))[0].double().flatten(1).cpu()
                total += torch.stack([said.mean(1), said.square().mean(1)])
                task.advance()
        mean, square = (total / self.recipe.statistics_images).unbind()
        deviation = (square - mean.square()).clamp_min(0).sqrt().clamp_min(_MIN_STD)
        self.target.mean.copy_(mean.view(-1, 1, 1))
        self.target.std.copy_(deviation.view(-1, 1, 1))

    def _pixels(self, indices: list[int]) -> Tensor:
        """(N, 2·side, 2·side, 3) uint8 RGB: cuts of the series, those of one batch of different images."""
        shown = []
        for index in indices:
            random = np.random.default_rng(derive(self.seed, "cut", index))
            shown.append(cut(self._image(index), self.recipe.crops, 2 * self.recipe.side, random))
        return torch.from_numpy(np.stack(shown)).to(self.device)

    def _image(self, index: int) -> npt.NDArray[np.uint8]:
        """Of cut `index`; a batch's images are kept for the next ones, `cuts_per_image` in all."""
        batch = self.recipe.batch
        block = index // (batch * self.recipe.cuts_per_image)
        if block != self.block:
            self.block, self.kept = block, {}
        place = index % batch
        if place not in self.kept:
            self.kept[place] = self.images.image(block * batch + place)
        return self.kept[place]

    def _step(self) -> float:
        set_rate(self.optimiser, self.recipe, self.done)
        start = self.done * self.recipe.batch
        pixels = self._pixels(list(range(start, start + self.recipe.batch)))
        # Rounded to whole pixel values, which both networks see.
        random = generator(self.seed, "grey", self.done)
        in_grey = torch.rand(len(pixels), generator=random) < self.recipe.grey_share
        for index in in_grey.nonzero().flatten().tolist():
            shade = grey(pixels[index].permute(2, 0, 1)[None].float())[0, 0].round()
            pixels[index] = shade.to(torch.uint8)[..., None]
        with torch.no_grad():
            wanted = self.target(pixels)
        with mixed_precision(self.device):
            small = F.avg_pool2d(pixels.permute(0, 3, 1, 2).float() / 255.0, 2)
            said = self.network((small - self.mean) / self.std).float()
        loss = (said - wanted).square().mean()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise InputError(
                f"distillation diverged: the loss became {value} in step {self.done + 1}; the last saved "
                "state is kept; try a lower rate or another seed"
            )
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return value

    def _statistics_tensors(self) -> dict[str, Tensor]:
        return {"target.mean": self.target.mean, "target.std": self.target.std}

    def _snapshot(self) -> Snapshot:
        tensors = pack(self.network, self.optimiser, self._statistics_tensors())
        return Snapshot(tensors, {"done": self.done, "history": self.history})

    def _restore(self, found: Snapshot) -> None:
        unpack(found.tensors, self.network, self.optimiser, self._statistics_tensors())
        self.done, self.history = found.values["done"], found.values["history"]
