"""Whether real images count as an object or as a texture: with the backbone of the light preset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgead.data.folder import good_images
from edgead.detectors._presets import PRESETS
from edgead.detectors.cpr import Cpr
from edgead.errors import DatasetError
from edgead.imaging.frame import read_image
from edgead.imaging.preprocess import Preprocess
from edgead.progress import Silent
from edgead.training._cpr_features import FineFeatures
from edgead.training._cpr_foreground import Choice, set_foreground
from edgead.training.cpr import load_frozen

pytestmark = pytest.mark.realdata


def fitted(root: Path, choice: Choice) -> tuple[Cpr, dict[str, object]]:
    network = Cpr.from_config(PRESETS["cpr"]["config"]).eval()
    load_frozen(network, None, progress=Silent())
    preprocess = Preprocess(network.geometry)
    files = [item.path for item in good_images(root)]
    pixels = np.stack([preprocess(read_image(path)) for path in files[:: len(files) // 16]])
    features = FineFeatures(network, pixels, progress=Silent())
    return network, set_foreground(network, features, features.sample(0), choice, seed=0)


def test_bottles_are_objects(bottle: Path) -> None:
    """The bottle fills a circle of 0.97 of the side, on white."""
    network, found = fitted(bottle, "auto")
    assert found["used"]
    preprocess = Preprocess(network.geometry)
    pixels = np.stack(
        [preprocess(read_image(path)) for path in sorted((bottle / "test" / "good").iterdir())[:3]]
    )
    with torch.no_grad():
        shown = network.object_map(network.features(torch.from_numpy(pixels))[0])
    y, x = np.mgrid[:80, :80]
    radius = np.hypot(y - 39.5, x - 39.5)
    assert shown[:, radius < 30].mean() > 0.7
    assert shown[:, radius > 44].mean() < 0.1


def test_tiles_are_a_texture(magnetic_tile: Path) -> None:
    network, found = fitted(magnetic_tile, "auto")
    assert not found["used"]
    assert not network.config.foreground
    with pytest.raises(DatasetError, match="cannot be told apart"):
        fitted(magnetic_tile, "on")
