"""FastFlow lowered: no global scales and offsets, no log-determinants, no last change of order.

A step takes x = (x1, x2) to G·(x1, x2·eˢ + t) + o, in another order of channels. What is kept is u, with
x = γ·(u + δ) per channel, γ > 0, and γ, δ known when the graph is made:

* the first convolution reads γ·(u1 + δ1): γ goes into its weights. What it makes of γ·δ alone, with zeros
  around it, is a bias: one number per output for 1 × 1 kernels, else a stored picture, which differs at
  the border, where the padded zeros are zeros of x, not of u;
* the second convolution is two, one for s and one for t, which saves a Split and lets OpenVINO 2026.4 compute
  with s what follows it; it takes the factor 0.1, and t the factor 1/γ2 and all of the offset:
  u2' = (u2 + δ2)·eˢ + t/γ2 + o2/(G2·γ2), so x2' = G2·γ2·u2' with nothing left to add;
* x1' = G1·x1 + o1 leaves u1 as it is: γ1' = G1·γ1 and δ1' = δ1 + o1/γ1'.

The order of channels is a gather, for none of the steps a product with a one-hot matrix; after the last step
it is left out, since ½·mean z² does not see it: Σ (a·u + b)², a = γ·√(½/C), b = a·δ.
The up-samplings and their mean are one product (`_upsampled_sum`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.detectors._base import DetectorOutput
from edgead.detectors._flow import DAMPING, FlowStep
from edgead.detectors.fastflow import FastFlow
from edgead.exporters._qdq import Int8Recipe
from edgead.exporters.lowering._fold import fold_backbone
from edgead.exporters.lowering._upsampled_sum import UpsampledSum
from edgead.imaging.map_operator import upsample_matrix

# Map arithmetic, which few values would blur. A likelihood falls without end where a defect is, so that the
# map's deviation is that of its defects: an error of 0.1 of it cost 0.6 points of AU-PRO, 0.05 cost 0.2.
INT8 = Int8Recipe(keep_float=("together/*",), map_error=0.05)


class _LoweredStep(nn.Module):
    """One coupling on u.

    Attributes:
        first, scale, shift: the convolutions; the last two give s before the clamp, and t.
        picture: (1, hidden, h, w), added to the first one's output; None where its bias is enough.
        delta: (1, changed, 1, 1), δ2.
        order: of the output's channels; None after the last step.
    """

    picture: Tensor | None
    delta: Tensor
    order: Tensor | None

    def __init__(
        self,
        first: nn.Conv2d,
        scale: nn.Conv2d,
        shift: nn.Conv2d,
        *,
        clamp: float,
        picture: Tensor | None,
        delta: Tensor,
        order: Tensor | None,
    ) -> None:
        super().__init__()
        self.first, self.scale, self.shift, self.clamp = first, scale, shift, clamp
        for name, value in (("picture", picture), ("delta", delta), ("order", order)):
            self.register_buffer(name, value)
        self.passed = first.in_channels

    def forward(self, u: Tensor) -> Tensor:
        """(N, C, h, w) to the same."""
        passed, changed = u[:, : self.passed], u[:, self.passed :]
        hidden = self.first(passed)
        if self.picture is not None:
            hidden = hidden + self.picture
        hidden = hidden.relu()
        grown = (changed + self.delta) * torch.exp(self.clamp * torch.tanh(self.scale(hidden)))
        joined = torch.cat([passed, grown + self.shift(hidden)], dim=1)
        return joined if self.order is None else joined.index_select(1, self.order)


class LoweredFlow(nn.Module):
    """A flow and the likelihood of what it gives.

    Args:
        steps: of the flow, float64; not changed.
        grid: (h, w) of the features.
    """

    gain: Tensor
    offset: Tensor

    def __init__(self, steps: list[FlowStep], grid: tuple[int, int]) -> None:
        super().__init__()
        channels = len(steps[0].order)
        gamma = torch.ones(channels, dtype=torch.float64)
        delta = torch.zeros(channels, dtype=torch.float64)
        lowered = []
        for number, step in enumerate(steps):
            made, gamma, delta = _lower_step(step, gamma, delta, grid, last=number == len(steps) - 1)
            lowered.append(made)
        self.steps = nn.Sequential(*lowered)
        gain = gamma * (0.5 / channels) ** 0.5
        self.register_buffer("gain", gain.view(1, -1, 1, 1))
        self.register_buffer("offset", (gain * delta).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to exp(−½·mean z²), (N, 1, h, w)."""
        z = self.steps(x) * self.gain + self.offset
        return torch.exp(-z.square().sum(1, keepdim=True))


