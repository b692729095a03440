from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

from edgead.detectors import _presets, _registry
from edgead.detectors._presets import PRESETS
from edgead.errors import UsageError


def test_the_table_is_literal() -> None:
    """Reading it costs nothing: the file imports only typing."""
    tree = ast.parse(Path(_presets.__file__).read_text())
    imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert imported == ["__future__", "typing"]
    value = next(node.value for node in tree.body if isinstance(node, ast.AnnAssign))
    assert value is not None
    assert ast.literal_eval(value) == PRESETS


def test_every_detector_s_bare_name_is_a_preset() -> None:
    assert set(_registry.names()) <= set(PRESETS)
    assert {preset["detector"] for preset in PRESETS.values()} == set(_registry.names())


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds_and_scores(name: str) -> None:
    preset = _registry.preset(name)
    config = preset["config"]
    if preset["detector"] == "cpr":  # without its bank it scores nothing
        config = config | {"references": 12}
    if preset["detector"] == "patchcore":
        config = config | {"vectors": 12}
    with torch.device("meta"):
        detector = _registry.detector_class(preset["detector"]).from_config(config).eval()
        height, width = detector.geometry.input_size
        output = detector(torch.empty(1, height, width, 3, dtype=torch.uint8))
    recipe = detector.post_recipe
    assert output.anomaly_map.shape == (1, recipe.channels, *recipe.grid)


def test_the_paper_s_preset_is_the_paper_s() -> None:
    preset = _registry.preset("simplenet_wrn50")
    detector = _registry.detector_class("simplenet").from_config(preset["config"])
    resolved = detector.geometry.resolve(900, 1200)
    assert (resolved.height, resolved.width, resolved.window) == (329, 438, (20, 75, 288, 288))
    assert detector.post_recipe.grid == (36, 36)


@pytest.mark.parametrize("look_up", [_registry.preset, _registry.detector_class])
def test_an_unknown_name_lists_the_known_ones(look_up: object) -> None:
    assert callable(look_up)
    with pytest.raises(UsageError, match="simplenet"):
        look_up("simplenett")
