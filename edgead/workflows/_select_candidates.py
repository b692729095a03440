"""What `select` tries: presets at input sizes, each in several targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from edgead.detectors import _registry
from edgead.detectors._presets import PRESETS
from edgead.discovery import load as load_plugin
from edgead.errors import UsageError
from edgead.exporters._registry import exporter_for
from edgead.runtimes._registry import engines
from edgead.types import Geometry, Precision, Target

if TYPE_CHECKING:
    from edgead.detectors._base import Detector

AREAS = (256, 320, 384)
"""Sides of squares; an input of another aspect ratio has about as many pixels."""

_STEP = 32  # a multiple that suits nearly every detector
_SQUARE = 1.25  # aspect ratios up to this count as square
_STRIP = 8.0  # beyond this, an input keeps this ratio
# In the order of preference; the first engine that is installed.
_ENGINES = {"cpu": ("openvino", "onnxruntime")}


@dataclass(frozen=True, slots=True)
class Network:
    """One network to train: a preset at an input size, (H, W)."""

    preset: str
    size: tuple[int, int]

    @property
    def name(self) -> str:
        """As people read it: ``patchcore 192x512``."""
        return f"{self.preset} {self.size[0]}x{self.size[1]}"

    @property
    def stem(self) -> str:
        """As files are called."""
        return self.name.replace(" ", "-")

    def build(self) -> Detector:
        """The network, random.

        Raises:
            UsageError: the detector cannot take the size.
        """
        preset: Any = _registry.preset(self.preset)
        geometry = Geometry.from_values(preset["config"]["geometry"])
        if geometry.input_size != self.size:
            geometry = geometry.resized(self.size)
        kind = _registry.detector_class(preset["detector"])
        return kind.from_config({**preset["config"], "geometry": asdict(geometry)})

    @property
    def asked_size(self) -> tuple[int, int] | None:
        """What `train` is told: None where it is the preset's own."""
        own = Geometry.from_values(PRESETS[self.preset]["config"]["geometry"]).input_size
        return None if own == self.size else self.size


def networks(
    presets: Sequence[str] | None, sizes: Sequence[tuple[int, int]] | None, aspect: float
) -> list[Network]:
    """Every preset at every size, the smallest first.

    Args:
        presets: names; None = all.
        sizes: (H, W); None = each preset's own, and `AREAS` at the frames' aspect ratio.
        aspect: height over width of the frames.

    Raises:
        UsageError: an unknown preset.
    """
    found = []
    for preset in presets or PRESETS:
        own = Geometry.from_values(_registry.preset(preset)["config"]["geometry"]).input_size
        tried = list(sizes) if sizes else [own, *(sized(side, aspect) for side in AREAS)]
        found += [Network(preset, size) for size in dict.fromkeys(tried)]
    return sorted(found, key=lambda network: network.size[0] * network.size[1])


def sized(side: int, aspect: float) -> tuple[int, int]:
    """(H, W), multiples of 32, of about side² pixels and the aspect ratio H/W, square where it nearly is."""
    aspect = min(max(aspect, 1 / _STRIP), _STRIP)
    if 1 / _SQUARE <= aspect <= _SQUARE:
        return side, side
    height = max(_STEP, round(side * aspect**0.5 / _STEP) * _STEP)
    return height, max(_STEP, round(side * side / height / _STEP) * _STEP)


def search_of(detector: str) -> str | None:
    """The head that the detector's lowering offers."""
    lowering = load_plugin("edgead.exporters.lowering", detector, kind="lowering")
    found: str | None = getattr(lowering, "SEARCH", None)
    return found


def fitting(targets: Sequence[str], detector: str) -> tuple[str, ...]:
    """Those of `targets` that `detector` can have: no search that it does not offer.

    Raises:
        UsageError: not one.
    """
    search = search_of(detector)
    found = tuple(
        text
        for text in targets
        if (head := Target.parse(text).engine.partition("+")[2]) == "" or f"+{head}" == search
    )
    if not found:
        raise UsageError(f"{detector} has no search for {', '.join(targets)}")
    return found


def targets_of(detector: str, device: str) -> tuple[str, ...]:
    """What `detector` is tried in: the device's first engine, with its search where there is one.

    Raises:
        UsageError: no engine here compiles for `device`.
    """
    from edgead.benchmarks.environment import record

    here, has_bf16 = engines(), record().has_bf16
    engine = next((one for one in _ENGINES.get(device, ()) if here[one].available), None)
    if engine is None:
        raise UsageError(
            f"--device {device}: no engine here is tried for it; use cpu, or name what to try with --target"
        )
    search = search_of(detector)
    found: dict[Precision, str] = {}
    for one in (f"{engine}{search}", engine) if search else (engine,):
        if one in here and here[one].available:
            for precision in exporter_for(one).precisions:
                if has_bf16 or precision != "bf16":
                    found.setdefault(precision, str(Target(one, precision)))
    return tuple(found.values())
