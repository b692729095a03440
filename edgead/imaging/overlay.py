"""A picture of a prediction that a person can judge at a glance: decision, score, where, how strong.

┌────────────────────────────────────────────────────────────┐
│ [NG]  name of the image          score 1.84 (limit 0.50)   │   coloured by the decision, with a gauge
├─────────────────────────────┬──────────────────────────────┤
│ the frame in its own        │ the same in grey, with the   │   panels of about 640 pixels; stacked
│ colours, a box per region   │ heatmap and the mask's edge  │   where the frame is wide
└─────────────────────────────┴──────────────────────────────┘
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgead.errors import OutputError
from edgead.types import Geometry, Prediction, Region, Thresholds

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Rgb = npt.NDArray[np.uint8]
    Colour = tuple[int, int, int]

PANEL = 640  # longest side of a panel, pixels
WIDTH = 660  # narrowest picture: what the header needs
HEADER, MARGIN, SCALE_WIDTH = 76, 12, 64
MOST_BOXES, MOST_LABELS = 40, 8

_GROUND: Colour = (22, 24, 27)
_PAPER: Colour = (242, 243, 245)
_FAINT: Colour = (150, 156, 163)
_DECISIONS: dict[str, Colour] = {"OK": (38, 132, 72), "NG": (200, 36, 40), "ERROR": (196, 118, 8)}
_BOX: Colour = (255, 214, 10)


class Area(NamedTuple):
    """Where the map lies on the frame, in frame pixels."""

    x: float
    y: float
    width: float
    height: float


def map_area(geometry: Geometry, height: int, width: int) -> Area:
    """The part of a frame of `height` × `width` pixels that the network, and so the map, sees."""
    left, top, columns, rows = geometry.roi if geometry.roi is not None else (0, 0, width, height)
    resolved = geometry.resolve(rows, columns)
    y, x, h, w = resolved.window
    down, across = rows / resolved.height, columns / resolved.width
    return Area(left + x * across, top + y * down, w * across, h * down)


def draw(
    frame: Rgb,
    prediction: Prediction,
    thresholds: Thresholds,
    title: str,
    area: Area | None = None,
    size: tuple[int, int] | None = None,
) -> Rgb:
    """Draw `prediction` on its frame.

    Args:
        frame: (H, W, 3) uint8 RGB, any size.
        prediction: of that frame; regions in frame pixels.
        thresholds: those that the prediction was made with.
        title: shown in the header, shortened in its middle where it is too long.
        area: where the map lies on the frame; None = all of it.
        size: (height, width) of the frame that regions and area are in, where `frame` is a smaller copy.

    Returns:
        (h, w, 3) uint8 RGB, at most about 1,450 pixels wide.
    """
    import numpy as np

    height, width = size if size is not None else frame.shape[:2]
    layout = _Layout.of(height, width)
    picture: Rgb = np.full((layout.height, layout.width, 3), _GROUND, np.uint8)
    _header(picture[:HEADER], prediction, thresholds, title)
    panel = _fit(frame, layout.panel_height, layout.panel_width)
    first, second = (picture[y : y + panel.shape[0], x : x + panel.shape[1]] for y, x in layout.panels)
    first[:] = panel
    second[:] = panel
    _boxes(first, prediction.regions, thresholds, layout.panel_width / width, layout.panel_height / height)
    whole = area if area is not None else Area(0, 0, width, height)
    _heat(second, prediction, whole, layout.panel_width / width, layout.panel_height / height)
    y, x = layout.panels[1]
    _legend(picture[y : y + layout.panel_height, x + layout.panel_width :])
    return picture


def display_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) of the copy of a frame that `draw` needs: at most 1,280 on the long side."""
    scale = min(1.0, 2 * PANEL / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def save(path: Path, picture: Rgb) -> None:
    """Write (h, w, 3) uint8 RGB as the image type that `path` ends in; the file appears whole or not at all.

    Raises:
        OutputError: the place cannot be written, or the suffix names no image type.
    """
    import cv2

    try:
        options = [cv2.IMWRITE_JPEG_QUALITY, 92] if path.suffix.lower() in (".jpg", ".jpeg") else []
        done, data = cv2.imencode(path.suffix, picture[..., ::-1], options)
    except cv2.error as err:
        raise OutputError(f"{path}: {path.suffix!r} is no image type; end the name in .jpg or .png") from err
    if not done:
        raise OutputError(f"{path}: OpenCV cannot encode a {path.suffix} of {picture.shape}")
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data.tobytes())
        partial.replace(path)
    except OSError as err:
        raise OutputError(f"{path} cannot be written: {err.strerror}; choose another place") from err


