"""Detectors by name: a file of this folder, or a preset of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgead import discovery
from edgead.detectors._presets import PRESETS
from edgead.errors import UsageError

if TYPE_CHECKING:
    from edgead.detectors._base import Detector

_PACKAGE = "edgead.detectors"
_NOT_A_DETECTOR = "model_file"


def names() -> tuple[str, ...]:
    """File stems of the detectors, without importing them."""
    return tuple(stem for stem in discovery.stems(_PACKAGE) if stem != _NOT_A_DETECTOR)


def preset(name: str) -> Mapping[str, Any]:
    """The entry of `name` in `PRESETS`.

    Raises:
        UsageError: there is no such preset; the message lists them.
    """
    if name not in PRESETS:
        known = "; ".join(f"{key} ({value['summary']})" for key, value in PRESETS.items())
        raise UsageError(f"unknown detector {name!r}; there is {known}")
    return PRESETS[name]


def detector_class(name: str) -> type[Detector]:
    """The class that the file `name` defines.

    Raises:
        UsageError: there is no such detector.
        InternalError: the file does not define exactly one detector.
    """
    from edgead.detectors._base import Detector

    if name not in names():
        raise UsageError(f"unknown detector {name!r}; there is {', '.join(names())}")
    return discovery.plugin_class(discovery.load(_PACKAGE, name, kind="detector"), Detector)
