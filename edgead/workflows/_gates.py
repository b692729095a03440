"""How far a target may be from its reference, by precision, in task terms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgead.types import Precision, Thresholds

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.metrics.parity import Parity


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Limits relative to the reference.

    Attributes:
        flips: share of images whose decision may differ; where it is above 0, one image always may.
        score_shift: largest shift of a raw score, as a share of the reference's score range; None = no limit.
        auroc_drop: largest loss of image AUROC, in absolute terms (0.003 = 0.3 points).
        au_pro_drop: the same of AU-PRO.
    """

    flips: float
    score_shift: float | None
    auroc_drop: float
    au_pro_drop: float = 0.005


@dataclass(frozen=True, slots=True)
class Defects:
    """How well an engine tells synthetic defects from good images; None where there are none.

    Attributes:
        auroc: image AUROC of all.
        au_pro: of the faint ones.
        images: on at least so many good images and as many defects.
    """

    auroc: float | None
    au_pro: float | None
    images: int


_COLLAPSE = 0.05
_REDUCED = Gate(flips=0.005, score_shift=None, auroc_drop=0.003)
GATES: dict[Precision, Gate] = {
    "fp32": Gate(flips=0.0, score_shift=1e-4, auroc_drop=1e-4, au_pro_drop=1e-4),
    "bf16": _REDUCED,
    "fp16": _REDUCED,
    "int8": _REDUCED,
}


def decisions(scores: npt.NDArray[np.float64], thresholds: Thresholds) -> list[str]:
    """OK, NG, or ERROR for a score that is not finite, for each of (N,) raw scores."""
    import numpy as np

    return [
        "ERROR" if not np.isfinite(score) else "NG" if score >= thresholds.image else "OK" for score in scores
    ]


def parity_failures(parity: Parity, precision: Precision) -> Iterator[str]:
    """What of `parity` is over the limits of `precision`, in words."""
    gate = GATES[precision]
    if parity.failed:
        yield f"{len(parity.failed)} of {parity.images} images have no finite score"
    allowed = max(1, int(gate.flips * parity.images)) if gate.flips else 0
    if len(parity.flipped) > allowed:
        yield f"{len(parity.flipped)} of {parity.images} decisions flipped, {allowed} allowed"
    if gate.score_shift is None or parity.shift_max is None or parity.score_range is None:
        return
    if parity.shift_max > gate.score_shift * parity.score_range:
        yield (
            f"a score moved by {parity.shift_max:.3g}, allowed is {gate.score_shift:g} of the score range "
            f"{parity.score_range:.4g}"
        )


def auroc_failures(
    reference: float | None,
    target: float | None,
    precision: Precision,
    min_auroc: float | None,
) -> Iterator[str]:
    """Whether the image AUROC fell too far, or below the absolute bar `min_auroc`."""
    yield from _fell("image AUROC", reference, target, GATES[precision].auroc_drop)
    if min_auroc is not None and (target is None or target < min_auroc):
        shown = "unknown (no labels)" if target is None else f"{target:.4f}"
        yield f"image AUROC is {shown}, at least {min_auroc:g} was asked for"


def au_pro_failures(reference: float | None, target: float | None, precision: Precision) -> Iterator[str]:
    """Whether the AU-PRO fell too far."""
    yield from _fell("AU-PRO", reference, target, GATES[precision].au_pro_drop)


def collapse_failures(reference: Defects, target: Defects) -> Iterator[str]:
    """Whether an engine lost sight of synthetic defects: no measure of real ones, but a collapse shows.

    Of few images, one that changes its place counts much.
    """
    drop = max(_COLLAPSE, 1 / max(reference.images, 1))
    yield from _fell("image AUROC of synthetic defects", reference.auroc, target.auroc, drop)
    yield from _fell("AU-PRO of faint synthetic defects", reference.au_pro, target.au_pro, drop)


def _fell(what: str, reference: float | None, target: float | None, drop: float) -> Iterator[str]:
    if reference is not None and target is not None and reference - target > drop:
        yield f"{what} fell from {reference:.4f} to {target:.4f}, a loss of {drop:.2g} is allowed"
