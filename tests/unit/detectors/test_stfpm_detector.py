"""The network against NumPy, and its training: it learns, and resumes with the same bits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F

from edgead.detectors.stfpm import Stfpm
from edgead.errors import DatasetError, InputError, UsageError
from edgead.imaging.postprocess import Postprocess
from edgead.progress import Silent, Task
from edgead.training import stfpm
from edgead.training._state import ResumeState

CONFIG: dict[str, Any] = {
    "backbone": "resnet18",
    "taps": ["layer1", "layer2", "layer3"],
    "geometry": {"height": 32, "width": 48},
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def detector(**changes: Any) -> Stfpm:
    torch.manual_seed(0)
    return Stfpm.from_config(CONFIG | changes).eval()


def stripes(count: int, seed: int) -> npt.NDArray[np.uint8]:
    grating = 128 + 60 * np.sin(np.arange(48) * np.pi / 4)[None, None, :, None]
    noise = np.random.default_rng(seed).normal(0, 3, (count, 32, 48, 3))
    return np.clip(grating + noise, 0, 255).astype(np.uint8)


def numpy_maps(network: Stfpm, image: torch.Tensor) -> list[npt.NDArray[np.float64]]:
    with torch.no_grad():
        x = network.teacher.normalise(image)
        pairs = [
            (t[0].double().numpy(), s[0].double().numpy())
            for t, s in zip(network.teacher(x), network.student(x), strict=True)
        ]
    return [((t / np.linalg.norm(t, axis=0) - s / np.linalg.norm(s, axis=0)) ** 2).sum(0) for t, s in pairs]


def bilinear(values: npt.NDArray[np.float64], size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(torch.from_numpy(values)[None, None], size=size, mode="bilinear")[0, 0]


def test_the_authors_order_multiplies_on_the_finest_grid() -> None:
    network, image = detector(), torch.from_numpy(stripes(1, 0))
    first, second, third = numpy_maps(network, image)
    expected = torch.from_numpy(first) * bilinear(second, (8, 12)) * bilinear(third, (8, 12))
    with torch.no_grad():
        found = network(image).anomaly_map
    torch.testing.assert_close(found[0, 0].double(), expected, rtol=1e-4, atol=1e-6)
    score, _, large = Postprocess(network.post_recipe).scores(found[0].numpy())
    torch.testing.assert_close(
        torch.from_numpy(large).double(), bilinear(expected.numpy(), (32, 48)), rtol=1e-4, atol=1e-6
    )
    assert score == large.max()


def test_anomalib_s_order_multiplies_on_the_pixels() -> None:
    network = detector(map_order="upsample_then_product", factor=0.5)
    image = torch.from_numpy(stripes(1, 0))
    expected = torch.stack([0.5 * bilinear(one, (32, 48)) for one in numpy_maps(network, image)]).prod(0)
    with torch.no_grad():
        raw = network(image).anomaly_map[0].numpy()
    _, _, large = Postprocess(network.post_recipe).scores(raw)
    torch.testing.assert_close(torch.from_numpy(large).double(), expected, rtol=1e-4, atol=1e-6)


def fit(
    folder: Path, network: Stfpm, *, seed: int = 0, progress: Any = None, **changes: Any
) -> dict[str, Any]:
    return stfpm.fit(
        network,
        changes.pop("images", stripes(8, 0)),
        stripes(3, 1),
        recipe={"steps": 7, "batch": 2, "rate": 0.05, "save_every": 3, **changes},
        seed=seed,
        state=ResumeState(folder / "m.partial", {"seed": seed}),
        progress=progress if progress is not None else Silent(),
    )


def test_it_learns_what_is_normal_and_keeps_its_best(tmp_path: Path) -> None:
    network = detector()
    teacher = {key: value.clone() for key, value in network.teacher.state_dict().items()}
    record = fit(tmp_path, network, steps=60, batch=4, save_every=20)
    losses = [
        sum(value for key, value in entry.items() if "difference" in key) for entry in record["history"]
    ]
    assert losses[-1] < 0.5 * losses[0]
    reserved = {entry["step"]: entry["reserved"] for entry in record["history"]}
    assert reserved[record["best"]] == min(reserved.values())
    assert all(torch.equal(value, teacher[key]) for key, value in network.teacher.state_dict().items())
    with torch.no_grad():
        x = network.teacher.normalise(torch.from_numpy(stripes(3, 1)))
        again = float(sum(one.mean() for one in network.differences(x)))
    assert again == pytest.approx(min(reserved.values()), rel=1e-4)


class _Interrupting(Silent):
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
    assert fit(tmp_path, resumed) == expected
    fit(tmp_path / "other", other, seed=1)
    ours, theirs, others = whole.state_dict(), resumed.state_dict(), other.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not torch.equal(ours["student.conv1.weight"], others["student.conv1.weight"])


def test_what_cannot_be_trained_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetError, match=r"5 good images to train on.*at least 8"):
        fit(tmp_path, detector(), images=stripes(5, 0))
    monkeypatch.setattr(Stfpm, "differences", lambda self, x: (self.student(x)[0] * torch.nan,) * 3)
    with pytest.raises(InputError, match="the loss 'difference layer1' became nan in step 1"):
        fit(tmp_path, detector())


def test_the_student_alone_is_trained() -> None:
    network = detector().train()
    assert network.student.training
    assert not any(module.training for module in network.teacher.modules())
    trained = {name.split(".")[0] for name, value in network.named_parameters() if value.requires_grad}
    assert trained == {"student"}
    assert Stfpm.from_config(json.loads(json.dumps(network.config_dict()))).config == network.config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"map_order": "sum"}, "'sum' is unknown"),
        ({"factor": 0}, "factor 0"),
        ({"taps": ["stage2"]}, "stage2"),
        ({"colour": 1}, "does not fit"),
    ],
    ids=str,
)
def test_a_config_that_cannot_be_says_why(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        detector(**change)
