"""Show and set a bundle's decision limits on site. The bundle itself never changes: see `bundle.sidecar`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgead.errors import LeakageError, UsageError
from edgead.progress import Progress, Silent
from edgead.types import Target, Thresholds

if TYPE_CHECKING:
    from edgead.bundle.reader import Bundle
    from edgead.data.folder import ImageItem

FEW_IMAGES = 20


@dataclass(frozen=True, slots=True)
class Limits:
    """One target's limits and where they come from; `changed` is the date (UTC) for those set on site."""

    target: str
    thresholds: Thresholds
    origin: Literal["bundle", "site"]
    changed: str = ""


@dataclass(frozen=True, slots=True)
class SiteChoice:
    """Limits chosen on site, and the images that could not be read for them, with the reason."""

    limits: Limits
    skipped: tuple[tuple[Path, str], ...]


def show(bundle: Path, *, target: Target | None = None) -> tuple[Limits, ...]:
    """The limits that decide now, of one target or (None) of all.

    Raises:
        UsageError: the bundle has no such target.
        BundleError: the bundle or its side-car is damaged.
    """
    from edgead.bundle.reader import open_bundle

    with open_bundle(bundle) as opened:
        names = opened.targets if target is None else (opened.entry(str(target)).target,)
        return tuple(limits_of(opened, name) for name in names)


def limits_of(bundle: Bundle, name: str) -> Limits:
    """The limits that decide now for the target `name` of an open bundle.

    Raises:
        UsageError: the bundle has no such target.
        BundleError: the side-car is damaged.
    """
    from edgead.bundle import sidecar

    own = bundle.entry(name)
    site = sidecar.read(bundle.source, bundle.digest).get(own.target)
    if site is not None:
        return Limits(own.target, site.thresholds, "site", site.set)
    return Limits(own.target, own.thresholds, "bundle")


def set_raw(
    bundle: Path,
    *,
    image: float | None = None,
    pixel: float | None = None,
    target: Target | None = None,
) -> Limits:
    """Set the limits of one target by hand, in raw units; None keeps the one that decides now.

    Args:
        bundle: a bundle's directory or zip.
        image: raw score from which an image is NG.
        pixel: raw map value from which a pixel belongs to a region.
        target: None = the bundle's first target that can run here.

    Raises:
        UsageError: nothing to set, a limit that is not a number or not above the good median, no such target.
        BundleError: the bundle or its side-car is damaged.
        OutputError: the folder of the bundle cannot be written.
    """
    from edgead.bundle.reader import open_bundle

    if image is None and pixel is None:
        raise UsageError("no threshold was given; name an image or a pixel threshold in raw units")
    with open_bundle(bundle) as opened:
        name = _target(opened, target)
        now = opened.thresholds(name)
        method = dict(now.method)
        for key, value in (("image", image), ("pixel", pixel)):
            if value is not None:
                method[key] = {"rule": "set_by_hand", "text": f"set to {value:g} by hand"}
        chosen = replace(
            now,
            image=now.image if image is None else image,
            pixel=now.pixel if pixel is None else pixel,
            method=method,
        )
        return _write(opened, name, chosen)


def set_from_good(
    bundle: Path,
    folder: Path,
    *,
    false_positive_rate: float | None = None,
    target: Target | None = None,
    bit_depth: int | None = None,
    threads: int = 0,
    progress: Progress | None = None,
) -> SiteChoice:
    """Choose both limits of one target anew, from good images of the site.

    Images that the bundle's detector was trained on are left out: their scores are lower than those of new
    good parts, so they would give a limit that is too strict.

    Args:
        bundle: a bundle's directory or zip.
        folder: good images only.
        false_positive_rate: wanted share of good images called NG, between 0 and 0.5; None = 1 %.
        target: None = the bundle's first target that can run here.
        bit_depth: bits that 16-bit files really use: 10, 12 or 16.
        threads: compute threads, 0 = the engine's own choice.
        progress: where to show progress.

    Raises:
        DatasetError: no images, or none that can be read.
        LeakageError: the detector was trained on all of them.
        EngineError: the engine failed or gave a score that is no number.
        UsageError, BundleError, RuntimeMissingError, OutputError: as in `set_raw` and `Session.open`.
    """
    from edgead.bundle.reader import open_bundle
    from edgead.calibration import map_statistics
    from edgead.calibration.threshold import DEFAULT_FALSE_POSITIVE_RATE
    from edgead.data.folder import good_images
    from edgead.imaging.frame import read_image
    from edgead.runtimes.session import Session

    progress = progress if progress is not None else Silent()
    rate = DEFAULT_FALSE_POSITIVE_RATE if false_positive_rate is None else false_positive_rate
    items = good_images(folder)
    with open_bundle(bundle) as opened:
        name = _target(opened, target)
        fresh = _not_trained_on(opened, items, folder, progress)
        with Session.open(opened, Target.parse(name), threads=threads) as session:

            def score(path: Path) -> tuple[float, float]:
                raw = session.scores(read_image(path, bit_depth=bit_depth))
                return raw.score_raw, raw.map_max

            good = map_statistics.collect(fresh, score, progress=progress)
        if len(good.items) < FEW_IMAGES:
            progress.say(
                f"{len(good.items)} good images make an uncertain limit; {FEW_IMAGES} or more are better"
            )
        chosen = map_statistics.thresholds(good, false_positive_rate=rate)
        return SiteChoice(_write(opened, name, chosen), good.skipped)


def reset(bundle: Path, *, target: Target | None = None) -> bool:
    """Go back to the bundle's own limits, for one target or (None) for all; False if none were set on site.

    Raises:
        UsageError: the bundle has no such target.
        BundleError: the bundle is damaged, or one target is named and the side-car is damaged.
        OutputError: the side-car cannot be removed or written.
    """
    from edgead.bundle import sidecar
    from edgead.bundle.reader import open_bundle

    with open_bundle(bundle) as opened:
        name = None if target is None else opened.entry(str(target)).target
        return sidecar.remove(opened.source, opened.digest, name)


def _target(bundle: Bundle, target: Target | None) -> str:
    from edgead.runtimes.session import first_available

    return bundle.entry(str(target if target is not None else first_available(bundle))).target


def _write(bundle: Bundle, name: str, thresholds: Thresholds) -> Limits:
    from edgead.bundle import sidecar

    sidecar.write(bundle.source, bundle.digest, name, thresholds)
    return limits_of(bundle, name)


def _not_trained_on(
    bundle: Bundle, items: tuple[ImageItem, ...], folder: Path, progress: Progress
) -> list[ImageItem]:
    from edgead.data.folder import hash_items

    trained = set(bundle.manifest.provenance.train)
    fresh = [item for item, digest in zip(items, hash_items(items), strict=True) if digest not in trained]
    if not fresh:
        raise LeakageError(
            f"the detector was trained on all {len(items)} images of {folder}; give good images new to it"
        )
    if len(fresh) < len(items):
        progress.say(f"left out {len(items) - len(fresh)} images that the detector was trained on")
    return fresh
