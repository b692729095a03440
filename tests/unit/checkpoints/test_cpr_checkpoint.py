"""The files are built from the description of the authors' layout, their classes made up here."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from edgead.backbones import _base
from edgead.checkpoints._base import Calibration
from edgead.checkpoints.cpr import read
from edgead.detectors.cpr import Cpr
from edgead.errors import DatasetError, UsageError, WeightsError
from edgead.progress import Silent

SIDE = 80
CONFIG: dict[str, Any] = {
    "backbone": "resnet18",
    "taps": ["layer1", "layer2"],
    "dim": 64,
    "nearest": 3,
    "top_k": 16,
    "geometry": {"height": SIDE, "width": SIDE},
}
PREFIX = "backbone.feature_extractor.backbone."


def conv_bn(inputs: int, outputs: int, kernel: int) -> nn.Module:
    block = nn.Module()
    block.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    block.bn = nn.BatchNorm2d(outputs, eps=1e-3)
    return block


def head(inputs: int, dim: int) -> nn.Sequential:
    """The names of spec §8 under ``lrb.conv.i``."""
    inception = nn.Module()
    inception.branch0 = conv_bn(192, 64, 1)
    inception.branch1 = nn.Sequential(conv_bn(192, 48, 1), conv_bn(48, 64, 3))
    inception.branch2 = nn.Sequential(conv_bn(192, 64, 1))
    inception.branch3 = nn.Sequential(nn.AvgPool2d(3, 1, 1), conv_bn(192, 64, 1))
    return nn.Sequential(
        nn.Conv2d(inputs, 192, 1), nn.BatchNorm2d(192), nn.ReLU(), inception, nn.Conv2d(256, dim, 1)
    )


def network(dim: int = 5, channels: tuple[int, int] = (64, 128)) -> nn.Module:
    """Heads and a ResNet-18 up to layer2, random, statistics of the batch norms too."""
    with torch.random.fork_rng():
        torch.manual_seed(dim)
        made = nn.Module()
        made.lrb = nn.Module()
        made.lrb.conv = nn.ModuleList(head(count, dim) for count in channels)
        made.backbone = nn.Module()
        made.backbone.feature_extractor = nn.Module()
        made.backbone.feature_extractor.backbone = _base.build("resnet18", ["layer1", "layer2"])
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
        return made


@pytest.fixture
def authors(monkeypatch: pytest.MonkeyPatch) -> dict[str, type[nn.Module]]:
    """Modules called ``models.grb`` and ``models.feb``, as on the authors' machine when they save."""
    classes = {}
    for module, names in (
        ("models.grb", ("GlobalRetrievalBranch", "Codebook", "BlockWiseHistogramEncoder")),
        ("models.feb", ("ForegroundEstimateBranch",)),
    ):
        made = ModuleType(module)
        for name in names:
            classes[name] = type(name, (nn.Module,), {"__module__": module})
            setattr(made, name, classes[name])
        monkeypatch.setitem(sys.modules, module, made)
    monkeypatch.setitem(sys.modules, "models", ModuleType("models"))
    return classes


def save_grb(path: Path, authors: dict[str, type[nn.Module]], centres: torch.Tensor) -> None:
    grb = authors["GlobalRetrievalBranch"]()
    grb.l_ratio, grb.d_method = 4 / 5, "kl"
    grb.codebook = authors["Codebook"]()
    grb.codebook.cluster_centers = nn.Parameter(centres[None, :, :, None, None], requires_grad=False)
    grb.block_wise_histogram_encoder = authors["BlockWiseHistogramEncoder"]()
    grb.block_wise_histogram_encoder.unfold = nn.Unfold((16, 16), stride=16)
    grb.refs = nn.Parameter(torch.zeros(4, 25, len(centres) + 1), requires_grad=False)
    grb.register_buffer("_bank", torch.tensor(True))
    torch.save(grb, path)


def save_feb(path: Path, authors: dict[str, type[nn.Module]], channels: int = 64) -> tuple[Any, Any]:
    feb = authors["ForegroundEstimateBranch"]()
    feb.conv1x1 = nn.Conv2d(channels, 1, 1).requires_grad_(False)
    torch.save(feb, path)
    return feb.conv1x1.weight.flatten(), feb.conv1x1.bias[0]


def photos(count: int = 4) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.uint8)


def take(checkpoint: Path, *, config: dict[str, Any] = CONFIG, **options: Any) -> Any:
    calib = options.pop("calib", Calibration(checkpoint.parent, pixels=photos()))
    options = {"weights": None, "progress": Silent(), **options}
    return read(checkpoint, config, calib=calib, **options)


