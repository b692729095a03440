"""What every importer is: a file named after its source, with a default preset and `read`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from edgead import discovery
from edgead.backbones._weights import LoadedWeights
from edgead.detectors._base import Detector
from edgead.progress import Progress


class Importer(Protocol):
    """What a file in this folder offers."""

    DEFAULT_PRESET: str

    def read(
        self, checkpoint: Path, config: Mapping[str, Any], *, weights: Path | None, progress: Progress
    ) -> tuple[Detector, LoadedWeights | None]:
        """The detector that `checkpoint` holds, and where its backbone came from if not from there.

        `config` gives what the checkpoint does not say; what it does say (sizes of layers) overrides it.

        Raises:
            WeightsError: the checkpoint is not one of this source, or does not fit `config`.
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
