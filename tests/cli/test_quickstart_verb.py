"""`edgead quickstart` on a handful of its real cells, and how it draws them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from edgead.detectors import _presets
from edgead.workflows import export, quickstart

FOLDERS = ("train/good", "test/good", "test/defective")


def drawn(root: Path) -> dict[str, set[str]]:
    return {folder: {path.name for path in (root / folder).iterdir()} for folder in FOLDERS}


def test_cells_are_drawn_by_label_disjoint_and_seeded(tmp_path: Path) -> None:
    import elpv_dataset

    source = Path(elpv_dataset.__file__).parent / "data"
    rows = [line.split() for line in (source / "labels.csv").read_text().splitlines()]
    truth = {Path(name).name: (float(share), kind) for name, share, kind in rows}
    quickstart.make_cells(tmp_path / "a", seed=0)
    cells = drawn(tmp_path / "a")
    assert [len(cells[folder]) for folder in FOLDERS] == [400, 150, 150]
    assert len(set().union(*cells.values())) == 700
    for folder, share in zip(FOLDERS, (0.0, 0.0, 1.0), strict=True):
        assert {truth[name] for name in cells[folder]} == {(share, "mono")}
    contents = [hashlib.sha256(path.read_bytes()).digest() for path in (tmp_path / "a").rglob("*.png")]
    assert len(contents) == len(set(contents)), "no cell is in the data set twice"
    quickstart.make_cells(tmp_path / "b", seed=0)
    assert drawn(tmp_path / "b") == cells
    quickstart.make_cells(tmp_path / "c", seed=1)
    assert drawn(tmp_path / "c")["train/good"] != cells["train/good"]


def test_another_seed_replaces_the_cells_of_the_first(tmp_path: Path) -> None:
    """Else cells that were trained on would stand among the test cells."""
    quickstart.make_cells(tmp_path / "a", seed=0)
    quickstart.make_cells(tmp_path / "fresh", seed=1)
    (tmp_path / "a" / "train" / "good" / "notes.txt").write_text("mine")
    quickstart.make_cells(tmp_path / "a", seed=1)
    assert (tmp_path / "a" / "train" / "good" / "notes.txt").read_text() == "mine"
    (tmp_path / "a" / "train" / "good" / "notes.txt").unlink()
    assert drawn(tmp_path / "a") == drawn(tmp_path / "fresh")


@pytest.fixture
def small(tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_presets.PRESETS, "simplenet", tiny)
    for name, value in {
        "TRAIN": 20,
        "TEST_GOOD": 5,
        "TEST_DEFECTIVE": 5,
        "PICTURES": 2,
        "BENCH_QUERIES": 12,
        "BENCH_SECONDS": 5.0,
        "MIN_AUROC": 0.0,
    }.items():
        monkeypatch.setattr(quickstart, name, value)
    monkeypatch.setattr(export, "DEFAULT_TARGETS", ("onnxruntime:fp32",))


@pytest.mark.usefixtures("small")
def test_everything_once(edgead: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "first"
    result = edgead("quickstart", "-o", out, "--json")
    assert result.exit_code == 0, result.stderr
    values = json.loads(result.stdout)
    (row,) = values["targets"]
    assert (row["target"], row["flips"], row["gate"]) == ("onnxruntime:fp32", 0, "passed")
    assert 0 <= row["image_auroc"] <= 1
    assert row["p50_ms"] > 0
    assert row["p99_ms"] is None, "12 queries carry no p99"
    assert list(values["seconds"]) == ["data", "train", "export", "verify", "bench", "run"]
    assert len(list((out / "run" / "overlays").rglob("*.jpg"))) == 4
    assert len((out / "run" / "predictions.jsonl").read_text().splitlines()) == 4
    assert json.loads((out / "quickstart.json").read_text())["verify"]["images"] == 10

    result = edgead("quickstart", "-o", out)
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr

    unfinished = out / "cells.model.partial"
    unfinished.mkdir()
    (unfinished / "state.safetensors").write_bytes(b"of another seed")
    result = edgead("quickstart", "-o", out, "--overwrite", "--seed", 1)
    assert result.exit_code == 2
    assert "--restart" in result.stderr

    monkeypatch.setattr(quickstart, "MIN_AUROC", 1.01)
    result = edgead("quickstart", "-o", out, "--overwrite", "--seed", 1, "--restart")
    assert result.exit_code == 3, "another seed leaks nothing, and the bar is missed"
    assert "is below 1.01" in result.stderr


@pytest.mark.usefixtures("small")
def test_a_person_reads_a_table_and_what_to_type_next(edgead: Any, tmp_path: Path) -> None:
    result = edgead("quickstart", "-o", tmp_path / "first")
    assert result.exit_code == 0, result.stderr
    assert "image AUROC" in result.stdout
    assert "onnxruntime:fp32" in result.stdout
    assert "edgead train simplenet good-images/" in result.stdout


def test_a_folder_of_other_things_is_left_alone(edgead: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for options in ((), ("--overwrite",)):
        result = edgead("quickstart", "-o", tmp_path, *options)
        assert result.exit_code == 2
        assert "holds other files" in result.stderr
    assert edgead("quickstart", "-o", tmp_path / "notes.txt").exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_without_its_images_it_names_the_extra(
    edgead: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "elpv_dataset", None)
    result = edgead("quickstart", "-o", tmp_path / "first")
    assert result.exit_code == 7
    assert "pip install 'edgead[quickstart]'" in result.stderr
