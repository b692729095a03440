"""CPR on the spine's small images: train, export with and without the search behind the engine, verify."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgead.bundle.head import WINDOW_SEARCH
from edgead.bundle.reader import open_bundle
from edgead.detectors import model_file
from edgead.detectors._presets import PRESETS
from edgead.detectors.cpr import Cpr
from edgead.errors import UsageError
from edgead.imaging.frame import read_image
from edgead.runtimes.session import Session
from edgead.workflows.export import SEARCH_TARGETS, export, installed_defaults
from edgead.workflows.train import train
from edgead.workflows.verify import verify

SMALL = {
    "detector": "cpr",
    "summary": "80×80, for tests",
    "config": {
        "backbone": "efficientnet_lite0",
        "taps": ["stage2", "stage3"],
        "dim": 8,
        "nearest": 4,
        "top_k": 32,
        "geometry": {"height": 80, "width": 80, "resampler": "opencv_linear"},
    },
    "training": {"steps": 6, "texture_steps": 6, "batch": 2, "save_every": 3},
}


@pytest.fixture(autouse=True)
def _small_preset(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(PRESETS, "small_cpr", SMALL)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.parametrize("bank_type", ["fp16", "int8"])
def test_every_engine_is_torch(
    spine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bank_type: str
) -> None:
    config: dict[str, Any] = {**SMALL["config"], "bank_type": bank_type}  # type: ignore[dict-item]
    monkeypatch.setitem(PRESETS["small_cpr"], "config", config)
    model, bundle = tmp_path / "m", tmp_path / "b.edgead"
    trained = train("small_cpr", spine.data, model)
    detector, _ = model_file.load(model)
    assert isinstance(detector, Cpr)
    assert detector.config.references == trained.trained
    assert detector.bank0.dtype == {"fp16": torch.float16, "int8": torch.int8}[bank_type]

    report = export(model, bundle, calib=spine.data, threads=1, accept=True)
    assert list(report.targets) == list(installed_defaults(search=WINDOW_SEARCH))
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["post"]["score_rule"] == "top_k_sum"
    assert (manifest["post"]["top_k"], manifest["post"]["upsample"]) == (32, "none")
    heads = {entry["target"]: entry.get("head") for entry in manifest["targets"]}
    assert heads["onnxruntime:fp32"] is None
    for name in set(SEARCH_TARGETS[WINDOW_SEARCH]) & set(heads):
        assert heads[name]["bank_type"] == bank_type
        assert heads[name]["references"] == trained.trained

    verified = verify(bundle, spine.data, model=model, threads=1)
    for name, verdict in verified.targets.items():
        if name.endswith("fp32"):
            assert verdict.parity.shift_max is not None
            assert verdict.parity.score_range is not None
            assert verdict.parity.shift_max <= 1e-4 * verdict.parity.score_range, name
            assert verdict.flipped == (), name


@pytest.mark.slow
def test_both_drivers_search_alike(spine: Any, tmp_path: Path) -> None:
    target = SEARCH_TARGETS[WINDOW_SEARCH][0]
    if target not in installed_defaults(search=WINDOW_SEARCH):
        pytest.skip("OpenVINO is not installed")
    model, bundle = tmp_path / "m", tmp_path / "b.edgead"
    train("small_cpr", spine.data, model)
    export(model, bundle, calib=spine.data, targets=[target], threads=1, accept=True)
    frame = read_image(next((spine.data / "test" / "spot").iterdir()))
    found = {}
    for runtime in ("native", "python"):
        with (
            open_bundle(bundle) as opened,
            Session.open(opened, target=target, runtime=runtime, threads=1) as session,  # type: ignore[arg-type]
        ):
            assert session.runtime == runtime
            found[runtime] = session.predict(frame)
    assert found["native"].score_raw == found["python"].score_raw
    np.testing.assert_array_equal(found["native"].anomaly_map, found["python"].anomaly_map)


def test_a_detector_without_a_search_refuses_its_targets(spine: Any, tmp_path: Path) -> None:
    target = SEARCH_TARGETS[WINDOW_SEARCH][0]
    if target not in installed_defaults(search=WINDOW_SEARCH):
        pytest.skip("OpenVINO is not installed")
    with pytest.raises(UsageError, match="no window_search head"):
        export(spine.model, tmp_path / "b.edgead", calib=spine.data, targets=[target])
    assert not (tmp_path / "b.edgead").exists()
