"""Open a bundle: limits first, then every hash, and only then the manifest; an engine comes last."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from edgead.bundle import _archive, hash_list, sidecar
from edgead.bundle._storage import output_error
from edgead.bundle._tree import HASH_LIST, MANIFEST, list_files
from edgead.bundle.hashes import sha256_bytes, sha256_file
from edgead.bundle.manifest import GoldenExpectation, GoldenImage, Manifest, OperatorMatrix, TargetEntry
from edgead.errors import BundleError, UsageError
from edgead.types import Target, Thresholds

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class BandedArrays(NamedTuple):
    """A banded matrix: `start` int32 (rows,), `weights` float32 (rows, band)."""

    rows: int
    cols: int
    band: int
    start: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """One opened, verified bundle. A context manager: closing removes what a zip was extracted to.

    Attributes:
        source: the path that was opened.
        root: the folder with the files (temporary for a zip).
        manifest: what `manifest.json` says.
        digest: content hash of `MANIFEST.sha256`, the bundle's identity: the same for both forms.
        sizes: every file's name → bytes.
    """

    source: Path
    root: Path
    manifest: Manifest
    digest: str
    sizes: dict[str, int]
    _scope: contextlib.ExitStack

    @property
    def targets(self) -> tuple[str, ...]:
        """Target strings in the order of preference."""
        return tuple(entry.target for entry in self.manifest.targets)

    @property
    def golden(self) -> tuple[GoldenImage, ...]:
        """The golden images with what each target should give."""
        return self.manifest.golden

    def path(self, name: str) -> Path:
        """Where the file `name` of the bundle lies on this machine.

        Raises:
            BundleError: the bundle has no such file.
        """
        if name not in self.sizes:
            raise BundleError(f"{self.source} has no file {name!r}")
        return self.root / name

    def entry(self, target: str | None = None) -> TargetEntry:
        """The entry of `target`; None means the only one that there is.

        Raises:
            UsageError: no such target, or none named and there are several; the message lists them.
        """
        there = ", ".join(self.targets)
        if target is None:
            if len(self.targets) > 1:
                raise UsageError(f"{self.source} has several targets; name one of {there}")
            return self.manifest.targets[0]
        wanted = str(Target.parse(target))
        for entry in self.manifest.targets:
            if entry.target == wanted:
                return entry
        raise UsageError(f"{self.source} has no target {target}; there is {there}")

    def thresholds(self, target: str) -> Thresholds:
        """Thresholds to decide by: those set on site where there are any, else the bundle's.

        Raises:
            UsageError: no such target.
            BundleError: the side-car is damaged or another bundle's.
        """
        entry = self.entry(target)
        site = sidecar.read(self.source, self.digest).get(entry.target)
        return site.thresholds if site else entry.thresholds

    def operator(self) -> tuple[BandedArrays, BandedArrays]:
        """The post operator's matrices (h, w).

        Raises:
            BundleError: a band reaches beyond the columns, or a weight is not finite.
        """
        return self._matrix(self.manifest.operator.h), self._matrix(self.manifest.operator.w)

    def golden_map(self, expected: GoldenExpectation) -> npt.NDArray[np.float32]:
        """The expected map, float32 of the shape `post.output`, raw units."""
        import numpy as np

        values = np.fromfile(self.path(expected.map_file), dtype="<f4").astype(np.float32, copy=False)
        return values.reshape(self.manifest.post.output)

    def close(self) -> None:
        """Remove temporary files; closing twice is harmless."""
        self._scope.close()

    def __enter__(self) -> Bundle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _matrix(self, matrix: OperatorMatrix) -> BandedArrays:
        import numpy as np

        start = np.fromfile(self.path(matrix.start_file), dtype="<i4").astype(np.int32, copy=False)
        weights = np.fromfile(self.path(matrix.weights_file), dtype="<f4").astype(np.float32, copy=False)
        if start.min() < 0 or start.max() > matrix.cols - matrix.band or not np.isfinite(weights).all():
            raise BundleError(
                f"{self.source}: {matrix.start_file} leaves the columns, or its weights are not finite"
            )
        weights = weights.reshape(matrix.rows, matrix.band)
        return BandedArrays(matrix.rows, matrix.cols, matrix.band, start, weights)


def open_bundle(path: Path | str) -> Bundle:
    """Open the bundle at `path`, a directory or a zip, and verify every byte of it.

    Raises:
        UsageError: there is nothing at `path`.
        BundleError: the bundle is damaged, incomplete, unsafe or of another schema.
        OutputError: a zip cannot be extracted, the temporary folder is full or read-only.
    """
    source = Path(path)
    with contextlib.ExitStack() as scope:
        root = _tree_of(source, scope)
        sizes = list_files(root)
        for name in (HASH_LIST, MANIFEST):
            if name not in sizes:
                raise BundleError(f"{source} is not a finished edgead bundle: it has no {name}")
        try:
            digest = _verify(root, sizes, source)
            manifest = Manifest.from_json((root / MANIFEST).read_bytes(), f"{source}/{MANIFEST}")
        except OSError as err:
            raise BundleError(f"{source} cannot be read: {err}") from err
        _check_files(manifest, sizes, source)
        return Bundle(source, root, manifest, digest, sizes, scope.pop_all())


def _tree_of(source: Path, scope: contextlib.ExitStack) -> Path:
    """The folder with the files: `source`, or a private temporary folder that a zip is extracted to."""
    try:
        if source.is_dir():
            return source
        if not source.exists():
            raise UsageError(f"there is no bundle at {source}")
        if not source.is_file():
            raise BundleError(f"{source} is neither a folder nor a file")
        with source.open("rb") as file:
            magic = file.read(len(_archive.MAGIC))
    except OSError as err:
        raise BundleError(f"{source} cannot be read: {err}") from err
    if magic != _archive.MAGIC:
        raise BundleError(f"{source} is not an edgead bundle: neither a folder nor a zip")
    try:
        folder = Path(scope.enter_context(tempfile.TemporaryDirectory(prefix="edgead-bundle-")))
    except OSError as err:
        raise output_error(Path(tempfile.gettempdir()), err) from err
    _archive.unpack(source, folder)
    return folder


def _verify(root: Path, sizes: dict[str, int], source: Path) -> str:
    """Check every file against the hash list and return the list's own hash."""
    data = (root / HASH_LIST).read_bytes()
    hashes = hash_list.parse(data, source)
    there = sizes.keys() - {HASH_LIST}
    if missing := sorted(hashes.keys() - there):
        raise BundleError(f"{source}: {', '.join(missing[:5])} missing; copy the bundle again")
    if extra := sorted(there - hashes.keys()):
        raise BundleError(
            f"{source}: {', '.join(extra[:5])} not in {HASH_LIST}; remove what does not belong there"
        )
    for name, expected in hashes.items():
        if sha256_file(root / name) != expected:
            raise BundleError(
                f"{source}: {name} is damaged, its hash is not the one in {HASH_LIST}; copy it again"
            )
    return sha256_bytes(data)


def _check_files(manifest: Manifest, sizes: dict[str, int], source: Path) -> None:
    """Every file that the manifest names is there, and raw arrays have the size of their shape."""
    if missing := sorted(manifest.files() - sizes.keys()):
        raise BundleError(f"{source}: {MANIFEST} names {', '.join(missing[:5])}, which the bundle lacks")
    rows, cols = manifest.post.output
    wanted = {expected.map_file: 4 * rows * cols for image in manifest.golden for expected in image.expected}
    for matrix in (manifest.operator.h, manifest.operator.w):
        wanted[matrix.start_file] = 4 * matrix.rows
        wanted[matrix.weights_file] = 4 * matrix.rows * matrix.band
    for entry in manifest.targets:
        if head := entry.search:
            wanted.update(head.file_sizes())
    for name, size in wanted.items():
        if sizes[name] != size:
            raise BundleError(f"{source}: {name} has {sizes[name]:,} bytes, its shape asks for {size:,}")
