"""RADAR lowered: the noise level is fixed, and the evidence's edges are one convolution of the last layer's.

Beside the network's own folds (`_denoising`), exact steps, in float64:

* √ᾱ·(x/127.5 − 1) + √(1 − ᾱ)·n is a factor and one stored picture on the pixels 0 … 255;
* the mean of the channels and the last convolution are both linear, so that convolution gives the grey value
  at once: a third of its outputs. Its bias moves no edge and is left out, and the noise that the evidence
  is less is a stored grey picture;
* both Sobel filters are one convolution of two outputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.detectors._base import DetectorOutput
from edgead.detectors._diffusion_schedule import kept_shares
from edgead.detectors.radar import EPS, Radar
from edgead.exporters.lowering._denoising import LoweredUnet

_HALF_WHITE = 127.5


class LoweredRadar(nn.Module):
    """What goes into the graph.

    Attributes:
        scale: (1, 1, 1, 1), √ᾱ/127.5.
        noise: (1, 3, H, W), √(1 − ᾱ)·n − √ᾱ.
        grey: (1, 1, H, W), −n, mean of the channels; 0 where the guess itself is the evidence.
        sobel: (2, 1, 3, 3).
    """

    scale: Tensor
    noise: Tensor
    grey: Tensor
    sobel: Tensor

    def __init__(self, detector: Radar) -> None:
        super().__init__()
        config = detector.config
        self.unet = LoweredUnet(detector.unet, (config.level,))
        last = self.unet.last.weight.double().mean(0, keepdim=True)
        self.unet.last.weight = nn.Parameter(last.to(detector.noise.dtype), requires_grad=False)
        self.unet.last.out_channels = 1
        share = kept_shares()[config.level].view(1, 1, 1, 1)
        drawn = detector.noise.double()
        across = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64).outer(
            torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
        )
        constants = {
            "scale": share.sqrt() / _HALF_WHITE,
            "noise": (1 - share).sqrt() * drawn - share.sqrt(),
            "grey": -drawn.mean(1, keepdim=True) * float(config.evidence == "error"),
            "sobel": torch.stack([across, across.T])[:, None],
        }
        for name, value in constants.items():
            self.register_buffer(name, value.to(detector.noise.dtype).contiguous())

    def forward(self, image: Tensor) -> DetectorOutput:
        """Score (1, H, W, 3) uint8 RGB; the map is (1, 1, H, W)."""
        pixels = image.permute(0, 3, 1, 2).to(self.noise.dtype)
        found = self.unet(self.scale * pixels + self.noise) + self.grey
        edges = F.conv2d(F.pad(found, (1, 1, 1, 1), mode="reflect"), self.sobel)
        return DetectorOutput((edges.square().sum(1, keepdim=True) + EPS).sqrt())


def lower(detector: Radar) -> LoweredRadar:
    """The same function as `detector` in evaluation mode, folded in float64, in the detector's own dtype.

    It shares the weights that no fold changes with `detector`, which must stay as it is.
    """
    return LoweredRadar(detector).requires_grad_(False).eval()