def test_heads_and_backbone_are_the_checkpoint_s(tmp_path: Path, authors: dict[str, type[nn.Module]]) -> None:
    """Descriptors by the description of spec §3, layer by layer; D = 5 is read from the file."""
    theirs = network().eval()
    torch.save(theirs.state_dict(), tmp_path / "00500.pth")
    centres = torch.randn(7, 64)
    save_grb(tmp_path / "grb.pth", authors, centres)
    weight, bias = save_feb(tmp_path / "feb.pth", authors)
    made = take(tmp_path / "00500.pth")
    detector = made.detector
    assert isinstance(detector, Cpr)
    assert not detector.training
    assert (detector.config.dim, detector.config.clusters, detector.config.references) == (5, 7, 4)
    assert made.backbone_weights is None
    assert set(made.notes["read"]) == {"grb.pth", "feb.pth"}
    torch.testing.assert_close(detector.centres, centres)
    torch.testing.assert_close(detector.foreground_weight, weight)
    torch.testing.assert_close(detector.foreground_bias, bias)
    image = torch.from_numpy(photos(2))
    with torch.no_grad():
        pixels = (image.permute(0, 3, 1, 2) / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / (
            torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        )
        taps = theirs.backbone.feature_extractor.backbone(pixels)
        found = detector.describe(detector.features(image))
        for level, tap in enumerate(taps):
            first, norm, _, inception, last = theirs.lrb.conv[level]
            x = norm(first(tap)).relu()

            def run(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
                return torch.as_tensor(block.bn(block.conv(x)).relu())

            ones = nn.functional.avg_pool2d(torch.ones_like(x), 3, 1, 1)
            pooled = nn.functional.avg_pool2d(x, 3, 1, 1) / ones  # the mean of the valid cells
            parts = [
                run(inception.branch0, x),
                run(inception.branch1[1], run(inception.branch1[0], x)),
                run(inception.branch2[0], x),
                run(inception.branch3[1], pooled),
            ]
            expected = last(torch.cat(parts, 1))
            expected = expected / expected.norm(dim=1, keepdim=True)
            torch.testing.assert_close(found[level], expected, rtol=1e-4, atol=1e-4)


def test_what_is_not_there_is_fitted_on_the_good_images(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "bottle.pth")
    said: list[str] = []

    class Listening(Silent):
        def say(self, message: str) -> None:
            said.append(message)

    made = take(tmp_path / "bottle.pth", progress=Listening())
    detector = made.detector
    assert detector.config.clusters == 12
    assert "vocabulary: fitted on the good images" in said
    found = made.notes["foreground"]
    assert detector.config.foreground == found["used"] == (found["separation"] >= 0.2)
    # k-means: a centre is the mean of the features that are nearest to it.
    with torch.no_grad():
        rows = detector.features(torch.from_numpy(photos()))[0].movedim(1, 3).reshape(-1, 64)
    owner = torch.cdist(rows, detector.centres).argmin(1)
    means = torch.stack([rows[owner == index].mean(0) for index in range(12)])
    torch.testing.assert_close(detector.centres, means, rtol=0.05, atol=0.02)


def test_a_release_without_backbone_keys_takes_the_well_known_weights(tmp_path: Path) -> None:
    state = network().state_dict()
    heads = {key: value for key, value in state.items() if key.startswith("lrb.")}
    torch.save(heads, tmp_path / "bottle.pth")
    backbone = {key.removeprefix(PREFIX): value for key, value in state.items() if key.startswith(PREFIX)}
    torch.save(backbone, tmp_path / "resnet18.pth")
    made = take(tmp_path / "bottle.pth", weights=tmp_path / "resnet18.pth")
    assert made.backbone_weights is not None
    assert made.backbone_weights.file == "resnet18.pth"
    found = made.detector.backbone.state_dict()
    assert all(torch.equal(found[key], value) for key, value in backbone.items())


def test_the_bank_is_always_the_good_images(tmp_path: Path) -> None:
    """Copies count once; fewer than K are refused."""
    torch.save(network().state_dict(), tmp_path / "a.pth")
    pixels = np.concatenate([photos(), photos()[:2]])
    made = take(tmp_path / "a.pth", calib=Calibration(tmp_path, pixels=pixels))
    assert made.detector.config.references == 4
    with pytest.raises(DatasetError, match="2 reference images"):
        take(tmp_path / "a.pth", calib=Calibration(tmp_path, pixels=photos(2)))
    with pytest.raises(WeightsError, match=r"does not hold the reference images.*--calib"):
        take(tmp_path / "a.pth", calib=None)
    with pytest.raises(UsageError, match="give a folder"):
        take(tmp_path / "a.pth", calib=Calibration(tmp_path / "x.json", values={}))


def test_wrong_files_say_what_they_are(tmp_path: Path, authors: dict[str, type[nn.Module]]) -> None:
    state = network().state_dict()
    file = tmp_path / "00500.pth"
    save_grb(tmp_path / "other.pth", authors, torch.zeros(12, 64))
    with pytest.raises(
        WeightsError, match=r"a pickled models\.grb\.GlobalRetrievalBranch, the global retrieval"
    ):
        take(tmp_path / "other.pth")
    for broken, words in [
        ({"fc.weight": torch.ones(1)}, r"holds no lrb\.conv\.\*.*it holds fc\.weight"),
        ({**state, "lrb.conv.0.4.weight": torch.ones(1)}, r"has no lrb\.conv\.0\.4\.weight"),
        (
            {key: value for key, value in state.items() if "branch2" not in key},
            r"lacks lrb\.conv\.0\.3\.branch2",
        ),
        ({**state, "lrb.conv.0.5.weight": torch.ones(1)}, r"has lrb\.conv\.0\.5\.weight"),
        (
            {**state, "lrb.conv.1.4.weight": torch.ones(9, 256, 1, 1)},
            r"conv\.1\.4\.weight is \(9, 256, 1, 1\)",
        ),
        ({**state, "lrb.conv.1.4.bias": torch.full((5,), torch.nan)}, "not finite"),
        (
            network(channels=(256, 512)).state_dict(),
            r"trained on DenseNet-201 \(preset cpr_densenet\), not on res",
        ),
        (network(channels=(24, 40)).state_dict(), "EfficientNet-B0, which edgead does not have"),
        ({**state, f"{PREFIX}layer2.2.conv1.weight": torch.ones(1)}, r"does not fit the backbone resnet18"),
    ]:
        torch.save(broken, file)
        with pytest.raises(WeightsError, match=words):
            take(file)
    torch.save(state, file)
    torch.save(state, tmp_path / "grb.pth")
    with pytest.raises(WeightsError, match=r"grb\.pth holds a dict of lrb\.conv.*, not the global retrieval"):
        take(file)
    save_grb(tmp_path / "grb.pth", authors, torch.zeros(12, 256))
    with pytest.raises(WeightsError, match=r"\(1, 12, 256, 1, 1\).*of another backbone or tap"):
        take(file)
    (tmp_path / "grb.pth").unlink()
    save_feb(tmp_path / "feb.pth", authors, channels=256)
    with pytest.raises(WeightsError, match=r"\(1, 256, 1, 1\).*of another backbone or tap"):
        take(file)
    save_grb(tmp_path / "feb.pth", authors, torch.zeros(12, 64))
    with pytest.raises(WeightsError, match=r"holds a pickled .*, the global retrieval, not the foreground"):
        take(file)


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


def test_code_hidden_in_a_module_never_runs(tmp_path: Path, authors: dict[str, type[nn.Module]]) -> None:
    torch.save(network().state_dict(), tmp_path / "a.pth")
    feb, target = authors["ForegroundEstimateBranch"](), tmp_path / "was_run"
    feb.forward = Evil(target)
    torch.save(feb, tmp_path / "feb.pth")
    with pytest.raises(WeightsError, match=r"feb\.pth is refused: it asks to run"):
        take(tmp_path / "a.pth")
    assert not target.exists()


def test_the_verb_makes_a_model_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    from edgead.detectors import _presets, model_file
    from edgead.workflows.importing import import_checkpoint

    monkeypatch.setitem(
        _presets.PRESETS, "cpr_small", {"detector": "cpr", "summary": "", "config": CONFIG, "training": {}}
    )
    (tmp_path / "good").mkdir()
    for number, pixels in enumerate(photos()):
        assert cv2.imwrite(str(tmp_path / "good" / f"{number}.png"), pixels)
    torch.save(network().state_dict(), tmp_path / "a.pth")
    made = import_checkpoint(
        "cpr", tmp_path / "a.pth", tmp_path / "m", preset="cpr_small", calib=tmp_path / "good"
    )
    assert len(made.info.provenance["calibration_hashes"]) == 4
    detector, _ = model_file.load(tmp_path / "m")
    with torch.no_grad():
        shown = detector(torch.from_numpy(photos(5))[4:]).anomaly_map
    assert shown.shape == (1, 1, SIDE, SIDE)
    assert torch.isfinite(shown).all()
