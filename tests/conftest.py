"""Fixtures that every test may use. Tests run in an empty working directory, so that stray files are seen."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import hypothesis.configuration
import pytest

if TYPE_CHECKING:
    import numpy as np

    from edgead.workflows.export import ExportReport

# No example database and no other files in the tree, and no deadline: a busy machine is no failure.
hypothesis.configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "edgead-hypothesis")
hypothesis.settings.register_profile("edgead", database=None, deadline=None)
hypothesis.settings.load_profile("edgead")

_SHARED_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture(autouse=True)
def _empty_working_directory(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("cwd")
    monkeypatch.chdir(folder)
    yield
    left = sorted(path.name for path in folder.iterdir())
    assert not left, f"the test left files in the working directory: {left}"


def _real(name: str) -> Path:
    folder = _SHARED_DATA / name
    if not folder.is_dir():
        pytest.skip(f"real images of {name} are not here")
    return folder


@pytest.fixture(scope="session")
def bottle() -> Path:
    """MVTec AD bottle, complete (tests that use it are marked realdata)."""
    return _real("mvtec_bottle")


@pytest.fixture(scope="session")
def magnetic_tile() -> Path:
    """Magnetic tile surface in MVTec layout (tests that use it are marked realdata)."""
    return _real("magnetic_tile")


@dataclass(frozen=True)
class Spine:
    """One small training and export, made once and shared: treat every path as read-only.

    Attributes:
        data: MVTec layout, 24 good training images, 6 good and 6 defective test images with masks, 96×96.
        model: the bare `simplenet`, trained in two short epochs.
        bundle: its export to every CPU target that this machine has.
        report: what `export` returned for it.
    """

    data: Path
    model: Path
    bundle: Path
    report: ExportReport


def _textured(root: Path) -> None:
    import cv2
    import numpy as np

    random = np.random.default_rng(7)

    def weave() -> np.ndarray:
        y, x = np.mgrid[:96, :96]
        threads = 30 * np.sin(x * 0.8 + random.uniform(0, 6)) * np.sin(y * 0.8 + random.uniform(0, 6))
        noise = random.normal(0, 8, (96, 96, 1)) + random.normal(0, 3, (96, 96, 3))
        return np.asarray(np.clip(110 + threads[..., None] + noise, 0, 255), np.uint8)

    def write(name: str, image: np.ndarray) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(root / name), image)

    for number in range(24):
        write(f"train/good/{number:03}.png", weave())
    for number in range(6):
        write(f"test/good/{number:03}.png", weave())
        image, mask = weave(), np.zeros((96, 96), np.uint8)
        x, y = (int(value) for value in random.integers(24, 72, 2))
        cv2.circle(mask, (x, y), 8 + number, 255, -1)
        image[mask > 0] = (20, 40, 230) if number % 2 else (240, 240, 240)
        write(f"test/spot/{number:03}.png", image)
        write(f"ground_truth/spot/{number:03}_mask.png", mask)


@pytest.fixture(scope="session")
def spine(tmp_path_factory: pytest.TempPathFactory) -> Spine:
    """A real MODEL and a real bundle, trained and exported here from small synthetic images."""
    import torch

    from edgead.detectors._presets import PRESETS
    from edgead.workflows.export import export, installed_defaults
    from edgead.workflows.train import train

    root = tmp_path_factory.mktemp("spine")
    data, model, bundle = root / "data", root / "weave.model", root / "weave.edgead"
    _textured(data)
    short = {**PRESETS["simplenet"]["training"], "meta_epochs": 2, "steps": 12, "batch_patches": 4096}
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "simplenet", {**PRESETS["simplenet"], "training": short})
        train("simplenet", data, model)
    report = export(model, bundle, calib=data, targets=installed_defaults(), threads=2)
    torch.set_num_threads(before)
    return Spine(data, model, bundle, report)


TINY = {
    "detector": "simplenet",
    "summary": "32×32, for tests",
    "config": {
        "backbone": "efficientnet_lite0",
        "taps": ["stage1", "stage2"],
        "tap_dim": 16,
        "embedding_dim": 24,
        "hidden_dim": 8,
        "geometry": {"height": 32, "width": 32},
    },
    "training": {"meta_epochs": 2, "steps": 3, "batch_patches": 256, "standardise": True, "noise": 0.5},
}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Registers the preset ``tiny`` for this process: trains and exports in about a second each."""
    from edgead.detectors._presets import PRESETS

    monkeypatch.setitem(PRESETS, "tiny", TINY)
    return TINY


@pytest.fixture(scope="session")
def tiny_model(spine: Spine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MODEL of the preset ``tiny``, trained on the spine's images: for what does not look at accuracy."""
    from edgead.detectors._presets import PRESETS
    from edgead.workflows.train import train

    model = tmp_path_factory.mktemp("tiny") / "tiny.model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", TINY)
        train("tiny", spine.data, model)
    return model


@pytest.fixture
def altered(spine: Spine, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the spine's bundle with one thing changed and every hash right."""

    def alter(change: Callable[[Path, dict[str, Any]], None]) -> Path:
        root = tmp_path / "altered.edgead"
        shutil.copytree(spine.bundle, root)
        manifest = json.loads((root / "manifest.json").read_text())
        change(root, manifest)
        (root / "manifest.json").write_text(json.dumps(manifest))
        names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
        lines = [
            f"{hashlib.sha256((root / name).read_bytes()).hexdigest()}  {name}\n"
            for name in names
            if name != "MANIFEST.sha256"
        ]
        (root / "MANIFEST.sha256").write_text("".join(lines))
        return root

    return alter
