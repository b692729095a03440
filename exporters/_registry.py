"""Engine names to exporters: every ``*_exporter.py`` of this folder that holds an `Exporter`."""

from __future__ import annotations

import inspect

from edgead.discovery import load, stems
from edgead.errors import InternalError, UsageError
from edgead.exporters._base import Exporter

_PACKAGE, _SUFFIX = "edgead.exporters", "_exporter"


def exporter_for(engine: str) -> Exporter:
    """An exporter that makes `engine`'s files.

    Raises:
        UsageError: no exporter makes them; the message lists the engines that have one.
    """
    found: dict[str, type[Exporter]] = {}
    for stem in stems(_PACKAGE, _SUFFIX):
        module = load(_PACKAGE, stem, _SUFFIX, "exporter")
        for _, member in inspect.getmembers(module, inspect.isclass):
            if issubclass(member, Exporter) and member.__module__ == module.__name__:
                if member.engine in found:
                    raise InternalError(f"two exporters claim the engine {member.engine!r}")
                found[member.engine] = member
    if engine not in found:
        raise UsageError(f"no exporter for engine {engine!r}; there is {', '.join(sorted(found))}")
    return found[engine]()
