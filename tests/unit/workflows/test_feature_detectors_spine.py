"""STFPM, Reverse Distillation and FastFlow on the small images of the spine: train, export, verify."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from edgead.detectors import model_file
from edgead.detectors._presets import PRESETS
from edgead.workflows.export import export, installed_defaults
from edgead.workflows.train import train
from edgead.workflows.verify import verify


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stfpm", "reverse_distillation", "fastflow"])
def test_every_engine_is_torch(
    spine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    small = {
        **PRESETS[name],
        "config": {**PRESETS[name]["config"], "geometry": {"height": 64, "width": 96}},
        "training": {"steps": 6, "batch": 2, "save_every": 3},
    }
    monkeypatch.setitem(PRESETS, name, small)
    model, bundle = tmp_path / "m", tmp_path / "b.edgead"
    train(name, spine.data, model)
    _, info = model_file.load(model)
    assert info.provenance["backbone_weights"]["file"].startswith("efficientnet-lite0")
    assert info.provenance["best"] in (3, 6)
    assert not model_file.partial_path(model).exists()
    targets = [target for target in installed_defaults() if target.endswith("fp32")]
    export(model, bundle, calib=spine.data, targets=targets, threads=1, accept=True)
    report = verify(bundle, spine.data, model=model, threads=1)
    assert set(report.targets) == set(targets)
    for target, verdict in report.targets.items():
        assert verdict.flipped == (), target
        assert verdict.parity.shift_max is not None
        assert verdict.parity.score_range is not None
        assert verdict.parity.shift_max <= 1e-3 * verdict.parity.score_range, target
