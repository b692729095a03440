"""Every error that edgead raises on purpose, and the exit code that the command line gives it.

    EdgeadError
    ├── UsageError            2   an argument, a name or an option is wrong
    │   └── OutputError       2   the place to write to cannot take the result
    ├── GateFailed            3   a gate, an accuracy bar or a latency target was missed
    ├── Inconclusive          4   too few samples to say
    ├── InputError            5   what was given to read is not usable
    │   ├── ImageError        5   one image cannot be decoded or is out of bounds
    │   ├── DatasetError      5   a folder lacks images, or is not in the expected layout
    │   │   └── LeakageError  5   the same image on both sides of a split
    │   ├── ModelError        5   a MODEL is damaged or of another version
    │   └── WeightsError      5   a weights or checkpoint file does not fit
    ├── BundleError           6   a bundle is damaged, unsafe or of another schema
    ├── RuntimeMissingError   7   an engine, an extra or a library is not there
    │   └── EngineError       7   the engine is there and refuses the work
    └── ImagesSkipped         8   finished, but some images could not be read

    InternalError             1   a bug in edgead; not an EdgeadError on purpose

A message says what happened, names the offending value, and what to do about it.
"""

from __future__ import annotations

from typing import ClassVar


class EdgeadError(Exception):
    """Base of all errors that a user can act on."""

    exit_code: ClassVar[int] = 2


class UsageError(EdgeadError):
    """An argument, a name or an option is wrong."""


class OutputError(UsageError):
    """The output cannot be written: read-only, full, or occupied by something else."""


class GateFailed(EdgeadError):
    """A parity gate, an accuracy bar or a latency target was missed."""

    exit_code = 3


class Inconclusive(EdgeadError):
    """The samples cannot carry the claim that was asked for."""

    exit_code = 4


class InputError(EdgeadError):
    """Something given to read is not usable."""

    exit_code = 5


class ImageError(InputError):
    """One image cannot be decoded, or its size or format is out of bounds."""


class DatasetError(InputError):
    """A folder holds no images, or is not in the layout that was asked for."""


class LeakageError(DatasetError):
    """The same image, by content hash, stands on both sides of a split."""


class ModelError(InputError):
    """A MODEL is damaged, unfinished or of another version."""


class WeightsError(InputError):
    """A weights or checkpoint file does not fit the network."""


class BundleError(EdgeadError):
    """A bundle is damaged, unsafe or of another schema."""

    exit_code = 6


class RuntimeMissingError(EdgeadError):
    """An engine, an optional package or a library is not installed here."""

    exit_code = 7


class EngineError(RuntimeMissingError):
    """An engine is installed and refuses this graph, precision or device."""


class ImagesSkipped(EdgeadError):
    """All the rest was done; some images could not be read."""

    exit_code = 8


class InternalError(Exception):
    """A state that cannot be: a bug in edgead, please report it."""

    exit_code: ClassVar[int] = 1
