"""Every example runs; those of the device on the golden bundle: a frame of grey value v scores 0.75·v."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import edgead

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
BUNDLE = ROOT / "tests" / "golden" / "bundle_v1.edgead"
MOST_LINES = {".py": 120, ".c": 320, ".cpp": 130}

Run = Callable[..., str]


@pytest.fixture
def example(tmp_path: Path) -> Run:
    """Run a script: ``example("02_frame_loop/frame_loop.py", …)`` gives its stdout."""

    def call(script: str, *arguments: object) -> str:
        words = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """A dark grey frame, a light colour one, a file that is no image, and a dark one with a light corner."""
    folder = tmp_path / "frames"
    folder.mkdir()
    corner = np.full((80, 120), 40, np.uint8)
    corner[:30, :45] = 240
    for name, pixels in {
        "a.png": np.full((10, 13), 40, np.uint8),
        "b.png": np.full((10, 13, 3), 200, np.uint8),
        "d.png": corner,
    }.items():
        assert cv2.imwrite(str(folder / name), pixels)
    (folder / "c.png").write_bytes(b"no image")
    return folder


def test_every_example_has_a_page_and_one_short_program_and_is_listed() -> None:
    folders = sorted(path for path in EXAMPLES.iterdir() if path.name[0].isdigit())
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert len(folders) == 6
    for folder in folders:
        (program,) = (path for path in folder.iterdir() if path.suffix in MOST_LINES)
        assert len(program.read_text(encoding="utf-8").splitlines()) <= MOST_LINES[program.suffix]
        assert program.name in (folder / "README.md").read_text(encoding="utf-8")
        assert f"({folder.name}/README.md)" in listed


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_own_folder_exports_and_judges(example: Run, tour: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "part.model").symlink_to(tour.folder / "part.model")  # trained by the README's command
    said = example(
        "01_own_folder/own_folder.py", tour.folder / "good-images", tour.folder / "new-images", "-o", out
    )
    assert "0 decisions differ from torch" in said
    assert "3 images: 0 OK, 3 NG, 0 ERROR" in said
    lines = (out / "results" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3


def test_the_frame_loop_passes_a_part_on_ok_alone(example: Run, frames: Path) -> None:
    said = example("02_frame_loop/frame_loop.py", BUNDLE, frames, "--deadline-ms", 60_000).splitlines()
    # score = 0.5 + 0.5·(0.75·v − 126)/(126 − 60.75)
    assert said[0] == "pass   OK     -0.236 a.png"
    assert said[1] == "REJECT NG      0.684 b.png"
    assert said[2] == "REJECT ERROR     nan c.png"
    assert said[3].startswith("REJECT NG ")
    assert said[4] == "3 rejected, 0 answers later than 60000 ms"


def test_a_late_answer_is_a_reject(example: Run, frames: Path) -> None:
    said = example("02_frame_loop/frame_loop.py", BUNDLE, frames, "--deadline-ms", 0).splitlines()
    assert all(line.startswith("REJECT ERROR") for line in said[:4])
    assert said[4] == "4 rejected, 3 answers later than 0 ms"


def test_predictions_are_sorted_and_regions_cropped(example: Run, frames: Path, tmp_path: Path) -> None:
    edgead.run(BUNDLE, [frames], tmp_path / "results", overlays="none")
    lines = (tmp_path / "results" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    found = {Path(one["path"]).name: one for one in map(json.loads, lines)}
    said = example(
        "03_read_predictions/read_predictions.py", tmp_path / "results" / "predictions.jsonl", "--margin", 3
    ).splitlines()
    assert said[0].startswith(f"ERROR {frames / 'c.png'}: ")
    assert [line.split()[2].rstrip(":") for line in said[1:]] == [
        str(frames / name) for name in ("d.png", "b.png", "a.png")
    ]
    (region,) = found["d.png"]["regions"]
    x, y, w, h = region["box"]
    assert (x, y) == (0, 0)  # the light corner
    cut = cv2.imread(str(tmp_path / "crops" / "00_d_0.png"), cv2.IMREAD_UNCHANGED)
    assert cut.shape == (h + 3, w + 3)
    assert cut[:30, :45].min() == 240
    assert not list((tmp_path / "crops").glob("*_a_*"))
