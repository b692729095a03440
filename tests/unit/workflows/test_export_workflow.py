"""What `export` writes, read back and computed again by other means."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgead.bundle.reader import open_bundle
from edgead.errors import (
    DatasetError,
    EngineError,
    GateFailed,
    LeakageError,
    OutputError,
    RuntimeMissingError,
    UsageError,
)
from edgead.imaging.frame import read_image
from edgead.runtimes._base import RawOutput
from edgead.runtimes.ort_runtime import OnnxRuntime
from edgead.runtimes.session import Session
from edgead.workflows import _gates
from edgead.workflows._evidence import ThresholdChoice
from edgead.workflows.export import export, installed_defaults

ORT = "onnxruntime:fp32"


def sha256(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_report_is_what_stands_in_the_bundle(spine: Any) -> None:
    report = spine.report
    assert list(report.targets) == list(installed_defaults())
    assert (report.held_out, report.trained_on, report.skipped) == (10, 14, ())
    assert report.digest == sha256(spine.bundle / "MANIFEST.sha256")
    for name, target in report.targets.items():
        assert target.failures == ()
        if name.endswith("fp32"):
            assert target.parity.flipped == ()
            assert target.parity.shift_max <= 1e-4 * target.parity.score_range
    assert report.graph.images == 14  # 10 held-out images, 4 golden ones
    assert report.graph.score_shift_max <= 1e-4 * report.graph.score_range
    written = json.loads((spine.bundle / "reports" / "export.json").read_text())
    assert {name: (entry["flips"], entry["failures"]) for name, entry in written.items()} == {
        name: (len(target.parity.flipped), []) for name, target in report.targets.items()
    }
    with open_bundle(spine.bundle) as bundle:
        assert bundle.targets == tuple(report.targets)
        for name, target in report.targets.items():
            entry = bundle.entry(name)
            assert entry.thresholds == target.thresholds
            assert target.size_bytes == sum((bundle.root / file).stat().st_size for file in entry.files)


def test_the_manifest_says_where_the_bundle_comes_from(spine: Any) -> None:
    manifest = json.loads((spine.bundle / "manifest.json").read_text())
    origin = manifest["provenance"]
    good = {sha256(path) for path in (spine.data / "train" / "good").iterdir()}
    assert len(origin["train"]) == 14
    assert len(origin["held_out"]) == 10
    assert {*origin["train"], *origin["held_out"]} == good
    assert origin["calibration"] == origin["validation"] == []
    assert origin["model"] == sha256(spine.model / "model.safetensors")
    assert origin["seeds"] == {"train": 0}
    assert {"edgead", "onnx", "onnxruntime", "openvino", "torch"} <= origin["tools"].keys()
    assert manifest["detector"]["preset"] == "simplenet"
    assert [target["target"] for target in manifest["targets"]] == list(spine.report.targets)
    assert not list(spine.bundle.parent.glob(".*")), "no temporary folder stays"


def test_thresholds_are_the_formula_on_each_targets_own_scores(spine: Any) -> None:
    """10 images at 1 %: highest + ln(1/(10·0.01)) × mean excess of the top 3 over the fourth.

    But a reduced precision decides images as the MODEL does.
    """
    manifest = json.loads((spine.bundle / "manifest.json").read_text())
    files = {sha256(path): path for path in (spine.data / "train" / "good").iterdir()}
    with open_bundle(spine.bundle) as bundle:
        for entry in manifest["targets"]:
            with Session.open(bundle, entry["target"], threads=2) as session:
                raw = [session.scores(read_image(files[name])) for name in manifest["provenance"]["held_out"]]
                values = {
                    "image": sorted(one.score_raw for one in raw),
                    "pixel": sorted(one.map_max for one in raw),
                }
            for kind, scores in values.items():
                excess = sum(scores[-3:]) / 3 - scores[-4]
                wanted = scores[-1] + math.log(1 / (10 * 0.01)) * excess
                if kind == "image" and entry["precision"] != "fp32":
                    assert entry["thresholds"]["method"]["image"]["rule"] == "carried_over"
                else:
                    assert entry["thresholds"][kind] == pytest.approx(wanted, rel=1e-5)
                median = statistics.median(scores)
                assert entry["thresholds"][f"{kind}_median"] == pytest.approx(median, rel=1e-5)


def test_golden_images_are_what_the_network_saw_of_held_out_images(spine: Any) -> None:
    manifest = json.loads((spine.bundle / "manifest.json").read_text())
    golden = manifest["golden"]
    assert [image["kind"] for image in golden] == ["good", "good", "synthetic_defect", "synthetic_defect"]
    held_out = {
        np.asarray(Image.open(path).resize((256, 256), Image.Resampling.BILINEAR)).tobytes()
        for path in (spine.data / "train" / "good").iterdir()
        if sha256(path) in manifest["provenance"]["held_out"]
    }
    pixels = [np.asarray(Image.open(spine.bundle / image["file"])) for image in golden]
    assert {image.tobytes() for image in pixels[:2]} <= held_out
    for good, defect in zip(pixels[:2], pixels[2:], strict=True):
        assert 0 < (good != defect).any(axis=2).mean() < 0.25
    for image in golden:
        assert [expected["target"] for expected in image["expected"]] == list(spine.report.targets)
        for expected in image["expected"]:
            values = np.fromfile(spine.bundle / expected["map_file"], "<f4")
            assert values.size == 256 * 256
            assert np.isfinite(values).all()


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ((), "no target"),
        (("openvino",), "<engine>:<precision>"),
        (("openvino:fp32", "onnxruntime:fp32", "openvino:fp32"), "openvino:fp32 is named twice"),
        (("openvinoo:fp32",), "no exporter for engine 'openvinoo'"),
        (("onnxruntime:bf16",), "onnxruntime:bf16: onnxruntime targets come in fp32, fp16, int8"),
        (("null:fp32",), "no exporter for engine 'null'"),
    ],
)
def test_targets_are_checked_before_any_work(targets: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        export(tmp_path / "no.model", tmp_path / "b.edgead", calib=tmp_path / "none", targets=targets)


def test_an_engine_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(RuntimeMissingError, match=r"openvino:fp32.*pip install 'edgead\[openvino\]'"):
        export(tmp_path / "no.model", tmp_path / "b", calib=tmp_path, targets=["openvino:fp32"])
    assert installed_defaults() == (ORT,)


def test_a_missed_gate_writes_nothing_unless_accepted(
    spine: Any, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit below zero is what rounding, and even identity, cannot meet."""
    monkeypatch.setitem(_gates.GATES, "fp32", _gates.Gate(flips=0.0, score_shift=-1.0, auroc_drop=0.0))
    bundle = tmp_path / "b.edgead"
    with pytest.raises(GateFailed, match=r"onnxruntime:fp32: a score moved by .*--accept"):
        export(tiny_model, bundle, calib=spine.data, targets=[ORT])
    assert list(tmp_path.iterdir()) == []
    report = export(tiny_model, bundle, calib=spine.data, targets=[ORT], accept=True)
    assert "a score moved by" in report.targets[ORT].failures[0]
    written = json.loads((bundle / "reports" / "export.json").read_text())
    assert written[ORT]["failures"] == list(report.targets[ORT].failures)


