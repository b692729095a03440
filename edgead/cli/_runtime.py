"""The option `--runtime`."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer


class Runtime(str, Enum):
    """Who drives an engine."""

    NATIVE = "native"
    PYTHON = "python"


RuntimeOption = Annotated[
    Runtime | None,
    typer.Option(
        "--runtime", help="Who drives the engine. Default: native (libedgead) where it can, else python."
    ),
]
