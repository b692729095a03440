from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from edgead.detectors.cpr import Cpr
from edgead.errors import DatasetError, InputError, OutputError, UsageError
from edgead.progress import Silent, Task
from edgead.training import cpr
from edgead.training._state import ResumeState

SIDE = 80
CONFIG: dict[str, Any] = {
    "backbone": "efficientnet_lite0",
    "taps": ["stage2", "stage3"],
    "dim": 4,
    "nearest": 3,
    "clusters": 4,
    "top_k": 16,
    "geometry": {"height": SIDE, "width": SIDE},
}
RECIPE: dict[str, Any] = {"steps": 6, "texture_steps": 4, "batch": 2, "pairs": 40, "save_every": 3}
Pixels = npt.NDArray[np.uint8]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def detector(**changes: Any) -> Cpr:
    network = Cpr.from_config({**CONFIG, **changes})
    cpr.load_frozen(network, None, progress=Silent())
    return network


def plates(count: int, seed: int) -> Pixels:
    """A woven disc in the middle, on an even dark ground."""
    random = np.random.default_rng(seed)
    pixels = grounds(count, seed)
    for image, cloth in zip(pixels, weave(count, seed), strict=True):
        disc = np.zeros((SIDE, SIDE), np.uint8)
        x, y = (int(value) for value in random.integers(38, 43, 2))
        cv2.circle(disc, (x, y), 26, 255, -1)
        image[disc > 0] = cloth[disc > 0]
    return pixels


def grounds(count: int, seed: int) -> Pixels:
    """The same without a disc."""
    random = np.random.default_rng(seed)
    return random.integers(30, 36, (count, SIDE, SIDE, 3)).astype(np.uint8)


def weave(count: int, seed: int) -> Pixels:
    """A texture, alike everywhere."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    pattern = 40 * np.sin(x * 0.8 + 1) * np.sin(y * 0.8 + 2)
    noise = random.normal(0, 8, (count, SIDE, SIDE, 3))
    return np.asarray(np.clip(120 + pattern[..., None] + noise, 0, 255), np.uint8)


def fit(folder: Path, network: Cpr, *, seed: int = 0, progress: Any = None, **options: Any) -> dict[str, Any]:
    changes = {key: options.pop(key) for key in list(options) if key in RECIPE or key == "rate"}
    return cpr.fit(
        network,
        options.pop("images", plates(8, 0)),
        plates(2, 1),
        recipe={**RECIPE, **changes},
        seed=seed,
        state=ResumeState(folder / "m.partial", {"seed": seed}),
        progress=progress if progress is not None else Silent(),
        **options,
    )


def same(a: Cpr, b: Cpr) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


class Listening(Silent):
    """Hears what is said; interrupts the training after some steps, like Ctrl-C."""

    def __init__(self, steps: int = 10**9) -> None:
        self.steps = steps
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        listening = self

        class Bar:
            def advance(self, steps: int = 1, **status: object) -> None:
                if name == "training":
                    listening.steps -= steps
                    if listening.steps <= 0:
                        raise KeyboardInterrupt

        yield Bar()


def scores(network: Cpr, images: Pixels) -> Tensor:
    """Sum of the highest values of the map, which is what the recipe's rule says (less the blur)."""
    with torch.no_grad():
        maps = network(torch.from_numpy(images)).anomaly_map
    return maps.flatten(1).topk(network.config.top_k).values.sum(1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cpr, dict[str, Any], list[str]]:
    network, listening = detector(), Listening()
    record = fit(
        tmp_path_factory.mktemp("cpr"),
        network,
        images=plates(12, 0),
        steps=32,
        save_every=8,
        batch=3,
        pairs=100,
        progress=listening,
    )
    return network, record, listening.said


def test_it_learns_what_is_normal(trained: tuple[Cpr, dict[str, Any], list[str]]) -> None:
    network, record, said = trained
    totals = [sum(value for key, value in entry.items() if key != "step") for entry in record["history"]]
    assert [entry["step"] for entry in record["history"]] == [8, 16, 24, 32]
    assert totals[-1] < 0.6 * totals[0]
    assert record["foreground"]["used"]
    assert record["foreground"]["separation"] > 0.9
    assert any("an object before a background" in line for line in said)
    good = plates(4, 2)
    bad = good.copy()
    for image in bad:
        cv2.circle(image, (36, 40), 7, (20, 200, 20), -1)
    assert scores(network, bad).min() > scores(network, good).max()
    with torch.no_grad():
        found = network(torch.from_numpy(bad)).anomaly_map[:, 0]
    assert found[:, 33:47, 29:43].mean() > 3 * found[:, 60:, :].mean()


