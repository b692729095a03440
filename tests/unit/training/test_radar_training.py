from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from edgead.detectors.radar import Radar
from edgead.errors import DatasetError, InputError, UsageError
from edgead.progress import Silent, Task
from edgead.training import radar
from edgead.training._state import ResumeState
from edgead.training.radar import RadarRecipe, rate


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def detector() -> Radar:
    config: dict[str, Any] = {"base": 8, "blocks": 1, "groups": 2, "heads": 2, "multipliers": [1, 2]}
    return Radar.from_config({**config, "attention": [2], "geometry": {"height": 32, "width": 32}})


def stripes(count: int, seed: int) -> npt.NDArray[np.uint8]:
    """A fixed grating with a little noise: what is normal here."""
    grating = 128 + 60 * np.sin(np.arange(32) * np.pi / 4)[None, None, :, None]
    noise = np.random.default_rng(seed).normal(0, 3, (count, 32, 32, 3))
    return np.clip(grating + noise, 0, 255).astype(np.uint8)


def fit(
    folder: Path, network: Radar, *, seed: int = 0, progress: Any = None, **changes: Any
) -> dict[str, Any]:
    return radar.fit(
        network,
        changes.pop("images", stripes(8, 0)),
        stripes(3, 1),
        recipe={"steps": 7, "batch": 2, "rate": 3e-3, "save_every": 3, **changes},
        seed=seed,
        state=ResumeState(folder / "m.partial", {"seed": seed}),
        progress=progress if progress is not None else Silent(),
    )


def test_it_learns_what_is_normal(tmp_path: Path) -> None:
    """A checkerboard on the grating has the strongest edges at its place."""
    network = detector()
    record = fit(tmp_path, network, steps=150, batch=4, save_every=50, average=0.95, rate=5e-3)
    losses = [entry["noise"] for entry in record["history"]]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.5 * losses[0]
    bad = stripes(4, 2)
    bad[:, 8:20, 8:20] = 255 * (np.indices((12, 12)).sum(0) % 2)[..., None]
    with torch.no_grad():
        maps = network(torch.from_numpy(bad)).anomaly_map[:, 0]
        good = network(torch.from_numpy(stripes(4, 2))).anomaly_map[:, 0]
    assert maps[:, 8:20, 8:20].mean() > 1.3 * good[:, 8:20, 8:20].mean()
    assert maps[:, 8:20, 8:20].mean() > 1.3 * maps[:, 24:, 24:].mean()


class _Interrupting(Silent):
    """Ctrl-C in the middle of the training."""

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        class Bar:
            left = 5

            def advance(self, steps: int = 1, **status: object) -> None:
                self.left -= steps
                if self.left <= 0:
                    raise KeyboardInterrupt

        yield Bar()


def test_an_interrupted_training_ends_where_it_would_have_ended(tmp_path: Path) -> None:
    whole, resumed, other = detector(), detector(), detector()
    for folder in ("whole", "other"):
        (tmp_path / folder).mkdir()
    expected = fit(tmp_path / "whole", whole)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, detector(), progress=_Interrupting())
    assert fit(tmp_path, resumed)["history"][-1] == expected["history"][-1]
    fit(tmp_path / "other", other, seed=1)
    ours, theirs = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not torch.equal(whole.noise, other.noise)


def test_the_rate_rises_and_falls() -> None:
    recipe = RadarRecipe(steps=100, batch=1, rate=2.0)
    assert rate(recipe, 0) == pytest.approx(0.2)
    assert rate(recipe, 9) == 2.0
    assert rate(recipe, 55) == pytest.approx(1.0)


def test_what_cannot_be_trained_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetError, match=r"5 good images to train on, 3 are held out.*at least 8"):
        fit(tmp_path, detector(), images=stripes(5, 0))
    with pytest.raises(UsageError, match=r"--weights .*leave it out"):
        radar.load_frozen(detector(), tmp_path / "w.pth", progress=Silent())
    monkeypatch.setattr(Radar, "guess", lambda _self, x, _noise, _levels: x * torch.nan)
    with pytest.raises(InputError, match="the loss 'noise' became nan in step 1"):
        fit(tmp_path, detector())
