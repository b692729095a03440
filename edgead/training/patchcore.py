"""Training of PatchCore: patch vectors of all good images, and a coreset of them as the bank.

Nothing is optimised, and the same seed gives the same bank, so an interrupted training begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from edgead.backbones._weights import LoadedWeights, load_weights
from edgead.detectors.patchcore import PatchCore
from edgead.errors import DatasetError
from edgead.progress import Progress
from edgead.training._coreset import k_centre
from edgead.training._cpr_references import different
from edgead.training._device import training_device
from edgead.training._seeds import derive
from edgead.training._state import ResumeState

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

FROZEN = "backbone"
OPTIONS = frozenset({"bank_budget"})

_MIB, _GIB = 1 << 20, 1 << 30
_BATCH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchCoreRecipe:
    """The numbers of a training.

    Attributes:
        share: of all patch vectors that the bank keeps, 0 … 1.
        most: vectors that it keeps at most; 0 = no limit.
        projection: values per vector while the coreset is chosen.
    """

    share: float
    most: int = 0
    projection: int = 128


def load_frozen(detector: PatchCore, file: Path | None, *, progress: Progress) -> LoadedWeights:
    """Fill the part that is not trained, the backbone; see `load_weights`."""
    return load_weights(detector.backbone, detector.config.backbone, file, progress=progress)


def fit(
    detector: PatchCore,
    images: Pixels,
    reserved: Pixels,
    *,
    recipe: Mapping[str, Any],
    seed: int,
    state: ResumeState,
    progress: Progress,
    bank_budget: float | None = None,
) -> dict[str, Any]:
    """Fill the bank of `detector`.

    Args:
        detector: with its backbone's weights loaded. Runs on a GPU where there is one; comes back on the CPU.
        images: (N, H, W, 3) uint8 RGB, good images. Copies count once.
        reserved: not used.
        recipe: values of `PatchCoreRecipe`.
        seed: of the projection and of the first vector.
        state: not used.
        progress: bars and messages.
        bank_budget: MiB that the bank may take.

    Returns:
        As JSON values: how many images and patches there were, and how many vectors are kept.

    Raises:
        DatasetError: patch vectors and bank do not fit into memory, or not one vector into the budget. Said
            before any is computed.
    """
    numbers = PatchCoreRecipe(**recipe)
    images = different(images, progress)
    if len(images) == 1:
        progress.say("one good image only: whatever differs from it will be called anomalous")
    patches = len(images) * detector.grid[0] * detector.grid[1]
    count = bank_size(patches, detector.dim, numbers, bank_budget)
    _check_memory(patches, count, detector.dim, len(images), free_memory())
    device = training_device()
    detector.to(device).eval()
    try:
        vectors = _vectors(detector, images, progress)
        chosen = k_centre(
            vectors, count, dim=numbers.projection, seed=derive(seed, "bank"), progress=progress
        )
        detector.set_bank(vectors[chosen.to(vectors.device)])
    finally:
        detector.cpu()
    kept = len(detector.bank)
    progress.say(f"{kept} of {patches} patch vectors are kept, {kept * detector.dim * 4 / _MIB:.1f} MiB")
    return {"bank": {"images": len(images), "patches": patches, "kept": kept}}


@torch.no_grad()
def stand_in(detector: PatchCore, images: Pixels, count: int, recipe: Mapping[str, Any]) -> None:
    """Fill the bank as large as training on `count` images would, from a few: for measuring time alone."""
    patches = count * detector.grid[0] * detector.grid[1]
    wanted = bank_size(patches, detector.dim, PatchCoreRecipe(**recipe), None)
    vectors = detector.embed(torch.from_numpy(images)).flatten(0, 2)
    random = torch.Generator().manual_seed(0)
    chosen = vectors[torch.randint(len(vectors), (wanted,), generator=random)]
    spread = vectors.std(0) / 10  # copies would be found by the first comparison
    detector.set_bank(chosen + spread * torch.randn(chosen.shape, generator=random))


def bank_size(patches: int, dim: int, recipe: PatchCoreRecipe, budget: float | None) -> int:
    """Vectors that the bank is to keep of `patches`.

    Raises:
        DatasetError: `budget` MiB hold not one.
    """
    count = max(1, round(patches * recipe.share))
    if recipe.most:
        count = min(count, recipe.most)
    if budget is not None:
        held = int(budget * _MIB / (4 * dim))
        if held < 1:
            raise DatasetError(
                f"a bank of {budget:g} MiB holds not one vector of {dim} values: give at least "
                f"{4 * dim / _MIB:.4f} MiB (--bank-budget)"
            )
        count = min(count, held)
    return count


def free_memory() -> int | None:
    """Bytes that a process can still take, as Linux estimates them; None where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else None


def _check_memory(patches: int, count: int, dim: int, images: int, free: int | None) -> None:
    # The vectors, centred copies of them (or their projection), and the bank with its own copies.
    needed = 4 * dim * (2 * patches + 3 * count)
    if free is not None and needed > free:
        raise DatasetError(
            f"{images} images are {patches:,} patch vectors of {dim} values; with a bank of {count:,} "
            f"({4 * dim * count / _GIB:.2f} GiB) that takes {needed / _GIB:.1f} GiB of memory, "
            f"{free / _GIB:.1f} GiB are free: use fewer images, or a smaller bank (--bank-budget)"
        )


@torch.no_grad()
def _vectors(detector: PatchCore, images: Pixels, progress: Progress) -> Tensor:
    """(N · h · w, D), on the detector's device."""
    rows, cols = detector.grid
    device = detector.bank.device
    found = torch.empty(len(images), rows * cols, detector.dim, device=device)
    with progress.task("features", len(images)) as task:
        for start in range(0, len(images), _BATCH):
            part = torch.from_numpy(images[start : start + _BATCH]).to(device)
            found[start : start + _BATCH] = detector.embed(part).flatten(1, 2)
            task.advance(len(part))
    return found.flatten(0, 1)
