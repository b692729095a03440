"""The networks against the authors' counts and names, and the step against a plain reading of the paper."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from edgead.detectors._diffusion_networks import AttentionBlock, ResidualBlock, Sinusoids
from edgead.detectors._diffusion_schedule import kept_shares
from edgead.detectors._presets import PRESETS
from edgead.detectors.diffusionad import DiffusionAd
from edgead.errors import UsageError

TINY: dict[str, Any] = {
    "base": 8,
    "blocks": 1,
    "groups": 2,
    "heads": 2,
    "segmentation_width": 4,
    "geometry": {"height": 32, "width": 64},
}


def gmac(network: nn.Module, *inputs: Tensor) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*inputs)
    return counter.get_total_flops() / 2e9


# Preset to (parameters, GMAC per pass) of the denoising, then of the segmentation network; full and the
# denoising part of small are the specification's counts, of other code.
COUNTS = {
    "diffusionad_full": ((131_654_403, 281.6), (28_373_569, 38.0)),
    "diffusionad_small": ((32_952_707, 71.3), (7_099_681, 9.57)),
    "diffusionad": ((1_460_739, 3.32), (1_778_065, 2.43)),
}


@pytest.mark.parametrize("name", COUNTS)
def test_sizes_are_those_that_the_presets_name(name: str) -> None:
    with torch.device("meta"):
        detector = DiffusionAd.from_config(PRESETS[name]["config"])
        inputs = ((torch.empty(1, 3, 256, 256), torch.zeros(1).long()), (torch.empty(1, 6, 256, 256),))
        found = [
            (sum(value.numel() for value in network.parameters()), gmac(network, *given))
            for network, given in zip((detector.unet, detector.segmentation), inputs, strict=True)
        ]
    for (parameters, macs), (wanted_parameters, wanted_macs) in zip(found, COUNTS[name], strict=True):
        assert parameters == wanted_parameters
        assert macs == pytest.approx(wanted_macs, rel=2e-3)
    told = PRESETS[name]["summary"]
    assert f"{found[0][0] / 1e6:.1f} M and {found[1][0] / 1e6:.1f} M parameters" in told
    total = float(re.search(r"([\d.]+) GMAC", told)[1])  # type: ignore[index]
    assert total == pytest.approx(2 * found[0][1] + found[1][1], rel=5e-3)


def test_names_are_the_authors() -> None:
    """Spec §12: counts of tensors, and the places that a rebuilt network gets wrong first."""
    with torch.device("meta"):
        detector = DiffusionAd.from_config(PRESETS["diffusionad_full"]["config"])
    unet, segmentation = detector.unet.state_dict(), detector.segmentation.state_dict()
    assert (len(unet), len(segmentation)) == (566, 191)
    for name, shape in {
        "time_embedding.1.weight": (512, 128),
        "time_embedding.3.bias": (512,),
        "down.0.0.weight": (128, 3, 3, 3),
        "down.3.0.in_layers.2.weight": (128, 128, 3, 3),
        "down.7.0.skip_connection.weight": (256, 128, 1, 1),
        "down.10.1.to_qkv.weight": (768, 256, 1),
        "middle.1.proj_out.weight": (512, 512, 1),
        "middle.2.embed_layers.1.weight": (512, 512),
        "up.2.2.out_layers.3.weight": (512, 512, 3, 3),
        "up.5.0.in_layers.0.weight": (768,),
        "up.6.1.norm.bias": (256,),
        "up.11.1.out_layers.0.weight": (256,),
        "up.14.1.in_layers.2.bias": (128,),
        "up.17.0.skip_connection.weight": (128, 256, 1, 1),
        "out.2.weight": (3, 128, 3, 3),
    }.items():
        assert tuple(unet[name].shape) == shape, name
    for name, shape in {
        "encoder_segment.block1.0.weight": (64, 6, 3, 3),
        "encoder_segment.block6.4.running_var": (512,),
        "decoder_segment.up_b.1.weight": (512, 512, 3, 3),
        "decoder_segment.db_b.0.weight": (512, 1024, 3, 3),
        "decoder_segment.db1.0.weight": (256, 768, 3, 3),
        "decoder_segment.up2.2.weight": (128,),
        "decoder_segment.db4.3.weight": (64, 64, 3, 3),
        "decoder_segment.fin_out.0.weight": (1, 64, 3, 3),
    }.items():
        assert tuple(segmentation[name].shape) == shape, name


def test_the_schedule_is_the_specification_s() -> None:
    shares = kept_shares()
    product = math.prod(1 - (1e-4 + t * (0.02 - 1e-4) / 999) for t in range(401))
    assert float(shares[400]) == pytest.approx(product, rel=1e-12)
    assert float(shares[200]) == pytest.approx(0.656347006, abs=5e-10)
    assert float(shares[400]) == pytest.approx(0.193572010, abs=5e-10)


def test_sinusoids_are_sines_then_cosines() -> None:
    found = Sinusoids(8)(torch.tensor([0, 400]))
    expected = [[f(t * 10000 ** (-i / 4)) for f in (math.sin, math.cos) for i in range(4)] for t in (0, 400)]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_attention_is_per_head_with_q_k_v_side_by_side() -> None:
    """Loops over heads and positions in NumPy."""
    torch.manual_seed(0)
    block = AttentionBlock(8, heads=2, groups=2).double()
    x = torch.randn(1, 8, 2, 3, dtype=torch.float64)
    with torch.no_grad():
        found = block(x, x)[0].reshape(8, 6).numpy()
        normed = block.norm(x.reshape(1, 8, 6))[0].numpy()
    weight, bias = (value.detach().numpy() for value in (block.to_qkv.weight[..., 0], block.to_qkv.bias))
    rows = weight @ normed + bias[:, None]
    seen = np.empty((8, 6))
    for head in range(2):
        q, k, v = (rows[12 * head + 4 * part : 12 * head + 4 * part + 4] for part in range(3))
        for place in range(6):
            similar = np.exp([q[:, place] @ k[:, other] / 2 for other in range(6)])  # √4 = 2
            seen[4 * head : 4 * head + 4, place] = v @ (similar / similar.sum())
    out = (
        block.proj_out.weight[..., 0].detach().numpy() @ seen + block.proj_out.bias.detach().numpy()[:, None]
    )
    np.testing.assert_allclose(found, x.reshape(8, 6).numpy() + out, atol=1e-12)


@pytest.mark.parametrize(("how", "size"), [("down", (2, 3)), ("up", (8, 12)), (None, (4, 6))])
def test_a_block_that_does_nothing_passes_its_input_resampled(how: str | None, size: tuple[int, int]) -> None:
    block = ResidualBlock(4, 4, 8, 2, how)
    nn.init.zeros_(block.out_layers[3].weight)
    nn.init.zeros_(block.out_layers[3].bias)
    x = torch.randn(1, 4, 4, 6)
    with torch.no_grad():
        found = block(x, torch.randn(1, 8))
    assert found.shape[2:] == size
    same = x.reshape(1, 4, 2, 2, 3, 2).mean((3, 5)) if how == "down" else x
    same = same.repeat_interleave(2, 2).repeat_interleave(2, 3) if how == "up" else same
    torch.testing.assert_close(found, same)


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.5])
def test_the_guided_step_is_a_blend_of_both_estimates(guidance: float) -> None:
    """Spec §4: with g = w·(1 − ᾱ), x0 = clip((1 − g)·light + g·clip(heavy)), whatever the network guesses."""
    torch.manual_seed(1)
    detector = DiffusionAd.from_config({**TINY, "guidance": guidance}).double().eval()
    x = torch.rand(2, 3, 32, 64, dtype=torch.float64)
    levels = torch.tensor([[200, 0], [400, 999]])
    noise = 3 * torch.randn(2, 2, 3, 32, 64, dtype=torch.float64)
    with torch.no_grad():
        found, (light, heavy) = detector.reconstruct(x, noise, levels)
    assert bool((found.abs() == 1).any())
    assert bool((found.abs() < 1).any())
    for index in range(2):
        (a, b) = (float(kept_shares()[level]) for level in levels[:, index])
        g = guidance * (1 - a)
        fine = x[index] + math.sqrt(1 / a - 1) * (noise[0, index] - light[index])
        coarse = (x[index] + math.sqrt(1 / b - 1) * (noise[1, index] - heavy[index])).clamp(-1, 1)
        torch.testing.assert_close(
            found[index], ((1 - g) * fine + g * coarse).clamp(-1, 1), atol=1e-11, rtol=0
        )


def test_the_score_of_an_image_does_not_depend_on_its_company_nor_on_chance() -> None:
    detector = DiffusionAd.from_config(TINY).double().eval()
    image = torch.randint(0, 256, (3, 32, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        together = detector(image).anomaly_map
        torch.manual_seed(5)
        alone = detector(image[1:2]).anomaly_map
    torch.testing.assert_close(together[1:2], alone, atol=1e-12, rtol=0)


def test_noise_comes_from_its_generator_alone() -> None:
    one, two = DiffusionAd.from_config(TINY), DiffusionAd.from_config(TINY)
    assert not torch.equal(one.noise, two.noise)
    for detector in (one, two):
        detector.draw_noise(torch.Generator().manual_seed(3))
    assert torch.equal(one.noise, two.noise)
    assert float(one.noise.std()) == pytest.approx(1, abs=0.05)
    assert "noise" in one.state_dict()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"geometry": {"height": 48, "width": 64}}, "48x64; the networks halve it 5 times.*multiple of 32"),
        ({"geometry": {"height": 64, "width": 64}, "multipliers": [1] * 8}, "7 times.*multiple of 128"),
        ({"base": 9}, "base 9 must be even and divide into 2 groups"),
        ({"groups": 3}, "base 8 must be even and divide into 3 groups"),
        ({"heads": 3}, "16 channels do not divide into 3 heads"),
        ({"levels": [400, 200]}, "levels"),
        ({"levels": [200, 1000]}, "levels"),
        ({"segmentation_width": 0}, "at least 1"),
        ({"width": 3}, "does not fit.*width"),
    ],
)
def test_a_config_that_cannot_be_says_why(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        DiffusionAd.from_config({**TINY, **changes})


def test_the_config_gives_the_same_network_back() -> None:
    detector = DiffusionAd.from_config({**TINY, "multipliers": [1, 2, 2], "attention": [4]})
    again = DiffusionAd.from_config(detector.config_dict())
    assert again.config == detector.config
    again.load_state_dict(detector.state_dict())
