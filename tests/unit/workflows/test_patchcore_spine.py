"""PatchCore from images to a verified bundle: every engine, with libedgead's search and without, is torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgead.bundle.head import BANK_SEARCH
from edgead.bundle.reader import open_bundle
from edgead.detectors import model_file
from edgead.detectors._presets import PRESETS
from edgead.detectors.patchcore import PatchCore
from edgead.errors import EngineError, UsageError
from edgead.imaging.frame import read_image
from edgead.runtimes._registry import runtime_for
from edgead.runtimes.session import Session
from edgead.types import Target
from edgead.workflows.export import SEARCH_TARGETS, export, installed_defaults
from edgead.workflows.train import train
from edgead.workflows.verify import verify

SMALL: dict[str, Any] = {
    "detector": "patchcore",
    "summary": "96×96, for tests",
    "config": {
        "backbone": "efficientnet_lite0",
        "taps": ["stage3", "stage5"],
        "geometry": {"height": 96, "width": 96},
    },
    "training": {"share": 0.2, "projection": 32},
}
SEARCHED = SEARCH_TARGETS[BANK_SEARCH][0]


@pytest.fixture(autouse=True)
def _small_preset(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(PRESETS, "small_patchcore", SMALL)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.parametrize("neighbours", [0, 3])
def test_every_engine_is_torch(
    spine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, neighbours: int
) -> None:
    monkeypatch.setitem(PRESETS["small_patchcore"], "config", SMALL["config"] | {"neighbours": neighbours})
    model, bundle = tmp_path / "m", tmp_path / "b.edgead"
    train("small_patchcore", spine.data, model)
    detector, _ = model_file.load(model)
    assert isinstance(detector, PatchCore)
    assert detector.config.vectors == len(detector.bank) > 100

    eight = ["openvino+bank_search:int8", "onnxruntime+bank_search:int8"]
    targets = [*installed_defaults(search=BANK_SEARCH), "onnxruntime+bank_search:fp32", *eight]
    report = export(model, bundle, calib=spine.data, targets=targets, threads=1, accept=True)
    assert list(report.targets) == targets
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["post"]["score_rule"] == ("graph" if neighbours else "max_grid")
    heads = {entry["target"]: entry.get("head") for entry in manifest["targets"]}
    assert heads["onnxruntime:fp32"] is None
    assert heads["onnxruntime+bank_search:fp32"]["vectors"] == detector.config.vectors
    assert heads["onnxruntime+bank_search:fp32"]["neighbours"] == neighbours

    table = json.loads((bundle / "reports" / "int8_calibration.json").read_text())
    assert list(table["graphs"]) == ["graph.onnx", "heads/bank_search/query.onnx"]

    verified = verify(bundle, spine.data, model=model, threads=1)
    for name in eight:
        parity = verified.targets[name].parity
        assert parity.score_range is not None
        assert 0 < parity.shift_p50 < 0.15 * parity.score_range
        assert heads[name] == heads["onnxruntime+bank_search:fp32"]
    for name, verdict in verified.targets.items():
        if name.endswith("fp32"):
            assert verdict.parity.shift_max is not None
            assert verdict.parity.score_range is not None
            assert verdict.parity.shift_max <= 1e-4 * verdict.parity.score_range, name
            assert verdict.flipped == (), name

    if SEARCHED not in targets:
        return
    frame = read_image(next((spine.data / "test" / "spot").iterdir()))
    found = {}
    for runtime in ("native", "python"):
        with (
            open_bundle(bundle) as opened,
            Session.open(opened, target=SEARCHED, runtime=runtime, threads=1) as session,  # type: ignore[arg-type]
        ):
            assert session.runtime == runtime
            found[runtime] = session.predict(frame)
    assert found["native"].score_raw == found["python"].score_raw
    np.testing.assert_array_equal(found["native"].anomaly_map, found["python"].anomaly_map)

    query = bundle / "heads" / "bank_search" / "query.onnx"
    bank = query.with_name("bank.f32")
    whole = bank.read_bytes()
    bank.write_bytes(whole[:-4])
    target = Target("onnxruntime+bank_search", "fp32")
    with pytest.raises(EngineError, match=r"bank\.f32 has .* bytes, its shape asks for"):
        runtime_for(target.engine).open(query, target)
    bank.write_bytes(np.array([np.nan], "<f4").tobytes() + whole[4:])
    with pytest.raises(EngineError, match="vector 0 of the bank holds nan"):
        runtime_for(target.engine).open(query, target)
    query.with_name("head.json").unlink()
    with pytest.raises(UsageError, match=r"head\.json does not exist"):
        runtime_for(target.engine).open(query, target)


def test_a_detector_without_a_bank_refuses_its_targets(spine: Any, tmp_path: Path) -> None:
    target = "onnxruntime+bank_search:fp32"
    with pytest.raises(UsageError, match="no bank_search head"):
        export(spine.model, tmp_path / "b.edgead", calib=spine.data, targets=[target])
    assert not (tmp_path / "b.edgead").exists()
