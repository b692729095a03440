from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from pytest_httpserver import HTTPServer
from safetensors.torch import save_file

from edgead.backbones import _base
from edgead.backbones._base import WeightsSource
from edgead.backbones._weights import fetch, load_weights
from edgead.errors import RuntimeMissingError, WeightsError

TENSORS = {"conv1.weight": torch.arange(6.0).view(2, 3)}


@pytest.fixture
def served(tmp_path: Path, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> WeightsSource:
    """A small weights file on a local server, and an empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "tiny.pth"
    torch.save(TENSORS, file)
    data = file.read_bytes()
    httpserver.expect_request("/models/tiny.pth").respond_with_data(data)
    digest = hashlib.sha256(data).hexdigest()
    return WeightsSource(file="tiny.pth", sha256=digest[:8], url=httpserver.url_for("/models/tiny.pth"))


def test_a_download_is_kept_and_not_repeated(
    served: WeightsSource, tmp_path: Path, httpserver: HTTPServer
) -> None:
    first, second = fetch(served), fetch(served)
    assert first == second
    assert (tmp_path / "cache") in first.parents
    assert torch.equal(torch.load(first, weights_only=True)["conv1.weight"], TENSORS["conv1.weight"])
    assert len(httpserver.log) == 1


def test_a_download_with_another_checksum_is_refused_and_deleted(
    served: WeightsSource, tmp_path: Path
) -> None:
    wrong = WeightsSource(file=served.file, sha256="00000000", url=served.url)
    with pytest.raises(WeightsError, match=r"SHA-256 [0-9a-f]{64}, expected was 00000000"):
        fetch(wrong)
    assert not list((tmp_path / "cache").rglob("*.pth"))


def test_a_failed_download_says_where_the_file_is(served: WeightsSource, httpserver: HTTPServer) -> None:
    gone = WeightsSource(file="gone.pth", sha256="00", url=httpserver.url_for("/models/gone.pth"))
    with pytest.raises(WeightsError, match=r"cannot be downloaded.*/models/gone\.pth by hand"):
        fetch(gone)


def test_a_missing_package_is_named() -> None:
    with pytest.raises(RuntimeMissingError, match="no_such_package"):
        fetch(WeightsSource(file="x.pth", sha256="00", package="no_such_package"))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_whole_file_fills_a_truncated_network(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(0)
    whole = _base.build("resnet18", ["layer4"]).state_dict()
    file = tmp_path / f"mine{suffix}"
    tensors = {**whole, "fc.weight": torch.ones(1000, 512), "fc.bias": torch.ones(1000)}
    save_file(tensors, file) if suffix == ".safetensors" else torch.save(tensors, file)
    network = _base.build("resnet18", ["layer1", "layer2"])
    loaded = load_weights(network, "resnet18", file)
    assert loaded.file == file.name
    assert loaded.sha256 == "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()
    assert all(torch.equal(value, whole[key]) for key, value in network.state_dict().items())


def test_another_backbone_s_file_is_named_for_what_it_is(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(_base.build("resnet18", ["layer4"]).state_dict(), file)
    for other in ("efficientnet_lite0", "wide_resnet50_2"):
        spec = _base.module(other).SPEC
        network = _base.build(other, list(spec.taps)[:2])
        before = {key: value.clone() for key, value in network.state_dict().items()}
        with pytest.raises(WeightsError, match=rf"looks like the weights of resnet18.*{spec.weights.file}"):
            load_weights(network, other, file)
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_deeper_network_of_the_same_family_is_refused(tmp_path: Path) -> None:
    """ResNet-34 has every tensor of ResNet-18 in the same shape, and more blocks."""
    tensors = _base.build("resnet18", ["layer4"]).state_dict()
    tensors["layer1.2.conv1.weight"] = torch.zeros(64, 64, 3, 3)
    file = tmp_path / "resnet34.pth"
    torch.save(tensors, file)
    with pytest.raises(WeightsError, match=r"layer1\.2\.conv1\.weight"):
        load_weights(_base.build("resnet18", ["layer2"]), "resnet18", file)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"not weights at all"])
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_damaged_file_is_a_weights_error(tmp_path: Path, content: bytes, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        load_weights(_base.build("resnet18", ["layer1"]), "resnet18", file)


def test_a_missing_file_is_a_weights_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="No such file"):
        load_weights(_base.build("resnet18", ["layer1"]), "resnet18", tmp_path / "none.pth")
