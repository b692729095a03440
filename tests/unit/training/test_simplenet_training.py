from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from edgead.backbones._weights import load_weights
from edgead.detectors.simplenet import SimpleNet, SimpleNetConfig
from edgead.errors import InputError, OutputError
from edgead.progress import Silent, Task
from edgead.training import _features, simplenet
from edgead.training._features import PatchFeatures
from edgead.training._state import ResumeState
from edgead.types import Geometry

RECIPE: dict[str, Any] = {
    "meta_epochs": 5,
    "steps": 4,
    "batch_patches": 128,
    "standardise": True,
    "noise": 0.5,
    "discriminator_rate": 3e-3,
}
Pixels = npt.NDArray[np.uint8]


def detector(*, projection: bool = True) -> SimpleNet:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return SimpleNet(
            SimpleNetConfig(
                backbone="resnet18",
                taps=("layer1", "layer2"),
                tap_dim=24,
                embedding_dim=24,
                hidden_dim=16,
                projection=projection,
                geometry=Geometry(height=32, width=32),
            )
        )


def textures(count: int, seed: int) -> Pixels:
    """Grey noise of low contrast: what is normal here."""
    return np.random.default_rng(seed).integers(110, 146, (count, 32, 32, 3)).astype(np.uint8)


def fit(
    folder: Path, network: SimpleNet, *, seed: int = 0, progress: Any = None, **changes: Any
) -> dict[str, Any]:
    return simplenet.fit(
        network,
        textures(7, 0),
        textures(3, 1),
        recipe={**RECIPE, **changes},
        seed=seed,
        state=ResumeState(folder / "m.partial", {"seed": seed}),
        progress=progress if progress is not None else Silent(),
    )


def same(a: SimpleNet, b: SimpleNet) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return all(torch.equal(one[key], two[key]) for key in one)


def test_it_learns_what_is_normal(tmp_path: Path) -> None:
    """With a backbone that sees: a bright square on noise stands out, at its place."""
    network = SimpleNet(
        SimpleNetConfig(
            backbone="efficientnet_lite0",
            taps=("stage2", "stage3"),
            tap_dim=40,
            embedding_dim=80,
            hidden_dim=32,
            geometry=Geometry(height=32, width=32),
        )
    )
    load_weights(network.backbone, "efficientnet_lite0")
    record = fit(tmp_path, network, meta_epochs=16, discriminator_rate=1e-2)
    losses = [entry["reserved_loss"] for entry in record["history"]]
    assert losses[record["best"]] == min(losses) < 0.6 * losses[0]
    good = textures(4, 2)
    bad = good.copy()
    bad[:, 8:16, 8:16] = 255
    with torch.no_grad():
        maps_good = network(torch.from_numpy(good)).anomaly_map
        maps_bad = network(torch.from_numpy(bad)).anomaly_map
    assert maps_bad.amax((1, 2, 3)).min() > maps_good.amax((1, 2, 3)).max()
    # The grid is 8 × 8 cells of 4 pixels: the square covers cells 2 and 3.
    assert maps_bad[:, 0, 2:4, 2:4].mean() > maps_bad[:, 0, 6:, 6:].mean()


@pytest.mark.parametrize("projection", [True, False])
def test_folding_the_standardisation_moves_no_score(projection: bool) -> None:
    network = detector(projection=projection).eval()
    training = simplenet._Training(network, simplenet.SimpleNetRecipe(**RECIPE), 0)
    random = torch.Generator().manual_seed(0)
    training.mean = torch.randn(24, generator=random)
    training.scale = torch.rand(24, generator=random) + 0.01
    rows = torch.randn(50, 24, generator=random)
    with torch.no_grad():
        before = network.discriminator(network.projection((rows - training.mean) / training.scale))
        training._fold_standardisation()
        after = network.discriminator(network.projection(rows))
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)


def test_the_seed_alone_decides(tmp_path: Path) -> None:
    one, two, other = detector(), detector(), detector()
    for folder, network, seed in (("a", one, 0), ("b", two, 0), ("c", other, 1)):
        torch.rand(7)  # the global generator has no say
        (tmp_path / folder).mkdir()
        fit(tmp_path / folder, network, seed=seed)
    assert same(one, two)
    assert not same(one, other)


class _Interrupting(Silent):
    """Ctrl-C in the middle of a meta-epoch."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        interrupting = self

        class Bar:
            def advance(self, steps: int = 1, **status: object) -> None:
                if name == "training":
                    interrupting.steps -= steps
                    if interrupting.steps <= 0:
                        raise KeyboardInterrupt

        yield Bar()


@pytest.mark.parametrize("steps", [1, 6, 8, 17])
def test_an_interrupted_training_ends_where_it_would_have_ended(tmp_path: Path, steps: int) -> None:
    whole, resumed = detector(), detector()
    (tmp_path / "whole").mkdir()
    expected = fit(tmp_path / "whole", whole)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, detector(), progress=_Interrupting(steps))
    assert fit(tmp_path, resumed) == expected
    assert same(whole, resumed)


def test_it_stops_when_the_reserved_images_gain_nothing(tmp_path: Path) -> None:
    """A rate of nothing: the first meta-epoch stays the best, two more are allowed."""
    record = fit(
        tmp_path,
        detector(),
        discriminator_rate=0.0,
        projection_rate=0.0,
        patience=2,
        meta_epochs=9,
    )
    assert len(record["history"]) < 9
    assert len(record["history"]) == record["best"] + 3


def test_a_diverged_training_keeps_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, detector(), progress=_Interrupting(9))
    before = (tmp_path / "m.partial" / "state.safetensors").read_bytes()
    monkeypatch.setattr(
        simplenet._Training, "_loss", lambda self, good, noisy: (good.sum() + noisy.sum()) * float("nan")
    )
    with pytest.raises(InputError, match=r"the loss became nan in meta-epoch 3"):
        fit(tmp_path, detector())
    assert (tmp_path / "m.partial" / "state.safetensors").read_bytes() == before


def test_another_training_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, detector(), progress=_Interrupting(9))
    with pytest.raises(OutputError, match=r"m\.partial holds an unfinished training that differs in seed"):
        fit(tmp_path, detector(), seed=3)


def test_a_damaged_state_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "m.partial").mkdir()
    (tmp_path / "m.partial" / "state.safetensors").write_bytes(b"broken")
    with pytest.raises(OutputError, match="cannot be read"):
        fit(tmp_path, detector())


def test_features_are_the_same_from_memory_and_made_again() -> None:
    network, pixels = detector(), textures(5, 0)
    kept = PatchFeatures(network, pixels, progress=Silent(), name="kept")
    made = PatchFeatures(network, pixels, progress=Silent(), name="made", budget=0)
    which = torch.tensor([3, 0, 3])
    torch.testing.assert_close(kept.batch(which), made.batch(which), rtol=1e-4, atol=1e-5)
    assert kept.batch(which).shape == (3 * 64, 24)
    rows = kept.batch(torch.arange(5)).double()
    for found in (kept.moments(), made.moments()):
        torch.testing.assert_close(found[0], rows.mean(0), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found[1], rows.std(0, unbiased=False), rtol=1e-4, atol=1e-6)


def test_it_trains_without_memory_for_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PatchFeatures.__init__.__kwdefaults__, "budget", 0)
    calls: list[int] = []
    real = _features.PatchFeatures._compute
    monkeypatch.setattr(
        PatchFeatures, "_compute", lambda self, images: calls.append(len(images)) or real(self, images)
    )
    record = fit(tmp_path, detector(), meta_epochs=2)
    assert len(record["history"]) == 2
    assert len(calls) > 2 * RECIPE["steps"]
