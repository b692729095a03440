from pathlib import Path

import pytest

from edgead.data.split import check_disjoint, reserve
from edgead.errors import DatasetError, LeakageError, UsageError

HASHES = [f"sha256:{number:064x}" for number in range(200)]


def _contents(hashes: list[str], indices: tuple[int, ...]) -> set[str]:
    return {hashes[index] for index in indices}


def test_a_fifth_is_held_out() -> None:
    trained, reserved = reserve(HASHES)
    assert (len(trained), len(reserved)) == (160, 40)
    assert sorted(trained + reserved) == list(range(200))


def test_order_does_not_matter() -> None:
    backwards = HASHES[::-1]
    assert _contents(HASHES, reserve(HASHES)[1]) == _contents(backwards, reserve(backwards)[1])


def test_another_seed_is_another_split() -> None:
    assert reserve(HASHES, seed=1) != reserve(HASHES, seed=2)


def test_copies_fall_on_the_same_side() -> None:
    copies = HASHES * 3
    trained, reserved = reserve(copies)
    assert len(reserved) == 3 * 40
    assert not _contents(copies, trained) & _contents(copies, reserved)


@pytest.mark.parametrize("added", [1, 5, 50])
def test_added_files_move_no_more_files_than_were_added(added: int) -> None:
    more = HASHES + [f"sha256:{number:064x}" for number in range(1000, 1000 + added)]
    before, after = _contents(HASHES, reserve(HASHES)[1]), _contents(more, reserve(more)[1])
    assert len(before ^ (after & set(HASHES))) <= added


@pytest.mark.parametrize(
    ("images", "held_out"), [(2, 1), (3, 1), (5, 2), (19, 9), (20, 10), (50, 10), (60, 12)]
)
def test_few_images_hold_out_the_minimum_but_never_more_than_half(images: int, held_out: int) -> None:
    assert len(reserve(HASHES[:images])[1]) == held_out


def test_a_large_share_leaves_one_to_train_on() -> None:
    assert len(reserve(HASHES[:4], share=0.99)[0]) == 1


@pytest.mark.parametrize("hashes", [[], HASHES[:1], HASHES[:1] * 9])
def test_one_image_cannot_be_split(hashes: list[str]) -> None:
    with pytest.raises(DatasetError, match="at least 2 are needed"):
        reserve(hashes)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        reserve(HASHES, share=share)


def test_disjoint_test_images_pass() -> None:
    check_disjoint({Path("a.png"): HASHES[0]}, {"train": HASHES[1:], "calibration": []})


def test_leaked_images_are_listed_with_their_use() -> None:
    test = {Path("test/new.png"): HASHES[9], Path("test/a.png"): HASHES[0], Path("test/b.png"): HASHES[1]}
    with pytest.raises(
        LeakageError, match=r"2 of 3 test images .*test/a\.png \(train\), test/b\.png \(train, "
    ) as caught:
        check_disjoint(test, {"train": HASHES[:2], "calibration": HASHES[1:3]})
    assert "new.png" not in str(caught.value)
    assert "remove them from the test images" in str(caught.value)


def test_many_leaked_images_are_counted() -> None:
    test = {Path(f"{number}.png"): name for number, name in enumerate(HASHES)}
    with pytest.raises(LeakageError, match="and 195 more"):
        check_disjoint(test, {"train": HASHES})
