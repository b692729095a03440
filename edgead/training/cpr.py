"""Training of CPR: descriptors that agree where two good images agree, and differ at synthetic anomalies.

The authors' scheme: vocabulary and foreground from the images to train on, then the retrieval heads on pairs
of positions in an image with a synthetic anomaly and in one of its nearest images, then the bank. They stop
after a fixed number of steps; nothing here looks at reserved or test images.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from edgead.backbones._weights import LoadedWeights, load_weights
from edgead.detectors.cpr import Cpr
from edgead.errors import DatasetError
from edgead.progress import Progress
from edgead.training._cpr_features import FineFeatures, cluster
from edgead.training._cpr_foreground import Choice, check_choice, set_foreground, tell
from edgead.training._cpr_losses import pair_losses, stack_pairs
from edgead.training._cpr_pairs import Pairs, draw_pairs, likelihood
from edgead.training._cpr_references import choose_references, different, neighbours
from edgead.training._device import mixed_precision, training_device
from edgead.training._loop import Steps, drawn_ahead
from edgead.training._noise import lighter, salt_and_pepper
from edgead.training._other_images import OtherImages
from edgead.training._seeds import derive, place
from edgead.training._state import ResumeState, Snapshot, pack, unpack
from edgead.training._synthetic_anomalies import AnomalyRecipe, SyntheticAnomalies

if TYPE_CHECKING:
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

FROZEN = "backbone"
OPTIONS = frozenset({"foreground", "textures", "bank_budget", "bank_type"})

_LOSSES = ("positive, fine", "negative, fine", "positive, coarse", "negative, coarse")


@dataclass(frozen=True, slots=True, kw_only=True)
class CprRecipe:
    """The numbers of a training.

    Attributes:
        steps: optimiser steps where there is a foreground.
        texture_steps: and where there is none.
        batch: synthetic images per step, each with a reference.
        rate: of AdamW.
        decay: AdamW's weight decay.
        pairs: positions per image of each kind: positive, remote, anomalous.
        margins: cosines above which positive pairs and below which negative pairs count no more.
        disturbed: share of the images that get salt and pepper, and of those that get lighter or darker.
        save_every: steps between two saved states.
    """

    steps: int
    texture_steps: int
    batch: int
    rate: float = 1e-3
    decay: float = 1e-2
    pairs: int = 300
    margins: tuple[float, float] = (0.8, -0.2)
    disturbed: float = 0.3
    save_every: int = 100


def no_tiles(options: Mapping[str, Any]) -> str | None:
    """Why `edgead train --tiles` refuses it; None where it does not."""
    if options.get("foreground") == "off":
        return None
    return (
        "it takes what lies in the middle of an image for the object, and a tile shows any part; look at all "
        "of it with --foreground off"
    )


def load_frozen(detector: Cpr, file: Path | None, *, progress: Progress) -> LoadedWeights:
    """Fill the part that is not trained, the backbone; see `load_weights`."""
    return load_weights(detector.backbone, detector.config.backbone, file, progress=progress)


def fit(
    detector: Cpr,
    images: Pixels,
    reserved: Pixels,
    *,
    recipe: Mapping[str, Any],
    seed: int,
    state: ResumeState,
    progress: Progress,
    foreground: Choice = "auto",
    textures: Path | None = None,
    bank_budget: float | None = None,
    bank_type: str | None = None,
) -> dict[str, Any]:
    """Train the heads of `detector` in place and fill its bank; resumes where `state` holds an earlier run.

    A resumed training ends with the same bits on a CPU; a GPU adds in no fixed order.

    Args:
        detector: with its backbone's weights loaded; the rest is made here. Runs on a GPU where there is
            one, in mixed precision; comes back on the CPU.
        images: (N, H, W, 3) uint8 RGB, good images to train on, and the references. Copies count once.
        reserved: not used: a fixed number of steps needs none.
        recipe: values of `CprRecipe`.
        seed: of every random choice here.
        state: where to resume from and to save to.
        progress: bars and messages.
        foreground: whether distances count on the object only; ``auto`` decides from `images`.
        textures: folder of textures for the anomalies; None = drawn ones, which is said.
        bank_budget: MiB that the bank may take; above it, a coreset of the images is kept.
        bank_type: how the bank is stored; None = as `detector` says.

    Returns:
        What happened, as JSON values: history (mean losses between two saved states), foreground, textures,
        and references.

    Raises:
        UsageError: an unknown `foreground` or `bank_type`.
        DatasetError: too few different good images, a bank for fewer images than are searched, a foreground
            that cannot be told from the background, or no textures in the folder.
        InputError: a loss is no longer a number; `state` keeps the last good one.
        OutputError: `state` cannot be read or written, or belongs to another training.
    """
    check_choice(foreground)
    if bank_type is not None:
        detector.store_as(bank_type)
    images = different(images, progress)
    _check_enough(detector, len(images), len(reserved))
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
        training = _Training(detector, CprRecipe(**recipe), seed, series)
        training.run(images, foreground, bank_budget, state, progress)
        detector.eval()
        detector.set_references(torch.from_numpy(images[training.references]))
    finally:
        detector.cpu()
    return {
        "history": training.history,
        "foreground": {"asked": foreground, **training.found},
        "textures": series.identity(),
        "references": {"images": len(images), "kept": len(training.references)},
    }


def stand_in(detector: Cpr, images: Pixels, count: int, recipe: Mapping[str, Any]) -> None:
    """Fill the bank from a few images, for measuring time alone: only the most similar ones are searched."""
    least = max(len(images), detector.config.nearest)
    with torch.no_grad():
        words = detector.features(torch.from_numpy(images[:1]))[0][0].flatten(1).T
    step = max(1, len(words) // len(detector.centres))
    detector.centres.copy_(words[::step][: len(detector.centres)])
    detector.set_references(torch.from_numpy(images[np.arange(least) % len(images)]))


def initialise(detector: Cpr, seed: int) -> None:
    """Give the heads their random start, torch's own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights"))
        for module in detector.heads.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                module.reset_parameters()


