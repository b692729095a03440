"""`edgead inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgead.cli._runtime import RuntimeOption

if TYPE_CHECKING:
    from edgead.workflows.inspection import Inspection, SelfTestHere
    from edgead.workflows.threshold import Limits


def command(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle: folder or zip.")],
    self_test: Annotated[
        bool, typer.Option("--self-test/--no-self-test", help="Run the golden images on the engines here.")
    ] = True,
    target: Annotated[
        str | None, typer.Option(help="Whose engine to test. Default: every one that can run here.")
    ] = None,
    runtime: RuntimeOption = None,
    files: Annotated[bool, typer.Option("--files", help="List every file with its hash, too.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the manifest and all findings as JSON.")
    ] = False,
) -> None:
    """Check a bundle's hashes, show what it holds, and run its self-test.

    Example: edgead inspect part.edgead
    """
    from edgead.cli._output import emit
    from edgead.errors import GateFailed, RuntimeMissingError
    from edgead.types import Target
    from edgead.workflows.inspection import inspect

    found = inspect(
        bundle,
        target=Target.parse(target) if target is not None else None,
        runtime=runtime.value if runtime is not None else None,
        run_self_test=self_test,
    )
    data = found.manifest | {
        "digest": found.digest,
        "form": found.form,
        "files": {name: {"bytes": size, "hash": digest} for name, (size, digest) in found.files.items()},
        "limits": {limits.target: limits for limits in found.limits},
        "self_test": found.self_test,
    }
    emit(data, as_json=as_json, human=lambda: _text(bundle, found, files))
    if found.self_test is not None and not found.self_test.passed:
        if not found.self_test.targets:
            raise RuntimeMissingError(
                f"no target could be tested: {'; '.join(found.self_test.not_run.values())}"
            )
        failed = [name for name, result in found.self_test.targets.items() if not result.passed]
        raise GateFailed(f"the self-test failed for {', '.join(failed)}")


def _size(number: int) -> str:
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000  # type: ignore[assignment]
    return f"{number:.3g} GB"


def _text(path: Path, found: Inspection, files: bool) -> str:
    from edgead.cli._output import table

    manifest = found.manifest
    provenance, geometry, post = manifest["provenance"], manifest["geometry"], manifest["post"]
    total = sum(size for size, _ in found.files.values())
    facts = [
        ("bundle", f"{path} ({found.form}, {len(found.files)} files, {_size(total)}, every hash is right)"),
        ("identity", found.digest),
        ("detector", f"{manifest['detector']['name']} (preset {manifest['detector']['preset']})"),
        ("made", f"{provenance['created']} by {manifest['created_by']}"),
        ("good images", f"{len(provenance['train'])} trained on, {len(provenance['held_out'])} held out"),
        ("pixels", _pixels(geometry)),
        ("map", f"{_by(post['grid'])} raw, {_by(post['output'])} shown; score = {post['score_rule']}"),
        (
            "graph",
            f"shift to the MODEL on {provenance['graph_parity']['images']} images: {_parity(provenance)}",
        ),
    ]
    width = max(len(name) for name, _ in facts)
    lines = [f"{name:<{width}}  {value}" for name, value in facts]
    pairs = zip(manifest["targets"], found.limits, strict=True)
    rows = [_target_row(entry, limits, found) for entry, limits in pairs]
    lines += ["", table(("target", "size", "image limit", "pixel limit", "limits from", "made with"), rows)]
    if files:
        listed = [(name, size, digest) for name, (size, digest) in sorted(found.files.items())]
        lines += ["", table(("file", "bytes", "hash"), listed)]
    return "\n".join([*lines, *_not_verified(manifest), "", _self_test(found.self_test)])


def _by(size: list[int]) -> str:
    return "x".join(map(str, size))


def _pixels(geometry: dict[str, Any]) -> str:
    resize = (
        f"{geometry['height']}x{geometry['width']}"
        if geometry["mode"] == "exact"
        else (f"shorter side {geometry['height']}")
    )
    window = f", window {_by(geometry['window'])}" if geometry["window"] else ""
    roi = f"ROI {geometry['roi']}, " if geometry["roi"] else ""
    return f"{roi}resize to {resize} ({geometry['resampler']}){window}{_tiles(geometry)}"


def _tiles(geometry: dict[str, Any]) -> str:
    from edgead.types import Geometry

    found = Geometry.from_values(geometry)
    if found.tiles is None:
        return ""
    steps = found.tiles.steps(found.height, found.width)
    overlaps = [size - step if step else 0 for size, step in zip(found.input_size, steps, strict=True)]
    return f", in {found.tiles}, overlap {_by(overlaps)}"


def _parity(provenance: dict[str, Any]) -> str:
    parity = provenance["graph_parity"]
    return f"score {parity['score_shift_max']:.3g}, map {parity['map_shift_max']:.3g} at most, in raw units"


def _target_row(entry: dict[str, Any], limits: Limits, found: Inspection) -> tuple[object, ...]:
    size = sum(found.files[file][0] for file in entry["files"])
    where = f"site, {limits.changed}" if limits.origin == "site" else "bundle"
    tool = f"{entry['engine']} {entry['identity']['engine_version']} on {entry['identity']['device']}"
    if not entry.get("verified", True):
        tool += ", not verified"
    if entry.get("rest") == "bf16":
        tool += ", rest in bf16"
    values = limits.thresholds
    return entry["target"], _size(size), f"{values.image:.6g}", f"{values.pixel:.6g}", where, tool


def _self_test(report: SelfTestHere | None) -> str:
    import sys

    from edgead.cli._output import colour

    if report is None:
        return "self-test not run"
    lines = ["self-test"]
    for name, result in report.targets.items():
        mark = colour("✓", "green", sys.stdout) if result.passed else colour("✗", "red", sys.stdout)
        told = result.why
        if result.score_shift_max is not None and result.map_shift_max is not None:
            told = (
                f"{result.images} golden images, score shift {result.score_shift_max:.3g} "
                f"(limit {result.score_tolerance:.3g}), map shift {result.map_shift_max:.3g} "
                f"(limit {result.map_tolerance:.3g})" + (f"; {result.why}" if result.why else "")
            )
        lines.append(f"  {mark} {name}: {told}")
    lines += [f"  - {name}: not run, {why}" for name, why in report.not_run.items()]
    return "\n".join(lines)


def _not_verified(manifest: dict[str, Any]) -> list[str]:
    names = [entry["target"] for entry in manifest["targets"] if not entry.get("verified", True)]
    if not names:
        return []
    return [
        f"not verified: {', '.join(names)}: could not run where the bundle was made; limits and golden "
        f"values are of the graph on the CPU; on the device: edgead verify BUNDLE DATA --target {names[0]}"
    ]
