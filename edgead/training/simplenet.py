"""Training of SimpleNet: a projection and a discriminator that tells patches from patches with noise.

The paper's scheme (Gaussian noise on projected features, hinge loss, Adam for the discriminator, AdamW for
the projection). Unlike the authors' code, the kept weights are chosen on held-out good images, never on
test images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from edgead.backbones._weights import LoadedWeights, load_weights
from edgead.detectors.simplenet import SimpleNet
from edgead.errors import InputError
from edgead.progress import Progress
from edgead.training._features import PatchFeatures
from edgead.training._seeds import generator
from edgead.training._state import ResumeState, Snapshot

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FROZEN = "backbone"
OPTIONS: frozenset[str] = frozenset()

_MIN_STD = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class SimpleNetRecipe:
    """The numbers of a training.

    Attributes:
        meta_epochs: at most so many; after each one the reserved images are looked at and the state is saved.
        steps: optimiser steps per meta-epoch.
        batch_patches: patches per step, drawn from all images.
        standardise: train on patch vectors of zero mean and unit deviation per dimension. It is folded into
            the projection at the end, so the network stays the same.
        noise: standard deviation of the noise, in the units of the projected vectors.
        margin: of the hinge loss.
        averaging: decay per step of the running average of the weights, at first (1 + step)/(10 + step).
            The average is looked at and kept: it scatters far less between meta-epochs and between seeds.
        patience: stop after so many meta-epochs without a lower loss on the reserved images.
    """

    meta_epochs: int
    steps: int
    batch_patches: int
    standardise: bool
    noise: float
    margin: float = 0.5
    discriminator_rate: float = 2e-4
    discriminator_decay: float = 1e-5
    projection_rate: float = 1e-4
    averaging: float = 0.99
    patience: int = 3


def load_frozen(detector: SimpleNet, file: Path | None, *, progress: Progress) -> LoadedWeights:
    """Fill the part that is not trained, the backbone; see `load_weights`."""
    return load_weights(detector.backbone, detector.config.backbone, file, progress=progress)


def fit(
    detector: SimpleNet,
    images: npt.NDArray[np.uint8],
    reserved: npt.NDArray[np.uint8],
    *,
    recipe: Mapping[str, Any],
    seed: int,
    state: ResumeState,
    progress: Progress,
) -> dict[str, Any]:
    """Train the heads of `detector` in place; resumes where `state` holds an earlier run.

    Args:
        detector: with its backbone's weights loaded; its heads are initialised here.
        images: (N, H, W, 3) uint8 RGB, good images to train on.
        reserved: likewise, good images for the early stop only.
        recipe: values of `SimpleNetRecipe`.
        seed: of every random choice here.
        state: where to resume from and to save to.
        progress: bars and messages.

    Returns:
        What happened, as JSON values: history (one entry per meta-epoch) and best (its index).

    Raises:
        InputError: the loss is no longer a number; `state` keeps the last good meta-epoch.
        OutputError: `state` cannot be read or written, or belongs to another training.
    """
    return _Training(detector, SimpleNetRecipe(**recipe), seed).run(images, reserved, state, progress)


def initialise(detector: SimpleNet, seed: int) -> None:
    """Give the heads their random start: Xavier normal weights, as in the authors' code."""
    random = generator(seed, "weights")
    for module in (detector.projection, detector.discriminator.hidden, detector.discriminator.tail):
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight, generator=random)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    detector.discriminator.norm.reset_parameters()


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


