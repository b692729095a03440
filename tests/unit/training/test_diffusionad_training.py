from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from edgead.detectors.diffusionad import DiffusionAd
from edgead.errors import DatasetError, InputError, OutputError, UsageError
from edgead.progress import Silent, Task
from edgead.training import diffusionad
from edgead.training._denoising import take_average
from edgead.training._muon import Method
from edgead.training._other_images import OtherImages
from edgead.training._state import ResumeState
from edgead.training._synthetic_anomalies import SyntheticAnomalies
from edgead.training.diffusionad import DiffusionAdRecipe, _Batch, rates

RECIPE: dict[str, Any] = {"steps": 7, "batch": 2, "save_every": 3}
Pixels = npt.NDArray[np.uint8]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def detector() -> DiffusionAd:
    config: dict[str, Any] = {"base": 8, "blocks": 1, "groups": 2, "heads": 2, "segmentation_width": 8}
    shape = {"multipliers": [1, 2], "attention": [2], "geometry": {"height": 32, "width": 32}}
    return DiffusionAd.from_config(config | shape)


def plain(count: int, seed: int) -> Pixels:
    """Grey noise of low contrast: what is normal here."""
    return np.random.default_rng(seed).integers(110, 146, (count, 32, 32, 3)).astype(np.uint8)


def fit(
    folder: Path, network: DiffusionAd, *, seed: int = 0, progress: Any = None, **options: Any
) -> dict[str, Any]:
    changes = {key: options.pop(key) for key in list(options) if key not in ("textures", "images")}
    return diffusionad.fit(
        network,
        options.pop("images", plain(8, 0)),
        plain(3, 1),
        recipe={**RECIPE, **changes},
        seed=seed,
        state=ResumeState(folder / "m.partial", {"seed": seed}),
        progress=progress if progress is not None else Silent(),
        **options,
    )


def begun(**changes: Any) -> diffusionad._Training:
    series = OtherImages(None, (32, 32), seed=0, progress=Silent(), use="test", enlarge=False)
    return diffusionad._Training(detector(), DiffusionAdRecipe(**{**RECIPE, **changes}), 0, series)


def same(a: DiffusionAd, b: DiffusionAd) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return all(torch.equal(one[key], two[key]) for key in one)


def test_it_learns_what_is_not_normal(tmp_path: Path) -> None:
    network = detector()
    numbers = {"batch": 4, "unet_rate": 3e-3, "segmentation_rate": 3e-3, "schedule": "one_cycle"}
    record = fit(tmp_path, network, steps=120, save_every=40, average=0.95, **numbers)
    assert [entry["step"] for entry in record["history"]] == [40, 80, 120]
    for name in diffusionad._LOSSES:
        assert record["history"][-1][name] < record["history"][0][name], name
    # A network that says nothing has a noise loss of 1.
    assert record["history"][-1]["noise, light"] < 0.9
    good = plain(4, 2)
    bad = good.copy()
    bad[:, 8:20, 8:20] = (250, 20, 20)
    with torch.no_grad():
        of_good = network(torch.from_numpy(good)).anomaly_map
        of_bad = network(torch.from_numpy(bad)).anomaly_map
    assert of_bad.flatten(1).topk(50).values.mean(1).min() > of_good.flatten(1).topk(50).values.mean(1).max()


