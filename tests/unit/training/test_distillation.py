from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgead.backbones import _base
from edgead.backbones._weights import load_weights
from edgead.errors import InputError, UsageError
from edgead.progress import Silent, Task
from edgead.training import _distillation
from edgead.training._distillation import DistillationRecipe, Target, cut, default_taps, distil
from edgead.training._other_images import OtherImages
from edgead.training._state import ResumeState

RECIPE: dict[str, Any] = {
    "steps": 4,
    "batch": 2,
    "side": 64,
    "scene": 64,
    "statistics_images": 3,
    "save_every": 2,
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def target() -> Target:
    backbone = _base.build("efficientnet_lite0", default_taps("efficientnet_lite0"))
    load_weights(backbone, "efficientnet_lite0")
    return Target(backbone)


def run(
    folder: Path, *, seed: int = 0, progress: Any = None, made: Target | None = None, **changes: Any
) -> tuple[nn.Sequential, list[dict[str, float]]]:
    images = OtherImages(None, (128, 128), seed=seed, progress=Silent(), use="test", enlarge=False)
    return distil(
        "edge",
        made or target(),
        images,
        recipe=DistillationRecipe(**{**RECIPE, **changes}),
        seed=seed,
        state=ResumeState(folder / "t.partial", {"seed": seed}),
        progress=progress if progress is not None else Silent(),
    )


def test_the_taps_are_the_paper_s() -> None:
    """Strides 8 and 16: layers 2 and 3 of a Wide ResNet."""
    assert default_taps("wide_resnet50_2") == ("layer2", "layer3")
    assert default_taps("efficientnet_lite0") == ("stage3", "stage5")


def test_the_target_is_the_specification_s() -> None:
    """Spec §5: 3×3 patches, the deeper ones up-sampled, 1024 values per tap, 384 together, standardised."""
    made = target()
    made.mean.fill_(0.25)
    made.std.fill_(2.0)
    image = torch.randint(0, 256, (1, 128, 128, 3), dtype=torch.uint8)
    with torch.no_grad():
        found = made(image)
        taps = made.backbone(made.backbone.normalise(image))
        rows = []
        for tap in taps:
            patches = F.unfold(tap, 3, padding=1).view(1, -1, *tap.shape[2:])
            large = F.interpolate(patches, size=(16, 16), mode="bilinear")[0].flatten(1).T
            rows.append(F.adaptive_avg_pool1d(large, 1024))
        pooled = F.adaptive_avg_pool1d(torch.cat(rows, dim=1), 384).T.view(1, 384, 16, 16)
    torch.testing.assert_close(found, (pooled - 0.25) / 2, rtol=1e-4, atol=1e-5)


def test_it_learns_and_the_target_is_standardised(tmp_path: Path) -> None:
    made = target()
    network, history = run(tmp_path, made=made, steps=60, save_every=20, batch=2, rate=2e-3)
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 384, 16, 16)
    assert bool((made.std > 1e-6).all())
    images = OtherImages(None, (128, 128), seed=5, progress=Silent(), use="test", enlarge=False)
    with torch.no_grad():
        said = torch.cat([made(torch.from_numpy(images.image(index))[None]) for index in range(6)])
    assert 0.3 < float(said.std()) < 3
    assert abs(float(said.mean())) < 0.5


class _Interrupting(Silent):
    def __init__(self, steps: int) -> None:
        self.steps = steps

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        interrupting = self

        class Bar:
            def advance(self, steps: int = 1, **status: object) -> None:
                if name == "distilling":
                    interrupting.steps -= steps
                    if interrupting.steps <= 0:
                        raise KeyboardInterrupt

        yield Bar()


def test_an_interrupted_distillation_ends_where_it_would_have_ended(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole, history = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, progress=_Interrupting(3))
    resumed, again = run(tmp_path)
    assert again == history
    one, two = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_loss_that_is_no_number_stops_it(tmp_path: Path) -> None:
    made = target()
    made.forward = lambda pixels: torch.full((len(pixels), 384, 16, 16), float("nan"))  # type: ignore[method-assign]
    with pytest.raises(InputError, match="the loss became nan in step 1"):
        run(tmp_path, made=made)


def test_cuts_show_parts_of_the_image() -> None:
    """A ramp stays a ramp, over a share of its range between the two given, and some are mirrored."""
    ramp = np.tile(np.arange(100, dtype=np.uint8)[None, :, None], (100, 1, 3))
    random = np.random.default_rng(0)
    for crops, side, least, most in [((0.6, 1.0), 100, 58, 99), ((0.3, 0.5), 40, 27, 49)]:
        spans = []
        for _ in range(40):
            shown = cut(ramp, crops, side, random)
            assert shown.shape == (side, side, 3)
            spans.append(int(shown[0, -1, 0]) - int(shown[0, 0, 0]))
        assert least <= min(np.abs(spans)) < max(np.abs(spans)) <= most
        assert np.ptp(np.abs(spans)) > 0.5 * (most - least)
        assert {np.sign(span) for span in spans} == {-1, 1}


def test_batches_in_a_row_cut_the_same_images(tmp_path: Path) -> None:
    asked = []

    class Counting(OtherImages):
        def image(self, index: int) -> Any:
            asked.append(index)
            return super().image(index)

    distil(
        "edge",
        target(),
        Counting(None, (128, 128), seed=0, progress=Silent(), use="test", enlarge=False),
        recipe=DistillationRecipe(**{**RECIPE, "steps": 3, "batch": 4, "cuts_per_image": 2}),
        seed=0,
        state=ResumeState(tmp_path / "t.partial", {}),
        progress=Silent(),
    )
    assert asked[RECIPE["statistics_images"] :] == [0, 1, 2, 3, 4, 5, 6, 7]


def test_short_runs_have_other_numbers() -> None:
    paper, short = DistillationRecipe(), DistillationRecipe.of_steps(_distillation.SHORT - 1)
    assert DistillationRecipe.of_steps() == paper
    assert DistillationRecipe.of_steps(_distillation.SHORT).rate == paper.rate
    assert short.schedule == "one_cycle"
    assert short.rate > paper.rate
    assert short.side < short.scene == paper.scene
    assert DistillationRecipe.of_steps(100, rate=5e-4, batch=3).rate == 5e-4


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"side": 100},
        {"side": 32},
        {"crops": (0.0, 1.0)},
        {"crops": (0.6, 0.5)},
        {"cuts_per_image": 0},
    ],
    ids=str,
)
def test_numbers_out_of_range(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        DistillationRecipe(**change)


def test_a_backbone_without_such_strides_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Module:
        SPEC = _base.BackboneSpec(
            taps={"only": _base.Tap(8, 4)},
            mean=(0, 0, 0),
            std=(1, 1, 1),
            weights=_base.WeightsSource(file="none", sha256=""),
        )

    monkeypatch.setattr(_distillation._base, "module", lambda name: Module)
    with pytest.raises(UsageError, match="no taps of strides 8 and 16"):
        default_taps("flat")
