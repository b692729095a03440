from pathlib import Path

import numpy as np
import pytest

from edgead.calibration.calibration_set import held_out, spread
from edgead.calibration.golden_images import choose
from edgead.data.folder import ImageItem, good_images, hash_items
from edgead.data.split import reserve
from edgead.errors import DatasetError, LeakageError

ITEMS = tuple(ImageItem(Path(f"{number}.png")) for number in range(5))
HASHES = tuple(f"sha256:{number}" for number in range(5))


def test_images_that_were_trained_on_are_left_out() -> None:
    result = held_out(ITEMS, HASHES, trained={HASHES[0], HASHES[3], "sha256:elsewhere"})
    assert result.items == (ITEMS[1], ITEMS[2], ITEMS[4])
    assert result.hashes == (HASHES[1], HASHES[2], HASHES[4])
    assert (result.trained_on, result.copies) == (2, 0)


def test_a_copy_counts_once() -> None:
    hashes = (HASHES[0], HASHES[1], HASHES[1], HASHES[0], HASHES[2])
    result = held_out(ITEMS, hashes, trained={HASHES[0]})
    assert result.items == (ITEMS[1], ITEMS[4])
    assert (result.trained_on, result.copies) == (2, 1)


def test_all_trained_on_says_the_way_out() -> None:
    with pytest.raises(
        LeakageError, match=r"all 5 calibration images.*held out of it is used\), or good images that"
    ):
        held_out(ITEMS, HASHES, trained=HASHES)


def test_anomalous_or_no_images_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"1 of 2 calibration images are anomalous, the first is bad\.png"):
        held_out((ITEMS[0], ImageItem(Path("bad.png"), 1, "bent")), HASHES[:2], trained=())
    with pytest.raises(DatasetError, match="no calibration images"):
        held_out((), (), trained=())


def test_golden_images_are_chosen_by_content() -> None:
    names = {HASHES[index] for index in choose(HASHES, count=2)}
    backwards = HASHES[::-1]
    assert {backwards[index] for index in choose(backwards, count=2)} == names
    assert len(names) == 2


def test_golden_images_differ_and_may_be_fewer() -> None:
    assert choose(("sha256:a",) * 3, count=2) == (0,)
    with pytest.raises(DatasetError, match="no held-out good images"):
        choose(())


@pytest.mark.realdata
def test_the_training_folder_of_bottle_gives_its_reserved_share(bottle: Path) -> None:
    items = good_images(bottle)
    hashes = hash_items(items)
    trained, reserved = reserve(hashes)
    result = held_out(items, hashes, trained={hashes[index] for index in trained})
    assert result.items == tuple(items[index] for index in reserved)
    assert len(result.items) == round(0.2 * len(set(hashes)))
    assert np.intersect1d(result.hashes, [hashes[index] for index in trained]).size == 0


def test_spread_takes_what_differs_and_leaves_copies() -> None:
    rng = np.random.default_rng(0)
    kinds = [np.full((32, 40, 3), value, np.uint8) for value in (20, 90, 160, 230)]
    pixels = np.stack([kinds[min(index // 8, 3)] for index in range(32)])
    pixels = np.clip(pixels + rng.integers(-3, 4, pixels.shape), 0, 255).astype(np.uint8)
    for seed in range(5):
        chosen = spread(pixels, 4, seed)
        assert sorted(min(index // 8, 3) for index in chosen) == [0, 1, 2, 3]
        assert spread(pixels, 4, seed) == chosen
    assert spread(pixels, 32, 0) == spread(pixels, 99, 0) == tuple(range(32))
    same = np.zeros((5, 20, 20, 3), np.uint8)
    assert len(set(spread(same, 3, 0))) == 3
