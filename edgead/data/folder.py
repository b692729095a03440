"""Folders of images: a plain folder, or the MVTec AD layout with ground-truth masks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgead.bundle.hashes import sha256_file
from edgead.errors import DatasetError, ImageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
GOOD = "good"

_LAYOUT = "train/good/*.png, test/good/*.png, test/<defect>/*.png, ground_truth/<defect>/<name>_mask.png"


@dataclass(frozen=True, slots=True)
class ImageItem:
    """One image of a dataset.

    Attributes:
        path: the folder as it was given, joined with the file.
        label: 0 good, 1 anomalous.
        defect: the defect's folder name, ``good`` for good images.
        mask: the ground-truth mask's file; None for good images and where no mask is given.
    """

    path: Path
    label: Literal[0, 1] = 0
    defect: str = GOOD
    mask: Path | None = None


@dataclass(frozen=True, slots=True)
class MvtecDataset:
    """A dataset in MVTec AD layout.

    Attributes:
        train_good: the images to train on, sorted.
        test: good and anomalous images, sorted by folder and name.
    """

    train_good: tuple[ImageItem, ...]
    test: tuple[ImageItem, ...]

    @property
    def without_mask(self) -> tuple[ImageItem, ...]:
        """Anomalous test images that have no mask: they count for the image score, not for pixel metrics."""
        return tuple(item for item in self.test if item.label and item.mask is None)


def list_images(folder: Path) -> tuple[Path, ...]:
    """All images in `folder` and its subfolders, sorted by path; a single image file is a list of one.

    Known are the `SUFFIXES`, in upper or lower case. Names that begin with a dot are left out. Linked folders
    are followed, each folder once.

    Raises:
        DatasetError: the folder does not exist, cannot be read, or holds no image.
    """
    if folder.is_file() and folder.suffix.lower() in SUFFIXES:
        return (folder,)
    if not folder.is_dir():
        state = "is not an image" if folder.exists() else "does not exist"
        raise DatasetError(f"{folder} {state}; give a folder of images ({', '.join(SUFFIXES)})")
    files = sorted(_walk(folder))
    images = tuple(path for path in files if path.suffix.lower() in SUFFIXES)
    if not images:
        names = [str(path.relative_to(folder)) for path in files]
        raise DatasetError(
            f"no images in {folder}: looked for {', '.join(SUFFIXES)} there and in its subfolders, "
            f"found {_sample(names, 'no files at all')}"
        )
    return images


def good_images(path: Path) -> tuple[ImageItem, ...]:
    """Good images of `path`: an MVTec root (its train/good), or a plain folder that holds good images only.

    Raises:
        DatasetError: no images, or a folder that has ``good`` beside other folders, such as an MVTec test
            folder: its other images are defects.
    """
    if (path / "train" / GOOD).is_dir():
        return _items(path / "train" / GOOD)
    if path.is_dir():
        folders = _folders(path)
        if GOOD in folders and len(folders) > 1:
            raise DatasetError(
                f"{path} holds {_sample(folders)}: only {GOOD!r} can be taken for good images; "
                f"give {path / GOOD}"
            )
        if "test" in folders or "ground_truth" in folders:
            raise _layout_error(path, "train/good")
    return _items(path)


def labelled_images(root: Path) -> tuple[ImageItem, ...]:
    """The images of ``root/test``: ``good``, and one folder per defect, with their masks where there are any.

    The mask of ``test/<defect>/<name>.png`` is ``ground_truth/<defect>/<name>_mask.png`` or ``<name>.png``,
    with any known suffix. An anomalous image without a mask has ``mask=None``.

    Raises:
        DatasetError: there is no ``test`` folder with folders of images in it.
    """
    test = root / "test"
    if not test.is_dir() or not _folders(test):
        raise _layout_error(root, "test/good and test/<defect>")
    items: list[ImageItem] = []
    for defect in _folders(test):
        if defect == GOOD:
            items.extend(_items(test / GOOD))
            continue
        masks = _masks(root / "ground_truth" / defect)
        for path in list_images(test / defect):
            items.append(ImageItem(path, 1, defect, masks.get(path.stem)))
    return tuple(items)


def open_mvtec(root: Path) -> MvtecDataset:
    """Read the MVTec AD layout: train/good, test/good, test/<defect>, ground_truth/<defect>.

    Raises:
        DatasetError: another layout; the message shows what was expected and what is there.
    """
    if not (root / "train" / GOOD).is_dir():
        raise _layout_error(root, "train/good")
    return MvtecDataset(_items(root / "train" / GOOD), labelled_images(root))


def content_hash(path: Path) -> str:
    """``sha256:<64 hex digits>`` of the file's bytes.

    Raises:
        ImageError: the file cannot be read.
    """
    try:
        return sha256_file(path)
    except OSError as err:
        raise ImageError(
            f"{path} cannot be read: {err.strerror or err}; check that it exists and its rights"
        ) from err


def hash_items(items: Iterable[ImageItem]) -> tuple[str, ...]:
    """`content_hash` of each item's image, in order; files are read in parallel.

    Raises:
        ImageError: a file cannot be read.
    """
    with ThreadPoolExecutor(4) as pool:
        return tuple(pool.map(content_hash, [item.path for item in items]))


def _items(folder: Path) -> tuple[ImageItem, ...]:
    return tuple(ImageItem(path) for path in list_images(folder))


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(err: OSError) -> None:
        raise DatasetError(f"{err.filename} cannot be read: {err.strerror}; check its rights") from err

    seen: set[Path] = set()
    for top, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        place = Path(top)
        if place.resolve() in seen:  # a link back to a folder already listed
            folders.clear()
            continue
        seen.add(place.resolve())
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (place / name for name in files if not name.startswith("."))


def _folders(folder: Path) -> list[str]:
    try:
        return sorted(
            path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
        )
    except OSError as err:
        raise DatasetError(f"{folder} cannot be read: {err.strerror}; check its rights") from err


def _masks(folder: Path) -> dict[str, Path]:
    """Masks by the name of the image that they belong to."""
    if not folder.is_dir():
        return {}
    files = [
        path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]
    plain = {path.stem: path for path in files}
    return plain | {path.stem.removesuffix("_mask"): path for path in files if path.stem.endswith("_mask")}


def _layout_error(root: Path, missing: str) -> DatasetError:
    if not root.is_dir():
        return DatasetError(f"{root} does not exist or is not a folder; expected there: {_LAYOUT}")
    names = [path.name + "/" * path.is_dir() for path in sorted(root.iterdir())]
    inside = [name for name in _folders(root) if (root / name / "train" / GOOD).is_dir()]
    hint = f"; did you mean {root / inside[0]}?" if inside else ""
    return DatasetError(
        f"{root} is not in MVTec layout: {missing} is missing; expected {_LAYOUT}; "
        f"found {_sample(names)}{hint}"
    )


def _sample(names: list[str], nothing: str = "nothing", most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more if names else nothing
