"""Which good images are trained on and which are held out, decided by content, never by name or order."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from edgead.errors import DatasetError, LeakageError, UsageError

_LISTED = 5


def ranked(hashes: Iterable[str], seed: int) -> list[str]:
    """The different hashes in the order of SHA-256(seed, hash): random, yet set by the contents alone."""
    return sorted(set(hashes), key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())


def reserve(
    hashes: Sequence[str], *, share: float = 0.2, minimum: int = 10, seed: int = 0
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Split good images into those to train on and those held out for thresholds, early stop and gates.

    Each different content gets the rank of SHA-256(seed, content hash); the lowest `share` of the ranks is
    held out. So the split does not depend on names or order, copies of one image stay on one side, and adding
    m files moves at most m of the others from one side to the other.

    Args:
        hashes: content hash of each good image.
        share: of the different images to hold out, 0 < share < 1, rounded to the nearest count.
        minimum: hold out at least so many, but never more than half.
        seed: another seed gives another split.

    Returns:
        (trained, reserved): indices into `hashes`, ascending; both hold at least one image.

    Raises:
        UsageError: `share` is not between 0 and 1.
        DatasetError: fewer than two different images.
    """
    if not 0 < share < 1:
        raise UsageError(
            f"share {share} of held-out images: choose a value between 0 and 1, for instance 0.2"
        )
    different = ranked(hashes, seed)
    if len(different) < 2:
        raise DatasetError(
            f"{len(hashes)} good images, {len(different)} different: at least 2 are needed, some to train on "
            "and some to hold out; add good images"
        )
    count = max(round(share * len(different)), min(minimum, len(different) // 2), 1)
    held_out = set(different[: min(count, len(different) - 1)])
    reserved = tuple(index for index, name in enumerate(hashes) if name in held_out)
    trained = tuple(index for index, name in enumerate(hashes) if name not in held_out)
    return trained, reserved


def check_disjoint(test_hashes: Mapping[Path, str], forbidden: Mapping[str, Collection[str]]) -> None:
    """Refuse test images that were used before.

    Args:
        test_hashes: file to content hash.
        forbidden: use (``train``, ``calibration``) to the content hashes that were used for it.

    Raises:
        LeakageError: a test image is among them; lists the files, their use, and the way out.
    """
    found: list[str] = []
    for path, name in test_hashes.items():
        uses = [use for use, used in forbidden.items() if name in used]
        if uses:
            found.append(f"{path} ({', '.join(uses)})")
    if not found:
        return
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    raise LeakageError(
        f"{len(found)} of {len(test_hashes)} test images were used before, compared by content: "
        f"{', '.join(found[:_LISTED])}{more}; a result on them proves nothing: remove them from the test "
        "images, or train again without them"
    )
