"""PatchCore's bank: what the coreset keeps, what it refuses, and that a seed settles it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from edgead.detectors.patchcore import PatchCore
from edgead.errors import DatasetError
from edgead.progress import Silent
from edgead.training import patchcore as training
from edgead.training._coreset import k_centre
from edgead.training._state import ResumeState

CONFIG = {
    "backbone": "efficientnet_lite0",
    "taps": ["stage3", "stage5"],
    "geometry": {"height": 32, "width": 32},
}
RECIPE = {"share": 0.5, "most": 40, "projection": 16}


class Heard(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def images(count: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def fitted(
    pixels: npt.NDArray[np.uint8], folder: Path, **options: Any
) -> tuple[PatchCore, dict[str, Any], Heard]:
    torch.manual_seed(0)
    detector, heard = PatchCore.from_config(CONFIG), Heard()
    record = training.fit(
        detector,
        pixels,
        pixels[:0],
        recipe=RECIPE,
        seed=3,
        state=ResumeState(folder / "s.partial", {}),
        progress=heard,
        **options,
    )
    return detector, record, heard


def test_the_bank_is_some_of_the_patches_and_the_seed_s(tmp_path: Path) -> None:
    pixels = images(6)
    detector, record, _ = fitted(pixels, tmp_path)
    assert record["bank"] == {"images": 6, "patches": 96, "kept": 40}
    patches = detector.embed(torch.from_numpy(pixels)).flatten(0, 2)
    apart = torch.cdist(detector.bank, patches)
    assert float(apart.amin(1).max()) < 1e-2 * float(apart.max())
    again, *_ = fitted(pixels, tmp_path)
    assert torch.equal(detector.bank, again.bank)


def test_copies_count_once_and_one_image_is_said_to_be_little(tmp_path: Path) -> None:
    detector, record, heard = fitted(np.repeat(images(1), 5, 0), tmp_path)
    assert record["bank"]["images"] == 1
    assert record["bank"]["patches"] == 16
    assert any("4 of 5 images are copies" in text for text in heard.said)
    assert any("one good image only" in text for text in heard.said)
    assert len(detector.bank) == 8


def test_a_flat_image_leaves_few_vectors(tmp_path: Path) -> None:
    detector, *_ = fitted(np.full((2, 32, 32, 3), 128, np.uint8), tmp_path)
    assert 1 <= len(detector.bank) <= 16


def test_a_budget_bounds_the_bank(tmp_path: Path) -> None:
    detector, *_ = fitted(images(6), tmp_path, bank_budget=10 * 152 * 4 / 2**20)
    assert len(detector.bank) == 10
    with pytest.raises(DatasetError, match="holds not one vector of 152 values"):
        fitted(images(6), tmp_path, bank_budget=0.0001)


def test_too_large_for_the_memory_is_said_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "free_memory", lambda: 100_000)
    monkeypatch.setattr(PatchCore, "embed", lambda *_: pytest.fail("computed"))
    with pytest.raises(DatasetError, match=r"96 patch vectors of 152 values; with a bank of 40 .* are free"):
        fitted(images(6), tmp_path)
    monkeypatch.setattr(training, "free_memory", lambda: None)


def test_free_memory_is_a_plausible_number() -> None:
    free = training.free_memory()
    assert free is None or 2**20 < free < 2**50


def test_k_centre_takes_the_farthest_each_time() -> None:
    """Against the plain greedy choice in NumPy, from the same start."""
    random = np.random.default_rng(7)
    points = random.normal(size=(200, 5))
    chosen = k_centre(torch.from_numpy(points), 30, dim=5, seed=11, progress=Silent()).tolist()
    expected = chosen[:1]
    while len(expected) < 30:
        far = np.square(points[:, None] - points[expected]).sum(2).min(1)
        expected.append(int(far.argmax()))
    assert chosen == expected


def test_k_centre_stops_where_only_copies_are_left() -> None:
    points = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).repeat(50, 1)
    assert len(k_centre(points, 100, dim=6, seed=0, progress=Silent())) == 4
    assert len(k_centre(torch.ones(9, 3), 5, dim=3, seed=0, progress=Silent())) == 1