def test_an_engine_that_overflows_is_named(
    spine: Any, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = OnnxRuntime.infer_impl

    def overflow(self: OnnxRuntime, image: Any) -> RawOutput:
        return RawOutput(whole(self, image).anomaly_map * np.float32(np.nan))

    monkeypatch.setattr(OnnxRuntime, "infer_impl", overflow)
    with pytest.raises(EngineError, match="onnxruntime:fp32 gives no finite score for 14 of 14 images"):
        export(tiny_model, tmp_path / "b.edgead", calib=spine.data, targets=[ORT])
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def validation(spine: Any, tmp_path: Path) -> Path:
    """The spine's test images as validation data, and nobody's test images."""
    root = tmp_path / "validation"
    root.mkdir()
    (root / "test").symlink_to(spine.data / "test")
    return root


def test_labelled_images_choose_the_threshold(spine: Any, validation: Path, tmp_path: Path) -> None:
    """The simplenet MODEL parts the 6 from the 6: F1 is 1 midway between; recall 4/6 is a higher limit."""
    report = export(
        spine.model,
        tmp_path / "a.edgead",
        calib=spine.data,
        targets=[ORT],
        choice=ThresholdChoice(validation=validation, recall=0.6),
        threads=2,
    )
    limits = report.targets[ORT].thresholds
    with open_bundle(tmp_path / "a.edgead") as bundle, Session.open(bundle, threads=2) as session:
        scores = {
            kind: sorted(
                session.predict(read_image(path)).score_raw for path in (spine.data / "test" / kind).iterdir()
            )
            for kind in ("good", "spot")
        }
        hashes = {sha256(path) for path in (spine.data / "test").rglob("*.png")}
        assert set(bundle.manifest.provenance.validation) == hashes
    assert scores["spot"][0] > scores["good"][-1]
    assert limits.image == pytest.approx((scores["spot"][1] + scores["spot"][2]) / 2, rel=1e-6)
    method = limits.method["image"]
    assert isinstance(method, dict)
    assert (method["rule"], method["recall"]) == ("recall", pytest.approx(4 / 6))


def test_validation_images_that_were_trained_on_are_refused(
    spine: Any, tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "leaky" / "test" / "good"
    folder.mkdir(parents=True)
    for path in (spine.data / "train" / "good").iterdir():
        (folder / f"renamed_{path.name}").write_bytes(path.read_bytes())
    with pytest.raises(LeakageError, match=r"24 of 24 test images .*train"):
        export(
            tiny_model,
            tmp_path / "b.edgead",
            calib=spine.data,
            targets=[ORT],
            choice=ThresholdChoice(validation=tmp_path / "leaky"),
        )
    assert not (tmp_path / "b.edgead").exists()


def test_calibration_images_that_were_all_trained_on(spine: Any, tiny_model: Path, tmp_path: Path) -> None:
    trained = set(json.loads((tiny_model / "model.json").read_text())["provenance"]["train_hashes"])
    calib = tmp_path / "calib"
    calib.mkdir()
    for path in (spine.data / "train" / "good").iterdir():
        if sha256(path) in trained:
            (calib / path.name).write_bytes(path.read_bytes())
    with pytest.raises(LeakageError, match="all 14 calibration images"):
        export(tiny_model, tmp_path / "b.edgead", calib=calib, targets=[ORT])
    with pytest.raises(DatasetError, match="only 'good' can be taken for good images"):
        export(tiny_model, tmp_path / "b.edgead", calib=spine.data / "test", targets=[ORT])
    assert not (tmp_path / "b.edgead").exists()


def test_zip_form_and_what_may_be_overwritten(spine: Any, tiny_model: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "b.edgead"
    report = export(tiny_model, bundle, calib=spine.data, targets=[ORT], form="zip")
    with zipfile.ZipFile(bundle) as archive:
        assert {"manifest.json", "graph.onnx", "MANIFEST.sha256"} <= set(archive.namelist())
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    with open_bundle(bundle) as opened:
        assert opened.digest == report.digest
    before = bundle.read_bytes()
    with pytest.raises(OutputError, match="exists"):
        export(tiny_model, bundle, calib=spine.data, targets=[ORT])
    assert bundle.read_bytes() == before
    export(tiny_model, bundle, calib=spine.data, targets=[ORT], overwrite=True)
    assert (bundle / "manifest.json").is_file(), "a zip gave way to a folder"
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    with pytest.raises(OutputError, match="not a bundle"):
        export(tiny_model, other, calib=spine.data, targets=[ORT], overwrite=True)
    assert other.read_text() == "mine"


def test_a_default_target_of_reduced_precision_over_its_gate_is_left_out(
    tiny_model: Path, tmp_path: Path, spine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "openvino:bf16" not in installed_defaults():
        pytest.skip("this CPU has no bf16")
    strict = _gates.Gate(flips=0.0, score_shift=0.0, auroc_drop=0.0)
    monkeypatch.setitem(_gates.GATES, "bf16", strict)
    report = export(tiny_model, tmp_path / "b.edgead", calib=spine.data)
    assert list(report.targets) == ["openvino:fp32", "onnxruntime:fp32"]
    with open_bundle(tmp_path / "b.edgead") as bundle:
        assert bundle.targets == ("openvino:fp32", "onnxruntime:fp32")
    with pytest.raises(GateFailed, match="openvino:bf16"):
        export(tiny_model, tmp_path / "c.edgead", calib=spine.data, targets=["openvino:bf16"])
