"""Does a target give on this machine what it gave where it was compiled? Golden images, raw units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgead.errors import BundleError, EdgeadError, EngineError, RuntimeMissingError
from edgead.imaging.frame import read_image
from edgead.runtimes.session import Session

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

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
    import numpy as np

    entry = bundle.entry(target)
    score_shift = map_shift = 0.0
    try:
        with Session.open(bundle, target, threads=threads, runtime=runtime, self_test=False) as session:
            shape = (1, *session.geometry.image_size, 3)
            for image in bundle.golden:
                expected = next(value for value in image.expected if value.target == target)
                score, _, anomaly_map = session.scores_of(_network_input(bundle, image.file, shape))
                shift = np.abs(anomaly_map - bundle.golden_map(expected)).max()
                # NaN is a shift without bound
                score_shift = max(score_shift, np.nan_to_num(abs(score - expected.score_raw), nan=np.inf))
                map_shift = max(map_shift, np.nan_to_num(shift, nan=np.inf))
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
    passed = score_shift <= entry.score_tolerance and map_shift <= entry.map_tolerance
    made_on = f"{entry.identity.device}, {entry.engine} {entry.identity.engine_version}"
    return TargetSelfTest(
        passed=passed,
        images=len(bundle.golden),
        score_shift_max=float(score_shift),
        score_tolerance=entry.score_tolerance,
        map_shift_max=float(map_shift),
        map_tolerance=entry.map_tolerance,
        why=""
        if passed
        else f"{target} gives other values here than where it was compiled ({made_on}); "
        "export the bundle on this machine, or choose another target",
    )


def _network_input(bundle: Bundle, file: str, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """(1, H, W, 3) uint8 RGB of a golden PNG."""
    import numpy as np

    frame = read_image(bundle.path(file))
    if frame.pixel_format != "BGR8" or (1, *frame.data.shape) != shape:
        raise BundleError(
            f"{bundle.source}: {file} is {frame.pixel_format} {frame.data.shape}, "
            f"the network's input is {shape}"
        )
    return np.ascontiguousarray(frame.data[None, :, :, ::-1], np.uint8)
