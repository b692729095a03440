"""The one place that imports openvino, without the part of it that talks to its maker."""

from __future__ import annotations

import sys
from typing import Any

MISSING = "openvino is not installed: pip install 'edgead[openvino]'"


def openvino() -> Any:
    """The openvino package.

    By default its import and every conversion report to its maker over the network, from a process that is
    forked off a thread: nothing that a line-side device should do, and a matrix product of NumPy may then
    wait for ever. Where openvino_telemetry cannot be imported, openvino does without.

    Raises:
        ImportError: the package is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # an import of it now fails
    import openvino

    return openvino
