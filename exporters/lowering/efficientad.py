"""EfficientAD lowered: what is affine between two non-linearities is one convolution.

With W, b the last convolution of the teacher (T), of the student's two halves (1, 2) and of the autoencoder
(A), which no activation follows, h the features before it, μ, σ the teacher's statistics and c = 384:

    t − s1 = [W_T/σ, −W_1] ∗ [h_T; h_S] + (b_T − μ)/σ − b_1,   a − s2 = W_A ∗ h_A + b_A − W_2 ∗ h_S − b_2
    D = Σ (difference/√c)²,   1/√c in the weights

A first convolution without padding takes the pixels as they are: with m, s ImageNet's mean and deviation,
W ∗ ((x/255 − m)/s) = (W/255s) ∗ x − Σ W·m/s. Where zeros are padded, they stand for the mean colour, so
255·m is subtracted first, and only the scaling is in the weights.

The exact forms (`Folds`) were measured against each other: `benchmarks/suites/efficientad_lowering.py`. The
convolutions bind, so they differ by 1 % on S and 3 % on the edge size at most; the shipped ones have the
fewest tensors between them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgead.detectors._base import DetectorOutput
from edgead.detectors._efficientad_networks import CHANNELS
from edgead.detectors.efficientad import EfficientAd


@dataclass(frozen=True, slots=True, kw_only=True)
class Folds:
    """Exact alternatives; every combination is the same function.

    Attributes:
        raw_pixels: without padding, teacher and student read pixels 0 … 255; else pixels minus the mean.
        joint_difference: t − s1 as one convolution over both networks' features; else the sum of two.
        shared_stem: teacher's and student's first convolution as one, split behind the first pooling.
        scaled: 1/√384 in the last weights and a sum of squares; else a mean of squares.
    """

    raw_pixels: bool = True
    joint_difference: bool = True
    shared_stem: bool = False
    scaled: bool = True


class LoweredEfficientAd(nn.Module):
    """What goes into the graph.

    Attributes:
        offset: (3, 1, 1), 255 × the mean colour.
        stem: the first layers of both networks at once, or None.
        teacher, student: the layers up to the last convolution (without those of the stem).
        joint: t − s1 from both networks' features, or None: then `last_teacher` and `last_student`.
        rest: −s2 from the student's features.
        ae: the autoencoder.
    """

    offset: Tensor

    def __init__(
        self, folds: Folds, *, padding: bool, offset: Tensor, parts: Mapping[str, nn.Module]
    ) -> None:
        super().__init__()
        self.raw_pixels = folds.raw_pixels and not padding
        self.scaled = folds.scaled
        self.register_buffer("offset", offset)
        self.stem = parts.get("stem")
        self.teacher, self.student = parts["teacher"], parts["student"]
        self.joint = parts.get("joint")
        self.last_teacher, self.last_student = parts.get("last_teacher"), parts.get("last_student")
        self.rest, self.ae = parts["rest"], parts["ae"]

    def forward(self, image: Tensor) -> DetectorOutput:
        """Score (N, H, W, 3) uint8 RGB images; the maps are (N, 2, h, w)."""
        pixels = image.permute(0, 3, 1, 2).to(self.offset.dtype)
        centred = pixels - self.offset
        of_teacher, of_student = self._features(pixels if self.raw_pixels else centred)
        if self.joint is not None:
            first = self.joint(torch.cat([of_teacher, of_student], dim=1))
        else:
            assert self.last_teacher is not None
            assert self.last_student is not None
            first = self.last_teacher(of_teacher) + self.last_student(of_student)
        second = self.ae(centred) + self.rest(of_student)
        return DetectorOutput(torch.cat([self._square(first), self._square(second)], dim=1))

    def _features(self, image: Tensor) -> tuple[Tensor, Tensor]:
        if self.stem is None:
            return self.teacher(image), self.student(image)
        of_teacher, of_student = self.stem(image).chunk(2, dim=1)
        return self.teacher(of_teacher), self.student(of_student)

    def _square(self, difference: Tensor) -> Tensor:
        squares = difference.square()
        return squares.sum(1, keepdim=True) if self.scaled else squares.mean(1, keepdim=True)


def lower(detector: EfficientAd, folds: Folds | None = None) -> LoweredEfficientAd:
    """The same function as `detector` in evaluation mode, folded in float64, in the detector's own dtype.

    Args:
        detector: not changed.
        folds: which of the exact forms; None = the shipped ones.
    """
    folds = Folds() if folds is None else folds
    dtype, padding = detector.mean.dtype, detector.config.padding
    mean, std = detector.mean.double(), detector.std.double()
    own = copy.deepcopy(detector).double().requires_grad_(False).eval()
    teacher, student, ae = own.teacher, own.student, own.ae
    ae.decoder.dropout = nn.Identity()  # type: ignore[assignment]
    raw = folds.raw_pixels and not padding
    for network in (teacher, student):
        _take_pixels(_convolution(network[0]), mean if raw else None, std)
    _take_pixels(ae.encoder.enconv1, None, std)

    last_t, last_s, last_a = _convolution(teacher[-1]), _convolution(student[-1]), ae.decoder.layers[-1]
    deviation = detector.teacher_std.double().flatten()
    weight_t = last_t.weight / deviation.view(-1, 1, 1, 1)
    bias_t = (_bias(last_t) - detector.teacher_mean.double().flatten()) / deviation
    weight_s, bias_s = -last_s.weight, -_bias(last_s)
    scale = CHANNELS**-0.5 if folds.scaled else 1.0
    weight_t, bias_t, weight_s, bias_s = (value * scale for value in (weight_t, bias_t, weight_s, bias_s))
    last_a.weight.mul_(scale)
    _bias(last_a).mul_(scale)

    parts: dict[str, nn.Module] = {"teacher": teacher[:-1], "student": student[:-1], "ae": ae}
    if folds.shared_stem:
        parts |= _share_stem(teacher, student)
    parts["rest"] = _conv(weight_s[CHANNELS:], bias_s[CHANNELS:])
    if folds.joint_difference:
        joint = torch.cat([weight_t, weight_s[:CHANNELS]], dim=1)
        parts["joint"] = _conv(joint, bias_t + bias_s[:CHANNELS])
    else:
        parts["last_teacher"] = _conv(weight_t, bias_t)
        parts["last_student"] = _conv(weight_s[:CHANNELS], bias_s[:CHANNELS])
    lowered = LoweredEfficientAd(folds, padding=padding, offset=255 * mean, parts=parts)
    return lowered.to(dtype).requires_grad_(False).eval()


def _take_pixels(first: nn.Conv2d, mean: Tensor | None, std: Tensor) -> None:
    """Make the first convolution read pixels 0 … 255 instead of normalised ones; `mean` None: minus 255·mean.

    Args:
        first: changed in place.
        mean: (3, 1, 1) in [0, 1]; only where no zeros are padded.
        std: (3, 1, 1).
    """
    if mean is not None:
        first.bias = nn.Parameter(_bias(first) - (first.weight * (mean / std)).sum((1, 2, 3)), False)
    first.weight.div_(255 * std)


def _share_stem(teacher: nn.Sequential, student: nn.Sequential) -> dict[str, nn.Module]:
    """All before the second convolution, once for both: outputs of the teacher, then of the student."""
    end = next(index for index in range(1, len(teacher)) if isinstance(teacher[index], nn.Conv2d))
    one, two = _convolution(teacher[0]), _convolution(student[0])
    both = _conv(torch.cat([one.weight, two.weight]), torch.cat([_bias(one), _bias(two)]))
    both.stride, both.padding = one.stride, one.padding
    return {
        "stem": nn.Sequential(both, *list(teacher)[1:end]),
        "teacher": teacher[end:-1],
        "student": student[end:-1],
    }


def _convolution(module: nn.Module) -> nn.Conv2d:
    assert isinstance(module, nn.Conv2d)
    return module


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias


def _conv(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    outputs, inputs, rows, cols = weight.shape
    conv = nn.Conv2d(inputs, outputs, (rows, cols), dtype=torch.float64)
    conv.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    conv.bias = nn.Parameter(bias.contiguous(), requires_grad=False)
    return conv
