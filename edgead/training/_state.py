"""Resume state: one file in ``MODEL.partial/``, replaced at once after every meta-epoch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
from torch import Tensor, nn

from edgead.bundle._storage import output_error, replace_file
from edgead.errors import OutputError
from edgead.training._muon import AnyOptimiser

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_FILE = "state.safetensors"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a training needs to go on: tensors by name and JSON values."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]


def pack(network: nn.Module, optimiser: AnyOptimiser, extra: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of what a training by one optimiser goes on from: ``now.*``, ``optimiser.*`` and `extra`."""
    tensors = {f"now.{key}": value for key, value in network.state_dict().items()} | dict(extra)
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{key}": value for key, value in moments.items()}
    # Distinct copies: safetensors refuses tensors that share memory.
    return {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}


def unpack(
    tensors: Mapping[str, Tensor], network: nn.Module, optimiser: AnyOptimiser, extra: Mapping[str, Tensor]
) -> None:
    """Put back what `pack` took, in place."""
    moments: dict[int, dict[str, Tensor]] = {}
    weights: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if key.startswith("now."):
            weights[key.removeprefix("now.")] = value
        elif key.startswith("optimiser."):
            _, index, name = key.split(".")
            moments.setdefault(int(index), {})[name] = value
    network.load_state_dict(weights)
    for key, tensor in extra.items():
        tensor.copy_(tensors[key])
    optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})


class ResumeState:
    """The state of one training, tied to what it was started with.

    Args:
        folder: ``MODEL.partial``; made at the first `save`.
        fingerprint: JSON values that must be equal to go on: preset, recipe, seed, images, weights, versions.
    """

    def __init__(self, folder: Path, fingerprint: Mapping[str, Any]) -> None:
        self._folder = folder
        self._fingerprint = json.loads(json.dumps(dict(fingerprint)))

    def load(self) -> Snapshot | None:
        """The state that an earlier run left, None where there is none.

        Raises:
            OutputError: the folder holds another training, or no readable one.
        """
        from safetensors import SafetensorError, safe_open

        path = self._folder / _FILE
        if not path.exists():
            return None
        way_out = f"give another output name, or restart (--restart), which deletes {self._folder}"
        try:
            with safe_open(path, "pt") as file:
                values = json.loads((file.metadata() or {})["values"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            begun = values.pop("fingerprint")
        except (SafetensorError, OSError, KeyError, ValueError) as err:
            raise OutputError(f"{path} cannot be read ({err}); {way_out}") from err
        differing = [key for key, value in self._fingerprint.items() if begun.get(key) != value]
        if differing:
            raise OutputError(
                f"{self._folder} holds an unfinished training that differs in {', '.join(differing)}; "
                f"{way_out}"
            )
        return Snapshot(tensors, values)

    def save(self, snapshot: Snapshot) -> None:
        """Replace the state by `snapshot`.

        Raises:
            OutputError: it cannot be written; the earlier state stays.
        """
        from safetensors.torch import save

        metadata = {"values": json.dumps({**snapshot.values, "fingerprint": self._fingerprint})}
        try:
            self._folder.mkdir(exist_ok=True)
        except OSError as err:
            raise output_error(self._folder, err) from err
        replace_file(self._folder / _FILE, save(snapshot.tensors, metadata))

    def show(self, name: str, picture: npt.NDArray[np.uint8]) -> None:
        """Replace the picture `name` (``….png``) beside the saved state: (H, W, 3) uint8 RGB.

        Raises:
            OutputError: it cannot be written.
        """
        _, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        replace_file(self._folder / name, data.tobytes())
