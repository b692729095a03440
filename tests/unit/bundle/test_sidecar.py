from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from edgead.bundle import sidecar
from edgead.bundle.hashes import sha256_bytes
from edgead.errors import BundleError, OutputError, UsageError
from edgead.types import Thresholds

DIGEST = sha256_bytes(b"this bundle")
LOW = Thresholds(image=2.0, pixel=3.0, image_median=1.0, pixel_median=1.5, method={"set": 2.0})
HIGH = dataclasses.replace(LOW, image=5.0)


def test_set_read_and_go_back(tmp_path: Path) -> None:
    bundle = tmp_path / "solar.edgead"
    assert sidecar.read(bundle, DIGEST) == {}
    path = sidecar.write(bundle, DIGEST, "openvino:fp32", LOW)
    assert path == tmp_path / "solar.edgead.thresholds.json"
    assert path.stat().st_mode & 0o777 == 0o644
    sidecar.write(bundle, DIGEST, "onnxruntime:fp32", HIGH)
    entries = sidecar.read(bundle, DIGEST)
    assert {name: entry.thresholds for name, entry in entries.items()} == {
        "openvino:fp32": LOW,
        "onnxruntime:fp32": HIGH,
    }
    assert entries["openvino:fp32"].set_by.startswith("edgead ")
    assert sidecar.remove(bundle, DIGEST, "openvino:fp32")
    assert not sidecar.remove(bundle, DIGEST, "openvino:fp32")
    assert list(sidecar.read(bundle, DIGEST)) == ["onnxruntime:fp32"]
    assert sidecar.remove(bundle, DIGEST)
    assert not sidecar.remove(bundle, DIGEST)
    assert not list(tmp_path.iterdir())


def test_removing_the_last_target_removes_the_file(tmp_path: Path) -> None:
    sidecar.write(tmp_path / "b", DIGEST, "openvino:fp32", LOW)
    assert sidecar.remove(tmp_path / "b", DIGEST, "openvino:fp32")
    assert not list(tmp_path.iterdir())


def test_another_bundles_thresholds_are_refused(tmp_path: Path) -> None:
    path = sidecar.write(tmp_path / "b", DIGEST, "openvino:fp32", LOW)
    other = sha256_bytes(b"another bundle")
    for use in (
        lambda: sidecar.read(tmp_path / "b", other),
        lambda: sidecar.write(tmp_path / "b", other, "openvino:fp32", LOW),
        lambda: sidecar.remove(tmp_path / "b", other, "openvino:fp32"),
    ):
        with pytest.raises(
            BundleError, match=f"was set for another bundle \\({DIGEST}, this one is {other}\\)"
        ):
            use()
    assert path.exists()
    assert sidecar.remove(tmp_path / "b", other)


def test_a_link_to_a_bundle_shares_its_thresholds(tmp_path: Path) -> None:
    (tmp_path / "v2.edgead").mkdir()
    (tmp_path / "current").symlink_to("v2.edgead")
    assert sidecar.path_for(tmp_path / "current") == tmp_path / "v2.edgead.thresholds.json"


def test_the_working_directory_may_be_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b.edgead").mkdir()
    monkeypatch.chdir(tmp_path / "b.edgead")
    assert sidecar.path_for(Path()) == tmp_path / "b.edgead.thresholds.json"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": 1.0}, "image threshold 1 is not above the median 1 of good images; choose a higher one"),
        ({"pixel": 0.0}, "pixel threshold 0 is not above the median 1.5"),
        ({"image": float("nan")}, "image threshold nan or its median 1.0 is not finite"),
        ({"pixel_median": float("-inf")}, "is not finite"),
    ],
)
def test_thresholds_that_cannot_decide(changes: dict[str, float], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        sidecar.write(tmp_path / "b", DIGEST, "openvino:fp32", dataclasses.replace(LOW, **changes))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("schema", 99, "schema 99 was made by a newer edgead; upgrade"),
        ("bundle", 3, "bundle is 3, must be a string"),
        ("targets", {}, "targets is {}, must be an array"),
        ("targets", [{}], r"targets\[0\]: the field 'target' is missing"),
    ],
)
def test_a_damaged_side_car_says_what_is_wrong(
    field: str, value: object, message: str, tmp_path: Path
) -> None:
    path = sidecar.write(tmp_path / "b", DIGEST, "openvino:fp32", LOW)
    tree = json.loads(path.read_bytes())
    path.write_text(json.dumps({**tree, field: value}))
    with pytest.raises(BundleError, match=r"b\.thresholds\.json: " + message):
        sidecar.read(tmp_path / "b", DIGEST)


@pytest.mark.parametrize("key", ["image", "set"])
def test_a_side_car_with_impossible_values_is_refused(key: str, tmp_path: Path) -> None:
    path = sidecar.write(tmp_path / "b", DIGEST, "openvino:fp32", LOW)
    tree = json.loads(path.read_bytes())
    if key == "image":
        tree["targets"][0]["thresholds"]["image"] = 0.5
    else:
        tree["targets"][0]["set"] = "yesterday"
    path.write_text(json.dumps(tree))
    with pytest.raises(BundleError, match=r"openvino:fp32: (image threshold 0\.5|date 'yesterday')"):
        sidecar.read(tmp_path / "b", DIGEST)


def test_a_huge_side_car_is_not_read(tmp_path: Path) -> None:
    sidecar.path_for(tmp_path / "b").write_bytes(b" " * (2 << 20))
    with pytest.raises(BundleError, match="more than the limit of 1,048,576"):
        sidecar.read(tmp_path / "b", DIGEST)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        sidecar.write(tmp_path / "missing" / "b", DIGEST, "openvino:fp32", LOW)


def test_a_failed_write_keeps_the_old_thresholds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sidecar.write(tmp_path / "b", DIGEST, "openvino:fp32", LOW)

    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        sidecar.write(tmp_path / "b", DIGEST, "openvino:fp32", HIGH)
    monkeypatch.undo()
    assert sidecar.read(tmp_path / "b", DIGEST)["openvino:fp32"].thresholds == LOW
    assert [path.name for path in tmp_path.iterdir()] == ["b.thresholds.json"]
