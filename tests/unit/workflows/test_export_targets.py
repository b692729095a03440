"""Which form of convolutions an export takes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edgead.exporters.openvino_exporter import OpenVINOExporter
from edgead.workflows import _export_targets
from edgead.workflows._export_targets import Convolutions, Exporters


@pytest.mark.parametrize(
    ("asked", "flags", "fast"),
    [
        ("auto", ("avx2", "avx512f"), True),
        ("auto", ("avx2", "avx512f", "amx_tile", "amx_bf16"), False),
        ("auto", ("asimd",), False),
        ("fast", ("asimd",), True),
        ("plain", ("avx2",), False),
    ],
)
@pytest.mark.parametrize("engine", ["openvino", "openvino+bank_search"])
def test_convolutions_are_fast_where_asked_or_known_to_be(
    asked: Convolutions, flags: tuple[str, ...], fast: bool, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_export_targets, "record", lambda: SimpleNamespace(cpu_flags=flags))
    exporter = Exporters(convolutions=asked)(engine)
    assert isinstance(exporter, OpenVINOExporter)
    assert exporter.fast == fast
