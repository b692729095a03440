"""What trainings of denoising networks share: the random start, and running averages of the weights."""

from __future__ import annotations

import torch
from torch import nn

from edgead.detectors._denoising import DenoisingDetector
from edgead.detectors._diffusion_networks import AttentionBlock, ResidualBlock
from edgead.training._seeds import derive, generator


def initialise(detector: DenoisingDetector, seed: int) -> None:
    """Give the networks their random start and draw the noise.

    Torch's own start, but the last layer of each residual branch and of the denoising network is 0, as in the
    diffusion networks that this one descends from: the network begins as a short one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights"))
        for module in detector.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear | nn.BatchNorm2d | nn.GroupNorm):
                module.reset_parameters()
    last = [detector.unet.out[-1]]
    last += [block.out_layers[-1] for block in detector.unet.modules() if isinstance(block, ResidualBlock)]
    last += [block.proj_out for block in detector.unet.modules() if isinstance(block, AttentionBlock)]
    for layer in last:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
    detector.draw_noise(generator(seed, "noise"))


@torch.no_grad()
def take_average(average: nn.Module, now: nn.Module, kept: float, done: int) -> None:
    """Move `average` a step toward `now`, statistics of batch norms included.

    Args:
        average: of the same network as `now`; changed in place.
        now: what was just trained.
        kept: of the average in the long run; less at first, so that the random start is forgotten.
        done: steps before this one.
    """
    kept = min(kept, (1 + done) / (10 + done))
    values = now.state_dict()
    for key, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(values[key], 1 - kept)
        else:
            value.copy_(values[key])
