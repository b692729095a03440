"""Engine names to runtimes: every ``*_runtime.py`` of this folder whose class says which engine it drives."""

from __future__ import annotations

from edgead.discovery import load, plugin_class, stems
from edgead.errors import InternalError, UsageError
from edgead.runtimes._base import Availability, Runtime
from edgead.types import Target

_PACKAGE, _SUFFIX = "edgead.runtimes", "_runtime"
_NATIVE = "native"  # drives whole bundles with any engine: a driver (_driver.py), no runtime of one engine


def _classes() -> dict[str, type[Runtime]]:
    found: dict[str, type[Runtime]] = {}
    for stem in stems(_PACKAGE, _SUFFIX):
        if stem == _NATIVE:
            continue
        member = plugin_class(load(_PACKAGE, stem, _SUFFIX, "runtime"), Runtime)
        if member.engine in found:
            raise InternalError(f"two runtimes claim the engine {member.engine!r}")
        found[member.engine] = member
    return found


def engines() -> dict[str, Availability]:
    """Every engine that has a runtime, sorted by name, and whether it can run here."""
    return {name: kind.availability() for name, kind in sorted(_classes().items())}


def availability(target: Target) -> Availability:
    """Whether `target` can run here.

    Raises:
        UsageError: no runtime drives such an engine.
    """
    return runtime_for(target.engine).availability_for(target)


def runtime_for(engine: str) -> Runtime:
    """A new, unopened runtime for `engine`.

    Raises:
        UsageError: no runtime drives such an engine.
    """
    classes = _classes()
    if engine not in classes:
        raise UsageError(f"unknown engine {engine!r}; there is {', '.join(sorted(classes))}")
    return classes[engine]()
