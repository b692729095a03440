"""The graph against the straightforward form, and that form's edges against OpenCV's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from edgead.detectors.radar import Radar
from edgead.errors import UsageError
from edgead.exporters._registry import exporter_for
from edgead.exporters.lowering.radar import lower
from edgead.exporters.onnx_exporter import export_graph
from edgead.runtimes._registry import runtime_for
from edgead.types import Target

SIZE = (16, 24)
CONFIG: dict[str, Any] = {
    "base": 8,
    "blocks": 1,
    "groups": 2,
    "heads": 2,
    "multipliers": [1, 2],
    "attention": [2],
    "geometry": {"height": SIZE[0], "width": SIZE[1]},
}


def detector(**changes: Any) -> Radar:
    torch.manual_seed(0)
    return Radar.from_config(CONFIG | changes).eval()


def images() -> list[Tensor]:
    random = torch.randint(
        0, 256, (1, *SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    return [random, torch.zeros_like(random), torch.full_like(random, 255)]


@pytest.mark.parametrize("evidence", ["error", "guess"])
def test_the_map_is_the_edges_of_the_evidence(evidence: str) -> None:
    """With ᾱ by hand, on OpenCV's Sobel filter."""
    network = detector(evidence=evidence).double()
    share = np.prod(1 - np.linspace(1e-4, 0.02, 1000)[:101])
    for image in images():
        x = image.permute(0, 3, 1, 2).double() / 127.5 - 1
        with torch.no_grad():
            guess = network.unet(share**0.5 * x + (1 - share) ** 0.5 * network.noise, torch.tensor([100]))
            found = network(image).anomaly_map[0, 0].numpy()
        seen = (guess - network.noise if evidence == "error" else guess)[0].mean(0).numpy()
        across, down = (
            cv2.Sobel(seen, cv2.CV_64F, dx, 1 - dx, ksize=3, borderType=cv2.BORDER_REFLECT_101)
            for dx in (1, 0)
        )
        np.testing.assert_allclose(found, np.sqrt(across**2 + down**2 + 1e-6), atol=1e-9)


@pytest.mark.parametrize("changes", [{}, {"evidence": "guess"}, {"level": 0}, {"level": 999}])
def test_the_graph_is_the_detector(changes: dict[str, Any]) -> None:
    network = detector(**changes).double()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    lowered = lower(network)
    for image in images():
        with torch.no_grad():
            expected, found = (one(image).anomaly_map for one in (network, lowered))
        assert float((found - expected).abs().max()) < 1e-11
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_engines_are_torch_and_say_the_same_twice(tmp_path: Path, engine: str) -> None:
    network, target = detector(), Target(engine, "fp32")
    graph = export_graph(lower(network), SIZE, tmp_path / "graph.onnx")
    compiled = exporter_for(engine).compile(graph.path, target, tmp_path / "targets")
    answers = []
    for _ in range(2):
        with runtime_for(engine).open(compiled.main_file, target) as runtime:
            answers.append([runtime.infer(image.numpy()).anomaly_map.copy() for image in images()])
    for image, first, second in zip(images(), *answers, strict=True):
        with torch.no_grad():
            expected = network(image).anomaly_map.numpy()
        assert np.abs(first - expected).max() <= 1e-3 * np.ptp(expected)
        assert np.array_equal(first, second)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"evidence": "attention"}, "'attention' is unknown; use error or guess"),
        ({"level": 1000}, "level 1000"),
        ({"geometry": {"height": 15, "width": 24}}, "radar: input size 15x24"),
        ({"base": 9}, "radar: base 9"),
        ({"heads": 0}, "at least 1"),
        ({"segmentation_width": 4}, "does not fit"),
    ],
)
def test_a_config_that_cannot_be_says_why(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Radar.from_config({**CONFIG, **changes})
