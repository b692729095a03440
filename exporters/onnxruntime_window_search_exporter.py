"""The query graph as it is, for ONNX Runtime, and the bank that libedgead searches behind it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edgead.bundle.head import FILE
from edgead.exporters._base import CompiledTarget
from edgead.exporters._head_files import find_query, read_head
from edgead.exporters.onnxruntime_exporter import OnnxRuntimeExporter
from edgead.types import Target


class OnnxRuntimeWindowSearchExporter(OnnxRuntimeExporter):
    """As ONNX Runtime, of the query graph that the detector's lowering wrote beside graph.onnx."""

    engine = "onnxruntime+window_search"

    def source(self, graph: Path) -> Path:
        """The query graph that the detector's lowering wrote."""
        return find_query(graph, self.engine)

    def compile_impl(self, graph: Path, target: Target, folder: Path) -> CompiledTarget:
        """Nothing is written."""
        head, banks = read_head(graph, self.engine)
        made = super().compile_impl(graph, target, folder)
        return dataclasses.replace(
            made, files=(*made.files, graph.with_name(FILE), *banks), head=head.to_values()
        )
