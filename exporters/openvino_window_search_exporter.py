"""The query graph as OpenVINO's IR, and the bank that libedgead searches behind it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edgead.exporters._base import CompiledTarget
from edgead.exporters._head_files import copy_head, find_query, read_head
from edgead.exporters.openvino_exporter import OpenVINOExporter
from edgead.types import Target


class OpenVINOWindowSearchExporter(OpenVINOExporter):
    """As OpenVINO, of the query graph that the detector's lowering wrote beside graph.onnx."""

    engine = "openvino+window_search"

    def source(self, graph: Path) -> Path:
        """The query graph that the detector's lowering wrote."""
        return find_query(graph, self.engine)

    def compile_impl(self, graph: Path, target: Target, folder: Path) -> CompiledTarget:
        """Convert the query graph; the banks stay where they are."""
        head, banks = read_head(graph, self.engine)
        made = super().compile_impl(graph, target, folder)
        return dataclasses.replace(
            made, files=(*made.files, copy_head(head, folder), *banks), head=head.to_values()
        )
