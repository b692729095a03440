"""ONNX Runtime reads a graph as it is: there is nothing to compile."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import ClassVar

from edgead.exporters._base import CompiledTarget, Exporter
from edgead.exporters._onnx_file import external_data
from edgead.exporters._qdq import ONNXRUNTIME, Encoding
from edgead.types import Precision, Target


class OnnxRuntimeExporter(Exporter):
    """Names the graph itself, or its fp16 or 8-bit form, as the target's main file."""

    engine = "onnxruntime"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "int8")
    encoding: ClassVar[Encoding | None] = ONNXRUNTIME
    runs_typed_graph: ClassVar[bool] = True

    def compile_impl(self, graph: Path, target: Target, folder: Path) -> CompiledTarget:
        """Nothing is written."""
        return CompiledTarget(
            target=target,
            main_file=graph,
            files=(graph, *external_data(graph)),
            tools={"onnxruntime": metadata.version("onnxruntime")},
        )
