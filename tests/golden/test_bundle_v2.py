"""bundle_v2.edgead, with tiles, must stay readable for ever; its recipe gives the same bytes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgead.bundle.reader import open_bundle
from edgead.runtimes.session import Session
from edgead.types import Tiles
from edgead.workflows.self_test import self_test

HERE = Path(__file__).parent
BUNDLE = HERE / "bundle_v2.edgead"
DIGEST = "sha256:8bab7425f3d2a20eb83249ccf8869e7294bf8d12ef7f5da9346d28bf76611423"


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_bundle_v2", HERE / "make_bundle_v2.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_version_2_is_read() -> None:
    with open_bundle(BUNDLE) as bundle:
        assert bundle.digest == DIGEST
        assert bundle.manifest.schema == 2
        assert bundle.manifest.geometry.tiles == Tiles(rows=2, columns=3, height=8, width=8)
        assert bundle.manifest.geometry.image_size == (14, 16)
        assert bundle.manifest.geometry.input_size == (8, 8)
        assert [image.expected[0].score_raw for image in bundle.golden] == [62.25, 191.25]


def test_the_recipe_gives_the_same_bytes(recipe: ModuleType, tmp_path: Path) -> None:
    recipe.build(tmp_path / "again.edgead")
    files = sorted(path.relative_to(BUNDLE) for path in BUNDLE.rglob("*") if path.is_file())
    made = sorted(
        path.relative_to(tmp_path / "again.edgead") for path in tmp_path.rglob("*") if path.is_file()
    )
    assert made == files
    for name in files:
        assert (tmp_path / "again.edgead" / name).read_bytes() == (BUNDLE / name).read_bytes(), name


@pytest.mark.parametrize("runtime", ["native", "python"])
def test_engines_on_tiles_give_what_arithmetic_gives_of_the_whole(recipe: ModuleType, runtime: str) -> None:
    """The tiles overlap, their weights are exact in float, and so is every value of the joined map."""
    random = np.random.default_rng(2)
    with open_bundle(BUNDLE) as bundle:
        found = self_test(bundle, "openvino:fp32", runtime=runtime)  # type: ignore[arg-type]
        assert found.passed, found
        assert found.targets["openvino:fp32"].map_shift_max == 0
        with Session.open(bundle, "openvino:fp32", runtime=runtime) as session:  # type: ignore[arg-type]
            for _ in range(20):
                image = random.integers(0, 256, (14, 16, 3), np.uint8)
                result = session.scores_of(image[None])
                grid = recipe.grid_of(image)
                assert result.score_raw == grid.max()
                np.testing.assert_array_equal(result.anomaly_map, recipe.map_of(grid))
