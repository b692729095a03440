from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from edgead.backbones._restricted_pickle import Inert, load
from edgead.errors import WeightsError


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_code_in_a_checkpoint_is_named_and_never_run(tmp_path: Path, zipped: bool) -> None:
    file, target = tmp_path / "evil.pth", tmp_path / "was_run"
    torch.save({"discriminator": Evil(target)}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"evil\.pth is refused: it asks to run (posix|nt|os)\.system"):
        load(file)
    assert not target.exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_tensors_and_plain_values_are_read(tmp_path: Path, zipped: bool) -> None:
    file = tmp_path / "good.pth"
    torch.save({"a": torch.ones(2), "b": [1, "two", None, 3.0]}, file, _use_new_zipfile_serialization=zipped)
    found = load(file)
    assert torch.equal(found["a"], torch.ones(2))
    assert found["b"] == [1, "two", None, 3.0]


@pytest.mark.parametrize("cut", [0, 1, 100, -20])
def test_a_truncated_file_is_a_weights_error(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "cut.pth"
    torch.save({"a": torch.ones(100)}, file)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(WeightsError, match="damaged"):
        load(file)


class Options:
    """A foreign class, as far as the reader knows."""

    ran: list[object] = []  # noqa: RUF012

    def __init__(self) -> None:
        self.lr = 0.5

    def __setstate__(self, state: object) -> None:
        self.ran.append(state)


def test_strangers_become_their_name_and_values_and_none_of_their_code_runs(tmp_path: Path) -> None:
    file = tmp_path / "module.pth"
    torch.save({"weights": torch.ones(2), "options": Options(), "net": torch.nn.Conv2d(1, 1, 1)}, file)
    found = load(file, inert=None)
    assert torch.equal(found["weights"], torch.ones(2))
    assert isinstance(found["options"], Inert)
    assert found["options"].origin.endswith("Options")
    assert found["options"].values == {"lr": 0.5}
    assert Options.ran == []
    assert found["net"].origin == "torch.nn.modules.conv.Conv2d"
    assert found["net"].values["_parameters"]["weight"].shape == (1, 1, 1, 1)
    with pytest.raises(WeightsError, match=r"it asks to run .*Options"):
        load(file, inert=["torch.nn.modules.conv.Conv2d"])


def test_strangers_do_not_open_the_way_for_system_calls(tmp_path: Path) -> None:
    file, target = tmp_path / "evil.pth", tmp_path / "was_run"
    torch.save({"a": Evil(target)}, file)
    with pytest.raises(WeightsError, match="refused"):
        load(file, inert=None)
    assert not target.exists()
