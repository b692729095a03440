"""Weights of EfficientAD's networks from other programs: whose they are, and which tensor goes where.

Names: edgead's and anomalib's are the same (``conv1.weight``, ``encoder.enconv1.bias`` …), nelson1425's are
positions in an nn.Sequential (``0.weight``, ``3.weight`` …).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from edgead.backbones import _restricted_pickle
from edgead.backbones._restricted_pickle import Inert
from edgead.backbones._weights import read_tensors
from edgead.errors import WeightsError

_POSITION = re.compile(r"(\d+)\.(weight|bias)")
# Shape of the first convolution to the network.
_FIRST: dict[tuple[int, ...], str] = {
    (128, 3, 4, 4): "small",
    (256, 3, 4, 4): "medium",
    (64, 3, 3, 3): "edge",
    (32, 3, 4, 4): "autoencoder",
}
_ROLES = {384: "teacher", 768: "student"}
# What a whole pickled network of nelson1425 consists of.
_LAYERS = [
    f"torch.nn.modules.{name}"
    for name in (
        "container.Sequential",
        "conv.Conv2d",
        "activation.ReLU",
        "pooling.AvgPool2d",
        "upsampling.Upsample",
        "dropout.Dropout",
    )
]


def read_network(path: Path) -> dict[str, Tensor]:
    """Tensors by name of one network: from a safetensors file, a state dict, or a whole pickled module.

    Raises:
        WeightsError: it holds something else, or a class that is none of nelson1425's layers.
    """
    if path.suffix == ".safetensors":
        return read_tensors(path)
    found = _restricted_pickle.load(path, inert=_LAYERS)
    if isinstance(found, Inert):
        return _parameters(found)
    if isinstance(found, Mapping) and found and all(isinstance(value, Tensor) for value in found.values()):
        return dict(found)
    raise WeightsError(f"{path} holds neither an nn.Sequential nor a state_dict of tensors")


def _parameters(module: Inert) -> dict[str, Tensor]:
    """What state_dict() would give, from the values alone."""
    tensors = {
        name: value.detach()
        for name, value in dict(module.values.get("_parameters", {})).items()
        if isinstance(value, Tensor)
    }
    for name, child in dict(module.values.get("_modules", {})).items():
        if isinstance(child, Inert):
            tensors |= {f"{name}.{key}": value for key, value in _parameters(child).items()}
    return tensors


def identify(tensors: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """(size, role) of a network of EfficientAD by its shapes, None for anything else.

    The size is small, medium or edge, the role teacher or student; an autoencoder has the size ``""``.
    """
    ordered = [tensors[key] for key in _ordered(tensors)]
    if len(ordered) < 4 or any(value.ndim not in (1, 4) for value in ordered):
        return None
    first = _FIRST.get(tuple(ordered[0].shape))
    if first is None:
        return None
    if first == "autoencoder":
        return "", first
    role = _ROLES.get(len(ordered[-1]))
    return None if role is None else (first, role)


def told(tensors: Mapping[str, Tensor]) -> str:
    """What `tensors` look like, in words: ``a small teacher``."""
    found = identify(tensors)
    if found is None:
        names = ", ".join(list(tensors)[:3])
        return f"{len(tensors)} tensors that begin with {names}" if tensors else "no tensors"
    return f"{'an' if not found[0] or found[0] == 'edge' else 'a'} {' '.join(found).strip()}"


def fill(network: nn.Module, what: str, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load `tensors`, which came from `path`, into `network`.

    Args:
        network: a description network or the autoencoder.
        what: its name in a message, with an article: ``a small teacher``.
        tensors: by any of the known names.
        path: for the message.

    Raises:
        WeightsError: they are another network's, which the message names, or a value is not finite.
    """
    own = network.state_dict()
    ordered = [tensors[key] for key in _ordered(tensors)]
    same_names = set(tensors) == set(own)
    if not same_names and not all(_POSITION.fullmatch(key) for key in tensors):
        raise WeightsError(f"{path} holds {told(tensors)}; needed is {what}")
    found = dict(tensors) if same_names else dict(zip(own, ordered, strict=False))
    if len(tensors) != len(own) or any(found[key].shape != value.shape for key, value in own.items()):
        raise WeightsError(f"{path} holds {told(tensors)}; needed is {what}")
    broken = [key for key, value in found.items() if not bool(value.isfinite().all())]
    if broken:
        raise WeightsError(f"{path}: {broken[0]} holds values that are not finite; the file is of no use")
    network.load_state_dict(found)


def _ordered(tensors: Mapping[str, Tensor]) -> list[str]:
    """Keys in the order of the data: by position where the names are positions, else as they stand."""
    if all(_POSITION.fullmatch(key) for key in tensors):
        return sorted(tensors, key=lambda key: (int(key.split(".")[0]), key.endswith("bias")))
    return sorted(tensors, key=_stage)


def _stage(key: str) -> tuple[bool, int, bool, bool]:
    """Encoder before decoder, then by the layer's number, a depthwise part first, weight before bias."""
    number = re.search(r"(\d+)\.", key)
    place = int(number[1]) if number else 0
    return key.startswith("decoder"), place, not key.startswith("depthwise"), key.endswith("bias")
