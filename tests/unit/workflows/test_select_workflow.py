"""`select` on a few small images: it measures before it trains, resumes, and says what it cannot do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgead.bundle.reader import open_bundle
from edgead.detectors._presets import PRESETS
from edgead.errors import DatasetError, GateFailed, OutputError, UsageError
from edgead.workflows import _select_measure as measuring
from edgead.workflows import _select_work as working
from edgead.workflows import select as selecting
from edgead.workflows._select_candidates import fitting, networks, sized
from edgead.workflows._select_measure import Judged
from edgead.workflows._select_state import candidates_in

TARGET = "openvino:fp32"
SMALL: dict[str, Any] = {
    "detector": "padim",
    "summary": "for tests",
    "config": {
        "backbone": "efficientnet_lite0",
        "taps": ["stage2", "stage3"],
        "dim": 12,
        "geometry": {"height": 32, "width": 32},
    },
    "training": {"epsilon": 0.01},
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "small_padim", SMALL)
    monkeypatch.setattr(measuring, "_TRIAL_SECONDS", 0.3)
    monkeypatch.setattr(working, "_BENCH_SECONDS", 10.0)


@pytest.fixture
def strips(tmp_path: Path) -> Path:
    """24 good images of mixed sizes."""
    random, folder = np.random.default_rng(0), tmp_path / "good"
    folder.mkdir()
    for number in range(24):
        size = (40 + number % 3, 80 + number % 2, 3)
        assert cv2.imwrite(str(folder / f"{number:02}.png"), random.integers(90, 140, size).astype(np.uint8))
    return folder


def run(data: Path, output: Path, **more: Any) -> selecting.SelectReport:
    options = {"p99": "1s", "detectors": ["small_padim"], "sizes": [(32, 64), (32, 32)], "targets": [TARGET]}
    return selecting.select(data, output, threads=1, **{**options, **more})


@pytest.mark.slow
def test_the_winner_is_the_best_that_holds_and_what_is_done_is_not_repeated(
    strips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, page = tmp_path / "b.edgead", tmp_path / "r.html"
    kill = working.Work._finish

    def killed(self: Any, network: Any, *rest: Any) -> Any:
        if network.size == (32, 64):
            raise KeyboardInterrupt
        return kill(self, network, *rest)

    monkeypatch.setattr(working.Work, "_finish", killed)
    with pytest.raises(KeyboardInterrupt):
        run(strips, output)
    assert not output.exists()
    partial = output.with_name("b.edgead.partial")
    done = {one.network: one.status for one in candidates_in(partial)}
    assert done["small_padim 32x64"] == "no time"

    with pytest.raises(OutputError, match="differs in p99"):
        run(strips, output, p99="2s")
    trained = []
    monkeypatch.setattr(
        working.Work,
        "_finish",
        lambda self, network, *rest: trained.append(network) or kill(self, network, *rest),
    )
    monkeypatch.setattr(measuring, "trial", lambda *a, **k: pytest.fail("measured twice"))
    report = run(strips, output, html=page)
    assert len(trained) == list(done.values()).count("no time")
    assert not partial.exists()
    best = max(report.candidates, key=lambda one: one.accuracy or 0)
    assert {one.status for one in report.candidates} == {"measured"}
    assert report.candidates[0] == best
    assert report.winner == best.name
    with open_bundle(output) as bundle:
        assert [str(target) for target in bundle.targets] == [TARGET]
        assert (
            f"small_padim {bundle.manifest.geometry.height}x{bundle.manifest.geometry.width}" == best.network
        )
    assert report.winner in page.read_text()
    assert "synthetic defects" in page.read_text()


def test_a_budget_that_nothing_meets_names_the_nearest_and_trains_nothing(
    strips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "_HOPELESS", 1e9)  # let the engine be measured
    monkeypatch.setattr(working, "train", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(
        GateFailed, match=r"no candidate keeps a p99 of 0\.001 ms; the nearest is small_padim"
    ):
        run(strips, tmp_path / "b.edgead", p99="1us", sizes=[(32, 32)])
    assert not (tmp_path / "b.edgead").exists()


def test_what_was_too_slow_on_a_busy_machine_is_measured_again(
    strips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "_HOPELESS", 1e9)
    trial, tried = measuring.trial, []

    def counted(network: Any, targets: Any, *rest: Any, **more: Any) -> Any:
        tried.append((network.size, tuple(targets)))
        return trial(network, targets, *rest, **more)

    monkeypatch.setattr(measuring, "trial", counted)
    options = {"p99": "1us", "sizes": [(32, 32)], "keep": tmp_path / "kept"}
    for others, times in ((["the machine was busy"], 1), ([], 2), ([], 2)):
        monkeypatch.setattr(working.Activity, "warnings", lambda self, found=others: found)
        with pytest.raises(GateFailed, match="nearest is small_padim 32x32"):
            run(strips, tmp_path / "b.edgead", **options)
        assert tried == [((32, 32), (TARGET,))] * times
        (one,) = candidates_in(tmp_path / "kept")
        assert (one.status, one.busy) == ("too slow", bool(others))


def test_bad_input_is_refused_before_any_work(strips: Path, tmp_path: Path) -> None:
    output = tmp_path / "b.edgead"
    for path in sorted(strips.iterdir())[1:]:
        path.write_bytes(next(iter(sorted(strips.iterdir()))).read_bytes())
    with pytest.raises(DatasetError, match="24 good images, 1 different"):
        run(strips, output)
    for path in sorted(strips.iterdir())[1:]:
        path.unlink()
    with pytest.raises(DatasetError, match="1 good images, 1 different"):
        run(strips, output)
    with pytest.raises(UsageError, match="has no unit"):
        run(strips, output, p99="10")
    assert not list(tmp_path.glob("b.edgead*"))


def test_sizes_follow_the_frames() -> None:
    assert sized(256, 1.0) == (256, 256)
    assert sized(256, 0.25) == (128, 512)
    assert sized(256, 4.0) == (512, 128)
    assert sized(256, 1000) == sized(256, 8)
    found = [network.size for network in networks(["padim"], None, 0.25)]
    assert found == [(256, 256), (128, 512), (160, 640), (192, 768)]
    with pytest.raises(UsageError, match="unknown detector"):
        networks(["padimm"], None, 1.0)


def test_a_named_search_is_tried_where_it_is_offered() -> None:
    targets = ("openvino:fp32", "openvino+bank_search:fp32")
    assert fitting(targets, "patchcore") == targets
    assert fitting(targets, "padim") == targets[:1]
    with pytest.raises(UsageError, match="padim has no search"):
        fitting(targets[1:], "padim")


def test_accuracy_is_the_mean_over_groups() -> None:
    """Good 1 and 2: against 0 no pair is right, against 3 all are, against 1.5 half."""
    judged = Judged(np.zeros((5, 1, 1, 3), np.uint8), (0, 0, 1, 1, 1), ("", "", "a", "b", "c"))
    assert judged.accuracy(np.array([1.0, 2.0, 0.0, 3.0, 1.5])) == pytest.approx(0.5)
