"""The scripts behind the figures still run; whether their bars hold is for a quiet machine."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SUITES = Path(__file__).resolve().parents[2] / "benchmarks" / "suites"


@pytest.mark.parametrize(
    "command",
    [
        ("bank_search.py", "--rounds", "1", "--cases", "0", "--growth", "1000"),
        ("cuda_kernels.py", "--rounds", "1", "--capabilities", "9.0"),
        ("cuda_searches.py", "--rounds", "1", "--images", "1"),
        (
            *("gpu_headline.py", "--device", "cpu", "--presets", "stfpm", "--batches", "2"),
            *("--rounds", "1", "--warmup", "1"),
        ),
        ("harness_overhead.py", "--queries", "2000"),
        ("native_runtime.py", "--rounds", "1"),
        ("startup.py", "--runs", "1"),
        ("window_search.py", "--rounds", "1", "--dims", "16", "--max-gib", "0.1"),
    ],
)
def test_a_suite_prints_its_figures_as_json(command: tuple[str, ...]) -> None:
    script, *options = command
    done = subprocess.run(
        [sys.executable, str(SUITES / script), "--json", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)
    assert found["passed"] == (done.returncode == 0)
    assert found["environment"]["cpu"]


def judged(rows: list[dict[str, Any]], peak: float | None, device: str = "cuda") -> dict[str, list[str]]:
    """First word of every bar's verdict by preset, of a run of all headline presets."""
    suite = importlib.import_module("gpu_headline")
    options = argparse.Namespace(device=device, presets=list(suite.HEADLINE), batches=[1, 16])
    found: dict[str, list[str]] = {}
    for bar in suite.judge(rows, peak, options):
        found.setdefault(bar["preset"], []).append(bar["verdict"].split(":")[0])
    return found


def headline_row(preset: str, batch: int, variant: str, **changes: Any) -> dict[str, Any]:
    row = {"preset": preset, "target": "torch:fp16:cuda", "precision": "fp16", "batch": batch}
    row |= {"variant": variant, "p50_ms": 1.0, "p99_ms": 1.4, "fps": 1e4, "peak_fraction": 0.5}
    return row | {"finite": True} | changes


def test_the_headline_bars_judge_only_what_was_measured_on_their_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(SUITES))
    four = ("efficientad", "cpr_faster", "simplenet_wrn50", "diffusionad_full")
    rows = [headline_row(preset, 1, "end_to_end") for preset in four]
    rows += [
        headline_row(preset, 16, "published")
        for preset in ("efficientad", "efficientad_m", "simplenet_wrn50")
    ]
    everything = judged(rows, 700.0)
    assert {verdict for found in everything.values() for verdict in found} == {"pass"}
    assert sum(map(len, everything.values())) == 12  # four with their tails, one batch, three shares
    assert set(judged([], 700.0)["cpr_faster"]) == {"missed"}
    assert set(judged(rows, None)["cpr_faster"]) == {"not judged"}
    assert set(judged(rows, 700.0, "cpu")["efficientad_m"]) == {"not judged"}
    small = judged(rows, 150.0)
    assert set(small["cpr_faster"]) == {"not judged"}
    assert small["efficientad_m"] == ["pass"]
    for wrong in ({"p99_ms": 1.6}, {"finite": False}, {"precision": "int8"}, {"fps": 1449.0}):
        rows[1] = headline_row("cpr_faster", 1, "end_to_end", **wrong)
        assert "missed" in judged(rows, 700.0)["cpr_faster"], wrong


def test_the_readme_lists_every_suite() -> None:
    table = (SUITES / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in sorted(SUITES.glob("*.py")) if f"`{path.name}`" not in table] == []


def test_only_what_is_inside_the_gate_counts_beside_anomalib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SUITES))
    suite = importlib.import_module("anomalib_models")

    def system(side: str, p50: float, *failures: str) -> dict[str, Any]:
        return {"side": side, "p50_ms": p50, "min_ms": p50 / 2, "failures": list(failures)}

    systems = {
        "openvino:bf16": system("edgead", 10.0),
        "openvino:int8": system("edgead", 5.0, "2 of 28 decisions flipped, 1 allowed"),
        "anomalib FP32": system("anomalib", 14.0),
        "anomalib INT8_PTQ": {"side": "anomalib", "failures": ["no export"], "error": "no export"},
    }
    found = suite.ratios(systems)
    assert found["best"] == {"edgead": "openvino:bf16", "anomalib": "anomalib FP32"}
    assert found["ratio"] == found["ratio_min"] == pytest.approx(1.4)
    parity = {"parity_map_max_of_range": 1e-6}
    assert suite.misses({"stfpm": {**found, **parity}}) == []
    assert len(suite.misses({"padim": {**found, **parity}})) == 1
    assert len(suite.misses({"stfpm": {**found, "parity_map_max_of_range": float("nan")}})) == 1
    systems["anomalib FP32"]["failures"].append("a score moved")
    nothing = suite.ratios(systems)
    assert nothing["ratio"] is None
    assert len(suite.misses({"stfpm": {**nothing, **parity}})) == 1
