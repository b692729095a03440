"""What every importer is: a file named after its source, with a default preset and `read`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from edgead import discovery
from edgead.backbones._weights import LoadedWeights
from edgead.detectors._base import Detector
from edgead.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What a user gives for what a checkpoint lacks: good images, or the values themselves.

    Attributes:
        path: where it came from, for messages.
        pixels: (N, H, W, 3) uint8 RGB, or None.
        values: of a JSON side-car, or None.
    """

    path: Path
    pixels: npt.NDArray[np.uint8] | None = None
    values: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """What a checkpoint became.

    Attributes:
        detector: in evaluation mode.
        backbone_weights: where the backbone came from, if not from the checkpoint.
        preset: the preset that the checkpoint turned out to be; None = the one that was asked for.
        notes: JSON values for the MODEL's provenance, such as the thresholds that the checkpoint held.
    """

    detector: Detector
    backbone_weights: LoadedWeights | None = None
    preset: str | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


class Importer(Protocol):
    """What a file in this folder offers.

    Attributes:
        DEFAULT_PRESET: gives what the checkpoint does not say.
        WHOLE_FRAME: whether the source squeezes the whole frame to a square, instead of cutting its centre.
    """

    DEFAULT_PRESET: str
    WHOLE_FRAME: bool

    def read(
        self,
        checkpoint: Path,
        config: Mapping[str, Any],
        *,
        weights: Path | None,
        calib: Calibration | None = None,
        progress: Progress,
    ) -> Imported:
        """The detector that `checkpoint` holds.

        `config` gives what the checkpoint does not say; what it does say (sizes of layers) overrides it.

        Raises:
            UsageError: `weights` or `calib` is given, and the source has no use for it.
            WeightsError: the checkpoint is not one of this source, or does not fit `config`, or lacks what
                only `calib` can give.
        """


def sources() -> tuple[str, ...]:
    """All sources that can be imported from."""
    return discovery.stems("edgead.checkpoints")


def importer(source: str) -> Importer:
    """The importer for `source`.

    Raises:
        UsageError: there is no such source.
    """
    return cast(Importer, discovery.load("edgead.checkpoints", source, kind="source of checkpoints"))
