"""The checkpoints are built here from the description of the authors' layout, not by edgead's own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgead.backbones import _base
from edgead.checkpoints import _base as importers
from edgead.checkpoints._base import Calibration
from edgead.checkpoints.simplenet import read
from edgead.detectors.simplenet import SimpleNet
from edgead.errors import UsageError, WeightsError
from edgead.progress import Silent

DIM, HIDDEN = 12, 7
CONFIG: dict[str, Any] = {
    "backbone": "resnet18",
    "taps": ["layer1", "layer2"],
    "tap_dim": 20,
    "embedding_dim": 999,
    "hidden_dim": 999,
    "geometry": {"height": 32, "width": 32},
}


def authors_heads() -> tuple[nn.Module, nn.Module]:
    """Discriminator body and tail, and the projection, as the authors' code nests them."""
    torch.manual_seed(3)
    body, block = (
        nn.Module(),
        nn.Sequential(nn.Linear(DIM, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.LeakyReLU(0.2)),
    )
    body.body = nn.Sequential()
    body.body.add_module("block1", block)
    body.tail = nn.Sequential(nn.Linear(HIDDEN, 1, bias=False))[0]
    norm = block[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    projection = nn.Module()
    projection.layers = nn.Sequential()
    projection.layers.add_module("0fc", nn.Linear(DIM, DIM))
    return body.eval(), projection.eval()


@pytest.fixture
def backbone_file(tmp_path: Path) -> Path:
    torch.manual_seed(4)
    file = tmp_path / "resnet18.pth"
    torch.save(_base.build("resnet18", ["layer4"]).state_dict(), file)
    return file


def checkpoint(path: Path, layout: str, backbone: Path) -> Path:
    body, projection = authors_heads()
    if layout == "two dicts":
        content: dict[str, Any] = {
            "discriminator": body.state_dict(),
            "pre_projection": projection.state_dict(),
        }
    elif layout == "no projection":
        content = {"discriminator": body.state_dict()}
    else:
        content = {f"discriminator.{key}": value for key, value in body.state_dict().items()}
        content |= {f"pre_projection.{key}": value for key, value in projection.state_dict().items()}
        weights = torch.load(backbone, weights_only=True)
        content |= {f"backbone.{key}": value for key, value in weights.items()}
        content |= {
            f"forward_modules.feature_aggregator.backbone.{key}": value for key, value in weights.items()
        }
    torch.save(content, path)
    return path


@pytest.mark.parametrize("layout", ["two dicts", "no projection", "whole module"])
def test_the_scores_are_the_authors(tmp_path: Path, backbone_file: Path, layout: str) -> None:
    file = checkpoint(tmp_path / "ckpt.pth", layout, backbone_file)
    weights = None if layout == "whole module" else backbone_file
    made = read(file, CONFIG, weights=weights, progress=Silent())
    detector = made.detector
    assert isinstance(detector, SimpleNet)
    assert (made.backbone_weights is None) == (layout == "whole module")
    assert (detector.config.embedding_dim, detector.config.hidden_dim) == (DIM, HIDDEN)
    assert detector.config.projection == (layout != "no projection")
    image = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    body, projection = authors_heads()
    with torch.no_grad():
        rows = detector.embed(image).reshape(-1, DIM)
        rows = rows if layout == "no projection" else projection.layers(rows)
        expected = -body.tail(body.body(rows)).view(2, 1, 8, 8)
        torch.testing.assert_close(detector(image).anomaly_map, expected)
    stem = torch.load(backbone_file, weights_only=True)["conv1.weight"]
    assert torch.equal(detector.backbone.state_dict()["conv1.weight"], stem)


def test_a_deeper_discriminator_is_refused(tmp_path: Path, backbone_file: Path) -> None:
    body, _ = authors_heads()
    state = {**body.state_dict(), "body.block2.0.weight": torch.ones(HIDDEN, HIDDEN)}
    torch.save({"discriminator": state}, tmp_path / "deep.pth")
    with pytest.raises(WeightsError, match=r"body\.block2\.0\.weight belongs to a deeper"):
        read(tmp_path / "deep.pth", CONFIG, weights=backbone_file, progress=Silent())


def test_missing_layers_are_named(tmp_path: Path, backbone_file: Path) -> None:
    body, _ = authors_heads()
    state = body.state_dict()
    del state["tail.weight"]
    torch.save({"discriminator": state}, tmp_path / "cut.pth")
    with pytest.raises(WeightsError, match=r"lacks tail\.weight"):
        read(tmp_path / "cut.pth", CONFIG, weights=backbone_file, progress=Silent())


def test_a_projection_of_another_width_is_refused(tmp_path: Path, backbone_file: Path) -> None:
    body, _ = authors_heads()
    projection = {"layers.0fc.weight": torch.ones(5, 5), "layers.0fc.bias": torch.ones(5)}
    torch.save({"discriminator": body.state_dict(), "pre_projection": projection}, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match=r"projection\.weight is \(5, 5\)"):
        read(tmp_path / "odd.pth", CONFIG, weights=backbone_file, progress=Silent())


@pytest.mark.parametrize("content", [{}, {"model": {"a": torch.ones(1)}}, [1, 2], torch.ones(3)])
def test_something_else_is_no_simplenet_checkpoint(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="holds no discriminator"):
        read(tmp_path / "other.pth", CONFIG, weights=None, progress=Silent())


def test_sources_are_found_by_file_name() -> None:
    assert "simplenet" in importers.sources()
    with pytest.raises(UsageError, match="simplenet"):
        importers.importer("nobody")


def test_calibration_is_not_silently_ignored(tmp_path: Path, backbone_file: Path) -> None:
    file = checkpoint(tmp_path / "ckpt.pth", "two dicts", backbone_file)
    with pytest.raises(UsageError, match="needs none"):
        read(file, CONFIG, weights=backbone_file, calib=Calibration(tmp_path), progress=Silent())
