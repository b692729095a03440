"""Ground-truth masks at the resolution of the anomaly map, cut by the same window as the frame."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgead.errors import DatasetError
from edgead.types import Geometry

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def load_mask(
    path: Path, frame_size: tuple[int, int], geometry: Geometry, output_size: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """Read a mask and bring it, by nearest neighbour, to the pixels of the anomaly map.

    A mask pixel is anomalous where its value is above 127 of 255 (above 32,767 of 65,535 in a 16-bit file;
    any colour channel counts, alpha does not). Then the mask goes through ROI, resize and window at once: the
    centre of map pixel i of n lies at network row (i + ½)·h/n, at resized row y = window_y + (i + ½)·h/n, at
    frame row roi_y + y·roi_h/rows, and takes the value of the mask pixel that holds this point: floor of that
    number. Likewise for columns. Without window and ROI this is Pillow's NEAREST.

    Args:
        path: the mask's file, of the size of its frame.
        frame_size: (height, width) of the frame.
        geometry: how the frame becomes the network's pixels.
        output_size: (H, W) of the anomaly map, which covers the network's window.

    Returns:
        (H, W) bool, True = anomalous. May be all False: such a mask has no say in pixel metrics.

    Raises:
        ImageError: the file cannot be read or decoded.
        DatasetError: the mask is not of the frame's size, has values such as 0 and 1 that never exceed half
            of its range, or the geometry's ROI is not inside the frame.
    """
    import numpy as np

    mask = _read(path)
    if mask.shape != frame_size:
        raise DatasetError(
            f"mask {path} is {mask.shape[1]}x{mask.shape[0]} pixels, its image is "
            f"{frame_size[1]}x{frame_size[0]}: masks must be of the size of their images"
        )
    x, y, width, height = geometry.roi or (0, 0, frame_size[1], frame_size[0])
    if x < 0 or y < 0 or width < 1 or height < 1 or x + width > frame_size[1] or y + height > frame_size[0]:
        raise DatasetError(
            f"the ROI (x, y, w, h) = {geometry.roi} is not inside the {frame_size[1]}x{frame_size[0]} image "
            f"of mask {path}"
        )
    resolved = geometry.resolve(height, width)
    top, left, window_height, window_width = resolved.window
    rows = y + _nearest(output_size[0], window_height, top, height, resolved.height)
    cols = x + _nearest(output_size[1], window_width, left, width, resolved.width)
    return mask[np.ix_(rows, cols)]


def _nearest(count: int, window: int, offset: int, source: int, resized: int) -> npt.NDArray[np.int64]:
    """floor((offset + (i + ½)·window/count)·source/resized) for i < count, in exact integers."""
    import numpy as np

    twice_centres = 2 * np.arange(count, dtype=np.int64) + 1
    return (twice_centres * window + 2 * count * offset) * source // (2 * count * resized)


def _read(path: Path) -> npt.NDArray[np.bool_]:
    """(height, width) bool of the decoded file."""
    import numpy as np

    from edgead.imaging.frame import read_image

    pixels = read_image(path, bit_depth=16).data
    if pixels.ndim == 3:
        pixels = pixels[:, :, :3].max(axis=2)
    half = np.iinfo(pixels.dtype).max // 2
    if 0 < pixels.max() <= half:
        raise DatasetError(
            f"mask {path} has no value above {half}, its highest is {pixels.max()}: anomalous is what is "
            f"above {half}; multiply the mask so that it holds 0 and {np.iinfo(pixels.dtype).max}"
        )
    return np.asarray(pixels > half)
