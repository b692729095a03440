"""The option `--runtime`."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer


class Runtime(str, Enum):
    """Who drives an engine."""

    NATIVE = "native"
    PYTHON = "python"
    CUDA = "cuda"


RuntimeOption = Annotated[
    Runtime | None,
    typer.Option(
        "--runtime",
        help="Who drives the engine. Default: native (libedgead), or cuda for a target on an NVIDIA GPU, "
        "where it can, else python.",
    ),
]
