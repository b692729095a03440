"""Does a target give on this machine what it gave where it was compiled? Golden images, raw units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgead.errors import EdgeadError, EngineError, RuntimeMissingError
from edgead.runtimes._golden import GoldenShift, golden_shift, unverified_problem
from edgead.runtimes.session import Session

if TYPE_CHECKING:
    from edgead.bundle.manifest import TargetEntry
    from edgead.bundle.reader import Bundle
    from edgead.runtimes._driver import RuntimeName


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSelfTest:
    """One target's golden images.

    Attributes:
        passed: every image within the target's tolerances. False where the engine could not run.
        images: how many were compared.
        score_shift_max: largest |score − expected|, raw units; None where the engine could not run.
        score_tolerance: the bundle's limit for it.
        map_shift_max: the same for map values.
        map_tolerance: the bundle's limit for it.
        why: what is wrong, and what to do; empty if passed.
        missing: whether nothing was tried because the engine is not here.
    """

    passed: bool
    images: int
    score_shift_max: float | None
    score_tolerance: float
    map_shift_max: float | None
    map_tolerance: float
    why: str = ""
    missing: bool = False


@dataclass(frozen=True, slots=True)
class SelfTest:
    """The self-test of a bundle's targets; `passed` needs every target that was tested."""

    passed: bool
    targets: dict[str, TargetSelfTest]


def self_test(
    bundle: Bundle, target: str | None = None, *, threads: int = 0, runtime: RuntimeName | None = None
) -> SelfTest:
    """Run the golden images through one target, or with None through all of them.

    The images are what the network sees, so they go to the engine as they are. `runtime` says who drives it,
    as for `Session.open`.

    Raises:
        UsageError: the bundle has no such target.
    """
    names = bundle.targets if target is None else (bundle.entry(target).target,)
    results = {name: _test(bundle, name, threads, runtime) for name in names}
    return SelfTest(all(result.passed for result in results.values()), results)


def _test(bundle: Bundle, target: str, threads: int, runtime: RuntimeName | None) -> TargetSelfTest:
    entry = bundle.entry(target)
    try:
        with Session.unproven(bundle, target, threads=threads, runtime=runtime) as session:
            found = golden_shift(bundle, entry, session)
    except EdgeadError as err:
        return TargetSelfTest(
            passed=False,
            images=0,
            score_shift_max=None,
            score_tolerance=entry.score_tolerance,
            map_shift_max=None,
            map_tolerance=entry.map_tolerance,
            why=str(err),
            missing=isinstance(err, RuntimeMissingError) and not isinstance(err, EngineError),
        )
    passed = found.within(entry)
    return TargetSelfTest(
        passed=passed,
        images=found.images,
        score_shift_max=found.score,
        score_tolerance=entry.score_tolerance,
        map_shift_max=found.map,
        map_tolerance=entry.map_tolerance,
        why="" if passed else _problem(entry, found),
    )


def _problem(entry: TargetEntry, found: GoldenShift) -> str:
    if not entry.verified:
        return unverified_problem(entry, found)
    made_on = f"{entry.identity.device}, {entry.engine} {entry.identity.engine_version}"
    return (
        f"{entry.target} gives other values here than where it was compiled ({made_on}); "
        "export the bundle on this machine, or choose another target"
    )
