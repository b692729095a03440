"""Patchcore as anomalib's documentation and state dicts describe it: `model.memory_bank`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.backbones import _base as backbones
from edgead.checkpoints.anomalib import read
from edgead.detectors import model_file
from edgead.detectors.patchcore import PatchCore
from edgead.errors import UsageError, WeightsError
from edgead.imaging.postprocess import Postprocess
from edgead.progress import Silent
from edgead.workflows.importing import import_checkpoint

CONFIG: dict[str, Any] = {"geometry": {"height": 64, "width": 64}}
PREFIX = "model.feature_extractor.feature_extractor."
VECTORS, DIM = 50, 128 + 256


@pytest.fixture
def state(timm_weights: Callable[..., dict[str, Tensor]]) -> dict[str, Tensor]:
    """64 × 64 pixels: 64 positions, and a bank of about what ResNet-18 gives."""
    return timm_weights("resnet18", PREFIX) | {
        "model.memory_bank": torch.rand(VECTORS, DIM),
        "model.anomaly_map_generator.blur.kernel": torch.zeros(1, 1, 33, 33),
        "_is_fitted": torch.tensor([True]),
    }


def opened(file: Path, config: dict[str, Any] = CONFIG) -> Any:
    return read(file, config, weights=None, progress=Silent())


def straightforward(state: dict[str, Tensor], image: Tensor, neighbours: int) -> tuple[Tensor, float]:
    """Distances on the grid and the image score, in float64, as anomalib's forward reads."""
    backbone = backbones.build("resnet18", ["layer2", "layer3"])
    backbone.load_state_dict({k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)})
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        taps = [
            F.avg_pool2d(tap, 3, 1, 1) for tap in backbone((image.permute(0, 3, 1, 2) / 255 - mean) / std)
        ]
        deep = F.interpolate(taps[1], size=taps[0].shape[2:], mode="bilinear", align_corners=False)
    patches = torch.cat([taps[0], deep], 1)[0].flatten(1).T.double()
    bank = state["model.memory_bank"].double()
    distances, places = torch.cdist(patches, bank).min(1)
    score = float(distances.max())
    if neighbours > 1:
        worst = int(distances.argmax())
        support = torch.cdist(bank[places[worst]][None], bank)[0].topk(neighbours, largest=False).indices
        others = (patches[worst] - bank[support]).norm(dim=1)
        score *= float(1 - others.softmax(0)[0])
    return distances.view(1, 1, *taps[0].shape[2:]), score


@pytest.mark.parametrize("neighbours", [9, 1])
def test_map_and_score_are_anomalib_s(
    state: dict[str, Tensor],
    lightning_file: Callable[..., Path],
    anomalib_blur: Callable[[Tensor], Tensor],
    neighbours: int,
) -> None:
    options = {} if neighbours == 9 else {"num_neighbors": neighbours}
    made = opened(lightning_file(state, **options))
    assert made.detector.name == "patchcore"
    assert made.notes["anomalib"]["image_threshold"] == 0.75
    image = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    distances, expected_score = straightforward(state, image, neighbours)
    expected = anomalib_blur(distances.float().repeat_interleave(8, 2).repeat_interleave(8, 3))[0, 0]
    with torch.no_grad():
        raw = made.detector(image)
    own = None if raw.image_score is None else float(raw.image_score[0])
    score, _, found = Postprocess(made.detector.post_recipe).scores(raw.anomaly_map[0].numpy(), own)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-4)
    assert score == pytest.approx(expected_score, rel=1e-4)


def test_it_becomes_a_model(
    state: dict[str, Tensor], lightning_file: Callable[..., Path], tmp_path: Path
) -> None:
    made = import_checkpoint("anomalib", lightning_file(state), tmp_path / "m", input_size=64)
    assert made.info.detector == "patchcore"
    detector, _ = model_file.load(tmp_path / "m")
    assert isinstance(detector, PatchCore)
    assert torch.equal(detector.bank, state["model.memory_bank"])
    assert detector.config.neighbours == 9


def test_the_layers_of_the_file_are_read(
    state: dict[str, Tensor], lightning_file: Callable[..., Path]
) -> None:
    state["model.memory_bank"] = torch.rand(VECTORS, 128)
    made = opened(lightning_file(state, layers=["layer2"]))
    assert made.detector.config.taps == ("layer2",)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model.memory_bank": torch.zeros(0)}, "before its memory bank was filled"),
        (
            {"model.memory_bank": torch.zeros(9, 40)},
            r"bank of \(9, 40\), layer2 and layer3 of resnet18 give .*384",
        ),
        ({"model.memory_bank": torch.full((9, DIM), torch.nan)}, "not finite"),
        ({PREFIX + "layer2.0.conv1.weight": None}, "1 of [0-9]+ tensors are missing"),
        ({PREFIX + "conv1.weight": None}, "is no ResNet"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_damaged_or_unfinished_file_says_so(
    state: dict[str, Tensor],
    lightning_file: Callable[..., Path],
    change: dict[str, Tensor | None],
    words: str,
) -> None:
    changed = {key: value for key, value in (state | change).items() if value is not None}
    with pytest.raises(WeightsError, match=words):
        opened(lightning_file(changed))


def test_a_nonsense_number_of_neighbours_is_refused(
    state: dict[str, Tensor], lightning_file: Callable[..., Path]
) -> None:
    with pytest.raises(WeightsError, match="num_neighbors is 0"):
        opened(lightning_file(state, num_neighbors=0))
    with pytest.raises(UsageError, match="tap_dim 4"):
        opened(lightning_file(state), {**CONFIG, "tap_dim": 4})
