"""ReverseDistillation as anomalib's state dicts have it: the authors' names, and layers that nothing uses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.checkpoints.anomalib import read
from edgead.detectors.reverse_distillation import ReverseDistillation
from edgead.errors import UsageError, WeightsError
from edgead.imaging.postprocess import Postprocess
from edgead.progress import Silent

CONFIG: dict[str, Any] = {"geometry": {"height": 64, "width": 64}}
ENCODER = "model.encoder.feature_extractor."


def network(backbone: str, **options: int) -> ReverseDistillation:
    torch.manual_seed(3)
    config = {"backbone": backbone, "taps": ["layer1", "layer2", "layer3"], **CONFIG, **options}
    return ReverseDistillation.from_config(config).eval()


def state_dict(
    timm_weights: Callable[..., dict[str, Tensor]], backbone: str = "resnet18", **options: int
) -> dict[str, Tensor]:
    """With the unused fourth layer of the embedding, 1024·e to 512·e channels."""
    made, own = timm_weights(backbone, ENCODER), network(backbone, **options).state_dict()
    made |= {f"model.{key}": value for key, value in own.items() if not key.startswith("encoder.")}
    width = 512 if backbone == "resnet18" else 2048
    made["model.bottleneck.conv4.weight"] = torch.zeros(width, 2 * width, 1, 1)
    for key in ("weight", "bias", "running_mean", "running_var"):
        made[f"model.bottleneck.bn4.{key}"] = torch.zeros(width)
    made["model.bottleneck.bn4.num_batches_tracked"] = torch.tensor(0)
    return made


def opened(file: Path) -> Any:
    return read(file, CONFIG, weights=None, progress=Silent())


def test_map_and_score_are_anomalib_s(
    timm_weights: Callable[..., dict[str, Tensor]],
    lightning_file: Callable[..., Path],
    anomalib_blur: Callable[[Tensor], Tensor],
) -> None:
    state = state_dict(timm_weights)
    made = opened(lightning_file(state, anomaly_map_mode="add"))
    assert made.preset == "reverse_distillation_resnet18"
    plain = network("resnet18")
    plain.encoder.load_state_dict(
        {key.removeprefix(ENCODER): value for key, value in state.items() if key.startswith(ENCODER)}
    )
    image = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    expected = torch.zeros(1, 1, 64, 64)
    with torch.no_grad():
        taps = plain.encoder((image.permute(0, 3, 1, 2) / 255 - mean) / std)
        for taught, rebuilt in zip(taps, plain.decoder(plain.bottleneck(taps)), strict=True):
            one = (1 - F.cosine_similarity(taught, rebuilt)).unsqueeze(1)
            expected += F.interpolate(one, size=(64, 64), mode="bilinear", align_corners=True)
        raw = made.detector(image).anomaly_map[0].numpy()
    score, _, found = Postprocess(made.detector.post_recipe).scores(raw)
    torch.testing.assert_close(torch.from_numpy(found), anomalib_blur(expected)[0, 0], rtol=1e-4, atol=1e-5)
    assert score == pytest.approx(float(anomalib_blur(expected).max()), rel=1e-4)


@pytest.mark.parametrize("width", [1, 2])
def test_the_paper_s_size_is_seen_and_has_the_published_number_of_tensors(
    timm_weights: Callable[..., dict[str, Tensor]], lightning_file: Callable[..., Path], width: int
) -> None:
    state = state_dict(timm_weights, "wide_resnet50_2", embedding_width=width)
    # anomalib's blocks have 512 channels inside, the authors' 1024.
    assert state["model.bottleneck.bn_layer.1.conv2.weight"].shape == (512 * width, 512 * width, 3, 3)
    assert sum(key.startswith(ENCODER) for key in state) == 258
    assert len(state) + 6 == 600  # with the post-processor's thresholds and limits
    made = opened(lightning_file(state))
    assert made.preset == "reverse_distillation_wrn50"
    assert made.detector.config.embedding_width == width


def test_a_damaged_file_says_so(
    timm_weights: Callable[..., dict[str, Tensor]], lightning_file: Callable[..., Path]
) -> None:
    state = state_dict(timm_weights)
    key = "model.decoder.layer2.0.conv1.weight"
    without = {name: value for name, value in state.items() if name != key}
    for changed in (without, {**state, key: torch.zeros(1)}):
        with pytest.raises(WeightsError, match=r"model\.decoder is not .*layer2\.0\.conv1\.weight"):
            opened(lightning_file(changed))
    with pytest.raises(WeightsError, match=r"model\.bottleneck is not"):
        opened(lightning_file({**state, "model.bottleneck.memory": torch.zeros(1)}))
    with pytest.raises(WeightsError, match="is no ResNet"):
        opened(lightning_file({name: v for name, v in state.items() if not name.startswith(ENCODER)}))
    with pytest.raises(UsageError, match="'multiply'; edgead reads add"):
        opened(lightning_file(state, anomaly_map_mode="multiply"))
