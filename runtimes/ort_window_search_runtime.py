"""ONNX Runtime up to the query tensors, then libedgead's windowed search."""

from __future__ import annotations

from pathlib import Path

from edgead.runtimes._graph import GraphOutputs
from edgead.runtimes._head import SearchedOutputs
from edgead.runtimes.ort_runtime import OnnxRuntime


class OnnxWindowSearchRuntime(OnnxRuntime):
    """As ONNX Runtime; ``head.json`` beside the graph says what is searched."""

    engine = "onnxruntime+window_search"

    def outputs_of(self, graph: Path) -> GraphOutputs:
        """Query tensors."""
        return SearchedOutputs(graph)