@dataclass(frozen=True)
class _Layout:
    """Sizes and places, in pixels of the picture; `panels` are the (y, x) of their top left corners."""

    height: int
    width: int
    panel_height: int
    panel_width: int
    panels: tuple[tuple[int, int], tuple[int, int]]

    @classmethod
    def of(cls, height: int, width: int) -> _Layout:
        stacked = width > 2.2 * height
        scale = (2 * PANEL if stacked else PANEL) / max(height, width)
        h, w = max(8, round(height * scale)), max(8, round(width * scale))
        if stacked:
            inner = w + SCALE_WIDTH
            total_height, total_width = HEADER + 2 * h + 3 * MARGIN, inner + 2 * MARGIN
        else:
            inner = 2 * w + MARGIN + SCALE_WIDTH
            total_height, total_width = HEADER + h + 2 * MARGIN, inner + 2 * MARGIN
        total_width = max(total_width, WIDTH)
        y, x = HEADER + MARGIN, (total_width - inner) // 2
        second = (y + h + MARGIN, x) if stacked else (y, x + w + MARGIN)
        return cls(total_height, total_width, h, w, ((y, x), second))


def _fit(frame: Rgb, height: int, width: int) -> Rgb:
    import cv2

    # Small frames keep visible pixels, since they are what the camera saw; big ones are averaged.
    enlarge = height >= frame.shape[0] and width >= frame.shape[1]
    how = cv2.INTER_NEAREST if enlarge and height >= 4 * frame.shape[0] else cv2.INTER_LINEAR
    fitted: Rgb = cv2.resize(frame, (width, height), interpolation=how if enlarge else cv2.INTER_AREA)
    return fitted


def _header(band: Rgb, prediction: Prediction, thresholds: Thresholds, title: str) -> None:
    import cv2

    fill = _DECISIONS[prediction.decision]
    badge = 26 + _text_width(prediction.decision, 1.0, cv2.FONT_HERSHEY_DUPLEX)
    band[:, :badge] = fill
    band[-4:] = fill
    _text(band, prediction.decision, 13, 47, 1.0, _PAPER, cv2.FONT_HERSHEY_DUPLEX)

    score = f"score {_figure(prediction.score)}"
    raw = f"raw {prediction.score_raw:.4g}, limit {thresholds.image:.4g}"
    gauge = 220
    x = band.shape[1] - gauge - MARGIN
    _text(band, score, x, 24, 0.62, _PAPER, cv2.FONT_HERSHEY_DUPLEX)
    _text(band, raw, x, 64, 0.42, _FAINT)
    _gauge(band, x, 33, gauge, prediction.score, fill)

    room = x - badge - 2 * MARGIN
    _text(band, _shorten(title, room, 0.6), badge + MARGIN, 31, 0.6, _PAPER)
    count = len(prediction.regions)
    parts = [f"{count} region{'' if count == 1 else 's'}" if count else "no regions", prediction.target]
    if prediction.timings_ms:
        parts.append(f"{sum(prediction.timings_ms.values()):.1f} ms")
    _text(band, _shorten(" | ".join(parts), room, 0.45), badge + MARGIN, 55, 0.45, _FAINT)


