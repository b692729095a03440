"""What a bundle is: manifest, sizes, hashes, limits in force, and whether its engines give its values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgead.types import Target

if TYPE_CHECKING:
    from edgead.bundle.reader import Bundle
    from edgead.runtimes._driver import RuntimeName
    from edgead.workflows.self_test import TargetSelfTest
    from edgead.workflows.threshold import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTestHere:
    """The self-test of the targets that can run here.

    Attributes:
        passed: every target that was tested passed, and there was one.
        targets: those that were tested.
        not_run: those whose engine is missing here → why, and what to do.
    """

    passed: bool
    targets: dict[str, TargetSelfTest]
    not_run: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """A verified bundle, described.

    Attributes:
        manifest: `manifest.json` as it stands.
        digest: content hash of the whole, the same as a directory and as a zip.
        form: directory or zip.
        files: file name → (bytes, content hash), `MANIFEST.sha256` itself left out.
        limits: the limits that decide now, of each target.
        self_test: what the engines gave for the golden images; None where it was not asked for.
    """

    manifest: dict[str, Any]
    digest: str
    form: Literal["directory", "zip"]
    files: dict[str, tuple[int, str]]
    limits: tuple[Limits, ...]
    self_test: SelfTestHere | None


def inspect(
    bundle: Path,
    *,
    target: Target | None = None,
    runtime: RuntimeName | None = None,
    run_self_test: bool = True,
) -> Inspection:
    """Verify every byte of a bundle, describe it, and run its golden images.

    Args:
        bundle: a bundle's directory or zip.
        target: whose engine to test; None = every one that can run here. One that is named and missing fails.
        runtime: who drives the engines, as for `Session.open`.
        run_self_test: False only reads.

    Raises:
        UsageError: nothing at `bundle`, or no such target.
        BundleError: the bundle or its side-car is damaged.
    """
    from edgead.bundle import hash_list
    from edgead.bundle._tree import HASH_LIST, MANIFEST
    from edgead.bundle.reader import open_bundle
    from edgead.workflows.threshold import limits_of

    with open_bundle(bundle) as opened:
        hashes = hash_list.parse(opened.path(HASH_LIST).read_bytes(), bundle)
        return Inspection(
            manifest=json.loads(opened.path(MANIFEST).read_bytes()),
            digest=opened.digest,
            form="directory" if bundle.is_dir() else "zip",
            files={name: (opened.sizes[name], digest) for name, digest in hashes.items()},
            limits=tuple(limits_of(opened, name) for name in opened.targets),
            self_test=_self_test(opened, target, runtime) if run_self_test else None,
        )


def _self_test(bundle: Bundle, target: Target | None, runtime: RuntimeName | None) -> SelfTestHere:
    from edgead.runtimes._registry import availability, engines
    from edgead.workflows.self_test import self_test

    tested: dict[str, TargetSelfTest] = {}
    not_run: dict[str, str] = {}
    if target is not None:
        tested = self_test(bundle, str(target), runtime=runtime).targets
    else:
        here = engines()
        for name in bundle.targets:
            parsed = Target.parse(name)
            if parsed.engine not in here:
                not_run[name] = "this edgead has no such runtime"
                continue
            if parsed.device != "cpu" and not (state := availability(parsed)).available:
                not_run[name] = state.why
                continue
            (result,) = self_test(bundle, name, runtime=runtime).targets.values()
            if result.missing:
                not_run[name] = result.why
            else:
                tested[name] = result
    passed = bool(tested) and all(result.passed for result in tested.values())
    return SelfTestHere(passed=passed, targets=tested, not_run=not_run)
