from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from edgead.detectors._efficientad_networks import initialise_deep
from edgead.detectors.efficientad import EfficientAd
from edgead.errors import DatasetError, InputError, OutputError
from edgead.progress import Silent, Task
from edgead.training import efficientad
from edgead.training._efficientad_statistics import set_quantiles
from edgead.training._jitter import brightness, contrast, saturation
from edgead.training._loop import set_rate
from edgead.training._state import ResumeState
from edgead.training.efficientad import EfficientAdRecipe

RECIPE: dict[str, Any] = {"steps": 10, "save_every": 3}
Pixels = npt.NDArray[np.uint8]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def detector() -> EfficientAd:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = EfficientAd.from_config({"size": "edge", "geometry": {"height": 64, "width": 64}})
        initialise_deep(network.teacher)
        return network


def textures(count: int, seed: int) -> Pixels:
    """Grey noise of low contrast: what is normal here."""
    return np.random.default_rng(seed).integers(110, 146, (count, 64, 64, 3)).astype(np.uint8)


def fit(
    folder: Path, network: EfficientAd, *, seed: int = 0, progress: Any = None, **options: Any
) -> dict[str, Any]:
    changes = {key: options.pop(key) for key in list(options) if key not in ("penalty", "images")}
    return efficientad.fit(
        network,
        options.pop("images", textures(8, 0)),
        textures(3, 1),
        recipe={**RECIPE, **changes},
        seed=seed,
        state=ResumeState(folder / "m.partial", {"seed": seed}),
        progress=progress if progress is not None else Silent(),
        **options,
    )


def same(a: EfficientAd, b: EfficientAd) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return all(torch.equal(one[key], two[key]) for key in one)


def test_it_learns_what_is_normal(tmp_path: Path) -> None:
    """A bright square on noise stands out, at its place: the grid is 8 × 8 cells of 4 pixels."""
    network = detector()
    record = fit(tmp_path, network, steps=100, save_every=25, rate=1e-3)
    assert [entry["step"] for entry in record["history"]] == [25, 50, 75, 100]
    hard = [entry["hard"] for entry in record["history"]]
    assert hard == sorted(hard, reverse=True)
    assert hard[-1] < 0.8 * hard[0]
    good = textures(4, 2)
    bad = good.copy()
    bad[:, 20:32, 20:32] = 255
    with torch.no_grad():
        maps_good = network(torch.from_numpy(good)).anomaly_map
        maps_bad = network(torch.from_numpy(bad)).anomaly_map
    assert maps_bad[:, 0].amax((1, 2)).min() > 1.5 * maps_good[:, 0].amax((1, 2)).max()
    # A cell sees 33 pixels, so the square at cells 1 … 3 of the grid weighs least in the far corner.
    assert maps_bad[:, 0, 1:4, 1:4].mean() > maps_bad[:, 0, 7, 7].mean()


