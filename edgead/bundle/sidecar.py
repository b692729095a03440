"""Thresholds set on site: a small file beside the bundle, which itself never changes.

``NAME.edgead.thresholds.json``: ``{"schema": 1, "bundle": digest, "targets": [{"target", "thresholds", "set",
"set_by"}]}``. It belongs to the one bundle whose digest it names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgead.bundle import _checks, _codec
from edgead.bundle._storage import output_error, replace_file
from edgead.bundle.manifest import created_by, utc_now
from edgead.errors import BundleError, UsageError
from edgead.types import Thresholds

SCHEMA = 1
SUFFIX = ".thresholds.json"
MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteThresholds:
    """One target's thresholds as set on site; `set` is the date (UTC), `set_by` the edgead that wrote it."""

    target: str
    thresholds: Thresholds
    set: str
    set_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _SideCar:
    schema: int
    bundle: str
    targets: tuple[SiteThresholds, ...]


def path_for(bundle: Path) -> Path:
    """Where the side-car of the bundle at `bundle` lies: beside the bundle, not beside a link to it."""
    real = bundle.resolve()
    return real.with_name(real.name + SUFFIX)


def read(bundle: Path, digest: str) -> dict[str, SiteThresholds]:
    """Thresholds set on site, by target; empty where there is no side-car.

    Raises:
        BundleError: the side-car is damaged, made by a newer edgead, or not that of the bundle `digest`.
    """
    path = path_for(bundle)
    try:
        if not path.exists():
            return {}
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as err:
        raise BundleError(f"{path} cannot be read: {err}") from err
    tree = _codec.parse(data, str(path), MAX_BYTES)
    _codec.check_schema(tree, SCHEMA, str(path))
    content = _codec.decode(_SideCar, tree, str(path))
    if content.bundle != digest:
        raise BundleError(
            f"{path} was set for another bundle ({content.bundle}, this one is {digest}); delete that file to"
            " use the bundle's own thresholds, then set them again"
        )
    for entry in content.targets:
        problem = _checks.thresholds_problem(entry.thresholds) or _checks.date_problem(entry.set)
        if problem:
            raise BundleError(f"{path}: {entry.target}: {problem}")
    return {entry.target: entry for entry in content.targets}


def write(bundle: Path, digest: str, target: str, thresholds: Thresholds) -> Path:
    """Set the thresholds of one target and return the side-car's path; other targets keep theirs.

    Raises:
        UsageError: a threshold is not finite, or not above the median of good images.
        BundleError: the side-car that is there cannot be read or belongs to another bundle.
        OutputError: the folder of the bundle cannot be written.
    """
    if problem := _checks.thresholds_problem(thresholds):
        raise UsageError(
            f"{problem}; choose a higher one, raw scores are what `edgead run` prints as score_raw"
        )
    entries = read(bundle, digest)
    entries[target] = SiteThresholds(target=target, thresholds=thresholds, set=utc_now(), set_by=created_by())
    return _replace(bundle, digest, entries)


def remove(bundle: Path, digest: str, target: str | None = None) -> bool:
    """Go back to the bundle's own thresholds, for one target or (None) for all; False if none were set.

    Removing all works on a side-car that is damaged or another bundle's, too.

    Raises:
        BundleError: one target is named, and the side-car cannot be read.
        OutputError: the file cannot be removed or written.
    """
    path = path_for(bundle)
    if target is not None:
        entries = read(bundle, digest)
        if entries.pop(target, None) is None:
            return False
        if entries:
            _replace(bundle, digest, entries)
            return True
    try:
        existed = path.exists()
        path.unlink(missing_ok=True)
    except OSError as err:
        raise output_error(path, err) from err
    return existed


def _replace(bundle: Path, digest: str, entries: dict[str, SiteThresholds]) -> Path:
    content = _SideCar(schema=SCHEMA, bundle=digest, targets=tuple(entries[name] for name in sorted(entries)))
    path = path_for(bundle)
    replace_file(path, _codec.dump(content))
    return path
