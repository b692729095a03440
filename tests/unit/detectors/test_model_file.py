from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from edgead.detectors import model_file
from edgead.detectors.model_file import ModelInfo
from edgead.detectors.simplenet import SimpleNet, SimpleNetConfig
from edgead.errors import ModelError, OutputError
from edgead.types import Geometry

HASHES = ["sha256:" + digit * 64 for digit in "ab"]


@pytest.fixture
def detector() -> SimpleNet:
    torch.manual_seed(5)
    return SimpleNet(
        SimpleNetConfig(
            backbone="efficientnet_lite0",
            taps=("stage1", "stage2"),
            tap_dim=16,
            embedding_dim=12,
            hidden_dim=6,
            geometry=Geometry(height=32, width=32, roi=(0, 0, 5, 5)),
        )
    ).eval()


@pytest.fixture
def info(detector: SimpleNet) -> ModelInfo:
    return ModelInfo(
        detector="simplenet",
        preset="simplenet",
        config=detector.config_dict(),
        provenance={"kind": "trained", "train_hashes": HASHES[:1], "reserved_hashes": HASHES[1:]},
        created="2026-11-23T14:35:56Z",
        created_by="edgead test",
    )


@pytest.fixture
def model(tmp_path: Path, detector: SimpleNet, info: ModelInfo) -> Path:
    model_file.save(tmp_path / "m.model", detector, info)
    return tmp_path / "m.model"


def test_a_model_comes_back_as_it_was(model: Path, detector: SimpleNet, info: ModelInfo) -> None:
    loaded, found = model_file.load(model)
    assert isinstance(loaded, SimpleNet)
    assert not loaded.training
    assert loaded.config == detector.config
    assert found.preset == info.preset
    assert (found.train_hashes, found.reserved_hashes) == ((HASHES[0],), (HASHES[1],))
    image = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(loaded(image).anomaly_map, detector(image).anomaly_map)
    assert sorted(path.name for path in model.iterdir()) == ["model.json", "model.safetensors"]
    assert sorted(path.name for path in model.parent.iterdir()) == ["m.model"]
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o400 for path in model.iterdir())


def test_reading_the_info_needs_no_torch(model: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edgead.detectors.model_file import read_info; "
        "print(read_info(Path(sys.argv[1])).preset, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(model)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["simplenet", "False"]


def test_what_stands_there_is_not_touched(model: Path, detector: SimpleNet, info: ModelInfo) -> None:
    before = (model / "model.json").read_bytes()
    with pytest.raises(OutputError, match="exists"):
        model_file.save(model, detector, info)
    assert (model / "model.json").read_bytes() == before
    changed = ModelInfo(**{**{key: getattr(info, key) for key in info.__slots__}, "preset": "other"})
    model_file.save(model, detector, changed, overwrite=True)
    assert model_file.read_info(model).preset == "other"
    other = model.parent / "photos"
    other.mkdir()
    with pytest.raises(OutputError, match="not a MODEL"):
        model_file.save(other, detector, info, overwrite=True)


def test_a_missing_or_read_only_place_is_an_output_error(
    tmp_path: Path, detector: SimpleNet, info: ModelInfo
) -> None:
    with pytest.raises(OutputError, match="does not exist; make it first"):
        model_file.save(tmp_path / "no" / "m", detector, info)
    with pytest.raises(OutputError, match="cannot be written"):
        model_file.check_free(Path("/proc/m.model"))


def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, detector: SimpleNet, info: ModelInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="no room is left"):
        model_file.save(tmp_path / "m.model", detector, info)
    assert not list(tmp_path.iterdir())


def test_a_flipped_byte_in_the_weights_is_found(model: Path) -> None:
    weights = model / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged"):
        model_file.load(model)


def test_missing_weights_are_a_model_error(model: Path) -> None:
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="No such file"):
        model_file.load(model)


def _edit(model: Path, **changes: Any) -> None:
    values = json.loads((model / "model.json").read_text())
    values = {key: value for key, value in (values | changes).items() if value is not ...}
    (model / "model.json").write_text(json.dumps(values))


def test_another_schema_is_named(model: Path) -> None:
    _edit(model, schema=99)
    with pytest.raises(ModelError, match=r"schema 99, this edgead reads 1.*edgead test"):
        model_file.load(model)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": ...},
        {"preset": ...},
        {"preset": 3},
        {"surprise": 1},
        {"config": []},
        {"provenance": None},
        {"weights_sha256": "abc"},
    ],
    ids=str,
)
def test_a_config_file_with_other_keys_is_damaged(model: Path, change: dict[str, Any]) -> None:
    _edit(model, **change)
    with pytest.raises(ModelError, match=r"model\.json is damaged"):
        model_file.load(model)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\x00"])
def test_a_config_file_that_is_no_json_object_is_damaged(model: Path, text: str) -> None:
    (model / "model.json").write_text(text)
    with pytest.raises(ModelError, match="damaged"):
        model_file.load(model)


def test_a_config_of_another_network_does_not_take_the_weights(model: Path, detector: SimpleNet) -> None:
    _edit(model, config={**detector.config_dict(), "hidden_dim": 7})
    with pytest.raises(ModelError, match="does not hold this detector's weights"):
        model_file.load(model)
    _edit(model, detector="from_the_future")
    with pytest.raises(ModelError, match="needs another edgead"):
        model_file.load(model)


def test_what_is_no_model_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        model_file.load(tmp_path / "none")
    with pytest.raises(ModelError, match=r"no model\.json"):
        model_file.load(tmp_path)
    (tmp_path / "m.partial").mkdir()
    for path in (tmp_path / "m", tmp_path / "m.partial"):
        with pytest.raises(ModelError, match="run the same `edgead train` command again"):
            model_file.load(path)