def test_a_missing_object_scores_high_and_what_lies_beside_it_low(
    trained: tuple[Cpr, dict[str, Any], list[str]],
) -> None:
    """The references' foreground counts, too: an image that is all background is no good one."""
    network, _, _ = trained
    assert scores(network, grounds(3, 4)).min() > scores(network, plates(4, 2)).max()
    beside = plates(3, 2)
    beside[:, :8, :8] = (20, 200, 20)
    inside = plates(3, 2)
    inside[:, 36:44, 36:44] = (20, 200, 20)
    assert scores(network, beside).max() < scores(network, inside).min()


def test_the_bank_is_of_the_images_trained_on(tmp_path: Path) -> None:
    """Histograms and descriptors are what the trained network says of them, in evaluation mode."""
    network, images = detector(bank_type="fp32"), plates(5, 0)
    record = fit(tmp_path, network, images=images)
    assert record["references"] == {"images": 5, "kept": 5}
    assert not network.training
    with torch.no_grad():
        taps = network.features(torch.from_numpy(images))
        descriptors = network.describe(taps)
        histograms, shown = network.histogram(taps[0]), network.object_map(taps[0])
    torch.testing.assert_close(network.histograms, histograms)
    torch.testing.assert_close(network.reference_foreground, shown)
    torch.testing.assert_close(network.bank0, descriptors[0])
    torch.testing.assert_close(network.bank1, descriptors[1])
    assert network.config_dict()["references"] == 5


def test_copies_count_once(tmp_path: Path) -> None:
    images, listening, one, two = plates(4, 0), Listening(), detector(), detector()
    record = fit(tmp_path, one, images=np.concatenate([images, images[:2]]), progress=listening)
    assert "2 of 6 images are copies; each counts once" in listening.said
    assert record["references"] == {"images": 4, "kept": 4}
    (tmp_path / "other").mkdir()
    fit(tmp_path / "other", two, images=images)
    assert same(one, two)


def test_fewer_images_than_are_searched_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"2 different good images to train on, 2 are held out.*at least 3"
    ):
        fit(tmp_path, detector(), images=np.concatenate([plates(2, 0), plates(2, 0)]))


def test_a_texture_has_no_foreground_and_fewer_steps(tmp_path: Path) -> None:
    network, listening = detector(), Listening()
    record = fit(tmp_path, network, images=weave(8, 0), progress=listening)
    assert record["foreground"]["asked"] == "auto"
    assert not record["foreground"]["used"]
    assert abs(record["foreground"]["separation"]) < 0.1
    assert any("off, distances count everywhere" in line for line in listening.said)
    assert record["history"][-1]["step"] == RECIPE["texture_steps"]
    assert network.config_dict()["foreground"] is False
    assert not [key for key in network.state_dict() if "foreground" in key]
    again = Cpr.from_config(network.config_dict())
    again.load_state_dict(network.state_dict())
    assert torch.isfinite(scores(again.eval(), weave(2, 1))).all()


