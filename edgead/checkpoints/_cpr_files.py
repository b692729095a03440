"""The files of the authors' CPR code, read without building any of their classes.

A checkpoint is the state dict of heads and backbone; ``grb.pth`` (vocabulary) and ``feb.pth`` (foreground)
are whole pickled modules, of which names and tensors are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from edgead.backbones import _restricted_pickle
from edgead.backbones._restricted_pickle import Inert
from edgead.errors import WeightsError

GLOBAL, FOREGROUND = "grb.pth", "feb.pth"
HEADS = "lrb.conv."
BACKBONE = "backbone.feature_extractor.backbone."
_MODULES = {
    GLOBAL: ("models.grb.GlobalRetrievalBranch", "the global retrieval"),
    FOREGROUND: ("models.feb.ForegroundEstimateBranch", "the foreground"),
}
_CLASSES = [
    "models.grb.GlobalRetrievalBranch",
    "models.grb.Codebook",
    "models.grb.BlockWiseHistogramEncoder",
    "models.feb.ForegroundEstimateBranch",
    "torch.nn.modules.conv.Conv2d",
    "torch.nn.modules.fold.Unfold",
]


def read_state(checkpoint: Path) -> dict[str, Tensor]:
    """The state dict in `checkpoint`.

    Raises:
        WeightsError: it is something else, which the message names.
    """
    found = _restricted_pickle.load(checkpoint, inert=_CLASSES)
    if not isinstance(found, Mapping):
        raise WeightsError(f"{checkpoint} holds {_told(found)}, not the state_dict of a CPR network")
    tensors = {str(key): value for key, value in found.items() if isinstance(value, Tensor)}
    if not any(key.startswith(HEADS) for key in tensors):
        first = ", ".join([*map(str, found)][:3])
        raise WeightsError(
            f"{checkpoint} holds no {HEADS}*, the retrieval heads of the authors' CPR code; it holds "
            f"{first or 'nothing'}"
        )
    return tensors


def read_centres(path: Path, channels: int) -> Tensor:
    """The vocabulary of a ``grb.pth``: (clusters, C).

    Raises:
        WeightsError: the file is something else, or of another tap.
    """
    centres = _tensor(path, _module(path, GLOBAL), "codebook.cluster_centers")
    if centres.ndim != 5 or centres.shape[2] != channels:
        raise WeightsError(
            f"{path}: the vocabulary is {tuple(centres.shape)}, needed is (1, clusters, {channels}, 1, 1): "
            "it is of another backbone or tap"
        )
    return centres[0, :, :, 0, 0]


def read_foreground(path: Path, channels: int) -> tuple[Tensor, Tensor]:
    """Weights (C,) and bias () of a ``feb.pth``.

    Raises:
        WeightsError: the file is something else, or of another tap.
    """
    module = _module(path, FOREGROUND)
    weight, bias = (_tensor(path, module, f"conv1x1.{part}") for part in ("weight", "bias"))
    if tuple(weight.shape) != (1, channels, 1, 1) or bias.numel() != 1:
        raise WeightsError(
            f"{path}: the foreground's weight is {tuple(weight.shape)}, needed is (1, {channels}, 1, 1): it "
            "is of another backbone or tap"
        )
    return weight.flatten(), bias.reshape(())


def _module(path: Path, kind: str) -> Inert:
    found = _restricted_pickle.load(path, inert=_CLASSES)
    name, what = _MODULES[kind]
    if not isinstance(found, Inert) or found.origin != name:
        raise WeightsError(f"{path} holds {_told(found)}, not {what} ({name})")
    return found


def _tensor(path: Path, module: Inert, name: str) -> Tensor:
    """The parameter `name`, ``part.part.parameter``, of a pickled module."""
    *parts, last = name.split(".")
    values: Any = module.values
    for part in parts:
        child = dict(values.get("_modules", {})).get(part)
        values = child.values if isinstance(child, Inert) else {}
    found = dict(values.get("_parameters", {})).get(last)
    if not isinstance(found, Tensor):
        raise WeightsError(f"{path} has no {name}; it is of another version of the authors' code")
    if not bool(found.isfinite().all()):
        raise WeightsError(f"{path}: {name} holds values that are not finite; the file is of no use")
    return found.detach().float()


def _told(found: object) -> str:
    """What a file holds, in words."""
    if isinstance(found, Inert):
        known = {name: what for name, what in _MODULES.values()}
        return f"a pickled {found.origin}" + (f", {known[found.origin]}" if found.origin in known else "")
    if isinstance(found, Mapping):
        return f"a dict of {', '.join([*map(str, found)][:3])}"
    return f"a {type(found).__name__}"
