"""PaDiM from good images to engines: the whole way on small images, and what it finds on real bottles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from edgead.detectors import model_file
from edgead.detectors._presets import PRESETS
from edgead.errors import InputError, UsageError
from edgead.workflows.export import export, installed_defaults
from edgead.workflows.train import train
from edgead.workflows.verify import verify


@pytest.mark.slow
def test_every_engine_is_torch(spine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {**PRESETS["padim"]["config"], "geometry": {"height": 64, "width": 96}}
    monkeypatch.setitem(PRESETS, "padim", {**PRESETS["padim"], "config": config})
    model, bundle = tmp_path / "m", tmp_path / "b.edgead"
    train("padim", spine.data, model)
    _, info = model_file.load(model)
    assert info.provenance["backbone_weights"]["file"].startswith("efficientnet-lite0")
    targets = [target for target in installed_defaults() if target.endswith("fp32")]
    export(model, bundle, calib=spine.data, targets=targets, threads=1)
    report = verify(bundle, spine.data, model=model, min_auroc=0.95, threads=1)
    assert report.passed, report
    for name, verdict in report.targets.items():
        assert verdict.flipped == (), name
        assert verdict.parity.shift_max is not None
        assert verdict.parity.score_range is not None
        assert verdict.parity.shift_max <= 1e-4 * verdict.parity.score_range, name


def test_steps_are_not_silently_ignored(spine: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--steps 5: this detector is fitted in closed form"):
        train("padim", spine.data, tmp_path / "m", steps=5)


def test_a_network_without_finite_scores_is_no_model(
    spine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgead.training import padim

    real = padim.fit

    def poisoned(detector: Any, *args: Any, **options: Any) -> Any:
        found = real(detector, *args, **options)
        for buffer in detector.buffers():
            if buffer.is_floating_point():
                buffer.fill_(torch.nan)
        return found

    monkeypatch.setattr(padim, "fit", poisoned)
    with pytest.raises(InputError, match=r"training diverged, no MODEL was written: .* no finite score for"):
        train("padim", spine.data, tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
@pytest.mark.realdata
def test_broken_bottles_are_found(bottle: Path, tmp_path: Path) -> None:
    for folder, count in {"train/good": 80, "test/good": 8, "test/broken_small": 8}.items():
        (tmp_path / "data" / folder).mkdir(parents=True)
        for path in sorted((bottle / folder).iterdir())[:count]:
            (tmp_path / "data" / folder / path.name).symlink_to(path)
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, 2))
    data, model, bundle = tmp_path / "data", tmp_path / "m", tmp_path / "b.edgead"
    train("padim", data, model)
    export(model, bundle, calib=data, targets=["onnxruntime:fp32"], threads=2)
    report = verify(bundle, data, model=model, min_auroc=0.98, threads=2)
    torch.set_num_threads(threads)
    assert report.passed, report
