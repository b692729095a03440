"""`edgead export`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from edgead.exporters._tensorrt import TensorRTOptions
    from edgead.workflows.export import ExportReport

INTERRUPTED = "no bundle was written"


class Ranges(str, Enum):
    """How INT8 ranges are made of observed values."""

    MSE = "mse"
    MINMAX = "minmax"
    PERCENTILE = "percentile"


class Convolutions(str, Enum):
    """How float targets of OpenVINO compute large convolutions."""

    AUTO = "auto"
    FAST = "fast"
    PLAIN = "plain"


class Compatibility(str, Enum):
    """Other GPUs that a plan of TensorRT runs on."""

    NONE = "none"
    SAME_COMPUTE_CAPABILITY = "same_compute_capability"
    AMPERE_PLUS = "ampere_plus"


class BundleForm(str, Enum):
    """How the bundle lies on disk."""

    DIRECTORY = "directory"
    ZIP = "zip"


def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="What train or import made.")],
    calib: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Good images (or an MVTec root). Those that were trained on are left aside.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle to write, NAME.edgead.")],
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="<engine>:<precision>, repeatable: fp32; bf16 and int8 of openvino, int8 of onnxruntime. "
            "Default: openvino:fp32, openvino:bf16, onnxruntime:fp32 as far as they run here, bf16 only if "
            "it passes its gate.",
        ),
    ] = None,
    unverified: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TARGET",
            help="A further target that is built here and cannot run here, repeatable, such as "
            "tensorrt_rtx:fp16:cuda. Its graph is judged on the CPU; where the bundle is opened, the target "
            "must pass its self-test, and verify judges it there.",
        ),
    ] = None,
    fpr: Annotated[
        float, typer.Option(help="Share of good images that may be called NG, for the threshold.")
    ] = 0.01,
    validation: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Root with labelled test folders to choose the threshold on. Never your test images.",
        ),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(help="With --validation: share of defects to find. Default: highest F1."),
    ] = None,
    form: Annotated[BundleForm, typer.Option(help="A folder, or one file.")] = BundleForm.DIRECTORY,
    accept: Annotated[
        bool, typer.Option("--accept", help="Write the bundle although a target misses its gate.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle at the output.")] = False,
    bit_depth: Annotated[
        int | None, typer.Option(metavar="BITS", help="Bits that 16-bit files really use: 10, 12 or 16.")
    ] = None,
    ranges: Annotated[
        Ranges,
        typer.Option(
            "--int8-ranges",
            help="Of int8 targets: least squared error, all values of the good images, or all but 0.01 % "
            "a side.",
        ),
    ] = Ranges.MSE,
    int8_error: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Of int8 targets: error of the map to allow; a smaller one keeps more in float. Halve "
            "it where verify finds a loss: --int8-error 0.05. Default: the detector's, mostly 0.1.",
        ),
    ] = None,
    convolutions: Annotated[
        Convolutions,
        typer.Option(
            help="Of openvino in fp32 and bf16: fast computes large convolutions with half the products, "
            "plain leaves them as they are. Default: fast where this CPU has AVX2 and no AMX; name "
            "one for another device: --convolutions plain.",
        ),
    ] = Convolutions.AUTO,
    cuda_arch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CAPABILITY",
            help="Of tensorrt_rtx: compute capability to build for, repeatable: --cuda-arch 8.6 --cuda-arch "
            "8.9. Default: 8.0 and every later one.",
        ),
    ] = None,
    cuda_compatibility: Annotated[
        Compatibility,
        typer.Option(
            help="Of tensorrt: other GPUs that its plans shall run on, somewhat slower: --cuda-compatibility "
            "ampere_plus."
        ),
    ] = Compatibility.NONE,
    timing_cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Of tensorrt: measured kernels, read where the file is there and written afterwards, which "
            "speeds up the next build: --timing-cache orin.cache.",
        ),
    ] = None,
    workspace: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="MIB",
            help="Of tensorrt and tensorrt_rtx: most GPU memory that a layer may use for scratch: "
            "--workspace 512.",
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="Compute threads; 0 = the engine's choice.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compile a MODEL for engines, with thresholds from held-out good images, into a bundle.

    Example: edgead export bottle.model --calib bottle/ --target openvino:int8 -o bottle.edgead
    """
    from edgead.cli._errors import skipped
    from edgead.cli._output import emit
    from edgead.cli._progress import RichProgress
    from edgead.workflows._evidence import ThresholdChoice
    from edgead.workflows.export import export

    report = export(
        model,
        output,
        calib=calib,
        targets=target,
        unverified=unverified or (),
        tensorrt=_options(cuda_arch, cuda_compatibility, timing_cache, workspace),
        convolutions=convolutions.value,
        choice=ThresholdChoice(false_positive_rate=fpr, validation=validation, recall=recall),
        accept=accept,
        overwrite=overwrite,
        form=form.value,
        bit_depth=bit_depth,
        ranges=ranges.value,
        int8_error=int8_error,
        threads=threads,
        progress=RichProgress(quiet=quiet),
    )
    emit(_data(report), as_json=as_json, human=lambda: _text(report))
    skipped(report.skipped)


def _options(
    cuda_arch: list[str] | None,
    compatibility: Compatibility,
    timing_cache: Path | None,
    workspace_mib: int | None,
) -> TensorRTOptions | None:
    """How plans are built; None where nothing was asked for."""
    from edgead.exporters._tensorrt import TensorRTOptions

    asked = TensorRTOptions(
        compute_capabilities=tuple(cuda_arch or ()),
        compatibility=compatibility.value,
        timing_cache=timing_cache,
        workspace_bytes=(workspace_mib or 0) << 20,
    )
    return asked if asked != TensorRTOptions() else None


def _data(report: ExportReport) -> dict[str, Any]:
    return {
        "bundle": report.bundle,
        "digest": report.digest,
        "graph": report.graph,
        "held_out": report.held_out,
        "trained_on": report.trained_on,
        "targets": {
            name: {
                **target.parity.to_json(),
                "image_auroc": {"before": target.auroc_before, "after": target.auroc},
                "failures": target.failures,
                "verified": target.verified,
                "thresholds": target.thresholds,
                "size_bytes": target.size_bytes,
            }
            for name, target in report.targets.items()
        },
        "skipped": report.skipped,
    }


def _text(report: ExportReport) -> str:
    from edgead.cli._output import table

    rows = [
        (
            name,
            f"{target.thresholds.image:.5g}",
            f"{target.parity.shift_max:.2g}",
            len(target.parity.flipped),
            f"{target.size_bytes / 1e6:.1f} MB",
            ("; ".join(target.failures) or "passed") + ("" if target.verified else ", not verified here"),
        )
        for name, target in report.targets.items()
    ]
    first = next(iter(report.targets.values())).thresholds.method["image"]
    chosen = first["text"] if isinstance(first, dict) else first
    return "\n".join(
        [
            table(("target", "threshold", "score shift", "flips", "size", "gate"), rows),
            *_not_verified(report),
            "",
            f"threshold: {chosen}",
            f"{report.held_out} held-out good images; {report.trained_on} were trained on and left aside",
            f"bundle     {report.bundle}",
        ]
    )


def _not_verified(report: ExportReport) -> list[str]:
    """What to do with targets whose figures above are only their graphs'."""
    names = [name for name, target in report.targets.items() if not target.verified]
    if not names:
        return []
    return [
        f"not verified here: {', '.join(names)}: built and not run; the figures are of the graph on the CPU; "
        f"on the device: edgead verify BUNDLE DATA --target {names[0]}"
    ]
