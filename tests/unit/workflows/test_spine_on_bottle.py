"""The spine on real photographs, in small: train on 40 good bottles, hold every engine against torch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgead.detectors._presets import PRESETS
from edgead.workflows.export import export, installed_defaults
from edgead.workflows.train import train
from edgead.workflows.verify import verify


@pytest.mark.slow
@pytest.mark.realdata
def test_engines_are_torch_on_bottles(bottle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, count in {
        "train/good": 40,
        "test/good": 8,
        "test/broken_large": 6,
        "test/contamination": 6,
        "ground_truth/broken_large": 6,
        "ground_truth/contamination": 6,
    }.items():
        (tmp_path / "data" / folder).mkdir(parents=True)
        for path in sorted((bottle / folder).iterdir())[:count]:
            (tmp_path / "data" / folder / path.name).symlink_to(path)
    short = {**PRESETS["simplenet"]["training"], "meta_epochs": 2, "steps": 20}
    monkeypatch.setitem(PRESETS, "simplenet", {**PRESETS["simplenet"], "training": short})
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, 2))
    data, model, bundle = tmp_path / "data", tmp_path / "m", tmp_path / "b.edgead"
    train("simplenet", data, model)
    targets = [target for target in installed_defaults() if target.endswith("fp32")]
    export(model, bundle, calib=data, targets=targets, threads=2)
    report = verify(bundle, data, model=model, min_auroc=0.98, threads=2)
    torch.set_num_threads(threads)
    assert report.passed, report
    assert (report.images, report.good, report.without_mask) == (20, 8, 0)
    assert report.reference.pixel_auroc is not None
    assert report.reference.pixel_auroc > 0.8
    for verdict in report.targets.values():
        assert verdict.flipped == ()
        assert verdict.parity.shift_max is not None
        assert verdict.parity.score_range is not None
        assert verdict.parity.shift_max <= 1e-4 * verdict.parity.score_range
