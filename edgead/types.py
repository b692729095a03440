"""Plain values that every layer shares. Imports nothing heavy: numpy only for type checkers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from edgead.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Precision = Literal["fp32", "bf16", "fp16", "int8"]
Rest = Literal["fp32", "bf16"]  # what an int8 engine computes the layers in that are not quantised
Decision = Literal["OK", "NG", "ERROR"]
Resampler = Literal["pillow_bilinear", "opencv_linear"]
ScoreRule = Literal["max_grid", "max", "top_k_sum", "top_k_mean", "graph"]
Border = Literal["reflect", "mirror", "nearest"]
Upsample = Literal["none", "nearest", "bilinear"]

SIDES = (32, 4096)
"""Of a network's input that a user may ask for: the least and the most pixels of a side."""

MAX_SIDE, MAX_AREA = 65_536, 1 << 28
"""Of an image, grid or map in a bundle, in pixels."""

MAX_TILES = 256
"""Of an image, along each side."""

# Value = EDGEAD_PIXEL_* of edgead.h.
PIXEL_FORMATS: dict[str, int] = {
    "MONO8": 1,
    "MONO10": 2,
    "MONO12": 3,
    "MONO16": 4,
    "RGB8": 5,
    "BGR8": 6,
    "RGBA8": 7,
    "BGRA8": 8,
    "BAYER_RG8": 9,
    "BAYER_GR8": 10,
    "BAYER_GB8": 11,
    "BAYER_BG8": 12,
}


