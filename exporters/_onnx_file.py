"""ONNX graphs on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgead.errors import OutputError

# Larger weights, a bank of references say, lie beside the graph: protobuf ends at 2 GB, and readers copy.
EMBED_LIMIT_BYTES = 64 << 20


def save(model: Any, path: Path) -> tuple[Path, ...]:
    """Write an ``onnx.ModelProto`` and check it; large weights go to ``<path>.data``.

    Returns:
        Every file, `path` first.

    Raises:
        OutputError: no room or no permission.
    """
    import onnx

    large = model.ByteSize() > EMBED_LIMIT_BYTES
    data = path.with_name(path.name + ".data")
    try:
        data.unlink(missing_ok=True)  # onnx.save would append to it
        onnx.save(model, path, save_as_external_data=large, location=data.name, size_threshold=1024)
    except OSError as err:
        raise OutputError(f"cannot write {path}: {err.strerror or err}") from err
    onnx.checker.check_model(path, full_check=True)
    return (path, data) if large else (path,)


def external_data(graph: Path) -> tuple[Path, ...]:
    """The weights file beside a graph that is too large to hold them."""
    data = graph.with_name(graph.name + ".data")
    return (data,) if data.is_file() else ()