def test_losses_are_the_specification_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spec §11 written out pixel by pixel in float64."""
    monkeypatch.setattr(diffusionad, "mixed_precision", lambda _device: nullcontext())
    training = begun()
    network = training.detector.double().eval()
    random = torch.Generator().manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.data.normal_(0, 0.1, generator=random)
    x = torch.rand(3, 3, 32, 32, dtype=torch.float64, generator=random)
    mask = torch.zeros(3, 1, 32, 32, dtype=torch.float64)
    mask[1, 0, 4:9, 5:20] = 1
    levels = torch.tensor([[3, 50, 299], [300, 700, 999]])
    noise = torch.randn(2, 3, 3, 32, 32, dtype=torch.float64, generator=random)
    with torch.no_grad():
        found = training._losses(_Batch(x, mask, levels, noise))
        clean, guesses = network.reconstruct(x, noise, levels)
        p = network.segment(x, clean).sigmoid().numpy()
    squares = ((guesses - noise) ** 2).numpy()
    m = mask.numpy()
    focal = np.where(m == 1, -0.5 * (1 - p) ** 4 * np.log(p), -0.5 * p**4 * np.log(1 - p))
    expected = [
        squares[0, [0, 2]].mean(),
        squares[1, [0, 2]].mean(),
        5 * focal.mean(),
        ((p - m) ** 2 / 2).mean(),
    ]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)
    with torch.no_grad():
        ill = training._losses(_Batch(x, torch.ones_like(mask), levels, noise))
    assert ill[:2].tolist() == [0, 0]  # no good image, nothing to learn of noise


def test_a_step_draws_light_and_heavy_noise_and_half_the_images_have_an_anomaly() -> None:
    training = begun(batch=16)
    images = plain(16, 0)
    ill = 0
    for step in range(8):
        batch = training._batch([training._draw(images, 16 * step + index) for index in range(16)], step)
        assert batch.levels[0].min() >= 0
        assert batch.levels[0].max() < 300 <= batch.levels[1].min()
        assert batch.levels[1].max() < 1000
        assert float(batch.noise.std()) == pytest.approx(1, abs=0.02)
        assert 0 <= float(batch.x.min()) < float(batch.x.max()) <= 1
        ill += int(batch.mask.amax((1, 2, 3)).sum())
    assert 40 < ill < 88  # of 128, by chance


def test_rates_swing_as_the_authors_or_rise_and_fall() -> None:
    paper = DiffusionAdRecipe(steps=100, batch=1)
    assert rates(paper, 0) == (1e-4, 1e-5)
    assert rates(paper, 10)[1] == pytest.approx(0, abs=1e-20)
    assert rates(paper, 25)[1] == pytest.approx(5e-6)
    one = DiffusionAdRecipe(steps=100, batch=1, schedule="one_cycle", unet_rate=2.0, segmentation_rate=1.0)
    assert rates(one, 0) == pytest.approx((0.2, 0.1))
    assert rates(one, 9) == (2.0, 1.0)
    assert rates(one, 55) == pytest.approx((1.0, 0.5))
    assert 0 < rates(one, 99)[0] < 2e-3


@pytest.mark.parametrize("method", ["adam", "muon"])
@pytest.mark.parametrize("still", ["unet", "segmentation"])
def test_each_network_has_its_own_rate(method: Method, still: str) -> None:
    training = begun(optimiser=method, **{f"{still}_rate": 0.0})
    before = copy.deepcopy(training.trained)
    training._step(training._batch([training._draw(plain(2, 0), number) for number in (0, 1)], 0))
    for name, network in training.trained.items():
        then = before[name]
        moved = [not torch.equal(one, then.get_parameter(key)) for key, one in network.named_parameters()]
        assert any(moved) == (name != still)


def test_what_is_kept_is_the_running_average() -> None:
    training = begun()
    key = "unet.down.0.0.weight"
    weight = training.detector.state_dict()[key]
    expected = weight.clone().double().numpy()
    for step, value in enumerate((3.0, -1.0, 5.0, 7.0)):
        weight.fill_(value)
        take_average(training.average, training.detector, 0.3, step)
        kept = min(0.3, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * value
    np.testing.assert_allclose(training.average.state_dict()[key].numpy(), expected, rtol=1e-5)


def test_the_seed_alone_decides(tmp_path: Path) -> None:
    one, two, other = detector(), detector(), detector()
    for folder, network, seed in (("a", one, 0), ("b", two, 0), ("c", other, 1)):
        torch.rand(7)  # the global generator has no say
        (tmp_path / folder).mkdir()
        fit(tmp_path / folder, network, seed=seed, steps=3)
    assert same(one, two)
    assert not torch.equal(one.noise, other.noise)
    assert not torch.equal(one.unet.out[2].weight, other.unet.out[2].weight)


class _Interrupting(Silent):
    """Ctrl-C in the middle of the training."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        interrupting = self

        class Bar:
            def advance(self, steps: int = 1, **status: object) -> None:
                interrupting.steps -= steps
                if interrupting.steps <= 0:
                    raise KeyboardInterrupt

        yield Bar()


