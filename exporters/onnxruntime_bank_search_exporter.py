"""The query graph as it is, for ONNX Runtime, and the bank that libedgead finds nearest vectors in."""

from __future__ import annotations

from edgead.exporters.onnxruntime_window_search_exporter import OnnxRuntimeWindowSearchExporter


class OnnxRuntimeBankSearchExporter(OnnxRuntimeWindowSearchExporter):
    """As with a windowed search; the head's name chooses the files."""

    engine = "onnxruntime+bank_search"
