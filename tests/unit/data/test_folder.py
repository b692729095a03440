import hashlib
from pathlib import Path

import pytest

from edgead.data.folder import (
    ImageItem,
    content_hash,
    good_images,
    hash_items,
    labelled_images,
    list_images,
    open_mvtec,
)
from edgead.errors import DatasetError, ImageError


def _touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


@pytest.fixture
def mvtec(tmp_path: Path) -> Path:
    root = tmp_path / "screw"
    _touch(root, "train/good/000.png", "train/good/001.png", "test/good/000.png")
    _touch(root, "test/bent/000.png", "test/bent/001.png", "test/rust/000.png", "test/rust/001.PNG")
    _touch(
        root, "ground_truth/bent/000_mask.png", "ground_truth/rust/000.png", "ground_truth/rust/001_mask.tif"
    )
    return root


def test_images_are_found_in_subfolders_in_any_case_and_sorted(tmp_path: Path) -> None:
    _touch(tmp_path, "b.PNG", "a.jpeg", "sub/c.tiff", "sub/deep/d.webp", "e.JPG", "f.bmp", "g.tif")
    _touch(tmp_path, "notes.txt", ".hidden.png", ".cache/x.png", "sub/._c.png")

    names = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]

    assert names == ["a.jpeg", "b.PNG", "e.JPG", "f.bmp", "g.tif", "sub/c.tiff", "sub/deep/d.webp"]


def test_paths_keep_the_form_of_the_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _touch(tmp_path, "line/a.png")
    monkeypatch.chdir(tmp_path)
    assert list_images(Path("line")) == (Path("line/a.png"),)


def test_a_single_image_is_a_list_of_one(tmp_path: Path) -> None:
    _touch(tmp_path, "a.png")
    assert list_images(tmp_path / "a.png") == (tmp_path / "a.png",)


def test_a_link_in_a_circle_is_followed_once(tmp_path: Path) -> None:
    _touch(tmp_path, "good/a.png")
    (tmp_path / "good" / "again").symlink_to(tmp_path)
    assert list_images(tmp_path) == (tmp_path / "good" / "a.png",)


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    _touch(tmp_path, "disk/a.png")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "disk")
    assert list_images(tmp_path / "here") == (tmp_path / "here" / "link" / "a.png",)


def test_no_images_says_what_was_looked_for_and_what_is_there(tmp_path: Path) -> None:
    _touch(tmp_path, "frames.raw", "notes.txt")
    with pytest.raises(DatasetError, match=r"looked for \.png, .*found frames\.raw, notes\.txt"):
        list_images(tmp_path)


def test_an_empty_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="found no files at all"):
        list_images(tmp_path)


def test_a_long_listing_is_cut(tmp_path: Path) -> None:
    _touch(tmp_path, *(f"{number:03}.txt" for number in range(20)))
    with pytest.raises(DatasetError, match=r"007\.txt and 12 more"):
        list_images(tmp_path)


def test_a_missing_folder_and_a_file_that_is_no_image(tmp_path: Path) -> None:
    _touch(tmp_path, "a.txt")
    with pytest.raises(DatasetError, match=r"nowhere does not exist"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"a\.txt is not an image"):
        list_images(tmp_path / "a.txt")


def test_mvtec_layout(mvtec: Path) -> None:
    data = open_mvtec(mvtec)

    assert data.train_good == tuple(
        ImageItem(mvtec / "train" / "good" / name) for name in ("000.png", "001.png")
    )
    truth = mvtec / "ground_truth"
    assert [(item.path.parent.name, item.label, item.mask) for item in data.test] == [
        ("bent", 1, truth / "bent" / "000_mask.png"),
        ("bent", 1, None),
        ("good", 0, None),
        ("rust", 1, truth / "rust" / "000.png"),
        ("rust", 1, truth / "rust" / "001_mask.tif"),
    ]
    assert [item.path for item in data.without_mask] == [mvtec / "test" / "bent" / "001.png"]


def test_labelled_images_need_no_training_folder(tmp_path: Path) -> None:
    _touch(tmp_path, "test/good/0.png", "test/bad/0.png")
    assert [item.label for item in labelled_images(tmp_path)] == [1, 0]


def test_wrong_layouts_say_what_is_there(mvtec: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"train/good is missing.*found screw/; did you mean .*screw"):
        open_mvtec(tmp_path)
    with pytest.raises(DatasetError, match="does not exist"):
        open_mvtec(tmp_path / "nowhere")
    flat = tmp_path / "flat"
    _touch(flat, "train/good/0.png", "test/0.png")
    with pytest.raises(DatasetError, match=r"test/good and test/<defect> is missing.*found test/, train/"):
        open_mvtec(flat)


def test_an_empty_defect_folder_is_an_error(mvtec: Path) -> None:
    (mvtec / "test" / "scratch").mkdir()
    with pytest.raises(DatasetError, match="scratch"):
        open_mvtec(mvtec)


def test_good_images_of_a_root_and_of_a_plain_folder(mvtec: Path) -> None:
    good = mvtec / "train" / "good"
    assert [item.path for item in good_images(mvtec)] == [good / "000.png", good / "001.png"]
    assert good_images(good) == good_images(mvtec)
    assert good_images(mvtec / "train") == good_images(mvtec)


def test_a_test_folder_is_not_taken_for_good_images(mvtec: Path) -> None:
    with pytest.raises(DatasetError, match=r"only 'good' can be taken for good images; give .*good"):
        good_images(mvtec / "test")


def test_a_root_without_train_good_is_not_taken_for_good_images(mvtec: Path) -> None:
    (mvtec / "train" / "good").rename(mvtec / "train" / "ok")
    with pytest.raises(DatasetError, match="train/good is missing"):
        good_images(mvtec)


def test_content_hashes_are_of_the_bytes(tmp_path: Path) -> None:
    _touch(tmp_path, "a.png", "b.png")
    (tmp_path / "copy.png").write_bytes(b"a.png")
    hashes = hash_items(good_images(tmp_path))
    assert hashes == tuple(
        "sha256:" + hashlib.sha256(text).hexdigest() for text in (b"a.png", b"b.png", b"a.png")
    )
    assert content_hash(tmp_path / "a.png") == hashes[0]


def test_an_unreadable_file_has_no_hash(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png cannot be read: No such file"):
        content_hash(tmp_path / "gone.png")


@pytest.mark.realdata
def test_bottle_is_read_whole(bottle: Path) -> None:
    data = open_mvtec(bottle)
    defects = [item.defect for item in data.test]
    assert len(data.train_good) == 209
    assert len(data.test) == 83
    assert {name: defects.count(name) for name in defects} == {
        "broken_large": 20,
        "broken_small": 22,
        "contamination": 21,
        "good": 20,
    }
    assert data.without_mask == ()


@pytest.mark.realdata
def test_magnetic_tile_is_read_whole(magnetic_tile: Path) -> None:
    data = open_mvtec(magnetic_tile)
    assert (len(data.train_good), len(data.test)) == (762, 190 + 392)
    assert sum(item.label for item in data.test) == 392
    assert data.without_mask == ()
