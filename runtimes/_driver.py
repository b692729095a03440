"""What a session needs of whoever drives an engine: Python, libedgead, or Python with all work on a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from edgead.types import Prediction, Thresholds

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.imaging.frame import Frame

RuntimeName = Literal["native", "python", "cuda"]
RUNTIMES: tuple[RuntimeName, ...] = ("native", "python", "cuda")


class RawScores(NamedTuple):
    """What calibration and verification look at, in raw units.

    score_raw: the image score. map_max: maximum of `anomaly_map`. anomaly_map: (h, w) float32.
    """

    score_raw: float
    map_max: float
    anomaly_map: npt.NDArray[np.float32]


class Scorer(Protocol):
    """Scores network pixels: an engine and the map operator in a row."""

    def scores_of(self, pixels: npt.NDArray[np.uint8]) -> RawScores:
        """Raw score and map of what the network sees, (1, H, W, 3) uint8 RGB.

        Raises:
            InternalError: an array of another shape or type.
            EngineError: the engine failed.
        """


class Driver(Scorer, Protocol):
    """One opened target: frame in, prediction or raw scores out. One thread at a time."""

    thresholds: Thresholds
    """The limits that decide; they may be set."""

    @property
    def name(self) -> RuntimeName:
        """Who drives."""

    def predict(self, frame: Frame) -> Prediction:
        """Judge one frame; see `Session.predict`."""

    def scores(self, frame: Frame) -> RawScores:
        """Raw score and map of one frame; no threshold counts."""

    def close(self) -> None:
        """Free the engine; closing twice is harmless."""