def test_statistics_and_quantiles_are_of_the_right_images(tmp_path: Path) -> None:
    """Of the teacher over all training images; of the maps over the reserved ones."""
    network = detector()
    fit(tmp_path, network)
    with torch.no_grad():
        described = network.teacher(network.normalise(torch.from_numpy(textures(8, 0))))
        maps = network(torch.from_numpy(textures(3, 1))).anomaly_map
    deviation, mean = torch.std_mean(described, dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(network.teacher_mean.flatten(), mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network.teacher_std.flatten(), deviation, rtol=1e-4, atol=1e-5)
    expected = np.quantile(maps.numpy().transpose(1, 0, 2, 3).reshape(2, -1), [0.9, 0.995], axis=1).T
    np.testing.assert_allclose(network.quantiles.numpy(), expected, rtol=1e-4)


def test_quantiles_of_the_other_order_are_of_the_shown_maps() -> None:
    network = EfficientAd.from_config(
        {"size": "edge", "map_order": "upsample_then_quantile", "geometry": {"height": 64, "width": 64}}
    ).eval()
    set_quantiles(network, textures(2, 1), progress=Silent())
    with torch.no_grad():
        maps = network(torch.from_numpy(textures(2, 1))).anomaly_map
    padded = torch.nn.functional.pad(maps, (4, 4, 4, 4))
    shown = torch.nn.functional.interpolate(padded, size=(64, 64), mode="bilinear")
    expected = np.quantile(shown.numpy().transpose(1, 0, 2, 3).reshape(2, -1), [0.9, 0.995], axis=1).T
    np.testing.assert_allclose(network.quantiles.numpy(), expected, rtol=1e-4)


def test_the_teacher_is_left_alone(tmp_path: Path) -> None:
    network = detector()
    before = copy.deepcopy(network.teacher.state_dict())
    fit(tmp_path, network)
    assert all(torch.equal(value, network.teacher.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize("count", [1000, 997, 3 * 8 * 8, 1204])
def test_the_hard_loss_is_that_of_the_specification(count: int) -> None:
    values = torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(count))
    limit = torch.quantile(values, 0.999)
    assert float(efficientad.hard_loss(values, 0.001)) == pytest.approx(float(values[values >= limit].mean()))


def test_losses_are_the_specification_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spec §5 written out: each network on one image at a time, the student's output split afterwards."""
    monkeypatch.setattr(efficientad, "mixed_precision", lambda _device: nullcontext())
    network = detector().eval()
    training = efficientad._Training(
        network,
        efficientad.EfficientAdRecipe(steps=1),
        0,
        efficientad.OtherImages(None, (64, 64), seed=0, progress=Silent(), use="test"),
    )
    network.eval()
    random = torch.Generator().manual_seed(0)
    network.teacher_mean.normal_(0, 0.1, generator=random)
    network.teacher_std.uniform_(0.5, 2, generator=random)
    good, jittered, other = torch.randn(3, 1, 3, 64, 64, generator=random).unbind()
    with torch.no_grad():
        found = training._losses(good, jittered, other)
        t, t_jittered = network.describe(good), network.describe(jittered)
        rebuilt, s_jittered = network.ae(jittered), network.student(jittered)
        squares = (t - network.student(good)[:, :384]) ** 2
        expected = [
            squares[squares >= torch.quantile(squares, 0.999)].mean(),
            (network.student(other)[:, :384] ** 2).mean(),
            ((t_jittered - rebuilt) ** 2).mean(),
            ((rebuilt - s_jittered[:, 384:]) ** 2).mean(),
        ]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-6)


def test_jitter_is_pillow_s() -> None:
    """Pillow's ImageEnhance on 8 bits, so within its roundings."""
    from PIL import Image, ImageEnhance

    pixels = np.random.default_rng(0).integers(0, 256, (16, 20, 3)).astype(np.uint8)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    for ours, theirs in (
        (brightness, ImageEnhance.Brightness),
        (contrast, ImageEnhance.Contrast),
        (saturation, ImageEnhance.Color),
    ):
        for factor in (0.8, 1.2):
            expected = np.asarray(theirs(Image.fromarray(pixels)).enhance(factor)) / 255
            found = ours(image, factor)[0].permute(1, 2, 0).numpy()
            assert np.abs(found - expected).max() < 2 / 255, ours.__name__


def test_the_seed_alone_decides(tmp_path: Path) -> None:
    one, two, other = detector(), detector(), detector()
    for folder, network, seed in (("a", one, 0), ("b", two, 0), ("c", other, 1)):
        torch.rand(7)  # the global generator has no say
        (tmp_path / folder).mkdir()
        fit(tmp_path / folder, network, seed=seed)
    assert same(one, two)
    assert not same(one, other)


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
                if name == "training":
                    interrupting.steps -= steps
                    if interrupting.steps <= 0:
                        raise KeyboardInterrupt

        yield Bar()


@pytest.mark.parametrize("steps", [1, 4, 10])
def test_an_interrupted_training_ends_where_it_would_have_ended(tmp_path: Path, steps: int) -> None:
    whole, resumed = detector(), detector()
    (tmp_path / "whole").mkdir()
    expected = fit(tmp_path / "whole", whole)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, detector(), progress=_Interrupting(steps))
    listening = _Interrupting(99)
    found = fit(tmp_path, resumed, progress=listening)
    assert same(whole, resumed)
    assert [entry["step"] for entry in found["history"]] == [entry["step"] for entry in expected["history"]]
    assert any("resuming after" in line for line in listening.said) == (steps > 3)


