"""What judges a reduced precision where nothing is labelled: synthetic defects, and where they are."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.progress import Silent
from edgead.types import Geometry
from edgead.workflows._evidence import Evidence, ThresholdChoice, gather
from edgead.workflows._gates import collapse_failures
from edgead.workflows._sides import Side

GEOMETRY = Geometry(height=64, width=96)


def gathered(folder: Path, count: int, *, defects: bool) -> Evidence:
    random = np.random.default_rng(3)
    for index in range(count):
        picture = random.integers(80, 170, (64, 96, 3)).astype(np.uint8)
        assert cv2.imwrite(str(folder / f"{index}.png"), picture)
    return gather(folder, (), ThresholdChoice(), GEOMETRY, defects=defects, bit_depth=None, progress=Silent())


def side(evidence: Evidence, shift: int) -> Side:
    """Maps that are 1 on the faint defects' masks and fall to 0 away from them, moved by `shift` pixels.

    Scores rise from good images to defects.
    """
    maps = np.zeros(evidence.pixels.shape[:3], np.float32)
    for index, mask in enumerate(evidence.masks, len(maps) - len(evidence.masks)):
        maps[index] = np.roll(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 2), shift, 1)
    scores = np.arange(len(maps), dtype=np.float64)
    return Side(scores, scores, maps)


@pytest.mark.parametrize("count", [3, 50])
def test_each_kind_of_faint_defect_is_there_however_few_images(tmp_path: Path, count: int) -> None:
    evidence = gathered(tmp_path, count, defects=True)
    assert (evidence.defects, len(evidence.masks)) == (36, 24)
    assert evidence.judged == count + 4  # golden images
    assert len(evidence.pixels) == evidence.judged + 36
    assert all(mask.shape == (64, 96) and mask.any() for mask in evidence.masks)
    good = {image.tobytes() for image in evidence.pixels[:count]}
    assert not good & {image.tobytes() for image in evidence.pixels[evidence.judged :]}


def test_an_engine_that_marks_other_pixels_is_seen_though_its_scores_hold(tmp_path: Path) -> None:
    evidence = gathered(tmp_path, 20, defects=True)
    right, wrong = (evidence.seen(side(evidence, shift)) for shift in (0, 32))
    assert right.auroc == wrong.auroc == 1.0
    assert right.au_pro is not None
    assert right.au_pro > 0.95
    assert not list(collapse_failures(right, right))
    (failure,) = collapse_failures(right, wrong)
    assert failure.startswith(f"AU-PRO of faint synthetic defects fell from {right.au_pro:.4f} to ")


def test_no_defects_where_none_are_wanted(tmp_path: Path) -> None:
    evidence = gathered(tmp_path, 6, defects=False)
    assert (evidence.defects, evidence.masks, evidence.judged) == (0, (), len(evidence.pixels))
    seen = evidence.seen(side(evidence, 0))
    assert (seen.auroc, seen.au_pro) == (None, None)


def test_a_reduced_precision_decides_images_as_its_reference(tmp_path: Path) -> None:
    evidence = gathered(tmp_path, 50, defects=True)
    choice, exact = ThresholdChoice(), side(evidence, 0)
    limits = evidence.thresholds(exact, choice)
    scores = exact.scores + 2
    scores[49] += 30  # the highest good image, which a threshold of its own hangs on
    reduced = Side(scores, scores, exact.maps)
    own, carried = evidence.thresholds(reduced, choice), evidence.carried_over(exact, limits, reduced, choice)
    assert carried.image == pytest.approx(limits.image + 2, abs=1e-4)
    assert own.image > limits.image + 30
    assert (carried.pixel, carried.image_median) == (own.pixel, own.image_median)
    image, pixel = carried.method["image"], carried.method["pixel"]
    assert isinstance(image, dict)
    assert (image["rule"], image["highest_good"]) == ("carried_over", evidence.good[49].path.name)
    assert pixel == own.method["pixel"]
