"""bundle_v1.edgead must stay readable for ever; while v1 is written, its recipe gives the same bytes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgead.bundle.hashes import sha256_file
from edgead.bundle.reader import open_bundle
from edgead.bundle.writer import pack

HERE = Path(__file__).parent
BUNDLE = HERE / "bundle_v1.edgead"
DIGEST = "sha256:b535173a4a8eab7a422320571feb97659c1160848cc1745b467c4ea2791b774c"
ZIP = "sha256:f0ec8a905871515681fbbb817a8b6c62e6e5efb1a68a2c6b9147392dc7a0b4a7"


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_bundle_v1", HERE / "make_bundle_v1.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_version_1_is_read() -> None:
    with open_bundle(BUNDLE) as bundle:
        assert bundle.digest == DIGEST
        assert bundle.manifest.schema == 1
        assert bundle.targets == ("openvino:fp32", "onnxruntime:fp32")
        assert bundle.thresholds("onnxruntime:fp32").image == 126.0
        assert [image.expected[0].score_raw for image in bundle.golden] == [60.75, 191.25]
        h, w = bundle.operator()
        assert (h.rows, h.cols, h.band) == (8, 4, 2)
        np.testing.assert_array_equal(h.start, [0, 0, 0, 1, 1, 2, 2, 2])
        np.testing.assert_array_equal(w.weights[:3], [[1, 0], [0.75, 0.25], [0.25, 0.75]])
        assert bundle.golden_map(bundle.golden[0].expected[0]).max() == np.float32(55.875)


def test_the_recipe_gives_the_same_bytes(recipe: ModuleType, tmp_path: Path) -> None:
    recipe.build(tmp_path / "again.edgead")
    files = sorted(path.relative_to(BUNDLE) for path in BUNDLE.rglob("*") if path.is_file())
    made = sorted(
        path.relative_to(tmp_path / "again.edgead") for path in tmp_path.rglob("*") if path.is_file()
    )
    assert made == files
    for name in files:
        assert (tmp_path / "again.edgead" / name).read_bytes() == (BUNDLE / name).read_bytes(), name


def test_the_zip_has_the_same_bytes_on_every_machine(tmp_path: Path) -> None:
    assert pack(BUNDLE, tmp_path / "bundle.zip") == DIGEST
    assert sha256_file(tmp_path / "bundle.zip") == ZIP


def test_the_graph_gives_the_golden_values(recipe: ModuleType) -> None:
    import cv2
    import onnxruntime

    with open_bundle(BUNDLE) as bundle:
        session = onnxruntime.InferenceSession(bundle.path("graph.onnx"), providers=["CPUExecutionProvider"])
        for image in bundle.golden:
            pixels = cv2.imread(str(bundle.path(image.file)), cv2.IMREAD_UNCHANGED)[None, ..., ::-1]
            grid = session.run(None, {"image": np.ascontiguousarray(pixels)})[0][0, 0]
            assert grid.max() == image.expected[0].score_raw
            np.testing.assert_array_equal(recipe.map_of(grid), bundle.golden_map(image.expected[0]))