def _check_enough(detector: Cpr, count: int, held_out: int) -> None:
    nearest = detector.config.nearest
    if count < nearest:
        raise DatasetError(
            f"{count} different good images to train on, {held_out} are held out; cpr compares each image "
            f"with the {nearest} most similar ones, so it needs at least {nearest}: add good images"
        )


@dataclass(frozen=True, slots=True)
class _Item:
    """A query with its synthetic anomaly, a reference, both (H, W, 3) uint8 RGB, and pairs of positions."""

    query: Pixels
    reference: Pixels
    pairs: Pairs


class _Training(Steps):
    """One training.

    Attributes:
        found: separation of object and background, and whether the foreground counts.
        references: indices of the images for the bank.
    """

    def __init__(self, detector: Cpr, recipe: CprRecipe, seed: int, textures: OtherImages) -> None:
        super().__init__()
        self.detector, self.recipe, self.seed, self.textures = detector, recipe, seed, textures
        self.device = detector.centres.device
        detector.cpu()
        initialise(detector, seed)
        detector.to(self.device)
        self.optimiser = torch.optim.AdamW(
            detector.heads.parameters(), lr=recipe.rate, weight_decay=recipe.decay
        )
        self.found: dict[str, Any] = {}
        self.references: list[int] = []

    def run(
        self,
        images: Pixels,
        foreground: Choice,
        budget: float | None,
        state: ResumeState,
        progress: Progress,
    ) -> None:
        self.detector.eval()
        features = FineFeatures(self.detector, images, progress=progress)
        found = state.load()
        if found is None:
            self._fit(features, foreground)
            state.save(self._snapshot())
        else:
            self._restore(found)
        tell(self.found, progress)
        self._look(features)
        self.references = choose_references(self.detector, self.histograms, budget, self.seed)
        if len(self.references) < len(images):
            progress.say(f"{len(self.references)} of {len(images)} images are kept in {budget:g} MiB")
        steps = self.recipe.steps if self.detector.config.foreground else self.recipe.texture_steps
        if found is not None:
            progress.say(f"resuming after {self.done} of {steps} steps")
        self._train(images, steps, state, progress)

    def _fit(self, features: FineFeatures, foreground: Choice) -> None:
        vectors = features.sample(self.seed)
        centres = cluster(vectors, self.detector.config.clusters, self.seed)
        self.detector.centres.copy_(torch.from_numpy(centres))
        self.found = set_foreground(self.detector, features, vectors, foreground, seed=self.seed)

    def _look(self, features: FineFeatures) -> None:
        """Histograms and foreground of the images, and which of them resemble each other."""
        histograms, shown = [], []
        with torch.no_grad():
            for tap in features:
                tap = tap[None].to(self.device)
                histograms.append(self.detector.histogram(tap).cpu())
                if self.detector.config.foreground:
                    shown.append(self.detector.object_map(tap)[0].cpu().numpy())
        config = self.detector.config
        self.histograms = torch.cat(histograms)
        self.shown = shown or None
        self.nearest = neighbours(self.histograms, config.kept_blocks, config.nearest)
        self.anomalies = SyntheticAnomalies(
            AnomalyRecipe(shuffled=0.5 if config.foreground else 0.0), self.textures, seed=self.seed
        )

    def _train(self, images: Pixels, steps: int, state: ResumeState, progress: Progress) -> None:
        self.detector.train()
        ahead = drawn_ahead(lambda number: self._item(images, number), self.recipe.batch, self.done)
        with contextlib.closing(ahead):
            self.go_on(
                lambda: self._step(next(ahead)),
                _LOSSES,
                until=steps,
                save_every=self.recipe.save_every,
                save=lambda: state.save(self._snapshot()),
                progress=progress,
            )

    def _item(self, images: Pixels, number: int) -> _Item:
        """Query `number` of the training: a good image with an anomaly, a reference, and pairs."""
        index = place(self.seed, number, len(images))
        random = np.random.default_rng(derive(self.seed, "pairs", number))
        other = int(random.choice(self.nearest[index].numpy()))
        size = self.detector.geometry.input_size
        likely = shown = None
        if self.shown is not None:
            shown = cv2.resize(self.shown[index], size[::-1], interpolation=cv2.INTER_LINEAR)
            likely = likelihood(self.shown[index], self.shown[other], size)
        changed, mask = self.anomalies.image(images[index], number, shown)
        stride = size[0] / self.detector.grids[0][0]
        reach = stride * (self.detector.config.windows[0] // 2) * 2**0.5
        pairs = draw_pairs(mask, likely, count=self.recipe.pairs, reach=reach, random=random)
        if shown is None:
            pairs.remote_weight[:] = 0  # a texture repeats itself
        return _Item(self._disturbed(changed, random), self._disturbed(images[other], random), pairs)

    def _disturbed(self, image: Pixels, random: np.random.Generator) -> Pixels:
        if random.random() < self.recipe.disturbed:
            image = salt_and_pepper(image, random)
        if random.random() < self.recipe.disturbed:
            image = lighter(image, random)
        return image

    def _step(self, batch: Sequence[_Item]) -> list[float]:
        return self.descend(self._losses(batch), _LOSSES, self.optimiser)

    def _losses(self, batch: Sequence[_Item]) -> Tensor:
        """(4,): one per name in `_LOSSES`. Queries and references pass as one batch (one batch norm)."""
        pixels = np.stack([item.query for item in batch] + [item.reference for item in batch])
        pairs = stack_pairs([item.pairs for item in batch], self.device)
        with torch.no_grad():
            taps = self.detector.features(torch.from_numpy(pixels).to(self.device))
        losses: list[Tensor] = []
        for head, tap in zip(self.detector.heads, taps, strict=True):
            with mixed_precision(self.device):
                descriptors = head(tap)
            query, reference = descriptors.float().chunk(2)
            in_query, in_reference = tap.chunk(2)
            losses += pair_losses(
                (query, reference), (in_query, in_reference), pairs, margins=self.recipe.margins
            )
        return torch.stack(losses)

    def _fitted(self) -> dict[str, Tensor]:
        names = ["centres"]
        if self.detector.config.foreground:
            names += ["foreground_weight", "foreground_bias"]
        return {name: self.detector.get_buffer(name) for name in names}

    def _snapshot(self) -> Snapshot:
        tensors = pack(self.detector.heads, self.optimiser, self._fitted())
        return Snapshot(tensors, {"done": self.done, "history": self.history, "foreground": self.found})

    def _restore(self, saved: Snapshot) -> None:
        self.found = saved.values["foreground"]
        if not self.found["used"]:
            self.detector.drop_foreground()
        unpack(saved.tensors, self.detector.heads, self.optimiser, self._fitted())
        self.done, self.history = saved.values["done"], saved.values["history"]
