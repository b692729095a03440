"""Write a bundle: beside its place first, then moved there at once, or not at all."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol

from edgead.bundle import _archive, hash_list
from edgead.bundle._storage import is_full, output_error, sync
from edgead.bundle._tree import HASH_LIST, MANIFEST, check_size, list_files, name_problem
from edgead.bundle.hashes import sha256_bytes, sha256_file
from edgead.bundle.manifest import Manifest, Operator, OperatorMatrix
from edgead.bundle.reader import open_bundle
from edgead.errors import BundleError, InternalError, OutputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Form = Literal["directory", "zip"]


class Banded(Protocol):
    """A banded matrix as arrays: `start` int32 (rows,), `weights` float32 (rows, band), `cols` columns."""

    @property
    def start(self) -> npt.NDArray[np.int32]:
        """First column of each row's band."""

    @property
    def weights(self) -> npt.NDArray[np.float32]:
        """Weights of each row's band."""

    @property
    def cols(self) -> int:
        """Number of columns."""


class BundleWriter:
    """Collects the files of a bundle in a hidden folder beside `path` and moves them there in `finish`.

    ::

        with BundleWriter(Path("solar.edgead")) as writer:
            writer.add_file("graph.onnx", graph)
            compile_to(writer.path("targets/openvino-fp32/model.xml"))
            writer.finish(manifest)

    An error or Ctrl-C before `finish` returns leaves nothing behind, and an older bundle as it was. A zip is
    replaced at once; a directory by two renames, between which a reader may find nothing. Only a kill or a
    power cut leaves the hidden folder ``.NAME.….partial``, which may be removed.

    Args:
        path: where the bundle shall stand, usually ``NAME.edgead``.
        overwrite: replace a bundle that stands there; anything else is never replaced.
        form: a directory, or the same tree in one uncompressed zip.

    Raises:
        OutputError: something stands at `path`, or its folder is missing, read-only or full.
    """

    def __init__(self, path: Path, *, overwrite: bool = False, form: Form = "directory") -> None:
        self._path = path
        self._overwrite = overwrite
        self._form = form
        self._scope = contextlib.ExitStack()
        self._work: Path | None = None
        self._finished = False

    def __enter__(self) -> BundleWriter:
        try:
            _check_free(self._path, self._overwrite)
            self._work = Path(self._scope.enter_context(_work_folder(self._path)))
            self._root.mkdir()
        except OSError as err:
            self._scope.close()
            raise output_error(self._path, err) from err
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scope.close()
        if isinstance(error, OSError) and is_full(error):
            raise output_error(self._path, error) from error
        if error is None and not self._finished:
            raise InternalError(f"{self._path}: the bundle was not finished")

    def path(self, name: str) -> Path:
        """Where a tool may write the file `name` itself; the folder is there.

        Raises:
            InternalError: the name may not stand in a bundle, or is taken.
        """
        problem = "is reserved" if name in (MANIFEST, HASH_LIST) else name_problem(name)
        path = self._root / name
        if problem is None and path.exists():
            problem = "is taken"
        if problem:
            raise InternalError(f"{self._path}: the file name {name!r} {problem}")
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def add_file(self, name: str, source: Path | bytes) -> None:
        """Copy a file, or write bytes, to `name`.

        Raises:
            InternalError: the name may not stand in a bundle or is taken, or `source` is not a file.
            OutputError: no room or no permission.
        """
        path = self.path(name)
        if isinstance(source, Path) and not source.is_file():
            raise InternalError(f"{self._path}: {source}, to be added as {name!r}, is not a file")
        with self._writing():
            if isinstance(source, Path):
                shutil.copyfile(source, path)
            else:
                path.write_bytes(source)

    def add_map(self, name: str, values: npt.NDArray[np.float32]) -> None:
        """Write an array as raw little-endian float32, row by row."""
        self.add_file(name, values.astype("<f4").tobytes())

    def add_operator(self, h: Banded, w: Banded) -> Operator:
        """Write the post operator's matrices under ``post/`` and return their manifest entry."""
        return Operator(h=self._add_matrix("h", h), w=self._add_matrix("w", w))

    def finish(self, manifest: Manifest) -> str:
        """Write manifest and hash list, put everything on the disk, move it to its place.

        Returns:
            The bundle's digest.

        Raises:
            InternalError: the manifest is not valid, or names files that were not added.
            OutputError: no room, no permission, or something appeared at the place meanwhile.
        """
        data = manifest.to_json()
        with self._writing():
            (self._root / MANIFEST).write_bytes(data)
            names = self._check(manifest)
            hashes = hash_list.dump({name: sha256_file(self._root / name) for name in names})
            (self._root / HASH_LIST).write_bytes(hashes)
            made = self._root
            if self._form == "zip":
                made = self._folder / "zip"
                _archive.pack_files(self._root, [*names, HASH_LIST], made)
            _sync_tree(made)
            _check_free(self._path, self._overwrite)
            _move(made, self._path, self._folder / "old")
            self._finished = True
            sync(self._path.parent)
        return sha256_bytes(hashes)

    def _check(self, manifest: Manifest) -> list[str]:
        try:
            sizes = list_files(self._root)
            check_size(MANIFEST, sizes[MANIFEST], self._path)
        except BundleError as err:
            raise InternalError(f"refused to write a bundle that cannot be read: {err}") from err
        if missing := sorted(manifest.files() - sizes.keys()):
            raise InternalError(f"{self._path}: the manifest names {missing[0]!r}, which was not added")
        return list(sizes)

    def _add_matrix(self, axis: str, matrix: Banded) -> OperatorMatrix:
        start, weights = f"post/operator_{axis}.start.i32", f"post/operator_{axis}.weights.f32"
        self.add_file(start, matrix.start.astype("<i4").tobytes())
        self.add_map(weights, matrix.weights)
        rows, band = matrix.weights.shape
        return OperatorMatrix(rows=rows, cols=matrix.cols, band=band, start_file=start, weights_file=weights)

    @property
    def _folder(self) -> Path:
        if self._work is None:
            raise InternalError("a BundleWriter works inside a with block")
        return self._work

    @property
    def _root(self) -> Path:
        return self._folder / "bundle"

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            raise output_error(self._path, err) from err


