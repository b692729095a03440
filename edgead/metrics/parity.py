"""Parity of two engines in task terms: how far scores move, and how many decisions flip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgead.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Parity:
    """A target held against its reference on the same images; shifts in raw units.

    Attributes:
        images: how many were compared.
        flipped: indices of the images on which the two sides' own decisions differ.
        failed: indices of the images for which one side gave no finite score; they are flips, too.
        shift_p50, shift_p99, shift_max: of |target − reference|, over the images that did not fail.
            Percentiles are observed shifts: the smallest that is not below that share of all shifts. None
            without images.
        score_range: highest − lowest reference score; None without images.
    """

    images: int
    flipped: tuple[int, ...]
    failed: tuple[int, ...]
    shift_p50: float | None
    shift_p99: float | None
    shift_max: float | None
    score_range: float | None

    def to_json(self) -> dict[str, object]:
        """The fields of ``verify --json``: images, flips, failed, score_shift, score_range."""
        return {
            "images": self.images,
            "flips": len(self.flipped),
            "failed": len(self.failed),
            "score_shift": {"p50": self.shift_p50, "p99": self.shift_p99, "max": self.shift_max},
            "score_range": self.score_range,
        }


def compare_scores(
    reference: npt.ArrayLike,
    target: npt.ArrayLike,
    reference_decisions: Sequence[str],
    target_decisions: Sequence[str],
) -> Parity:
    """Compare raw scores and each side's own decisions, image by image.

    Args:
        reference: (N,) raw scores.
        target: (N,) raw scores of the same images, in the same order.
        reference_decisions: N of OK, NG, ERROR, by the reference's thresholds.
        target_decisions: N, by the target's thresholds.

    Raises:
        InputError: the four do not have the same length.
    """
    import numpy as np

    before, after = (np.asarray(side, np.float64).ravel() for side in (reference, target))
    lengths = {before.size, after.size, len(reference_decisions), len(target_decisions)}
    if len(lengths) != 1:
        raise InputError(
            f"{before.size} reference and {after.size} target scores, {len(reference_decisions)} and "
            f"{len(target_decisions)} decisions: both sides must have seen the same images"
        )
    usable = np.isfinite(before) & np.isfinite(after)
    differ = np.array([a != b for a, b in zip(reference_decisions, target_decisions, strict=True)], np.bool_)
    shifts = np.abs(after[usable] - before[usable])
    p50, p99, top = (
        (float(value) for value in np.quantile(shifts, [0.5, 0.99, 1.0], method="inverted_cdf"))
        if shifts.size
        else (None, None, None)
    )
    return Parity(
        images=before.size,
        flipped=tuple(np.flatnonzero(differ | ~usable).tolist()),
        failed=tuple(np.flatnonzero(~usable).tolist()),
        shift_p50=p50,
        shift_p99=p99,
        shift_max=top,
        score_range=float(np.ptp(before[usable])) if shifts.size else None,
    )
