"""`verify`: parity on images that nothing was fitted on, and everything that must fail it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgead.bundle.reader import open_bundle
from edgead.errors import LeakageError, RuntimeMissingError, UsageError
from edgead.imaging.frame import read_image
from edgead.runtimes.session import Session
from edgead.workflows._gates import au_pro_failures
from edgead.workflows.verify import VerifyReport, verify

ORT = "onnxruntime:fp32"


@pytest.fixture(scope="module")
def against_torch(spine: Any) -> VerifyReport:
    return verify(spine.bundle, spine.data, model=spine.model, threads=2)


def test_fp32_engines_are_torch(against_torch: VerifyReport) -> None:
    assert (against_torch.kind, against_torch.images, against_torch.good) == ("torch", 12, 6)
    assert against_torch.reference.image_auroc == 1.0
    for name, verdict in against_torch.targets.items():
        assert verdict.parity.shift_max is not None
        assert verdict.parity.score_range is not None
        share = verdict.parity.shift_max / verdict.parity.score_range
        if name.endswith("fp32"):
            assert verdict.passed
            assert verdict.flipped == ()
            assert share <= 1e-4
        else:
            assert 1e-4 < share < 0.5, "bf16 differs, or it did not run as bf16"


def test_json_has_the_documented_fields(against_torch: VerifyReport, spine: Any) -> None:
    values = json.loads(json.dumps(against_torch.to_json(), allow_nan=False))
    assert values["passed"] is all(target["passed"] for target in values["targets"].values())
    assert values["reference"]["kind"] == "torch"
    assert set(values["targets"]) == set(spine.report.targets)
    for name, target in values["targets"].items():
        assert {"passed", "image_auroc", "pixel_auroc", "au_pro", "flips", "images"} <= target.keys()
        assert {"score_shift", "score_range"} <= target.keys()
        assert set(target["score_shift"]) == {"p50", "p99", "max"}
        assert target["score_shift"]["p50"] <= target["score_shift"]["p99"] <= target["score_shift"]["max"]
        assert (target["images"], target["image_auroc"]) == (12, 1.0)
        # bf16 may turn an image that lies at the threshold; the gate allows a few, and says them.
        assert target["flips"] == 0 or not name.endswith("fp32")


def test_figures_are_those_of_single_predictions(against_torch: VerifyReport, spine: Any) -> None:
    """Range and AUROC again, image by image, the AUROC by counting pairs."""
    scores: dict[str, list[float]] = {"good": [], "spot": []}
    with open_bundle(spine.bundle) as bundle, Session.open(bundle, ORT, threads=2) as session:
        for kind, values in scores.items():
            for path in sorted((spine.data / "test" / kind).iterdir()):
                values.append(session.predict(read_image(path)).score_raw)
    everything = scores["good"] + scores["spot"]
    parity = against_torch.targets[ORT].parity
    assert parity.score_range == pytest.approx(max(everything) - min(everything), rel=1e-4)
    pairs = [bad > good for bad in scores["spot"] for good in scores["good"]]
    assert against_torch.targets[ORT].accuracy.image_auroc == sum(pairs) / len(pairs)


def test_the_graph_is_the_reference_where_no_model_is_given(spine: Any) -> None:
    report = verify(spine.bundle, spine.data, targets=[ORT], threads=2)
    assert (report.kind, list(report.targets)) == ("onnx", [ORT])
    assert report.targets[ORT].parity.shift_max == 0.0, "the same file in the same engine"


def replace_tail(root: Path, manifest: dict[str, Any], factor: float) -> None:
    """Gives onnxruntime:fp32 a graph of its own, whose raw values are multiplied; graph.onnx stays."""
    model = onnx.load(root / "graph.onnx")
    (tail,) = (one for one in model.graph.initializer if one.name == model.graph.node[-1].input[1])
    tail.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tail) * np.float32(factor), tail.name))
    (root / "targets" / "off").mkdir(parents=True)
    onnx.save(model, root / "targets" / "off" / "graph.onnx")
    for entry in manifest["targets"]:
        if entry["target"] == ORT:
            entry["main_file"] = "targets/off/graph.onnx"
            entry["files"] = ["targets/off/graph.onnx"]


def test_an_engine_that_is_off_fails(spine: Any, altered: Any) -> None:
    bundle = altered(lambda root, manifest: replace_tail(root, manifest, 1.01))
    report = verify(bundle, spine.data, targets=[ORT], threads=2)
    assert not report.passed
    assert any("a score moved by" in text for text in report.targets[ORT].failures)
    assert report.targets[ORT].accuracy.image_auroc == 1.0, "the accuracy alone would not have told"


def test_an_engine_without_numbers_fails_and_is_not_an_error_of_the_input(spine: Any, altered: Any) -> None:
    bundle = altered(lambda root, manifest: replace_tail(root, manifest, float("nan")))
    report = verify(bundle, spine.data, targets=[ORT], threads=2)
    assert not report.passed
    assert "12 of 12 images have no finite score" in report.targets[ORT].failures
    assert report.targets[ORT].accuracy.image_auroc is None
    json.dumps(report.to_json(), allow_nan=False)


def test_a_threshold_that_is_off_flips_decisions(spine: Any, altered: Any) -> None:
    def change(root: Path, manifest: dict[str, Any]) -> None:
        for entry in manifest["targets"]:
            if entry["target"] == ORT:
                entry["thresholds"]["image"] = 1e6

    report = verify(altered(change), spine.data, targets=[ORT], threads=2)
    verdict = report.targets[ORT]
    assert not report.passed
    assert [path.parent.name for path in verdict.flipped].count("spot") == 6
    assert verdict.failures == (f"{len(verdict.flipped)} of 12 decisions flipped, 0 allowed",)
    assert verdict.accuracy.operating.recall == 0.0


@pytest.fixture
def swapped(spine: Any, tmp_path: Path) -> Path:
    """Test images with their labels exchanged: the worst detector there can be."""
    root = tmp_path / "swapped"
    shutil.copytree(spine.data / "test" / "spot", root / "test" / "good")
    shutil.copytree(spine.data / "test" / "good", root / "test" / "spot")
    return root


def test_an_absolute_bar(spine: Any, swapped: Path) -> None:
    report = verify(spine.bundle, swapped, targets=[ORT], min_auroc=0.5, threads=2)
    assert report.targets[ORT].failures == ("image AUROC is 0.0000, at least 0.5 was asked for",)
    assert report.without_mask == 6
    assert report.targets[ORT].accuracy.pixel_auroc is None
    assert verify(spine.bundle, spine.data, targets=[ORT], min_auroc=1.0, threads=2).passed


@pytest.mark.parametrize("bar", [-0.1, 1.01, 99.0, float("nan")])
def test_a_bar_that_is_no_auroc(spine: Any, bar: float) -> None:
    with pytest.raises(UsageError, match="from 0 to 1"):
        verify(spine.bundle, spine.data, min_auroc=bar)


def test_one_class_only_has_no_auroc(spine: Any, tmp_path: Path) -> None:
    shutil.copytree(spine.data / "test" / "good", tmp_path / "data" / "test" / "good")
    report = verify(spine.bundle, tmp_path / "data", targets=[ORT], threads=2)
    assert report.passed
    assert report.reference.image_auroc is None
    report = verify(spine.bundle, tmp_path / "data", targets=[ORT], min_auroc=0.9, threads=2)
    assert report.targets[ORT].failures == ("image AUROC is unknown (no labels), at least 0.9 was asked for",)


def test_another_training_is_no_reference(spine: Any, tiny_model: Path) -> None:
    with pytest.raises(UsageError, match=r"was not made from .*tiny\.model"):
        verify(spine.bundle, spine.data, model=tiny_model)


@pytest.mark.parametrize("used", ["train", "held_out"])
def test_images_that_were_used_before_are_refused(spine: Any, tmp_path: Path, used: str) -> None:
    import hashlib

    hashes = json.loads((spine.bundle / "manifest.json").read_text())["provenance"][used]
    known = next(
        path
        for path in sorted((spine.data / "train" / "good").iterdir())
        if "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest() in hashes
    )
    shutil.copytree(spine.data / "test", tmp_path / "data" / "test")
    shutil.copy(known, tmp_path / "data" / "test" / "good" / "innocent.png")
    use = {"train": "training", "held_out": "thresholds"}[used]
    with pytest.raises(LeakageError, match=rf"1 of 13 test images.*innocent\.png \({use}\)"):
        verify(spine.bundle, tmp_path / "data")


def test_a_target_that_is_not_there(spine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    with pytest.raises(UsageError, match="has no target tensorrt:fp16"):
        verify(spine.bundle, spine.data, targets=["tensorrt:fp16"])
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setenv("EDGEAD_OPENVINO_LIBRARY", "/none/libopenvino_c.so")
    with pytest.raises(RuntimeMissingError, match=r"pip install 'edgead\[openvino\]'"):
        verify(spine.bundle, spine.data, targets=["openvino:fp32"])


def test_a_lost_au_pro_is_over_the_gate() -> None:
    """0.5 points may be lost in reduced precision, nothing that rounding does not explain in fp32."""
    assert list(au_pro_failures(0.93, 0.9251, "int8")) == []
    (failure,) = au_pro_failures(0.93, 0.9249, "bf16")
    assert failure == "AU-PRO fell from 0.9300 to 0.9249, a loss of 0.005 is allowed"
    assert list(au_pro_failures(0.93, 0.9298, "fp32")) != []
    assert list(au_pro_failures(None, 0.5, "int8")) == list(au_pro_failures(0.5, None, "int8")) == []
