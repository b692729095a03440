"""The headline figures: every detector × precision × runtime on one NVIDIA GPU, batch 1 and batch 16.

    python benchmarks/suites/gpu_headline.py --out results [--presets …] [--rounds 1000] [--json]
    python benchmarks/suites/gpu_headline.py --device cpu --rounds 3   # a rehearsal without a GPU

Weights, memories and frames are random, which costs the same as real ones. Runtimes: those that are here of
TensorRT, TensorRT-RTX and ONNX Runtime's CUDA provider, on the lowered graphs, and torch on the detector as
it was trained (`gpu_torch_side.py`). All sides of a preset and batch run in turn, sample by sample. Variants:

published    what the timer of EfficientAD's benchmark holds: network pixels in host memory → raw map in host
             memory. Pixels are uint8 here, floats there; normalising is inside here, outside there.
end_to_end   1280×1024 BGR8 frames in host memory → score, map, mask, heatmap, regions and decision on the
             host, by edgead's GPU pipeline: resizing, engine and post-processing in one stream. Where that
             cannot run (no pycuda, no NVRTC) libedgead resizes and post-processes on the CPU, one frame after
             the other; each row says who did.

FLOPs are counted in what runs: the lowered network for engines, the detector for torch. The peak is that of
a large fp16 matrix product in torch, in the same run (on a CPU a small one, fp32). Bars (issue 9) in images/s
are for an H200-class GPU, which is one whose measured peak is ≥ 500 TFLOP/s; int8 here has made-up ranges and
counts for no bar. `difference` is the largest one from the first side's map, as a share of its range: it
shows a wrong engine; `pipeline_difference`, from libedgead behind the same engine, shows a wrong kernel.
Whether a precision is accurate is for `edgead verify` on trained weights. All sides of a preset and batch are
in the GPU's memory together: where that is too small, use --targets. Exits with 1 when a bar is
missed or a side failed, with 2 where nothing can use a GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from gpu_sides import (
    END_TO_END,
    PUBLISHED,
    GpuInspection,
    Inspection,
    Network,
    OnGpu,
    Preset,
    Side,
    samples_of,
    targets_here,
)
from gpu_torch_side import facts, matmul_peak, missing

from edgead.benchmarks.environment import record
from edgead.benchmarks.interleaved import interleaved
from edgead.benchmarks.order_statistics import rank
from edgead.benchmarks.run import STAGES as FIRST_STAGE
from edgead.benchmarks.run import Limits, Run
from edgead.benchmarks.sut import SampleLibrary
from edgead.benchmarks.warmup import Warmup
from edgead.detectors._presets import PRESETS
from edgead.types import Target

HEADLINE = ("efficientad", "efficientad_m", "simplenet_wrn50", "cpr_faster", "diffusionad_full")
LIGHT = (
    *("simplenet", "patchcore", "efficientad_edge", "cpr", "diffusionad", "radar", "padim", "stfpm"),
    *("reverse_distillation", "fastflow"),
)
END_TO_END_BARS = {
    "efficientad": 1200.0,
    "cpr_faster": 1450.0,
    "simplenet_wrn50": 1100.0,
    "diffusionad_full": 150.0,
}  # images/s, batch 1
TAIL_BAR = 1.5  # p99 / p50 of the same side
BATCH_BARS = {"efficientad": 3900.0}  # images/s, batch 16, published
FRACTION_BAR, FRACTION_PRESETS = 0.4, ("efficientad", "efficientad_m", "simplenet_wrn50")
# Lowered, its distances have weights per position and no axis for images.
ONE_AT_A_TIME = ("padim",)
H200_CLASS = 500.0  # TFLOP/s
LATENCY, THROUGHPUT = 1, 16


def measure(
    preset: Preset, batch: int, targets: Sequence[Target], options: argparse.Namespace, peak: float | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """A row per target and variant, and what failed, in words."""
    rows, failed = [], []
    samples = samples_of(preset.detector.geometry, batch)
    with ExitStack() as stack:
        reference: Any = None
        differences: dict[Target, float] = {}
        opened: list[tuple[Target, Side, Network | Inspection, bool]] = []
        for target in targets:
            print(f"{preset.name}, batch {batch}: opening {target}", file=sys.stderr, flush=True)
            try:
                side = preset.open(target, batch, options.threads)
                stack.callback(side.close)
                recipe, geometry = preset.detector.post_recipe, preset.detector.geometry
                whole = (
                    GpuInspection(str(target), side, geometry, recipe, samples)
                    if isinstance(side, OnGpu)
                    else Inspection(str(target), side, geometry, recipe, samples)
                )
                preset.flop(target)
            except Exception as err:
                failed.append(f"{preset.name} {target} batch {batch}: {err}")
                continue
            reference = whole.first_map if reference is None else reference
            spread = float(np.ptp(reference)) or 1.0
            differences[target] = float(np.abs(whole.first_map - reference).max()) / spread
            opened += [(target, side, sut, whole.finite) for sut in (Network(str(target), side), whole)]
        if not opened:
            return rows, failed
        limits = Limits(
            min_queries=max(1, options.rounds if batch == LATENCY else -(-options.rounds // 5)),
            max_duration_ns=round(options.seconds * 1e9),
        )
        warmup = Warmup(max_queries=options.warmup, max_duration_ns=5_000_000_000)
        print(f"{preset.name}, batch {batch}: measuring", file=sys.stderr, flush=True)
        suts = tuple(sut for _, _, sut, _ in opened)
        try:
            runs = interleaved(suts, SampleLibrary(samples), limits=limits, warmup=warmup)
        except Exception as err:
            return rows, [*failed, f"{preset.name} batch {batch}, all targets: {err}"]
        for (target, side, sut, finite), run in zip(opened, runs, strict=True):
            row = {
                "preset": preset.name,
                "target": str(target),
                "precision": target.precision,
                "batch": batch,
                "variant": sut.name.rpartition(" ")[2],
                "runtime": sut.runtime,
                **figures(run, batch, preset.flop(target), peak),
                "finite": finite,
                "difference": differences[target],
                "pipeline_difference": getattr(sut, "difference", None),
                "eager": getattr(side, "why_eager", ""),
            }
            rows.append(row)
    return rows, failed


def figures(run: Run, batch: int, operations: int, peak: float | None) -> dict[str, Any]:
    """Times per batch in ms, images/s, and the arithmetic behind them."""
    latency = np.sort(run.latency_ns)
    p50, p99 = (float(latency[rank(p, len(run)) - 1]) / 1e6 for p in (0.5, 0.99))
    proven = run.proven(0.99)
    fps = batch * run.throughput()
    tflops = fps * operations / 1e12
    columns = (run.times[:, FIRST_STAGE + index] for index in range(len(run.stages)))
    return {
        "queries": len(run),
        "settled": run.settled,
        "p50_ms": p50,
        "p99_ms": p99,
        "p99_proven_ms": None if proven is None else proven / 1e6,
        "stages_ms": {
            name: float(np.median(column)) / 1e6 for name, column in zip(run.stages, columns, strict=True)
        },
        "fps": fps,
        "gflop": operations / 1e9,
        "tflops": tflops,
        "peak_fraction": None if peak is None else tflops / peak,
    }


def judge(
    rows: Sequence[dict[str, Any]], peak: float | None, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Every bar: what it asks, what the best side gave, and pass, missed or why it is not judged."""
    found = []

    def add(preset: str, what: str, key: str, bar: float, batch: int, variant: str, *, h200: bool) -> None:
        mine = [
            row
            for row in rows
            if (row["preset"], row["batch"], row["variant"]) == (preset, batch, variant)
            and row["finite"]
            and row["precision"] in (("fp16",) if key == "peak_fraction" else ("fp32", "fp16"))
        ]
        best = max(mine, key=lambda row: row[key] or 0.0, default=None)
        seen = 0.0 if best is None else best[key]
        if options.device == "cpu":
            verdict = "not judged: a rehearsal"
        elif preset not in options.presets or batch not in options.batches:
            verdict = "not judged: not asked for"
        elif peak is None:
            verdict = "not judged: no torch with CUDA, so no measured peak"
        elif h200 and peak < H200_CLASS:
            verdict = f"not judged: no H200-class GPU, its peak is {peak:.0f} TFLOP/s"
        else:
            verdict = "pass" if seen >= bar else "missed"
        entry = {"preset": preset, "what": what, "bar": bar, "seen": seen, "verdict": verdict}
        found.append({**entry, "by": None if best is None else best["target"]})
        if key != "fps" or variant != END_TO_END:
            return
        tail = np.inf if best is None else best["p99_ms"] / best["p50_ms"]
        if verdict in ("pass", "missed"):
            verdict = "pass" if tail <= TAIL_BAR else "missed"
        entry = {"preset": preset, "what": "p99 / p50 of the same, at most", "bar": TAIL_BAR}
        seen_tail = None if best is None else float(tail)
        found.append({**entry, "seen": seen_tail, "verdict": verdict, "by": found[-1]["by"]})

    for preset, bar in END_TO_END_BARS.items():
        add(preset, "images/s, frame to decision, batch 1", "fps", bar, LATENCY, END_TO_END, h200=True)
    for preset, bar in BATCH_BARS.items():
        add(preset, "images/s, published, batch 16", "fps", bar, THROUGHPUT, PUBLISHED, h200=True)
    for preset in FRACTION_PRESETS:
        what = "share of the fp16 peak, published, batch 16"
        add(preset, what, "peak_fraction", FRACTION_BAR, THROUGHPUT, PUBLISHED, h200=False)
    return found


