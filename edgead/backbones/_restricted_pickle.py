"""Read foreign torch files without running anything that they bring along.

torch's own restricted unpickler rebuilds tensors and plain containers and refuses every other global, in the
zip format and in the older one. A caller may let objects of further classes pass as `Inert` ones: their name
and their values, never their code. Nothing outside this module opens a pickle.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, ClassVar

import torch

from edgead.errors import WeightsError

_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


class Inert:
    """What stands for an object of a foreign class. Each class gets a subclass of its own.

    Attributes:
        origin: the class's full name: ``torch.nn.modules.conv.Conv2d``.
        arguments: what it was built with.
        values: its attributes, where the file has them as a dict.
    """

    origin: ClassVar[str] = ""
    arguments: tuple[Any, ...]
    values: dict[str, Any]

    def __new__(cls, *arguments: Any) -> Inert:
        found = super().__new__(cls)
        found.arguments, found.values = arguments, {}
        return found

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.values = dict(state)


def load(path: Path, *, inert: Collection[str] | None = (), dicts: Collection[str] = ()) -> Any:
    """What the torch file at `path` holds, its tensors on the CPU.

    Args:
        path: the file.
        inert: full names of classes and functions whose objects become `Inert`; None = all that are not
            tensors and plain values (files in zip format only).
        dicts: full names of classes whose objects become plain dicts of the same items, such as
            ``collections.defaultdict``; what they were built with is forgotten.

    Raises:
        WeightsError: the file cannot be read, is damaged, or asks for a global that is not allowed, which the
            message names.
    """
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path) if inert is None else inert
        stand_ins: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
            (type("Stranger", (Inert,), {"origin": name}), name) for name in names if name not in dicts
        ]
        stand_ins += [(_empty_dict, name) for name in dicts]
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as err:
        raise WeightsError(f"{path} cannot be read: {err.strerror or err}") from err
    except pickle.UnpicklingError as err:
        found = _GLOBAL.search(str(err))
        if found:
            raise WeightsError(
                f"{path} is refused: it asks to run {found[1]}, and a checkpoint may hold tensors and plain "
                "values only; save its state_dict() alone, on a machine where you trust it"
            ) from err
        raise WeightsError(f"{path} is not a torch file, or damaged: {_first_line(err)}") from err
    except Exception as err:  # a damaged archive surfaces as many different errors
        raise WeightsError(f"{path} is not a torch file, or damaged: {_first_line(err)}") from err


def _empty_dict(*_arguments: object) -> dict[Any, Any]:
    return {}


def _first_line(err: Exception) -> str:
    return (str(err) or type(err).__name__).splitlines()[0]
