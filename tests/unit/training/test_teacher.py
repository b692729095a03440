from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from edgead.bundle.hashes import sha256_file
from edgead.detectors.efficientad import EfficientAd
from edgead.errors import WeightsError
from edgead.training import _teacher
from edgead.training._teacher import load_teacher

Nelson = Callable[..., SimpleNamespace]
# Spec §7: nelson1425's positions to the names of anomalib's published files.
NAMES = {"0": "conv1", "3": "conv2", "6": "conv3", "8": "conv4", "10": "conv5", "12": "conv6"}


def detector(size: str = "small") -> EfficientAd:
    return EfficientAd.from_config({"size": size, "geometry": {"height": 64, "width": 64}}).eval()


@pytest.mark.parametrize(
    ("size", "form"),
    [
        *(("small", form) for form in ("positions", "names", "module", "safetensors", "zip")),
        ("medium", "zip"),
    ],
)
def test_every_known_file_gives_the_same_teacher(
    nelson: Nelson, tmp_path: Path, form: str, size: str
) -> None:
    theirs = nelson(size).teacher
    state = theirs.state_dict()
    named = {f"{NAMES[key.split('.')[0]]}.{key.split('.')[1]}": value for key, value in state.items()}
    file = (
        tmp_path / f"teacher.{'safetensors' if form == 'safetensors' else 'zip' if form == 'zip' else 'pth'}"
    )
    if form == "safetensors":
        save_file(named, file)
    elif form == "zip":
        torch.save(named, tmp_path / "inner.pth")
        with zipfile.ZipFile(file, "w") as archive:
            archive.write(tmp_path / "inner.pth", f"folder/pretrained_teacher_{size}.pth")
    else:
        torch.save({"positions": state, "names": named, "module": theirs}[form], file)
    network = detector(size)
    loaded = load_teacher(network, file)
    assert (loaded.file, loaded.sha256) == (file.name, sha256_file(file))
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network.teacher(image), theirs(image))


def test_a_teacher_of_the_wrong_size_is_named(nelson: Nelson, tmp_path: Path) -> None:
    torch.save(nelson("medium").teacher.state_dict(), tmp_path / "medium.pth")
    with pytest.raises(WeightsError, match=r"medium\.pth holds a medium teacher; needed is a small teacher"):
        load_teacher(detector(), tmp_path / "medium.pth")
    torch.save(nelson().student.state_dict(), tmp_path / "student.pth")
    with pytest.raises(WeightsError, match="holds a small student; needed is an edge teacher"):
        load_teacher(detector("edge"), tmp_path / "student.pth")
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="holds 1 tensors that begin with a; needed is a small teacher"):
        load_teacher(detector(), tmp_path / "other.pth")


def test_a_zip_without_the_teacher_or_broken(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(WeightsError, match=r"holds no pretrained_teacher_small\.pth: readme\.txt"):
        load_teacher(detector(), tmp_path / "a.zip")
    (tmp_path / "b.zip").write_bytes(b"PK broken")
    with pytest.raises(WeightsError, match="is not a zip file"):
        load_teacher(detector(), tmp_path / "b.zip")


def test_the_edge_size_has_no_published_teacher() -> None:
    with pytest.raises(WeightsError, match="distill-teacher edge"):
        load_teacher(detector("edge"))


def test_without_a_network_the_ways_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> Path:
        raise WeightsError("cannot be downloaded")

    monkeypatch.setattr(_teacher, "fetch", offline)
    with pytest.raises(WeightsError, match=r"cannot be downloaded; or make .*distill-teacher small"):
        load_teacher(detector())
