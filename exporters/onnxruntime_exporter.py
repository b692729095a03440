"""ONNX Runtime reads graph.onnx as it is: there is nothing to compile."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from edgead.exporters._base import CompiledTarget, Exporter, external_data
from edgead.types import Target


class OnnxRuntimeExporter(Exporter):
    """Names graph.onnx as the target's main file."""

    engine = "onnxruntime"
    precisions = ("fp32",)

    def compile_impl(self, graph: Path, target: Target, folder: Path) -> CompiledTarget:
        """Nothing is written."""
        return CompiledTarget(
            target=target,
            main_file=graph,
            files=(graph, *external_data(graph)),
            tools={"onnxruntime": metadata.version("onnxruntime")},
        )