def test_the_foreground_is_the_user_s_choice(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot be told apart \(separation .*leave out --foreground on"):
        fit(tmp_path, detector(), images=weave(8, 0), foreground="on")
    with pytest.raises(UsageError, match="--foreground maybe: use auto, on, off"):
        fit(tmp_path, detector(), foreground="maybe")
    off = detector()
    assert fit(tmp_path, off, foreground="off")["foreground"] == {"asked": "off", "used": False}
    assert not off.config.foreground
    (tmp_path / "on").mkdir()
    assert fit(tmp_path / "on", detector(), foreground="on")["foreground"]["used"]


def test_blank_images_are_refused(tmp_path: Path) -> None:
    blank = np.full((8, SIDE, SIDE, 3), 128, np.uint8)
    blank += np.arange(8, dtype=np.uint8)[:, None, None, None]
    flat = np.repeat(blank[:1], 8, 0)
    with pytest.raises(DatasetError, match="1 different good images"):
        fit(tmp_path, detector(), images=flat)


def test_a_budget_keeps_a_coreset_and_says_so(tmp_path: Path) -> None:
    """A reference: 25 × 4 frequencies, 20² of the foreground, 4 values of 2 bytes at 20² and 10² places."""
    each = 4 * 25 * 4 + 4 * 400 + 2 * 4 * (400 + 100)
    network, listening = detector(), Listening()
    assert network.reference_bytes == each
    record = fit(tmp_path, network, bank_budget=(4 * each + 1) / 2**20, progress=listening)
    assert record["references"] == {"images": 8, "kept": 4}
    assert len(network.bank0) == 4
    assert any(line.startswith("4 of 8 images are kept in 0.02") for line in listening.said)
    (tmp_path / "less").mkdir()
    with pytest.raises(DatasetError, match=r"holds 2 references of 0\.01 MiB, but 3 are searched per image"):
        fit(tmp_path / "less", detector(), bank_budget=(3 * each - 1) / 2**20)


def test_the_bank_is_stored_as_asked(tmp_path: Path) -> None:
    exact, small = detector(), detector()
    for name, network, bank_type in (("a", exact, "fp32"), ("b", small, "int8")):
        (tmp_path / name).mkdir()
        fit(tmp_path / name, network, bank_type=bank_type)
        assert network.config_dict()["bank_type"] == bank_type
    assert (exact.bank0.dtype, small.bank0.dtype) == (torch.float32, torch.int8)
    assert torch.equal(small.bank0, (127 * exact.bank0).round().to(torch.int8))
    with pytest.raises(UsageError, match="bank_type 'int4' is unknown"):
        fit(tmp_path, detector(), bank_type="int4")


def test_the_backbone_is_left_alone(tmp_path: Path) -> None:
    network = detector()
    before = {key: value.clone() for key, value in network.backbone.state_dict().items()}
    fit(tmp_path, network)
    assert all(torch.equal(value, network.backbone.state_dict()[key]) for key, value in before.items())


def test_the_seed_alone_decides(tmp_path: Path) -> None:
    one, two, other = detector(), detector(), detector()
    for folder, network, seed in (("a", one, 0), ("b", two, 0), ("c", other, 1)):
        torch.rand(7)  # the global generators have no say
        np.random.rand(3)  # noqa: NPY002
        (tmp_path / folder).mkdir()
        fit(tmp_path / folder, network, seed=seed)
    assert same(one, two)
    assert not same(one, other)


@pytest.mark.parametrize("kind", ["object", "texture"])
@pytest.mark.parametrize("steps", [1, 4])
def test_an_interrupted_training_ends_where_it_would_have_ended(
    tmp_path: Path, steps: int, kind: str
) -> None:
    images = plates(8, 0) if kind == "object" else weave(8, 0)
    whole, resumed = detector(), detector()
    (tmp_path / "whole").mkdir()
    expected = fit(tmp_path / "whole", whole, images=images, texture_steps=6)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, detector(), images=images, texture_steps=6, progress=Listening(steps))
    listening = Listening()
    found = fit(tmp_path, resumed, images=images, texture_steps=6, progress=listening)
    assert same(whole, resumed)
    assert found["foreground"] == expected["foreground"]
    assert [entry["step"] for entry in found["history"]] == [entry["step"] for entry in expected["history"]]
    assert f"resuming after {steps // 3 * 3} of 6 steps" in listening.said


def test_another_training_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, detector(), progress=Listening(4))
    with pytest.raises(OutputError, match=r"m\.partial holds an unfinished training that differs in seed"):
        fit(tmp_path, detector(), seed=3)


@pytest.mark.parametrize("place", range(4), ids=cpr._LOSSES)
def test_a_loss_that_is_no_number_is_named_and_the_last_good_state_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, detector(), progress=Listening(4))
    before = (tmp_path / "m.partial" / "state.safetensors").read_bytes()
    real = cpr._Training._losses

    def broken(self: Any, *inputs: Any) -> Tensor:
        factor = torch.ones(4)
        factor[place] = float("nan")
        return real(self, *inputs) * factor

    monkeypatch.setattr(cpr._Training, "_losses", broken)
    with pytest.raises(InputError, match=rf"the loss '{cpr._LOSSES[place]}' became nan in step 4"):
        fit(tmp_path, detector())
    assert (tmp_path / "m.partial" / "state.safetensors").read_bytes() == before


def test_the_anomalies_textures_come_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "textures").mkdir()
    cv2.imwrite(str(tmp_path / "textures" / "red.png"), np.full((30, 40, 3), (0, 0, 255), np.uint8))
    listening = Listening()
    record = fit(tmp_path, detector(), textures=tmp_path / "textures", progress=listening)
    assert f"textures of the anomalies: 1 images of {tmp_path / 'textures'}" in listening.said
    assert record["textures"] == {"folder": str(tmp_path / "textures"), "files": 1, "drawn": 0.0}
    (tmp_path / "none").mkdir()
    with pytest.raises(DatasetError, match="no images"):
        fit(tmp_path, detector(), textures=tmp_path / "none")


def test_a_step_sees_each_image_once_per_epoch_and_never_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpr, "mixed_precision", lambda _device: nullcontext())
    monkeypatch.setattr(cpr._Training, "_disturbed", lambda self, image, random: image)
    seen: list[tuple[int, int]] = []
    images = plates(6, 0)
    real = cpr._Training._losses

    def looking(self: Any, batch: Any) -> Tensor:
        for item in batch:
            apart = [int((item.query != image).any(2).sum()) for image in images]
            same_as = [index for index, image in enumerate(images) if np.array_equal(item.reference, image)]
            seen.append((int(np.argmin(apart)), same_as[0]))
        return real(self, batch)

    monkeypatch.setattr(cpr._Training, "_losses", looking)
    fit(tmp_path, detector(), images=images)
    assert len(seen) == 12
    assert sorted(query for query, _ in seen[:6]) == sorted(query for query, _ in seen[6:]) == list(range(6))
    assert all(query != reference for query, reference in seen)
