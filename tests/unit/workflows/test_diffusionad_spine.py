"""DiffusionAD on the spine's small images: train, export to every CPU target, verify; its noise is data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgead.bundle.hashes import sha256_file
from edgead.bundle.reader import open_bundle
from edgead.detectors import model_file
from edgead.detectors._presets import PRESETS
from edgead.detectors.diffusionad import DiffusionAd
from edgead.errors import BundleError, ModelError, UsageError
from edgead.exporters.lowering.diffusionad import lower
from edgead.imaging.frame import read_image
from edgead.runtimes.session import Session
from edgead.workflows.export import export, installed_defaults
from edgead.workflows.train import train
from edgead.workflows.verify import verify

SMALL = {
    "detector": "diffusionad",
    "summary": "32×32, for tests",
    "config": {
        "base": 8,
        "blocks": 1,
        "groups": 2,
        "heads": 2,
        "multipliers": [1, 2],
        "attention": [2],
        "segmentation_width": 4,
        "geometry": {"height": 32, "width": 32, "resampler": "opencv_linear"},
    },
    "training": {"steps": 6, "batch": 2, "save_every": 3, "segmentation_rate": 1e-2},
}


SMALL_RADAR = {
    "detector": "radar",
    "summary": "32×32, for tests",
    "config": {
        **{key: value for key, value in SMALL["config"].items() if key != "segmentation_width"},  # type: ignore[attr-defined]
        "geometry": {"height": 32, "width": 32},
    },
    "training": {"steps": 6, "batch": 2, "save_every": 3, "rate": 1e-3},
}


@pytest.fixture(autouse=True)
def _small_preset(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(PRESETS, "small_diffusion", SMALL)
    monkeypatch.setitem(PRESETS, "small_radar", SMALL_RADAR)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def model(spine: Any, tmp_path: Path) -> Path:
    train("small_diffusion", spine.data, tmp_path / "m")
    return tmp_path / "m"


@pytest.mark.slow
def test_every_engine_is_torch_and_both_drivers_agree(spine: Any, model: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "b.edgead"
    _, info = model_file.load(model)
    assert not [key for key in info.provenance if key.endswith("_weights")]  # nothing came from elsewhere
    assert not model_file.partial_path(model).exists()
    targets = installed_defaults()
    export(model, bundle, calib=spine.data, targets=targets, threads=1, accept=True)
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert (manifest["post"]["score_rule"], manifest["post"]["top_k"]) == ("top_k_mean", 50)
    verified = verify(bundle, spine.data, model=model, threads=1)
    assert set(verified.targets) == set(targets)
    for name, verdict in verified.targets.items():
        if name.endswith("fp32"):
            assert verdict.parity.shift_max is not None
            assert verdict.parity.score_range is not None
            assert verdict.parity.shift_max <= 1e-3 * verdict.parity.score_range, name
            assert verdict.flipped == (), name
    frame = read_image(next((spine.data / "test" / "spot").iterdir()))
    for target in (name for name in targets if str(name).endswith("fp32")):
        found = []
        native = ["native"] if str(target).startswith("openvino") else []  # the drivers that any build has
        for runtime in ("python", "python", *native):
            with (
                open_bundle(bundle) as opened,
                Session.open(opened, target=target, runtime=runtime, threads=1) as session,  # type: ignore[arg-type]
            ):
                found.append(session.predict(frame))
        for other in found[1:]:
            assert other.score_raw == found[0].score_raw
            np.testing.assert_array_equal(other.anomaly_map, found[0].anomaly_map)

    graph = bundle / "graph.onnx"
    data = bytearray(graph.read_bytes())
    detector, _ = model_file.load(model)
    noise = lower(detector).noise.numpy()  # type: ignore[arg-type]
    place = data.find(noise.tobytes())  # it is in the graph, as data
    assert place > 0
    data[place] ^= 1
    graph.write_bytes(data)
    with pytest.raises(BundleError, match=r"graph\.onnx"), open_bundle(bundle) as opened:
        Session.open(opened, target=next(iter(targets)), threads=1)


def test_a_model_without_its_noise_or_with_another_is_refused(model: Path) -> None:
    weights = model / model_file.WEIGHTS_FILE
    tensors = load_file(weights)
    sound = weights.read_bytes()
    save_file({**tensors, "noise": tensors["noise"] + 1e-3}, weights)
    with pytest.raises(ModelError, match="is damaged: its hash is"):
        model_file.load(model)
    save_file({key: value for key, value in tensors.items() if key != "noise"}, weights)
    config = model / model_file.CONFIG_FILE
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "weights_sha256": sha256_file(weights)}))
    with pytest.raises(ModelError, match=r"(?s)does not hold this detector's weights.*noise"):
        model_file.load(model)
    weights.write_bytes(sound)
    config.write_text(json.dumps(values))
    assert isinstance(model_file.load(model)[0], DiffusionAd)


def test_training_takes_no_weights(spine: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--weights .*trains all of its networks"):
        train("small_diffusion", spine.data, tmp_path / "m", weights=tmp_path / "w.pth")


@pytest.mark.slow
def test_radar_goes_the_same_way(spine: Any, tmp_path: Path) -> None:
    model, bundle = tmp_path / "m", tmp_path / "b.edgead"
    train("small_radar", spine.data, model)
    export(model, bundle, calib=spine.data, targets=["onnxruntime:fp32"], threads=1, accept=True)
    verdict = verify(bundle, spine.data, model=model, threads=1).targets["onnxruntime:fp32"]
    assert verdict.parity.shift_max is not None
    assert verdict.parity.score_range is not None
    assert verdict.parity.shift_max <= 1e-3 * verdict.parity.score_range
    assert verdict.flipped == ()
