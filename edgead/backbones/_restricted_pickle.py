"""Read foreign torch files without running anything that they bring along.

torch's own restricted unpickler rebuilds tensors and plain containers and refuses every other global, in the
zip format and in the older one. Nothing outside this module opens a pickle.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import torch

from edgead.errors import WeightsError

_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def load(path: Path) -> Any:
    """What the torch file at `path` holds, its tensors on the CPU.

    Raises:
        WeightsError: the file cannot be read, is damaged, or asks for a global that is not allowed, which the
            message names.
    """
    try:
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


def _first_line(err: Exception) -> str:
    return (str(err) or type(err).__name__).splitlines()[0]
