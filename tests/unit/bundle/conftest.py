"""Every test starts from the checked-in v1 bundle: 12 files, 6 KiB."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgead.bundle import hash_list
from edgead.bundle.hashes import sha256_file
from edgead.bundle.manifest import Manifest
from edgead.bundle.writer import BundleWriter, Form

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "bundle_v1.edgead"

Build = Callable[..., str]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A private copy that a test may damage."""
    return Path(shutil.copytree(GOLDEN, tmp_path / "copy.edgead"))


@pytest.fixture(scope="session")
def manifest() -> Manifest:
    return Manifest.from_json((GOLDEN / "manifest.json").read_bytes())


@pytest.fixture
def build(manifest: Manifest) -> Build:
    """Write the golden bundle's content to a new place with a `BundleWriter`."""

    def _build(path: Path, *, overwrite: bool = False, form: Form = "directory", extra: bytes = b"") -> str:
        with BundleWriter(path, overwrite=overwrite, form=form) as writer:
            for name in sorted(manifest.files()):
                writer.add_file(name, GOLDEN / name)
            if extra:
                writer.add_file("reports/extra.bin", extra)
            return writer.finish(manifest)

    return _build


@pytest.fixture(scope="session")
def rehash() -> Callable[[Path], None]:
    """Make the hash list fit a changed tree, as an attacker would."""

    def _rehash(root: Path) -> None:
        names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
        names.remove("MANIFEST.sha256")
        (root / "MANIFEST.sha256").write_bytes(
            hash_list.dump({name: sha256_file(root / name) for name in names})
        )

    return _rehash
