from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_LOAD = """
from edgead._native._library import library
from edgead.errors import RuntimeMissingError

try:
    library()
except RuntimeMissingError as err:
    print(err)
"""


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("unsigned edgead_abi_version(void) { return 7; }", ("has ABI 7, this package needs 1", "reinstall")),
        ("unsigned edgead_abi_version(void) { return 1; }", ("is older than this package", "reinstall")),
        ("", ("cannot be opened",)),
    ],
)
def test_a_library_of_another_version_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: tuple[str, ...]
) -> None:
    made = tmp_path / "libedgead.so"
    if source:
        (tmp_path / "other.c").write_text(source)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", made, tmp_path / "other.c"], check=True)
    monkeypatch.setenv("EDGEAD_LIBRARY", str(made))
    done = subprocess.run([sys.executable, "-c", _LOAD], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert str(made) in done.stdout
    for word in words:
        assert word in done.stdout
