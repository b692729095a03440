"""What every detector is: a frozen config, a torch module, and the recipe of its pixels and its map."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from torch import Tensor, nn

from edgead.errors import UsageError
from edgead.tiling import Tiling, tiling_of
from edgead.types import Geometry, PostRecipe

if TYPE_CHECKING:
    from typing_extensions import Self


class DetectorOutput(NamedTuple):
    """Raw output of a detector, the same as its graph's.

    anomaly_map: (N, K, h, w) float32, raw channels, higher = more anomalous.
    image_score: (N,) float32, or None where the score is a function of the map (see `PostRecipe.score_rule`).
    """

    anomaly_map: Tensor
    image_score: Tensor | None = None


class Detector(nn.Module, ABC):
    """A detector in its straightforward form: the reference that lowering and engines are held to.

    Subclasses set `name`, `config_class` and `tuples`, and are built from a config alone.

    Attributes:
        name: file stem in this folder.
        config_class: frozen dataclass with a field `geometry`.
        tuples: its fields that are lists in JSON.
        config: what the detector was built from.
        geometry: the config's.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[Any]]
    tuples: ClassVar[tuple[str, ...]] = ()
    config: Any
    geometry: Geometry

    @property
    @abstractmethod
    def post_recipe(self) -> PostRecipe:
        """What happens to the raw map of one input of the network (`edgead.tiling.joined` for all tiles)."""

    @property
    def tiling(self) -> Tiling | None:
        """The tiles of an image that the network sees one by one; None where it sees the whole.

        Raises:
            UsageError: their maps do not fit together.
        """
        recipe = self.post_recipe
        return tiling_of(self.geometry, recipe.grid, recipe.pad)

    @abstractmethod
    def forward(self, image: Tensor) -> DetectorOutput:
        """Score (N, H, W, 3) uint8 RGB images, or tiles of them, of exactly `geometry.input_size`."""

    def config_dict(self) -> dict[str, Any]:
        """The config as JSON values; `from_config` gives the same network back, without weights."""
        values = asdict(self.config)
        if self.geometry.tiles is None:  # an older edgead reads it, too
            del values["geometry"]["tiles"]
        return values

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the network from `config_dict` output or from a preset's values, with random weights.

        Raises:
            UsageError: a value is missing, unknown or out of range.
        """
        build: Callable[[Any], Self] = cls
        try:
            values = {**config, "geometry": Geometry.from_values(config["geometry"])}
            values |= {key: tuple(values[key]) for key in cls.tuples if key in values}
            return build(cls.config_class(**values))
        except (KeyError, TypeError) as err:
            raise UsageError(f"{cls.name}: the config does not fit: {err}") from err
