"""What an opened target gives for the golden images of its bundle, beside what it should give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgead.errors import BundleError, EngineError
from edgead.imaging.frame import read_image

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.bundle.manifest import TargetEntry
    from edgead.bundle.reader import Bundle
    from edgead.runtimes._driver import Scorer


@dataclass(frozen=True, slots=True)
class GoldenShift:
    """The largest shifts of `images` golden images, raw units; inf where something is no number."""

    images: int
    score: float
    map: float

    def within(self, entry: TargetEntry) -> bool:
        """Whether a target's tolerances allow them."""
        return self.score <= entry.score_tolerance and self.map <= entry.map_tolerance


def golden_shift(bundle: Bundle, entry: TargetEntry, scorer: Scorer) -> GoldenShift:
    """Run the golden images, which are what the network sees, through `scorer`, an opened `entry`.

    Raises:
        BundleError: a golden image is not of the network's size.
        EngineError: the engine failed.
    """
    import numpy as np

    score_shift = map_shift = 0.0
    shape = (1, *bundle.manifest.geometry.image_size, 3)
    for image in bundle.golden:
        expected = next(value for value in image.expected if value.target == entry.target)
        score, _, anomaly_map = scorer.scores_of(_network_input(bundle, image.file, shape))
        shift = np.abs(anomaly_map - bundle.golden_map(expected)).max()
        # NaN is a shift without bound
        score_shift = max(score_shift, float(np.nan_to_num(abs(score - expected.score_raw), nan=np.inf)))
        map_shift = max(map_shift, float(np.nan_to_num(shift, nan=np.inf)))
    return GoldenShift(len(bundle.golden), score_shift, map_shift)


def require_golden(bundle: Bundle, entry: TargetEntry, scorer: Scorer) -> None:
    """Refuse a target that was not verified where it was compiled, and is not what its graph was there.

    Raises:
        EngineError: a golden image is beyond the tolerances; the message says what to do.
    """
    found = golden_shift(bundle, entry, scorer)
    if not found.within(entry):
        raise EngineError(f"{entry.target}: the self-test failed; {unverified_problem(entry, found)}")


def unverified_problem(entry: TargetEntry, found: GoldenShift) -> str:
    """How far off an unverified target is, and what to do."""
    return (
        "it was not verified where it was compiled, and does not give here what its graph gave there: golden "
        f"scores are off by up to {found.score:.3g} ({entry.score_tolerance:.3g} is allowed), maps by "
        f"{found.map:.3g} ({entry.map_tolerance:.3g}); choose another target, or let edgead verify BUNDLE "
        f"DATA --target {entry.target} say here what that does to decisions"
    )


def _network_input(bundle: Bundle, file: str, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """(1, H, W, 3) uint8 RGB of a golden PNG."""
    import numpy as np

    frame = read_image(bundle.path(file))
    if frame.pixel_format != "BGR8" or (1, *frame.data.shape) != shape:
        raise BundleError(
            f"{bundle.source}: {file} is {frame.pixel_format} {frame.data.shape}, "
            f"the network's input is {shape}"
        )
    return np.ascontiguousarray(frame.data[None, :, :, ::-1], np.uint8)
