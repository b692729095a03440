"""The query graph as OpenVINO's IR, and the bank that libedgead finds nearest vectors in."""

from __future__ import annotations

from edgead.exporters.openvino_window_search_exporter import OpenVINOWindowSearchExporter


class OpenVINOBankSearchExporter(OpenVINOWindowSearchExporter):
    """As with a windowed search; the head's name chooses the files."""

    engine = "openvino+bank_search"