@pytest.mark.parametrize(("steps", "method"), [(1, "adam"), (5, "adam"), (5, "muon")])
def test_an_interrupted_training_ends_where_it_would_have_ended(
    tmp_path: Path, steps: int, method: Method
) -> None:
    whole, resumed = detector(), detector()
    (tmp_path / "whole").mkdir()
    expected = fit(tmp_path / "whole", whole, optimiser=method)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, detector(), progress=_Interrupting(steps), optimiser=method)
    listening = _Interrupting(99)
    found = fit(tmp_path, resumed, progress=listening, optimiser=method)
    assert same(whole, resumed)
    assert found["history"][-1] == expected["history"][-1]
    assert any("resuming after 3 of 7" in line for line in listening.said) == (steps > 3)
    assert "textures of the anomalies: procedurally drawn ones" in listening.said


def test_another_training_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, detector(), progress=_Interrupting(4))
    with pytest.raises(OutputError, match=r"m\.partial holds an unfinished training that differs in seed"):
        fit(tmp_path, detector(), seed=3)


def test_the_preview_shows_images_reconstructions_maps_and_masks(tmp_path: Path) -> None:
    network = detector()
    fit(tmp_path, network, steps=3)
    picture = cv2.cvtColor(cv2.imread(str(tmp_path / "m.partial" / "preview.png")), cv2.COLOR_BGR2RGB)
    assert picture.shape == (4 * 32, 4 * 32, 3)
    image, clean, heat, mask = np.split(picture[:32], 4, axis=1)
    changed = image != plain(8, 0)[0]
    assert set(np.unique(mask)) == {0, 255}
    assert not changed[mask == 0].any()
    with torch.no_grad():
        expected = network(torch.from_numpy(image)[None]).anomaly_map[0, 0].numpy()
    np.testing.assert_allclose(heat[..., 0] / 255, expected, atol=1 / 255)
    assert clean.std() > 0


@pytest.mark.parametrize("name", diffusionad._LOSSES)
def test_a_loss_that_is_no_number_is_named_and_the_last_good_state_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, detector(), progress=_Interrupting(4))
    before = (tmp_path / "m.partial" / "state.safetensors").read_bytes()
    place, real = diffusionad._LOSSES.index(name), diffusionad._Training._losses

    def broken(self: Any, batch: _Batch) -> torch.Tensor:
        factor = torch.ones(4)
        factor[place] = math.nan
        return real(self, batch) * factor

    monkeypatch.setattr(diffusionad._Training, "_losses", broken)
    with pytest.raises(InputError, match=rf"the loss '{name}' became nan in step 4"):
        fit(tmp_path, detector())
    assert (tmp_path / "m.partial" / "state.safetensors").read_bytes() == before


def test_too_few_good_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"5 good images to train on, 3 are held out.*at least 8"):
        fit(tmp_path, detector(), images=plain(5, 0))


def test_there_is_nothing_to_load_weights_into(tmp_path: Path) -> None:
    assert diffusionad.load_frozen(detector(), None, progress=Silent()) is None
    with pytest.raises(UsageError, match=r"--weights .*w\.pth: diffusionad trains all of its networks"):
        diffusionad.load_frozen(detector(), tmp_path / "w.pth", progress=Silent())


def test_anomalies_are_translucent(tmp_path: Path) -> None:
    """Opacities 0.2 … 0.8 of black on white leave 51 … 204."""
    folder = tmp_path / "textures"
    folder.mkdir()
    cv2.imwrite(str(folder / "black.png"), np.zeros((32, 32, 3), np.uint8))
    series = OtherImages(folder, (32, 32), seed=0, progress=Silent(), use="test", enlarge=False)
    recipe = diffusionad.anomaly_recipe(0.0)
    values = set()
    for index in range(40):
        white = np.full((32, 32, 3), 255, np.uint8)
        plain_recipe = recipe.__class__(**{**_values(recipe), "vary_textures": False})
        changed, mask = SyntheticAnomalies(plain_recipe, series, seed=0).image(white, index)
        values |= set(np.unique(changed[mask]).tolist())
    assert 51 <= min(values) < 90
    assert 160 < max(values) <= 204


def _values(recipe: Any) -> dict[str, Any]:
    return {name: getattr(recipe, name) for name in recipe.__dataclass_fields__}