def pack(directory: Path, zip_path: Path, *, overwrite: bool = False) -> str:
    """Write the bundle at `directory` as one zip, the same bytes every time, and return its digest.

    Raises:
        BundleError: the directory is not a sound bundle.
        OutputError: something stands at `zip_path`, it cannot be written, or the bundle is larger than 2 GiB.
    """
    _check_free(zip_path, overwrite)
    with open_bundle(directory) as bundle:
        try:
            with _work_folder(zip_path) as work:
                made = Path(work) / "zip"
                _archive.pack_files(bundle.root, bundle.sizes, made)
                sync(made)
                _move(made, zip_path, Path(work) / "old")
            sync(zip_path.parent)
        except OSError as err:
            raise output_error(zip_path, err) from err
        return bundle.digest


def _work_folder(path: Path) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)


def _check_free(path: Path, overwrite: bool) -> None:
    if not path.exists() and not path.is_symlink():
        if not path.parent.is_dir():
            raise OutputError(
                f"{path} cannot be written: the folder {path.parent} does not exist; make it first"
            )
        return
    if not overwrite:
        raise OutputError(f"{path} exists; choose another name or ask to overwrite it")
    if path.is_symlink() or not _looks_like_a_bundle(path):
        raise OutputError(f"{path} exists and is not a bundle, so it is not overwritten; choose another name")


def _looks_like_a_bundle(path: Path) -> bool:
    if path.is_dir():
        return (path / MANIFEST).is_file() and (path / HASH_LIST).is_file()
    try:
        with zipfile.ZipFile(path) as archive:
            return {MANIFEST, HASH_LIST} <= set(archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def _move(made: Path, path: Path, old: Path) -> None:
    """Move `made` to `path`; what stood there goes to `old`, and comes back if the move fails."""
    if made.is_file() and not path.is_dir():
        made.replace(path)
        return
    try:
        if path.exists():
            path.rename(old)
        made.rename(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.rename(path)
        raise


def _sync_tree(path: Path) -> None:
    for child in sorted(path.rglob("*")) if path.is_dir() else []:
        sync(child)
    sync(path)
