"""Area under the per-region overlap curve (AU-PRO; Bergmann et al., "MVTec AD", IJCV 2021), exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from edgead.errors import UsageError
from edgead.metrics.auroc import check_maps

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def au_pro(
    maps: Sequence[npt.NDArray[np.floating[Any]]],
    masks: Sequence[npt.NDArray[np.bool_]],
    *,
    fpr_limit: float = 0.3,
) -> float | None:
    """How much of each defect is found, averaged over defects, while few good pixels are marked.

    PRO(t) is the mean, over all 8-connected regions of all masks, of the share of the region's pixels with a
    map value ≥ t; FPR(t) is the share of good pixels, of all images, with a value ≥ t. Result: the area under
    PRO over FPR from 0 to `fpr_limit`, divided by `fpr_limit`. The curve passes through (0, 0) and every
    threshold that occurs, joined by straight lines, cut by interpolation at `fpr_limit`: no threshold grid.

    Args:
        maps: anomaly maps (H, W), higher = more anomalous; sizes may differ from image to image.
        masks: ground truth (H, W) bool; all False for good images, whose pixels count as good.
        fpr_limit: 0 < limit ≤ 1.

    Returns:
        Between 0 and 1; None where there is no region or no good pixel.

    Raises:
        InputError: a map holds NaN, or masks and maps do not match in number or shape.
        UsageError: `fpr_limit` is out of range.
    """
    import numpy as np

    if not 0 < fpr_limit <= 1:
        raise UsageError(f"fpr_limit {fpr_limit} must be above 0 and at most 1, usually 0.3")
    check_maps(maps, masks)
    good = [values[~mask] for values, mask in zip(maps, masks, strict=True)]
    regions = [_regions(values, mask) for values, mask in zip(maps, masks, strict=True) if mask.any()]
    count = sum(number for _, _, number in regions)
    negatives = sum(values.size for values in good)
    if not count or not negatives:
        return None
    pixels = np.concatenate([values for values, _, _ in regions])
    shares = np.concatenate([share for _, share, _ in regions]) / count
    order = np.argsort(pixels)[::-1]
    pixels, found = pixels[order][::-1], np.concatenate([[0.0], np.cumsum(shares[order])])

    def pro(
        thresholds: npt.NDArray[np.floating[Any]], side: Literal["left", "right"]
    ) -> npt.NDArray[np.float64]:
        """PRO of pixels ≥ threshold (side left) or > threshold (side right)."""
        return found[pixels.size - np.searchsorted(pixels, thresholds, side=side)]

    # Area = Σ over the distinct values of good pixels: each is a step in FPR, PRO goes from «above» to «at».
    values, counts = _highest(np.concatenate(good), fpr_limit * negatives)
    ends = np.cumsum(counts)
    widths = np.clip(fpr_limit * negatives - (ends - counts), 0, counts)
    above, at = pro(values, "right"), pro(values, "left")
    heights = above + (at - above) * (widths / counts) / 2
    return min(float(np.sum(widths * heights) / (fpr_limit * negatives)), 1.0)


def _regions(
    values: npt.NDArray[np.floating[Any]], mask: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.float64], int]:
    """Values of the anomalous pixels, each pixel's share of its region, number of regions."""
    import cv2
    import numpy as np

    number, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    region = regions[mask]
    return values[mask], 1.0 / np.bincount(region)[region], number - 1


def _highest(
    values: npt.NDArray[np.floating[Any]], most: float
) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.int64]]:
    """Distinct values, highest first, and their counts, as far as needed for `most` of them in all."""
    import numpy as np

    keep = min(int(most) + 1, values.size)
    limit = np.partition(values, values.size - keep)[values.size - keep]
    distinct, counts = np.unique(values[values >= limit], return_counts=True)
    return distinct[::-1], counts[::-1].astype(np.int64)
