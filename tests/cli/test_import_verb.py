from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from edgead.backbones import _base
from edgead.cli.app import build
from edgead.detectors import model_file

DIM, HIDDEN = 16, 8


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    discriminator = {
        "body.block1.0.weight": torch.randn(HIDDEN, DIM),
        "body.block1.0.bias": torch.randn(HIDDEN),
        "body.block1.1.weight": torch.ones(HIDDEN),
        "body.block1.1.bias": torch.zeros(HIDDEN),
        "body.block1.1.running_mean": torch.zeros(HIDDEN),
        "body.block1.1.running_var": torch.ones(HIDDEN),
        "body.block1.1.num_batches_tracked": torch.tensor(7),
        "tail.weight": torch.randn(1, HIDDEN),
    }
    projection = {"layers.0fc.weight": torch.randn(DIM, DIM), "layers.0fc.bias": torch.randn(DIM)}
    torch.save({"discriminator": discriminator, "pre_projection": projection}, tmp_path / "ckpt.pth")
    return tmp_path / "ckpt.pth"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save(_base.build("resnet18", ["layer3"]).state_dict(), tmp_path / "resnet18.pth")
    return tmp_path / "resnet18.pth"


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(build(), [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_a_checkpoint_becomes_a_model(checkpoint: Path, weights: Path, tmp_path: Path) -> None:
    sizes = ("--preset", "simplenet_resnet18", "--resize", 72, "--input-size", 64, "--tap-dim", 20)
    code, out, err = run(
        "import", "simplenet", checkpoint, "-o", tmp_path / "m", "--weights", weights, *sizes, "--json"
    )
    assert code == 0, err
    config = json.loads(out)["config"]
    assert (config["embedding_dim"], config["hidden_dim"], config["tap_dim"]) == (DIM, HIDDEN, 20)
    detector, info = model_file.load(tmp_path / "m")
    geometry = detector.geometry
    assert (geometry.mode, geometry.height, geometry.window) == ("shorter_side", 72, (64, 64))
    assert info.train_hashes is None
    assert info.reserved_hashes is None
    assert info.provenance["kind"] == "imported"
    with torch.no_grad():
        assert detector(torch.zeros(1, 64, 64, 3, dtype=torch.uint8)).anomaly_map.shape == (1, 1, 8, 8)


def test_bad_input_has_the_documented_codes(checkpoint: Path, weights: Path, tmp_path: Path) -> None:
    rest = ("-o", tmp_path / "m", "--preset", "simplenet_resnet18")
    for code, words, arguments in [
        (2, "simplenet", ("nobody", checkpoint, *rest)),
        (2, "positive", ("simplenet", checkpoint, *rest, "--input-size", 0)),
        (2, "larger than the resize", ("simplenet", checkpoint, *rest, "--resize", 8, "--input-size", 9)),
        (5, "No such file", ("simplenet", tmp_path / "none.pth", *rest)),
        (5, "holds no discriminator", ("simplenet", weights, *rest)),
        (5, "holds no plain state_dict", ("simplenet", checkpoint, *rest, "--weights", checkpoint)),
    ]:
        found, out, err = run("import", *arguments)
        assert (found, out) == (code, ""), err
        assert words in err
    assert not (tmp_path / "m").exists()