def table(result: dict[str, Any]) -> str:
    """Everything in Markdown."""
    lines = [f"{name}: {value}" for name, value in (result["environment"] | result["device"]).items()]
    lines += [
        "",
        "| preset | target | batch | variant | p50 ms | p99 ms | images/s | TFLOP/s | of peak | diff. | |",
    ]
    lines.append("|---|---|---:|---|---:|---:|---:|---:|---:|---:|---|")
    for row in result["rows"]:
        share = "–" if row["peak_fraction"] is None else f"{row['peak_fraction']:.1%}"
        notes = ["" if row["finite"] else "not finite", "eager" if row["eager"] else ""]
        if row["variant"] == END_TO_END:
            notes.append("on the GPU" if row["runtime"] == "cuda" else "around it on the CPU")
        lines.append(
            f"| {row['preset']} | {row['target']} | {row['batch']} | {row['variant']} | {row['p50_ms']:.3f} "
            f"| {row['p99_ms']:.3f} | {row['fps']:.1f} | {row['tflops']:.3g} | {share} "
            f"| {row['difference']:.1e} | {' '.join(filter(None, notes))} |"
        )
    lines.append("")
    for bar in result["bars"]:
        seen = "nothing" if bar["seen"] is None or not bar["by"] else f"{bar['seen']:.4g} by {bar['by']}"
        lines.append(f"{bar['verdict']}: {bar['preset']} {bar['what']}: bar {bar['bar']:g}, seen {seen}")
    lines += [f"lacking here: {line}" for line in result["lacking"]]
    lines += [f"FAILED: {line}" for line in result["failed"]]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, write, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--presets", nargs="+", choices=sorted(PRESETS), help="default: all; light on a CPU")
    parser.add_argument("--targets", nargs="+", help="only these, such as torch:fp16:cuda")
    parser.add_argument("--batches", nargs="+", type=int, default=[LATENCY, THROUGHPUT])
    parser.add_argument("--rounds", type=int, default=1000, help="samples at batch 1, a fifth at others")
    parser.add_argument("--seconds", type=float, default=60.0, help="at most, per preset and batch")
    parser.add_argument("--warmup", type=int, default=0, help="most queries before; 0 = until it settles")
    parser.add_argument("--threads", type=int, default=0, help="of an engine on the CPU")
    parser.add_argument("--out", type=Path, help="folder for gpu_headline.json and .md, written as it goes")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.rounds < 1 or min(options.batches) < 1:
        parser.error(f"--rounds {options.rounds} --batches {options.batches}: at least 1")
    options.presets = options.presets or [*(HEADLINE if options.device == "cuda" else ()), *LIGHT]
    environment = record()
    targets, lacking = targets_here(options.device)
    if not targets:
        print(
            f"no GPU that anything here can use ({'; '.join(lacking)}); --device cpu rehearses",
            file=sys.stderr,
        )
        return 2
    if options.targets and (unknown := set(options.targets) - set(map(str, targets))):
        parser.error(f"--targets {' '.join(sorted(unknown))}: here are {', '.join(map(str, targets))}")
    targets = [target for target in targets if not options.targets or str(target) in options.targets]
    peak = None if missing(options.device) else matmul_peak(options.device)
    device = ({} if missing(options.device) else facts(options.device)) | {"peak_tflops": peak}
    result: dict[str, Any] = {"passed": False, "environment": asdict(environment), "device": device}
    result |= {"rows": [], "bars": [], "lacking": lacking, "failed": []}
    for name in options.presets:
        with tempfile.TemporaryDirectory(prefix="edgead-headline-") as folder:
            try:
                preset = Preset(name, Path(folder))
            except Exception as err:
                result["failed"].append(f"{name}: {err}")
                continue
            for batch in options.batches:
                fit = targets
                if batch > 1 and preset.detector.name in ONE_AT_A_TIME:
                    fit = [target for target in targets if target.engine == "torch"]
                    lacking.append(f"{name}, batch {batch}: its lowered graph takes one image, torch only")
                rows, failed = measure(preset, batch, fit, options, peak)
                result["rows"] += rows
                result["failed"] += failed
        result["bars"] = judge(result["rows"], peak, options)
        missed = any(bar["verdict"] == "missed" for bar in result["bars"])
        result["passed"] = not missed and not result["failed"]
        if options.out is not None:
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / "gpu_headline.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")
            (options.out / "gpu_headline.md").write_text(table(result), "utf-8")
    print(json.dumps(result, indent=2) if options.json else table(result))
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