def _gauge(band: Rgb, x: int, y: int, width: int, score: float, fill: Colour) -> None:
    """A bar from 0 to 1 with the limit in its middle; a score beyond 1 fills it and ends in an arrow."""
    import cv2

    height = 14
    cv2.rectangle(band, (x, y), (x + width, y + height), (58, 62, 68), -1)
    if math.isfinite(score):
        reach = x + round(width * min(max(score, 0.0), 1.0))
        if reach > x:
            cv2.rectangle(band, (x, y), (reach, y + height), fill, -1)
        if score > 1:
            for tip in (x + width - 12, x + width - 5):
                points = [(tip - 4, y + 3), (tip, y + height // 2), (tip - 4, y + height - 3)]
                for start, end in itertools.pairwise(points):
                    cv2.line(band, start, end, _PAPER, 1, cv2.LINE_AA)
    middle = x + width // 2
    cv2.line(band, (middle, y - 3), (middle, y + height + 3), _PAPER, 2)


def _boxes(
    panel: Rgb, regions: tuple[Region, ...], thresholds: Thresholds, across: float, down: float
) -> None:
    import cv2

    bottom, right = panel.shape[0] - 1, panel.shape[1] - 1
    for rank in reversed(range(min(len(regions), MOST_BOXES))):
        region = regions[rank]
        x, y, w, h = region.box
        x0, y0 = max(0, math.floor(x * across) - 3), max(0, math.floor(y * down) - 3)
        x1, y1 = min(right, math.ceil((x + w) * across) + 3), min(bottom, math.ceil((y + h) * down) + 3)
        cv2.rectangle(panel, (x0, y0), (x1, y1), (0, 0, 0), 4)
        cv2.rectangle(panel, (x0, y0), (x1, y1), _BOX, 2)
        if rank >= MOST_LABELS:
            continue
        label = _figure(_strength(region.peak, thresholds))
        width = _text_width(label, 0.45) + 8
        left = min(x0, max(0, right - width))
        top = y0 - 18 if y0 >= 18 else min(y1 + 1, bottom - 17)
        if top < 0:
            continue
        cv2.rectangle(panel, (left, top), (left + width, top + 17), _BOX, -1)
        _text(panel, label, left + 4, top + 13, 0.45, (20, 20, 20))


def _figure(value: float) -> str:
    if not math.isfinite(value):
        return "not a number"
    if abs(value) >= 1000:
        return f"{value:.3g}"
    # At the limit, more digits: 0.50 would not say on which side.
    return f"{value:.4f}" if abs(value - 0.5) < 0.005 else f"{value:.2f}"


def _strength(peak: float, thresholds: Thresholds) -> float:
    """A map value on the heatmap's scale: 0.5 at the pixel threshold."""
    low, high = thresholds.display_range
    return (peak - low) / (high - low) if high > low else math.nan


def _heat(panel: Rgb, prediction: Prediction, area: Area, across: float, down: float) -> None:
    """Grey frame, heatmap over it (invisible where good), the mask's edge on top."""
    import cv2
    import numpy as np

    grey = cv2.cvtColor(cv2.cvtColor(panel, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    panel[:] = grey // 2
    x0, y0 = max(0, round(area.x * across)), max(0, round(area.y * down))
    x1 = min(panel.shape[1], max(x0 + 1, round((area.x + area.width) * across)))
    y1 = min(panel.shape[0], max(y0 + 1, round((area.y + area.height) * down)))
    size = (x1 - x0, y1 - y0)
    heat = cv2.resize(prediction.heatmap, size, interpolation=cv2.INTER_LINEAR)
    opacity = (_opacity()[heat])[..., None]
    mixed = grey[y0:y1, x0:x1] * (1 - opacity) + _palette()[heat] * opacity
    panel[y0:y1, x0:x1] = np.round(mixed).astype(np.uint8)
    mask = cv2.resize(prediction.mask, size, interpolation=cv2.INTER_LINEAR)
    edges, _ = cv2.findContours(
        (mask > 127).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE, offset=(x0, y0)
    )
    cv2.drawContours(panel, edges, -1, _PAPER, 1, cv2.LINE_AA)


@functools.cache
def _palette() -> npt.NDArray[np.uint8]:
    """(256, 3) RGB of Inferno, which is perceptually uniform and readable in grey and by the colour-blind."""
    import cv2
    import numpy as np

    ramp = np.arange(256, dtype=np.uint8)[:, None]
    return np.ascontiguousarray(cv2.applyColorMap(ramp, cv2.COLORMAP_INFERNO)[:, 0, ::-1])


@functools.cache
def _opacity() -> npt.NDArray[np.float32]:
    """(256,) in [0, 0.7]: nothing up to a fifth of the scale, half at the limit; the frame stays visible."""
    import numpy as np

    return (0.7 * np.clip((np.arange(256) - 48) / 120, 0, 1)).astype(np.float32)


def _legend(strip: Rgb) -> None:
    """The heatmap's colours with the limit marked; left out where the panel is too low for it."""
    import cv2
    import numpy as np

    height = min(strip.shape[0] - 24, 320)
    if height < 60 or strip.shape[1] < SCALE_WIDTH:
        return
    top = (strip.shape[0] - height) // 2
    colours = _palette()[np.linspace(255, 0, height).round().astype(np.uint8)]
    strip[top : top + height, 14:28] = colours[:, None]
    for value, place in (("1.0", 0.0), ("limit", 0.5), ("0.0", 1.0)):
        y = top + round((height - 1) * place)
        cv2.line(strip, (28, y), (32, y), _PAPER, 1)
        _text(strip, value, 35, y + 4, 0.38, _PAPER if value == "limit" else _FAINT)


def _text(
    image: Rgb, text: str, x: int, y: int, scale: float, colour: Colour, font: int | None = None
) -> None:
    import cv2

    plain = text.encode("ascii", "replace").decode()
    chosen = cv2.FONT_HERSHEY_SIMPLEX if font is None else font
    cv2.putText(image, plain, (x, y), chosen, scale, colour, 1, cv2.LINE_AA)


def _text_width(text: str, scale: float, font: int | None = None) -> int:
    import cv2

    chosen = cv2.FONT_HERSHEY_SIMPLEX if font is None else font
    plain = text.encode("ascii", "replace").decode()
    return int(cv2.getTextSize(plain, chosen, scale, 1)[0][0])


def _shorten(text: str, room: int, scale: float) -> str:
    """`text`, with its middle replaced by dots until it is at most `room` pixels wide."""
    if _text_width(text, scale) <= room:
        return text
    for keep in range(len(text) - 1, 1, -1):
        short = f"{text[: keep // 3]}...{text[len(text) - (keep - keep // 3) :]}"
        if _text_width(short, scale) <= room:
            return short
    return ""
