"""Expected digests are those of FIPS 180-4's own examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgead.bundle.hashes import is_content_hash, sha256_bytes, sha256_file

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
ABC = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
MILLION_A = "sha256:cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"


@pytest.mark.parametrize(("data", "expected"), [(b"", EMPTY), (b"abc", ABC), (b"a" * 1_000_000, MILLION_A)])
def test_known_digests(data: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(data)
    assert sha256_bytes(data) == expected
    assert sha256_file(tmp_path / "file") == expected


def test_a_file_larger_than_one_chunk_hashes_like_its_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096 * 3 + b"tail"
    (tmp_path / "file").write_bytes(data)
    assert sha256_file(tmp_path / "file") == sha256_bytes(data)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sha256_file(tmp_path / "missing")


def test_the_written_form_is_strict() -> None:
    assert is_content_hash(ABC)
    assert not any(is_content_hash(text) for text in (ABC[7:], ABC.upper(), ABC + "0", ABC + "\n", "sha1:00"))
