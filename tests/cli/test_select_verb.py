"""`edgead select` from the command line: its options reach the workflow, and its errors their codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgead.errors import GateFailed
from edgead.workflows import select as selecting


def test_options_reach_the_workflow_and_json_comes_back(
    edgead: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    one = selecting.Candidate(
        name="padim 32x64 openvino:fp32",
        network="padim 32x64",
        target="openvino:fp32",
        status="measured",
        verdict="pass",
        accuracy=0.9,
        p50_ms=1.0,
        p99_ms=2.0,
    )

    def fake(data: Path, output: Path, **options: Any) -> selecting.SelectReport:
        asked.update(options, data=data)
        return selecting.SelectReport(
            bundle=output, winner=one.name, budget_ms=10.0, measure="a mean AUROC", candidates=(one,)
        )

    monkeypatch.setattr(selecting, "select", fake)
    words = ["select", tmp_path, "--p99", "10ms", "-o", tmp_path / "b.edgead", "--sizes", "32x64,96"]
    result = edgead(*words, "--detectors", "padim, stfpm", "--json")
    assert result.exit_code == 0, result.stderr
    assert asked["sizes"] == [(32, 64), (96, 96)]
    assert asked["detectors"] == ["padim", "stfpm"]
    assert asked["p99"] == "10ms"
    assert json.loads(result.stdout)["candidates"][0]["p99_ms"] == 2.0
    text = edgead(*words).stdout
    assert "→" in text
    assert "0.9000" in text
    assert "accuracy: a mean AUROC" in text

    def nothing(*args: Any, **options: Any) -> None:
        raise GateFailed("no candidate keeps a p99 of 10 ms; the nearest is x with 12.00 ms")

    monkeypatch.setattr(selecting, "select", nothing)
    assert edgead(*words).exit_code == 3
    assert edgead(*words[:-1], "big").exit_code == 2
