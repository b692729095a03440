from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from edgead.backbones._restricted_pickle import load
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
