"""From a frame to the network's pixels: the one path of training, calibration, verification and device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgead._native._library import ALL_CPU_FEATURES
from edgead._native.preprocessor import Preprocessor
from edgead.types import Geometry

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.imaging.frame import Frame

_CACHED = 8


class Preprocess:
    """ROI → resize → centre window, for frames of any size and format. One thread at a time.

    Plans are kept for the last few frame sizes and formats, so that a line's frames pay for theirs once.

    Args:
        geometry: what to do; the output is `geometry.input_size`.
        cpu_mask: instruction sets that may be used, bits `CPU_*` of `edgead._native._library`. Every choice
            gives the same pixels.
    """

    def __init__(self, geometry: Geometry, *, cpu_mask: int = ALL_CPU_FEATURES) -> None:
        self.geometry = geometry
        self._cpu_mask = cpu_mask
        self._plans: dict[tuple[str, int, int], Preprocessor] = {}

    def __call__(self, frame: Frame, out: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8]:
        """Preprocess one frame.

        Args:
            frame: any size and pixel format.
            out: (H, W, 3) uint8 to write to; None = a new array.

        Returns:
            (H, W, 3) uint8 RGB, `out` where given.

        Raises:
            ImageError: the geometry's ROI leaves the frame, or a Bayer frame is smaller than 3×3.
            UsageError: `out` has another shape or type, or a size is out of range.
        """
        roi = self.geometry.roi
        height, width = (frame.height, frame.width) if roi is None else (roi[3], roi[2])
        key = (frame.pixel_format, height, width)
        plan = self._plans.pop(key, None) or self._plan(*key)
        self._plans[key] = plan  # at the end: the first one is the least recently used
        if len(self._plans) > _CACHED:
            del self._plans[next(iter(self._plans))]
        return plan(frame.data, roi=roi, out=out)

    def _plan(self, pixel_format: str, height: int, width: int) -> Preprocessor:
        resolved = self.geometry.resolve(height, width)
        return Preprocessor(
            pixel_format,
            (height, width),
            (resolved.height, resolved.width),
            window=resolved.window,
            resampler=self.geometry.resampler,
            cpu_mask=self._cpu_mask,
        )