class _Training:
    def __init__(self, detector: SimpleNet, recipe: SimpleNetRecipe, seed: int) -> None:
        self.detector, self.recipe, self.seed = detector, recipe, seed
        initialise(detector, seed)
        self.heads = nn.ModuleList([detector.projection, detector.discriminator])
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "discriminator": torch.optim.Adam(
                detector.discriminator.parameters(),
                lr=recipe.discriminator_rate,
                weight_decay=recipe.discriminator_decay,
            )
        }
        if detector.config.projection:
            self.optimisers["projection"] = torch.optim.AdamW(
                detector.projection.parameters(), lr=recipe.projection_rate
            )
        self.mean = torch.zeros(detector.config.embedding_dim)
        self.scale = torch.ones(detector.config.embedding_dim)
        self.average, self.steps = _copy(self.heads), 0
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}
        self.best_index = -1

    def run(
        self,
        images: npt.NDArray[np.uint8],
        reserved: npt.NDArray[np.uint8],
        state: ResumeState,
        progress: Progress,
    ) -> dict[str, Any]:
        found = state.load()
        features = PatchFeatures(self.detector, images, progress=progress, name="features")
        held_out = PatchFeatures(self.detector, reserved, progress=progress, name="reserved features")
        if self.recipe.standardise:
            mean, deviation = features.moments()
            self.mean, self.scale = mean.float(), deviation.clamp_min(_MIN_STD).float()
        if found is not None:
            self._restore(found)
            progress.say(f"resuming after {len(self.history)} of {self.recipe.meta_epochs} meta-epochs")
        done = len(self.history)
        with progress.task("training", (self.recipe.meta_epochs - done) * self.recipe.steps) as task:
            for epoch in range(done, self.recipe.meta_epochs):
                if epoch - self.best_index > self.recipe.patience:
                    progress.say(
                        f"stopped early: no lower loss on the reserved images since {self.best_index + 1}"
                    )
                    break
                draw, noise = generator(self.seed, "batches", epoch), generator(self.seed, "noise", epoch)
                loss = 0.0
                for _ in range(self.recipe.steps):
                    loss = self._step(features.sample(self.recipe.batch_patches, draw), noise)
                    task.advance(loss=loss)
                self._look(loss, held_out)
                state.save(self._snapshot())
        self.heads.load_state_dict(self.best)
        self._fold_standardisation()
        self.detector.eval()
        return {"history": self.history, "best": self.best_index}

    def _scores(self, rows: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Normality of patches and of the same with noise, scored as one batch (one batch norm)."""
        projected = self.detector.projection((rows - self.mean) / self.scale)
        noise = torch.empty_like(projected).normal_(0, self.recipe.noise, generator=random)
        scores: Tensor = self.detector.discriminator(torch.cat([projected, projected + noise]))
        good, noisy = scores.chunk(2)
        return good, noisy

    def _loss(self, good: Tensor, noisy: Tensor) -> Tensor:
        margin = self.recipe.margin
        return (margin - good).clamp_min(0).mean() + (margin + noisy).clamp_min(0).mean()

    def _step(self, rows: Tensor, random: torch.Generator) -> float:
        self.detector.train()
        loss = self._loss(*self._scores(rows, random))
        for optimiser in self.optimisers.values():
            optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for optimiser in self.optimisers.values():
            optimiser.step()
        self._average()
        return self._finite(loss.item())

    @torch.no_grad()
    def _average(self) -> None:
        self.steps += 1
        decay = min(self.recipe.averaging, (1 + self.steps) / (10 + self.steps))
        for key, value in self.heads.state_dict().items():
            if value.is_floating_point():
                self.average[key].lerp_(value, 1 - decay)
            else:
                self.average[key].copy_(value)

    @torch.no_grad()
    def _look(self, loss: float, held_out: PatchFeatures) -> None:
        """Loss of the average on the reserved images, always with the same noise; keeps the best so far."""
        self.detector.eval()
        now = _copy(self.heads)
        self.heads.load_state_dict(self.average)
        random = generator(self.seed, "reserved noise")
        size, total = 4, 0.0
        for start in range(0, held_out.count, size):
            rows = held_out.batch(torch.arange(start, min(start + size, held_out.count)))
            total += self._loss(*self._scores(rows, random)).item() * len(rows)
        patches = held_out.count * self.detector.grid[0] * self.detector.grid[1]
        reserved = self._finite(total / patches)
        self.history.append({"loss": loss, "reserved_loss": reserved})
        if self.best_index < 0 or reserved < self.history[self.best_index]["reserved_loss"]:
            self.best_index = len(self.history) - 1
            self.best = _copy(self.heads)
        self.heads.load_state_dict(now)

    def _finite(self, loss: float) -> float:
        if not math.isfinite(loss):
            raise InputError(
                f"training diverged: the loss became {loss} in meta-epoch {len(self.history) + 1}; the state "
                "before it is kept; look for odd images among the good ones, or train with another seed"
            )
        return loss

    def _snapshot(self) -> Snapshot:
        tensors = {f"now.{key}": value for key, value in self.heads.state_dict().items()}
        tensors |= {f"average.{key}": value for key, value in self.average.items()}
        tensors |= {f"best.{key}": value for key, value in self.best.items()}
        for name, optimiser in self.optimisers.items():
            for index, moments in optimiser.state_dict()["state"].items():
                tensors |= {f"{name}.{index}.{key}": value for key, value in moments.items()}
        # Distinct copies: safetensors refuses tensors that share memory.
        copies = {key: value.clone().contiguous() for key, value in tensors.items()}
        return Snapshot(copies, {"history": self.history, "best": self.best_index})

    def _restore(self, found: Snapshot) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            start = len(prefix) + 1
            return {
                key[start:]: value for key, value in found.tensors.items() if key.startswith(prefix + ".")
            }

        self.heads.load_state_dict(part("now"))
        self.average, self.best = part("average"), part("best")
        self.history, self.best_index = found.values["history"], found.values["best"]
        self.steps = len(self.history) * self.recipe.steps
        for name, optimiser in self.optimisers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in part(name).items():
                index, moment = key.split(".")
                state.setdefault(int(index), {})[moment] = value
            optimiser.load_state_dict({**optimiser.state_dict(), "state": state})

    def _fold_standardisation(self) -> None:
        """Make the first linear layer take raw patch vectors: W·((x − m)/s) + b = (W/s)·x + (b − W·m/s)."""
        first = (
            self.detector.projection
            if self.detector.config.projection
            else self.detector.discriminator.hidden
        )
        linear = cast(nn.Linear, first)
        with torch.no_grad():
            weight = linear.weight.double() / self.scale.double()
            bias = linear.bias.double() - weight @ self.mean.double()
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)