@dataclass(frozen=True, slots=True)
class Target:
    """What an engine is compiled for: ``<engine>:<precision>[:device]``."""

    engine: str
    precision: Precision
    device: str = "cpu"

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``openvino:fp32`` or ``tensorrt:fp16:gpu0``.

        Raises:
            UsageError: the text has no precision, or one that edgead does not know.
        """
        parts = text.split(":")
        if len(parts) not in (2, 3) or not all(parts):
            raise UsageError(
                f"target {text!r} is not of the form <engine>:<precision>[:device]; "
                "write for instance openvino:fp32"
            )
        precisions = get_args(Precision)
        if parts[1] not in precisions:
            raise UsageError(
                f"target {text!r}: precision {parts[1]!r} is unknown; choose one of {', '.join(precisions)}"
            )
        return cls(parts[0], parts[1], *parts[2:])  # type: ignore[arg-type]

    def __str__(self) -> str:
        suffix = "" if self.device == "cpu" else f":{self.device}"
        return f"{self.engine}:{self.precision}{suffix}"

    @property
    def slug(self) -> str:
        """The name as a folder name: ``openvino-fp32``."""
        return str(self).replace(":", "-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """How a network sees a larger image: in `rows` × `columns` tiles of `height` × `width` pixels.

    They are spread evenly from edge to edge, and may overlap.
    """

    rows: int
    columns: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if not all(1 <= count <= MAX_TILES for count in (self.rows, self.columns)):
            raise UsageError(
                f"tiles: {self.rows} rows and {self.columns} columns; give 1 to {MAX_TILES} of each"
            )
        if min(self.height, self.width) < 1:
            raise UsageError(f"tiles of {self.height}x{self.width} pixels; give sides from 1")

    @property
    def count(self) -> int:
        """How many there are."""
        return self.rows * self.columns

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns} tiles of {self.height}x{self.width}"

    def steps(self, height: int, width: int) -> tuple[int, int]:
        """Pixels from a tile to the next one below and beside it, in an image of that size; 0 for one alone.

        Raises:
            UsageError: tiles at whole, equal distances do not fill the image, or leave gaps.
        """
        axes = (height, self.rows, self.height, "height"), (width, self.columns, self.width, "width")
        steps = []
        for size, count, tile, name in axes:
            gaps = count - 1
            step = (size - tile) // gaps if gaps else 0
            if tile + gaps * step != size or not min(gaps, 1) <= step <= tile:
                possible = {min(max(one, 1), tile) for one in (step, step + 1)}
                sizes = sorted({tile + gaps * one for one in possible})
                raise UsageError(
                    f"geometry: {self} do not fill an image of {height}x{width} evenly; take the {name} "
                    f"{' or '.join(map(str, sizes))}"
                )
            steps.append(step)
        return steps[0], steps[1]


@dataclass(frozen=True, slots=True)
class Resolved:
    """A `Geometry` applied to one frame size: resize to (height, width), keep the window (y, x, h, w)."""

    height: int
    width: int
    window: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """How a frame becomes the network's pixels: ROI, resize, centre window or tiles.

    Attributes:
        resampler: which library's bilinear resampling is reproduced, bit for bit.
        mode: ``exact`` resizes to (height, width); ``shorter_side`` keeps the aspect ratio and makes the
            shorter side equal to `height` (torchvision's Resize(int)).
        height: rows after the resize, or the shorter side.
        width: columns after the resize (equal to `height` for ``shorter_side``).
        window: (h, w) of the centre window that the network sees; None = everything (``exact`` only).
        roi: (x, y, w, h) in frame pixels, cut before the resize; None = the whole frame.
        tiles: the network sees the image tile by tile (``exact`` without a window only); None = as a whole.
    """

    height: int
    width: int
    resampler: Resampler = "pillow_bilinear"
    mode: Literal["exact", "shorter_side"] = "exact"
    window: tuple[int, int] | None = None
    roi: tuple[int, int, int, int] | None = None
    tiles: Tiles | None = field(default=None, metadata={"optional": True})  # as `edgead.bundle._codec` reads

    def __post_init__(self) -> None:
        if self.tiles is not None:
            if self.mode != "exact" or self.window is not None:
                raise UsageError("geometry: tiles fill the image; that is mode exact, without a window")
            self.tiles.steps(self.height, self.width)
        if self.mode == "shorter_side" and self.window is None:
            raise UsageError("geometry: shorter_side needs a window, the network's input size is fixed")
        if self.window is not None and (self.window[0] > self.height or self.window[1] > self.width):
            raise UsageError(
                f"geometry: window {self.window} is larger than the resize {self.height}x{self.width}"
            )

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Geometry:
        """Read JSON values, whose pairs are lists.

        Raises:
            TypeError: a value is missing or unknown.
            UsageError: the values do not fit together.
        """
        pairs = {key: tuple(values[key]) for key in ("window", "roi") if values.get(key) is not None}
        tiles = {} if values.get("tiles") is None else {"tiles": Tiles(**values["tiles"])}
        return cls(**{**values, **pairs, **tiles})

    def resized(self, size: tuple[int, int]) -> Geometry:
        """All of the frame, or of the ROI, brought to `size` = (H, W), whatever its aspect ratio was.

        The resampler and the ROI stay. A window falls away: cut from the middle, it would hide the ends of a
        strip. So do tiles.

        Raises:
            UsageError: a side is not from 32 to 4,096 pixels.
        """
        if not all(SIDES[0] <= side <= SIDES[1] for side in size):
            raise UsageError(
                f"input size {size[0]}x{size[1]} (height x width): give sides from {SIDES[0]} to {SIDES[1]}"
            )
        return replace(self, height=size[0], width=size[1], mode="exact", window=None, tiles=None)

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the preprocessed image."""
        return self.window if self.window is not None else (self.height, self.width)

    @property
    def input_size(self) -> tuple[int, int]:
        """(H, W) that the network sees at once: the image, or one tile of it."""
        return self.image_size if self.tiles is None else (self.tiles.height, self.tiles.width)

    def resolve(self, height: int, width: int) -> Resolved:
        """Sizes for a frame (or ROI) of `height` × `width` pixels, by torchvision's rounding rules."""
        rows, cols = self.height, self.width
        if self.mode == "shorter_side":
            short, long = min(height, width), max(height, width)
            longer = int(self.height * long / short)
            rows, cols = (longer, self.height) if height > width else (self.height, longer)
        h, w = self.image_size
        return Resolved(rows, cols, (round((rows - h) / 2), round((cols - w) / 2), h, w))


@dataclass(frozen=True, slots=True, kw_only=True)
class PostRecipe:
    """What happens to the raw map between the engine and the decision (DESIGN §4 «Post»).

    combined = Σ alpha[k]·map[k] (+ gamma, stage ``before``), shape `grid`; operator = zero `pad`, then
    `upsample` to `output`, then a separable Gaussian (σ = `blur_sigma` output pixels, radius =
    int(truncate·σ + 0.5), `border` as in scipy.ndimage); + gamma (stage ``after``); then the score rule:
    ``max_grid`` on the combined grid before the operator, ``max``/``top_k_*`` on the operator's output,
    ``graph`` = the graph's own image_score.
    """

    grid: tuple[int, int]
    output: tuple[int, int]
    channels: int = 1
    alpha: tuple[float, ...] = (1.0,)
    gamma: float = 0.0
    gamma_stage: Literal["before", "after"] = "before"
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, bottom, left, right, in grid cells
    upsample: Upsample = "bilinear"
    blur_sigma: float = 0.0
    blur_truncate: float = 4.0
    border: Border = "reflect"
    score_rule: ScoreRule = "max_grid"
    top_k: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Decision limits of one target, in the detector's raw units.

    A score ≥ `image` is NG; a map value ≥ `pixel` belongs to a region. `image_median` and `pixel_median` are
    the medians of held-out good images (of the score, and of each map's maximum) and only scale the display.
    `method` says how the limits were chosen, on how many images, and how sure that is.
    """

    image: float
    pixel: float
    image_median: float
    pixel_median: float
    method: dict[str, object] = field(default_factory=dict)

    def normalise(self, score_raw: float) -> float:
        """0.5 + 0.5·(raw − t)/(t − median good): 0.5 at the threshold, unclamped."""
        return 0.5 + 0.5 * (score_raw - self.image) / (self.image - self.image_median)

    @property
    def display_range(self) -> tuple[float, float]:
        """Raw map values shown as 0 and 255: normalised 0 and 1, the pixel threshold in the middle."""
        half = self.pixel - self.pixel_median
        return self.pixel - half, self.pixel + half


@dataclass(frozen=True, slots=True)
class Region:
    """One connected area (8-connected) of a map at or above the pixel threshold.

    Attributes:
        box: (x, y, w, h) in pixels.
        area: pixels at or above the threshold, in the unit of the box.
        peak: highest raw map value inside.
    """

    box: tuple[int, int, int, int]
    area: int
    peak: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What edgead says of one frame.

    Attributes:
        score_raw: the detector's units, unbounded, higher = more anomalous.
        score: normalised, 0.5 at the threshold, unclamped.
        decision: OK, NG or ERROR.
        regions: in frame coordinates, highest peak first.
        anomaly_map: (h, w) float32 raw, at the post operator's resolution.
        heatmap: (h, w) uint8 for display, the pixel threshold at 127.5.
        mask: (h, w) uint8, 0 or 255.
        target: the engine that ran.
        timings_ms: stage name to milliseconds: preprocess, engine, post.
    """

    score_raw: float
    score: float
    decision: Decision
    regions: tuple[Region, ...]
    anomaly_map: npt.NDArray[np.float32]
    heatmap: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]
    target: str
    timings_ms: dict[str, float]