def test_another_training_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, detector(), progress=_Interrupting(9))
    with pytest.raises(OutputError, match=r"m\.partial holds an unfinished training that differs in seed"):
        fit(tmp_path, detector(), seed=3)


@pytest.mark.parametrize("name", efficientad._LOSSES)
def test_a_loss_that_is_no_number_is_named_and_the_last_good_state_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, detector(), progress=_Interrupting(5))
    before = (tmp_path / "m.partial" / "state.safetensors").read_bytes()
    place = efficientad._LOSSES.index(name)
    real = efficientad._Training._losses

    def broken(self: Any, *inputs: torch.Tensor) -> torch.Tensor:
        losses = real(self, *inputs)
        factor = torch.ones(4)
        factor[place] = float("nan")
        return losses * factor

    monkeypatch.setattr(efficientad._Training, "_losses", broken)
    with pytest.raises(InputError, match=rf"the loss '{name}' became nan in step 4"):
        fit(tmp_path, detector())
    assert (tmp_path / "m.partial" / "state.safetensors").read_bytes() == before


def test_too_few_good_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"5 good images to train on, 3 are held out.*at least 8"):
        fit(tmp_path, detector(), images=textures(5, 0))


def test_penalty_images_come_from_the_folder_and_are_said(tmp_path: Path) -> None:
    folder = tmp_path / "others"
    folder.mkdir()
    cv2.imwrite(str(folder / "red.png"), np.full((30, 40, 3), (0, 0, 255), np.uint8))
    (folder / "broken.png").write_bytes(b"no image")
    listening = _Interrupting(10**6)
    series = efficientad.OtherImages(folder, (64, 96), seed=0, progress=listening, use="penalty images")
    for index in range(8):
        assert np.array_equal(series.image(index), np.full((64, 96, 3), (255, 0, 0), np.uint8))
    assert listening.said[0] == f"penalty images: 2 images of {folder}"
    assert sum("broken.png" in line for line in listening.said) == 1
    record = fit(tmp_path, detector(), penalty=folder, progress=listening)
    assert record["penalty"] == {"folder": str(folder), "files": 2, "drawn": 0.0}


def test_without_a_folder_the_penalty_images_are_drawn_and_said(tmp_path: Path) -> None:
    listening = _Interrupting(10**6)
    record = fit(tmp_path, detector(), progress=listening)
    assert "penalty images: procedurally drawn ones" in listening.said
    assert record["penalty"] == {"folder": None, "files": 0, "drawn": 1.0}


def test_a_folder_without_readable_images_is_a_dataset_error(tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    with pytest.raises(DatasetError, match="no images"):
        fit(tmp_path, detector(), penalty=tmp_path / "others")
    (tmp_path / "others" / "broken.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match="could not be read"):
        fit(tmp_path, detector(), penalty=tmp_path / "others")


def test_the_rate_falls_as_the_schedule_says() -> None:
    """A tenth for the last 5 %, or up for a tenth of the steps and down to nothing as a cosine does."""
    optimiser = torch.optim.Adam([torch.zeros(1, requires_grad=True)])

    def rate(step: int, **changes: Any) -> float:
        set_rate(optimiser, EfficientAdRecipe(steps=100, rate=2.0, **changes), step)
        return float(optimiser.param_groups[0]["lr"])

    assert [rate(step) for step in (0, 94, 95, 99)] == [2.0, 2.0, 0.2, 0.2]
    one = [rate(step, schedule="one_cycle") for step in (0, 9, 55, 99)]
    assert one[:2] == pytest.approx([0.2, 2.0])
    assert one[2] == pytest.approx(1.0)
    assert 0 < one[3] < 2e-3
