"""The only place that prints: data to stdout, talk to stderr."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, TextIO

from edgead.types import Target

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}


def colour(text: str, name: str, stream: TextIO | None = None) -> str:
    """`text` in a colour where `stream` (default stderr) is a terminal and NO_COLOR is not set."""
    stream = sys.stderr if stream is None else stream
    wanted = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\x1b[{_COLOURS[name]}m{text}\x1b[0m" if wanted else text


def _write(stream: TextIO, text: str) -> None:
    """Write a line. A reader that went away (`| head`) does not change the command's verdict."""
    try:
        try:
            stream.write(text + "\n")
        except UnicodeEncodeError:
            encoding = stream.encoding or "ascii"
            stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")
        stream.flush()
    except BrokenPipeError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def say(message: str) -> None:
    """Tell the person something, on stderr."""
    _write(sys.stderr, message)


def jsonable(value: Any) -> Any:
    """`value` as JSON values: dataclasses become objects, paths and targets text, NaN and infinities null."""
    if isinstance(value, (Target, PurePath)):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(item) for item in value]
    if hasattr(value, "tolist"):  # numpy arrays and scalars
        return jsonable(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def emit(data: Any, *, as_json: bool, human: str | Callable[[], str]) -> None:
    """Print a command's result on stdout.

    Args:
        data: the result, printed as indented JSON where `as_json`.
        as_json: what `--json` said.
        human: the same for a person, or a function that makes it when needed.
    """
    if as_json:
        text = json.dumps(jsonable(data), indent=2, allow_nan=False, ensure_ascii=False)
    else:
        text = human if isinstance(human, str) else human()
    _write(sys.stdout, text)


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned columns without lines; numbers to the right. Never cut, whatever the terminal's width."""
    cells = [[str(cell) for cell in row] for row in rows]
    numeric = [
        bool(rows) and all(isinstance(row[i], (int, float)) and not isinstance(row[i], bool) for row in rows)
        for i in range(len(headers))
    ]
    widths = [max(len(line[i]) for line in [list(headers), *cells]) for i in range(len(headers))]

    def line(values: Sequence[str]) -> str:
        return "  ".join(
            value.rjust(width) if right else value.ljust(width)
            for value, width, right in zip(values, widths, numeric, strict=True)
        ).rstrip()

    return "\n".join([line(headers), line(["─" * width for width in widths]), *map(line, cells)])