class LoweredFastFlow(nn.Module):
    """What goes into the graph.

    Attributes:
        offset: (3, 1, 1), subtracted from the pixels; their scaling is in the first weights.
        backbone: without batch norms.
        norms: as they are.
        flows: `LoweredFlow` each.
        together: the likelihoods to the map (`UpsampledSum`).
    """

    offset: Tensor

    def __init__(
        self,
        offset: Tensor,
        backbone: nn.Module,
        norms: nn.ModuleList,
        flows: list[LoweredFlow],
        together: UpsampledSum,
    ) -> None:
        super().__init__()
        self.register_buffer("offset", offset)
        self.backbone, self.norms, self.together = backbone, norms, together
        self.flows = nn.ModuleList(flows)

    def forward(self, image: Tensor) -> DetectorOutput:
        """Score (N, H, W, 3) uint8 RGB images; the map is (N, 1, H, W)."""
        taps = self.backbone(image.permute(0, 3, 1, 2).to(self.offset.dtype) - self.offset)
        found = [flow(norm(tap)) for tap, norm, flow in zip(taps, self.norms, self.flows, strict=True)]
        return DetectorOutput(self.together(found))


def lower(detector: FastFlow) -> LoweredFastFlow:
    """The same function as `detector` in evaluation mode, folded in float64, in the detector's own dtype.

    It shares the norms with `detector`, which must stay as it is.
    """
    mean, std = detector.backbone.mean, detector.backbone.std.double()
    backbone = fold_backbone(detector.backbone, torch.rand(1, 3, 64, 64), 1 / (255 * std.flatten()))
    size, count = detector.geometry.input_size, len(detector.grids)
    axes = [
        [torch.from_numpy(upsample_matrix(grid[axis], size[axis], "bilinear")) for grid in detector.grids]
        for axis in (0, 1)
    ]
    together = UpsampledSum([-matrix / count for matrix in axes[0]], axes[1])
    with torch.no_grad():
        flows = [
            LoweredFlow([step for step in flow.steps if isinstance(step, FlowStep)], grid)  # type: ignore[union-attr]
            for flow, grid in zip(detector.flows, detector.grids, strict=True)
        ]
    lowered = LoweredFastFlow(
        (255 * mean.double()).to(mean.dtype),
        backbone.to(mean.dtype),
        detector.norms,
        [flow.to(mean.dtype) for flow in flows],
        together.to(mean.dtype),
    )
    return lowered.eval()


def _lower_step(
    step: FlowStep, gamma: Tensor, delta: Tensor, grid: tuple[int, int], *, last: bool
) -> tuple[_LoweredStep, Tensor, Tensor]:
    """The step on u, and γ and δ of what it gives."""
    first, second = step.subnet[0], step.subnet[2]
    assert isinstance(first, nn.Conv2d)
    assert isinstance(second, nn.Conv2d)
    assert first.bias is not None
    assert second.bias is not None
    cut, kernel = step.passed, first.kernel_size[0]
    scale, offset = step.scale.double().flatten(), step.global_offset.double().flatten()

    weight, bias, picture = first.weight.double(), first.bias.double(), None
    if bool(delta[:cut].any()):
        constant = (gamma * delta)[:cut].view(1, -1, 1, 1)
        if kernel == 1:
            bias = bias + F.conv2d(constant, weight).flatten()
        else:
            picture = F.conv2d(constant.expand(1, cut, *grid), weight, padding=kernel // 2)
    made_first = _conv(weight * gamma[:cut].view(1, -1, 1, 1), bias)

    weights, biases = (DAMPING * one.double() for one in (second.weight, second.bias))
    share, changed = 1 / gamma[cut:], step.changed
    made_scale = _conv(weights[:changed], biases[:changed])
    made_shift = _conv(
        weights[changed:] * share.view(-1, 1, 1, 1),
        biases[changed:] * share + offset[cut:] / (scale * gamma)[cut:],
    )

    after = scale * gamma
    left = torch.cat([delta[:cut] + (offset / after)[:cut], torch.zeros_like(delta[cut:])])
    order = None if last else step.order.cpu().clone()
    made = _LoweredStep(
        made_first,
        made_scale,
        made_shift,
        clamp=step.clamp,
        picture=picture,
        delta=delta[cut:].view(1, -1, 1, 1).clone(),
        order=order,
    )
    return (made, after, left) if order is None else (made, after[order], left[order])


def _conv(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    outputs, inputs, kernel, _ = weight.shape
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, dtype=torch.float64)
    conv.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    conv.bias = nn.Parameter(bias.contiguous(), requires_grad=False)
    return conv
