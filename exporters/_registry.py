"""Engine names to exporters: every ``*_exporter.py`` of this folder that holds an `Exporter`."""

from __future__ import annotations

from edgead.discovery import load, plugin_class, stems
from edgead.errors import InternalError, UsageError
from edgead.exporters._base import Exporter

_PACKAGE, _SUFFIX = "edgead.exporters", "_exporter"
_GRAPH = "onnx"  # writes the graph that all engines start from; no engine of its own


def exporter_for(engine: str) -> Exporter:
    """An exporter that makes `engine`'s files.

    Raises:
        UsageError: no exporter makes them; the message lists the engines that have one.
    """
    found: dict[str, type[Exporter]] = {}
    for stem in stems(_PACKAGE, _SUFFIX):
        if stem == _GRAPH:
            continue
        member = plugin_class(load(_PACKAGE, stem, _SUFFIX, "exporter"), Exporter)
        if member.engine in found:
            raise InternalError(f"two exporters claim the engine {member.engine!r}")
        found[member.engine] = member
    if engine not in found:
        raise UsageError(f"no exporter for engine {engine!r}; there is {', '.join(sorted(found))}")
    return found[engine]()
