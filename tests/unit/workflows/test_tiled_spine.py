"""Large frames in tiles, from training to decision: a real detector on 2×3 of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from edgead.bundle.reader import open_bundle
from edgead.cli.app import build
from edgead.data.folder import content_hash
from edgead.detectors import model_file
from edgead.detectors._presets import PRESETS
from edgead.errors import UsageError
from edgead.imaging.frame import Frame, read_image
from edgead.runtimes.session import Session
from edgead.types import Geometry, Tiles
from edgead.workflows import train as workflow
from edgead.workflows.export import export, installed_defaults
from edgead.workflows.train import train
from edgead.workflows.verify import verify

FRAME = (224, 320)  # height, width: twice the network's image of 112×160
SEAM = (107, 135)  # centre of a defect: between the two rows of tiles, and between the first two columns
SMALL: dict[str, Any] = {
    "detector": "patchcore",
    "summary": "for tests",
    "config": {
        "backbone": "efficientnet_lite0",
        "taps": ["stage2", "stage3"],
        "geometry": {"height": 64, "width": 64},
    },
    "training": {"share": 1.0, "most": 500, "projection": 32},
}


@pytest.fixture(scope="module", autouse=True)
def _small_preset() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "sheet", SMALL)
        yield
    torch.set_num_threads(threads)


def sheets(root: Path) -> Path:
    """MVTec layout: 12 good sheets; for the test 3 good ones and 3 with a spot on the seams."""
    random = np.random.default_rng(3)

    def write(name: str, image: np.ndarray) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(root / name), image)

    def sheet() -> np.ndarray:
        y, x = np.mgrid[: FRAME[0], : FRAME[1]]
        weave = 25 * np.sin(x * 0.35 + random.uniform(0, 6)) * np.sin(y * 0.3 + random.uniform(0, 6))
        noisy = 120 + weave[..., None] + random.normal(0, 4, (*FRAME, 3))
        return np.clip(noisy, 0, 255).astype(np.uint8)

    for number in range(12):
        write(f"train/good/{number:02}.png", sheet())
    for number in range(3):
        write(f"test/good/{number:02}.png", sheet())
        image, mask = sheet(), np.zeros(FRAME, np.uint8)
        cv2.circle(mask, SEAM[::-1], 12, 255, -1)
        image[mask > 0] = (20, 40, 230)
        write(f"test/spot/{number:02}.png", image)
        write(f"ground_truth/spot/{number:02}_mask.png", mask)
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path, tuple[str, ...]]:
    """(data, MODEL, bundle, targets)."""
    root = tmp_path_factory.mktemp("sheets")
    data, model, bundle = sheets(root / "data"), root / "m", root / "b.edgead"
    train("sheet", data, model, size=(64, 64), tiles=(2, 3))
    targets = (*installed_defaults(search="+bank_search")[:1], "onnxruntime:fp32", "openvino:int8")
    export(model, bundle, calib=data, targets=targets, threads=1, int8_error=math.inf, accept=True)
    return data, model, bundle, targets


def test_the_model_keeps_the_tiles_and_learns_of_all_of_them(made: Any) -> None:
    data, model, _, _ = made
    detector, info = model_file.load(model)
    tiles = Tiles(rows=2, columns=3, height=64, width=64)
    assert detector.geometry == Geometry(height=112, width=160, tiles=tiles)  # 16 shared, a quarter
    assert detector.post_recipe.grid == (16, 16)  # the network's own
    hashes = {content_hash(path) for path in (data / "train" / "good").iterdir()}
    assert info.train_hashes is not None
    assert info.reserved_hashes is not None
    trained, reserved = set(info.train_hashes), set(info.reserved_hashes)
    assert trained | reserved == hashes  # by image: the tiles of one are never on both sides
    assert not trained & reserved
    assert info.provenance["bank"]["images"] == 6 * len(trained)
    assert info.provenance["bank"]["patches"] == 6 * len(trained) * 16 * 16


def test_all_targets_hold_against_torch_on_the_joined_map(made: Any) -> None:
    data, model, bundle, targets = made
    for reference in (model, None):
        report = verify(bundle, data, model=reference, threads=1, targets=targets[:2])
        assert report.passed, report.to_json()
        for verdict in report.targets.values():
            assert verdict.accuracy.image_auroc == 1.0
            assert verdict.accuracy.pixel_auroc is not None
            assert verdict.accuracy.pixel_auroc > 0.95
    with open_bundle(bundle) as opened:
        assert opened.manifest.schema == 2
        assert opened.manifest.post.grid == (28, 40)
        assert opened.manifest.post.output == (112, 160)
        assert opened.manifest.graph.input.shape == (1, 64, 64, 3)


def test_a_defect_on_the_seams_is_found_once_and_in_its_place(made: Any) -> None:
    data, _, bundle, targets = made
    frame = read_image(data / "test" / "spot" / "00.png")
    for target in targets:
        with open_bundle(bundle) as opened:
            with Session.open(opened, target=target, runtime="python", threads=1) as session:
                python = session.predict(frame)
            with Session.open(opened, target=target, threads=1) as session:  # native where it can be
                native, driver = session.predict(frame), session.runtime
        assert driver == "native" or not target.startswith("openvino")
        assert native.score_raw == python.score_raw
        assert native.regions == python.regions
        np.testing.assert_array_equal(native.anomaly_map, python.anomaly_map)
        assert native.anomaly_map.shape == (112, 160)
        assert native.decision == "NG"
        peak = np.unravel_index(native.anomaly_map.argmax(), native.anomaly_map.shape)
        assert np.hypot(2 * peak[0] - SEAM[0], 2 * peak[1] - SEAM[1]) < 14  # radius 12, in frame pixels
        x, y, width, height = native.regions[0].box
        assert abs(x + width / 2 - SEAM[1]) < 8
        assert abs(y + height / 2 - SEAM[0]) < 8
        assert native.regions[0].peak == native.anomaly_map.max()


def test_a_seam_makes_a_defect_neither_larger_nor_smaller(made: Any) -> None:
    """The same spot on the seams, and in the middle of the first tile."""
    data, _, bundle, targets = made
    good = read_image(data / "test" / "good" / "00.png").data
    found = []
    with open_bundle(bundle) as opened, Session.open(opened, target=targets[0], threads=1) as session:
        for place in (SEAM, (64, 64)):
            image = good.copy()
            cv2.circle(image, place[::-1], 12, (20, 40, 230), -1)
            prediction = session.predict(Frame(image, "BGR8"))
            x, y, width, height = prediction.regions[0].box
            assert abs(x + width / 2 - place[1]) < 8
            assert abs(y + height / 2 - place[0]) < 8
            found.append((prediction.score_raw, width, height))
    np.testing.assert_allclose(found[0], found[1], rtol=0.15)


def test_the_commands_tell_of_tiles(made: Any, tmp_path: Path) -> None:
    data, _, bundle, targets = made

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(build(), [str(one) for one in arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "resize to 112x160 (pillow_bilinear), in 2x3 tiles of 64x64, overlap 16x16" in run(
        "inspect", str(bundle), "--no-self-test"
    )
    shown = json.loads(run("inspect", str(bundle), "--json", "--target", targets[0]))
    assert shown["geometry"]["tiles"] == {"rows": 2, "columns": 3, "height": 64, "width": 64}
    assert shown["self_test"]["passed"]

    measure = (
        "bench",
        str(bundle),
        "--images",
        str(data / "test"),
        "--target",
        targets[0],
        "--queries",
        "40",
    )
    found = json.loads(run(*measure, "--json"))
    assert found["tiles"] == 6
    assert found["tile_ms"]["p50"] == pytest.approx(found["stages_ms"]["engine"]["p50"] / 6)
    assert "engine, each of 6 tiles" in run(*measure)

    run("run", str(bundle), str(data / "test"), "-o", str(tmp_path / "out"), "--target", targets[0])
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    assert len(lines) == 6
    for line in map(json.loads, lines):
        assert line["tiles"] == 6
        assert line["tile_ms"] == pytest.approx(line["timings_ms"]["engine"] / 6, abs=1e-4)
        assert line["decision"] == ("NG" if "spot" in line["path"] else "OK")


def test_int8_ranges_come_from_tiles(made: Any) -> None:
    data, _, bundle, _ = made
    table = json.loads((bundle / "reports" / "int8_calibration.json").read_text())
    hashes = {content_hash(path) for path in (data / "train" / "good").iterdir()}
    assert len(table["images"]) == len(set(table["images"]))
    assert set(table["images"]) <= hashes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 16}, "--overlap 16 is of tiles: say how many, for instance --tiles 2x3"),
        ({"tiles": (2, 3), "overlap": 10}, "an overlap of 10 pixels does not fit .*; take 8 or 12"),
        ({"tiles": (2, 3), "size": (16, 64)}, "input size 16x64"),
        ({"tiles": (5000, 1)}, "5000 rows and 1 columns; give 1 to 256 of each"),
    ],
)
def test_tiles_that_cannot_be_are_refused_before_any_image_is_read(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        train("sheet", tmp_path / "nowhere", tmp_path / "m", **options)


@pytest.mark.parametrize(
    ("detector", "options", "message"),
    [
        ("padim", {}, "padim cannot be trained on tiles: it learns what is normal at each place"),
        ("cpr", {}, "cpr cannot be trained on tiles: .* look at all of it with --foreground off"),
        ("cpr", {"foreground": "on"}, "cpr cannot be trained on tiles"),
    ],
)
def test_detectors_that_cannot_learn_from_tiles_say_why(
    tmp_path: Path, detector: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        train(detector, tmp_path / "nowhere", tmp_path / "m", tiles=(2, 3), **options)


@pytest.mark.parametrize(
    ("detector", "image_size"),
    [
        ("simplenet", (448, 640)),
        ("efficientad", (448, 640)),
        ("stfpm", (448, 640)),
        ("fastflow", (448, 640)),
        ("reverse_distillation", (448, 640)),
        ("diffusionad", (448, 640)),
        ("radar", (448, 640)),
        ("patchcore_wrn50", None),
    ],
)
def test_every_other_detector_is_laid_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, detector: str, image_size: tuple[int, int] | None
) -> None:
    """Up to the reading of images, which is asked for images of all tiles."""

    class Stop(Exception):
        pass

    def load_pixels(items: Any, geometry: Geometry, **options: Any) -> Any:
        assert geometry.tiles is not None
        assert (geometry.tiles.rows, geometry.tiles.columns) == (2, 3)
        if image_size is not None:
            assert geometry.image_size == image_size
            assert geometry.input_size == (256, 256)
        raise Stop

    monkeypatch.setattr(workflow, "good_images", lambda data: ())
    monkeypatch.setattr(workflow, "load_pixels", load_pixels)
    monkeypatch.setattr(workflow, "load_plugin", _without_weights(workflow.load_plugin))
    size = (256, 256) if image_size is not None else None
    with pytest.raises(Stop):
        train(detector, tmp_path / "nowhere", tmp_path / "m", size=size, tiles=(2, 3))


def _without_weights(load: Any) -> Any:
    class Recipe:
        def __init__(self, module: Any) -> None:
            self._module = module

        def load_frozen(self, *arguments: Any, **options: Any) -> None:
            return None

        def __getattr__(self, name: str) -> Any:
            return getattr(self._module, name)

    return lambda *arguments, **options: Recipe(load(*arguments, **options))
