"""Exact algebra: one file per detector."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgead.discovery import load

if TYPE_CHECKING:
    from torch import nn

    from edgead.detectors._base import Detector


def lower(detector: Detector) -> nn.Module:
    """The same function as `detector` in evaluation mode, as few and as plain operations as algebra allows.

    The file of the detector's name does it: its ``lower(detector)`` returns a module that maps
    (N, H, W, 3) uint8 RGB to `DetectorOutput`, in the detector's dtype, computed in float64.

    Raises:
        UsageError: no lowering of that name.
    """
    lowered: nn.Module = load("edgead.exporters.lowering", detector.name, kind="lowering").lower(detector)
    return lowered
