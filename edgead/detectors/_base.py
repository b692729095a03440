"""What every detector is: a frozen config, a torch module, and the recipe of its pixels and its map."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from edgead.types import Geometry, PostRecipe


class DetectorOutput(NamedTuple):
    """Raw output of a detector, the same as its graph's.

    anomaly_map: (N, K, h, w) float32, raw channels, higher = more anomalous.
    image_score: (N,) float32, or None where the score is a function of the map (see `PostRecipe.score_rule`).
    """

    anomaly_map: Tensor
    image_score: Tensor | None = None


class Detector(nn.Module, ABC):
    """A detector in its straightforward form: the reference that lowering and engines are held to."""

    name: str
    geometry: Geometry

    @property
    @abstractmethod
    def post_recipe(self) -> PostRecipe:
        """What happens to the raw map after the network."""

    @abstractmethod
    def forward(self, image: Tensor) -> DetectorOutput:
        """Score (N, H, W, 3) uint8 RGB images of exactly `geometry.input_size`."""

    @abstractmethod
    def config_dict(self) -> dict[str, Any]:
        """The config as JSON values; `from_config` gives the same network back, without weights."""

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, Any]) -> Detector:
        """Build the network from `config_dict` output, weights uninitialised or random."""
