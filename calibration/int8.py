"""INT8 ranges: what values each tensor of the float graph takes on good images, as one table for all engines.

Every engine's 8-bit encoding is derived from the table (`edgead.exporters._qdq`); none calibrates by itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, get_args

from edgead.errors import BundleError, EngineError, InternalError
from edgead.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Values = npt.NDArray[np.float32]

RangeRule = Literal["minmax", "percentile", "mse"]
RANGE_RULES: tuple[RangeRule, ...] = get_args(RangeRule)

_VERSION = 2
_BINS = 4096
# Of one tensor and image; its smallest and largest value are looked for in all of it.
_SAMPLED = 1 << 16
_PERCENTILE = 99.99
_LEVELS = 255
_SHRINKS = 64  # candidates of the mse rule, between a fifth of the whole range and all of it


@dataclass(frozen=True, slots=True)
class Range:
    """Smallest and largest value of a tensor that 8 bits shall tell apart, in its own units."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationTable:
    """Ranges of the tensors of one or more float graphs.

    Attributes:
        rule: how ranges were made of values: ``minmax``, all of them; ``percentile``, without the 0.01 %
            farthest out on each side; ``mse``, the range with the least squared error of 8-bit values.
        images: content hashes of the good images that were run.
        seed: of the choice of images.
        graphs: name of a graph's file in the bundle, to name of a tensor in it, to its range. There are two
            where an engine stops before a search: graph.onnx and the head's query graph.
    """

    rule: RangeRule
    images: tuple[str, ...]
    seed: int
    graphs: Mapping[str, Mapping[str, Range]]

    def to_json(self) -> bytes:
        """UTF-8 JSON that `from_json` reads back as an equal value."""
        values = {"version": _VERSION, **asdict(self), "graphs": self._plain()}
        return (json.dumps(values, indent=1) + "\n").encode()

    def _plain(self) -> dict[str, dict[str, list[float]]]:
        return {
            graph: {name: [found.low, found.high] for name, found in ranges.items()}
            for graph, ranges in self.graphs.items()
        }

    @classmethod
    def from_json(cls, data: bytes, source: str) -> CalibrationTable:
        """Read a table; `source` names it in messages.

        Raises:
            BundleError: made by a newer edgead, or not what `to_json` writes.
        """
        try:
            values = json.loads(data)
            if values["version"] != _VERSION:
                raise BundleError(
                    f"{source}: calibration table of version {values['version']}, this edgead reads "
                    f"{_VERSION}; install a newer edgead"
                )
            graphs = {
                str(graph): {str(name): Range(float(low), float(high)) for name, (low, high) in found.items()}
                for graph, found in values["graphs"].items()
            }
            rule, seed = values["rule"], int(values["seed"])
            images = tuple(str(name) for name in values["images"])
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            raise BundleError(f"{source} is no calibration table: {err!r}") from err
        if rule not in RANGE_RULES:
            raise BundleError(f"{source}: unknown rule {rule!r}; there is {', '.join(RANGE_RULES)}")
        for name, found in ((name, one) for ranges in graphs.values() for name, one in ranges.items()):
            if not -math.inf < found.low <= found.high < math.inf:
                raise BundleError(f"{source}: the range of {name} is {found}")
        return cls(rule=rule, images=images, seed=seed, graphs=graphs)


class Histogram:
    """Values of one tensor over many images; its extent doubles when a value lies outside.

    Attributes:
        low: smallest value so far; inf before the first.
        high: largest value so far; −inf before the first.
    """

    def __init__(self) -> None:
        import numpy as np

        self.low, self.high = math.inf, -math.inf
        self._limit = 0.0  # bins reach from −limit to limit
        self._counts = np.zeros(_BINS, np.int64)

    def add(self, values: Values) -> None:
        """Take in the values of one image, of any shape.

        Raises:
            ValueError: one is not finite.
        """
        import numpy as np

        flat = values.reshape(-1)
        low, high = float(flat.min()), float(flat.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("not all of its values are finite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._reach(max(-low, high))
        # An odd step, so that rows of an even width are not met in the same column each time.
        step = max(1, flat.size // _SAMPLED) | 1
        scale = _BINS / 2 / self._limit
        places = ((flat[::step] + np.float32(self._limit)) * np.float32(scale)).astype(np.int64)
        self._counts += np.bincount(np.clip(places, 0, _BINS - 1), minlength=_BINS)

    def _reach(self, extent: float) -> None:
        import numpy as np

        if self._limit == 0.0:
            self._limit = 2.0 ** math.ceil(math.log2(extent)) if extent > 0 else 1.0
        while self._limit < extent:
            merged = np.zeros(_BINS, np.int64)
            merged[_BINS // 4 : -_BINS // 4] = self._counts.reshape(-1, 2).sum(1)
            self._counts, self._limit = merged, 2 * self._limit

    def range(self, rule: RangeRule) -> Range:
        """The range that `rule` makes of the values; never wider than they are."""
        import numpy as np

        if rule == "minmax":
            return Range(self.low, self.high)
        edges = np.linspace(-self._limit, self._limit, _BINS + 1)
        if rule == "percentile":
            share = np.cumsum(self._counts) / self._counts.sum()
            outside = 1 - _PERCENTILE / 100
            low = edges[int(np.searchsorted(share, outside, side="right"))]
            high = edges[int(np.searchsorted(share, 1 - outside)) + 1]
            return Range(max(self.low, float(low)), min(self.high, float(high)))
        centres, used = (edges[:-1] + edges[1:]) / 2, self._counts > 0
        centres, counts = centres[used], self._counts[used]
        best, least = Range(self.low, self.high), math.inf
        for shrink in np.linspace(1, 0.2, _SHRINKS):
            low, high = min(0.0, self.low * shrink), max(0.0, self.high * shrink)
            step = (high - low) / _LEVELS
            lost = centres - np.clip(centres, low, high)
            # Inside, the error of rounding: uniform, so a twelfth of the squared step.
            error = float((counts * np.where(lost == 0, step**2 / 12, lost**2)).sum())
            if error < least:
                best, least = Range(float(self.low * shrink), float(self.high * shrink)), error
        return best


def observe(
    run: Callable[[npt.NDArray[np.uint8]], Mapping[str, Values]],
    pixels: npt.NDArray[np.uint8],
    names: Sequence[str],
    *,
    progress: Progress,
) -> dict[str, Histogram]:
    """Histograms of every tensor that `run` gives.

    Args:
        run: network pixels (1, H, W, 3) to tensor name → values.
        pixels: (N, H, W, 3) uint8 RGB, N ≥ 1.
        names: of the images, for messages.
        progress: gets a bar.

    Raises:
        EngineError: a tensor has values that are not finite; says which, and on what image.
    """
    found: dict[str, Histogram] = {}
    with progress.task("INT8 ranges", len(pixels)) as bar:
        for index, name in enumerate(names):
            for tensor, values in run(pixels[index : index + 1]).items():
                try:
                    found.setdefault(tensor, Histogram()).add(values)
                except ValueError as err:
                    raise EngineError(
                        f"no INT8 range for {tensor} on {name}: {err}; look at that image, or leave int8 out"
                    ) from err
            bar.advance()
    if not found:
        raise InternalError("nothing was observed")
    return found


def ranges_of(found: Mapping[str, Histogram], rule: RangeRule) -> dict[str, Range]:
    """The ranges that `rule` makes of what was observed, see `CalibrationTable`."""
    return {name: histogram.range(rule) for name, histogram in found.items()}
