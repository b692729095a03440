"""EfficientAD on the spine's small images: train, export to every CPU target, verify, score a frame."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edgead.bundle.reader import open_bundle
from edgead.detectors import model_file
from edgead.detectors._efficientad_networks import description_network, initialise_deep
from edgead.detectors._presets import PRESETS
from edgead.detectors.efficientad import EfficientAd
from edgead.errors import UsageError, WeightsError
from edgead.imaging.frame import read_image
from edgead.runtimes.session import Session
from edgead.workflows.export import export, installed_defaults
from edgead.workflows.train import train
from edgead.workflows.verify import verify

SMALL = {
    "detector": "efficientad",
    "summary": "64×64, for tests",
    "config": {"size": "edge", "geometry": {"height": 64, "width": 64}},
    "training": {"steps": 12, "save_every": 6, "rate": 1e-3},
}


@pytest.fixture(autouse=True)
def _small_preset(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(PRESETS, "small_ead", SMALL)
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, 2))
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    network = description_network("edge", 384)
    initialise_deep(network, torch.Generator().manual_seed(0))
    save_file(network.state_dict(), tmp_path / "teacher.safetensors")
    return tmp_path / "teacher.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize("order", ["quantile_then_upsample", "upsample_then_quantile"])
def test_every_engine_is_torch(
    spine: Any, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    monkeypatch.setitem(PRESETS["small_ead"], "config", {**SMALL["config"], "map_order": order})  # type: ignore[dict-item]
    model, bundle = tmp_path / "m", tmp_path / "b.edgead"
    train("small_ead", spine.data, model, weights=teacher)
    detector, info = model_file.load(model)
    assert isinstance(detector, EfficientAd)
    assert info.provenance["teacher_weights"]["file"] == "teacher.safetensors"
    assert info.provenance["penalty"]["folder"] is None
    # Set by the training, and kept: far from the values that a detector is built with.
    assert float(detector.teacher_std.min()) > 0
    assert not torch.equal(detector.quantiles, EfficientAd(detector.config).quantiles)

    targets = installed_defaults()
    export(model, bundle, calib=spine.data, targets=targets, threads=2, accept=True)
    manifest = json.loads((bundle / "manifest.json").read_text())
    post = manifest["post"]
    assert (post["channels"], post["pad"], post["gamma_stage"]) == (
        2,
        [4, 4, 4, 4],
        "before" if order == "quantile_then_upsample" else "after",
    )
    assert post["alpha"] == pytest.approx([0.05 / (b - a) for a, b in detector.quantiles.tolist()])
    report = verify(bundle, spine.data, model=model, threads=2)
    assert set(report.targets) == set(targets)
    for name, verdict in report.targets.items():
        assert verdict.parity.shift_max is not None
        assert verdict.parity.score_range is not None
        bar = 1e-4 if name.endswith("fp32") else 0.1
        assert verdict.parity.shift_max <= bar * verdict.parity.score_range, name
        assert verdict.flipped == () or not name.endswith("fp32")
    frame = read_image(next((spine.data / "test" / "spot").iterdir()))
    with open_bundle(bundle) as opened, Session.open(opened, target="onnxruntime:fp32") as session:
        prediction = session.predict(frame)
    assert prediction.anomaly_map.shape == (64, 64)
    border = prediction.anomaly_map[0, 0]
    recipe = detector.post_recipe
    assert border == pytest.approx(0.0 if order == "quantile_then_upsample" else recipe.gamma, abs=1e-6)
    assert np.isfinite(prediction.score_raw)


def test_options_that_do_not_apply_are_refused(spine: Any, teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="learns from good images alone"):
        train("simplenet", spine.data, tmp_path / "m", penalty=tmp_path)
    with pytest.raises(UsageError, match="0 steps"):
        train("small_ead", spine.data, tmp_path / "m", weights=teacher, steps=0)
    with pytest.raises(WeightsError, match="needed is a small teacher"):
        train("efficientad", spine.data, tmp_path / "m", weights=teacher)
    assert not (tmp_path / "m").exists()


def test_a_short_training_has_its_own_rate(
    spine: Any, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = {"below": 3, "rate": 3e-3, "schedule": "one_cycle"}
    monkeypatch.setitem(PRESETS, "small_ead", {**PRESETS["small_ead"], "short": short})
    usual = PRESETS["small_ead"]["training"]["rate"]
    assert usual != 3e-3
    for steps, expected in [(2, (3e-3, "one_cycle")), (3, (usual, None))]:
        made = train("small_ead", spine.data, tmp_path / str(steps), weights=teacher, steps=steps)
        recipe = made.info.provenance["recipe"]
        assert (recipe.get("rate"), recipe.get("schedule")) == expected
        assert "below" not in recipe


def test_steps_are_the_user_s(spine: Any, teacher: Path, tmp_path: Path) -> None:
    made = train("small_ead", spine.data, tmp_path / "m", weights=teacher, steps=2)
    assert made.info.provenance["recipe"]["steps"] == 2
    assert [entry["step"] for entry in made.info.provenance["history"]] == [2]
