"""DiffusionAD lowered: both noise levels as one batch of two, the guided step as a blend of constants.

Beside the network's own folds (`_denoising`), exact steps, in float64, in the detector's notation, with
g = w·(1 − ᾱ) at the light level:

* the guided step is x0 = clip((1 − g)·x0_s + g·clip(x0_b)), of x0_i = x + r_i·(n_i − e_i), r = √(1/ᾱ − 1);
* so with c = −r, the network's last bias b and d = r·(n − b) as a stored picture, x0_i = x + c_i·E + d_i,
  where E is the network's answer without its bias;
* reconstructions are in pixels, 0 … 255, as the image is: the factor 1/255 is in the constants and in the
  segmentation's first weights. Zero padding stays zero;
* the segmentation's batch norms go into their convolutions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgead.detectors._base import DetectorOutput
from edgead.detectors._diffusion_schedule import kept_shares
from edgead.detectors.diffusionad import DiffusionAd
from edgead.exporters.lowering._denoising import LoweredUnet
from edgead.exporters.lowering._fold import fold_backbone

_WHITE = 255.0


class LoweredDiffusionAd(nn.Module):
    """What goes into the graph.

    Attributes:
        scale: (2, 1, 1, 1), √ᾱ/255.
        noise: (2, 3, H, W), √(1 − ᾱ)·n.
        answer_scale: (2, 1, 1, 1), 255·c.
        offset: (2, 3, H, W), 255·d.
        light, heavy: shares of both estimates in the reconstruction.
        batched: whether the levels are one batch; else two passes, for comparison.
    """

    scale: Tensor
    noise: Tensor
    answer_scale: Tensor
    offset: Tensor

    def __init__(self, detector: DiffusionAd, *, batched: bool) -> None:
        super().__init__()
        config = detector.config
        self.batched = batched
        self.unet = LoweredUnet(detector.unet, config.levels)
        shares = kept_shares()[list(config.levels)].view(2, 1, 1, 1)
        drawn = detector.noise.double()
        ratio = (1 / shares - 1).sqrt()
        constants = {
            "scale": shares.sqrt() / _WHITE,
            "noise": (1 - shares).sqrt() * drawn,
            "answer_scale": -_WHITE * ratio,
            "offset": _WHITE * ratio * (drawn - self.unet.bias.double().view(3, 1, 1)),
        }
        for name, value in constants.items():
            self.register_buffer(name, value.to(detector.noise.dtype))
        self.heavy = config.guidance * float(1 - shares[0])
        self.light = 1 - self.heavy
        example = torch.linspace(-1, 1, 6 * 64 * 64, dtype=torch.float64).view(1, 6, 64, 64)
        scale = torch.full((6,), 1 / _WHITE, dtype=torch.float64)
        segmentation = fold_backbone(detector.segmentation, example, scale)
        self.segmentation = segmentation.to(detector.noise.dtype)

    def forward(self, image: Tensor) -> DetectorOutput:
        """Score (1, H, W, 3) uint8 RGB; the map is (1, 1, H, W), 0 … 1."""
        pixels = image.permute(0, 3, 1, 2).to(self.noise.dtype)
        seen = self.scale * pixels + self.noise
        if self.batched:
            answers = self.unet(seen)
        else:
            parts = (slice(0, 1), slice(1, 2))
            answers = torch.cat([self.unet(seen[part], part) for part in parts])
        clean = pixels + self.answer_scale * answers + self.offset
        blend = self.light * clean[:1] + self.heavy * clean[1:].clamp(-_WHITE, _WHITE)
        both = torch.cat([pixels, blend.clamp(-_WHITE, _WHITE)], dim=1)
        return DetectorOutput(torch.sigmoid(self.segmentation(both)))


def lower(detector: DiffusionAd, *, batched: bool = True) -> LoweredDiffusionAd:
    """The same function as `detector` in evaluation mode, folded in float64, in the detector's own dtype.

    It shares the weights that no fold changes with `detector`, which must stay as it is.

    Args:
        detector: not changed.
        batched: whether both noise levels are one batch; the shipped form.
    """
    return LoweredDiffusionAd(detector, batched=batched).requires_grad_(False).eval()
