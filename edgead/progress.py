"""How long work reports its progress, without knowing who shows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One bar."""

    def advance(self, steps: int = 1, **status: object) -> None:
        """Count `steps` as done; `status` (loss=…, auroc=…) is shown beside the bar."""


class Progress(Protocol):
    """Where bars and messages go: the terminal (edgead.cli), or nowhere."""

    def task(self, name: str, total: int) -> AbstractContextManager[Task]:
        """Open a bar of `total` steps; 0 = nobody knows how many."""

    def say(self, message: str) -> None:
        """Tell the person something worth a line."""


class _SilentTask:
    def advance(self, steps: int = 1, **status: object) -> None:
        pass


class Silent:
    """The `Progress` that shows nothing: the default of the Python API."""

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        """Open a bar that nobody sees."""
        yield _SilentTask()

    def say(self, message: str) -> None:
        """Say nothing."""
