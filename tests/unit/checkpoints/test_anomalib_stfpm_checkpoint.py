"""Stfpm as anomalib's state dicts have it: two timm networks of 90 entries each."""

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
from edgead.detectors.stfpm import Stfpm
from edgead.errors import UsageError, WeightsError
from edgead.imaging.postprocess import Postprocess
from edgead.progress import Silent

CONFIG: dict[str, Any] = {"geometry": {"height": 64, "width": 64}}
TEACHER, STUDENT = "model.teacher_model.feature_extractor.", "model.student_model.feature_extractor."


@pytest.fixture
def state(timm_weights: Callable[..., dict[str, Tensor]]) -> dict[str, Tensor]:
    teacher, student = timm_weights("resnet18", TEACHER, 0), timm_weights("resnet18", STUDENT, 1)
    assert len(teacher) == len(student) == 90
    return teacher | student


def test_map_and_score_are_anomalib_s(state: dict[str, Tensor], lightning_file: Callable[..., Path]) -> None:
    made = read(lightning_file(state), CONFIG, weights=None, progress=Silent())
    assert made.preset == "stfpm_resnet18"
    networks = []
    for prefix in (TEACHER, STUDENT):
        network = backbones.build("resnet18", ["layer1", "layer2", "layer3"])
        network.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        networks.append(network)
    image = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    x = (image.permute(0, 3, 1, 2) / 255 - mean) / std
    expected = torch.ones(1, 1, 64, 64)
    with torch.no_grad():
        for taught, learnt in zip(networks[0](x), networks[1](x), strict=True):
            cosine = F.cosine_similarity(taught.double(), learnt.double(), dim=1)[:, None]
            large = F.interpolate((1 - cosine).float(), size=(64, 64), mode="bilinear", align_corners=False)
            expected = expected * large  # half the squared distance of unit vectors is 1 − cos
        raw = made.detector(image).anomaly_map[0].numpy()
    score, _, found = Postprocess(made.detector.post_recipe).scores(raw)
    torch.testing.assert_close(torch.from_numpy(found), expected[0, 0], rtol=1e-3, atol=1e-6)
    assert score == pytest.approx(float(expected.max()), rel=1e-3)


def test_the_layers_of_the_file_are_read(
    timm_weights: Callable[..., dict[str, Tensor]], lightning_file: Callable[..., Path]
) -> None:
    made = timm_weights("wide_resnet50_2", TEACHER) | timm_weights("wide_resnet50_2", STUDENT, 1)
    file = lightning_file(made, layers=["layer2", "layer3"])
    detector = read(file, CONFIG, weights=None, progress=Silent()).detector
    assert isinstance(detector, Stfpm)
    assert (detector.config.backbone, detector.config.taps) == ("wide_resnet50_2", ("layer2", "layer3"))


def test_a_damaged_file_says_so(state: dict[str, Tensor], lightning_file: Callable[..., Path]) -> None:
    without = {key: value for key, value in state.items() if not key.startswith(STUDENT)}
    with pytest.raises(WeightsError, match=r"Stfpm: it has nothing under model\.student_model"):
        read(lightning_file(without), CONFIG, weights=None, progress=Silent())
    key = STUDENT + "layer2.0.conv1.weight"
    with pytest.raises(WeightsError, match=r"layer2\.0\.conv1\.weight is \(1,\) there"):
        read(lightning_file({**state, key: torch.zeros(1)}), CONFIG, weights=None, progress=Silent())
    with pytest.raises(UsageError, match=r"--weights .*leave it out"):
        read(lightning_file(state), CONFIG, weights=Path("w.pth"), progress=Silent())
