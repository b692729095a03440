"""Progress on stderr: bars in a terminal, a few plain lines in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgead.cli import _output

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from edgead.progress import Task

LOG_EVERY_S = 10.0
REFRESH_EVERY_S = 0.2


def _status_text(status: dict[str, object]) -> str:
    return " ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in status.items()
    )


class _LineTask:
    """A task in a log: a line at the start, every ten seconds, at the end."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total, self._done = name, total, 0
        self._status: dict[str, object] = {}
        self._started = self._last = time.monotonic()
        _output.say(f"{name}: {total} to do" if total else f"{name}: started")

    def advance(self, steps: int = 1, **status: object) -> None:
        self._done += steps
        self._status.update(status)
        now = time.monotonic()
        if now - self._last >= LOG_EVERY_S:
            self._last = now
            self._line(now)

    def _line(self, now: float) -> None:
        of = f"/{self._total} ({100 * self._done / self._total:.0f} %)" if self._total else " done"
        status = _status_text(self._status)
        _output.say(
            f"{self._name}: {self._done}{of}, {now - self._started:.0f} s" + (f", {status}" if status else "")
        )

    def close(self) -> None:
        self._line(time.monotonic())


class _BarTask:
    """A bar. It is redrawn from `advance`, not from a thread, which would disturb what is being timed."""

    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars, self._task = bars, task
        self._status: dict[str, object] = {}
        self._last = 0.0

    def advance(self, steps: int = 1, **status: object) -> None:
        self._status.update(status)
        now = time.monotonic()
        self._bars.update(self._task, advance=steps, status=_status_text(self._status))
        if now - self._last >= REFRESH_EVERY_S:
            self._last = now
            self._bars.refresh()


class RichProgress:
    """`edgead.progress.Progress` on stderr.

    Args:
        quiet: show no bars and no messages; errors still appear.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._bars: Bars | None = None
        self._open = 0

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        """Open a bar of `total` steps (0 = unknown); bars may be nested."""
        if self._quiet:
            from edgead.progress import Silent

            with Silent().task(name, total) as silent:
                yield silent
        elif not self._terminal:
            line = _LineTask(name, total)
            try:
                yield line
            finally:
                line.close()
        else:
            bars = self._start()
            bar = bars.add_task(name, total=total or None, status="")
            try:
                yield _BarTask(bars, bar)
            finally:
                self._stop()

    def say(self, message: str) -> None:
        """Print a line, above the bars where there are some."""
        if self._quiet:
            return
        if self._bars is not None:
            self._bars.console.print(message, markup=False, highlight=False, soft_wrap=True)
        else:
            _output.say(message)

    def _start(self) -> Bars:
        if self._bars is None:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self._bars = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[status]}", markup=False),
                console=Console(stderr=True),
                auto_refresh=False,
            )
            self._bars.start()
        self._open += 1
        return self._bars

    def _stop(self) -> None:
        self._open -= 1
        if self._open == 0 and self._bars is not None:
            self._bars.refresh()
            self._bars.stop()
            self._bars = None
