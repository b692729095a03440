"""Large convolutions with fewer products against OpenVINO's own, the network alone, in turn.

    python benchmarks/suites/fast_convolution.py [PRESET …] [--rounds 25] [--threads 2] [--sweep] [--json]

Each preset's untrained network (a backbone has its weights where they are here) is exported twice, as
`edgead export --convolutions plain` and `fast` do, and one image goes through both in turn, in fp32 and,
where the CPU has it, bf16. Figures are medians, and the median of the pairs' ratios; errors are root
mean squares over the deviation of plain fp32's map. Bars: `efficientad` and `efficientad_m` ≥ 1.4 × as fast,
nothing slower than 0.97 ×, fp32 within 1e-5 of the map's range. --sweep: three convolutions of one size in a
row, all replaced: what the limits in `exporters/_minimal_filters.py` come from; reported, no bar. Exits with
1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from int8_latency import untrained
from int8_peers import in_turn

from edgead.benchmarks.environment import record
from edgead.discovery import load as load_plugin
from edgead.exporters._fast_convolution import replace_convolutions
from edgead.exporters._minimal_filters import FORMS, gain
from edgead.exporters.onnx_exporter import export_graph
from edgead.exporters.openvino_exporter import OpenVINOExporter
from edgead.runtimes._openvino import openvino
from edgead.types import Target

PRESET_BARS = {"efficientad": 1.4, "efficientad_m": 1.4}
SHOWN = (
    *PRESET_BARS,
    "simplenet_wrn50",
    "reverse_distillation_wrn50",
    "stfpm_resnet18",
    "fastflow_resnet18",
)
SLOWER_BAR, ERROR_BAR = 0.97, 1e-5
CHANNELS = ((64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (512, 512))
SIDES = (16, 24, 32, 48, 64, 128)
MOST = 2 * 256**2 * 64**2  # products of one tap
Run = Callable[[Any], "np.ndarray[Any, Any]"]


def ready(model: Any, precision: str, threads: int) -> Run:
    """A model, compiled, to be run on one fixed image."""
    config = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        **({"INFERENCE_NUM_THREADS": threads} if threads else {}),
    }
    package, rng = openvino(), np.random.default_rng(0)
    compiled = package.Core().compile_model(model, "CPU", config)
    request, given = compiled.create_infer_request(), compiled.input(0)
    shape = list(given.get_shape())
    if given.get_element_type().get_type_name() == "u8":
        request.set_input_tensor(package.Tensor(rng.integers(0, 256, shape, dtype=np.uint8)))
    else:
        request.set_input_tensor(package.Tensor(rng.random(shape, np.float32)))

    def run(_: Any) -> np.ndarray[Any, Any]:
        request.infer()
        result: np.ndarray[Any, Any] = request.get_output_tensor().data
        return result

    return run


def compare(runs: Mapping[str, Run], rounds: int) -> dict[str, float]:
    """Medians in ms, and that of the pairs' ratios; `runs` are "plain" and "fast"."""
    found = in_turn(dict(runs), "fast", [None], rounds)
    times = {name: row["p50_ms"] for name, row in found.items()}
    return {**times, "ratio": found["plain"]["ratio"]}


def preset_rows(preset: str, precisions: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Per precision: times and errors."""
    detector, _ = untrained(preset)
    lowering = load_plugin("edgead.exporters.lowering", detector.name, kind="lowering")
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="edgead-fast-") as folder:
        work = Path(folder)
        graph = export_graph(
            lowering.lower(detector), detector.geometry.input_size, work / "graph.onnx", metadata={}
        ).path
        files = {}
        for form in ("plain", "fast"):
            exporter = OpenVINOExporter()
            exporter.fast = form == "fast"
            files[form] = exporter.compile(graph, Target("openvino", "fp32"), work / form).main_file
        exact = ready(files["plain"], "fp32", options.threads)(None).copy()
        for precision in precisions:
            runs = {form: ready(path, precision, options.threads) for form, path in files.items()}
            off = {form: run(None) - exact for form, run in runs.items()}
            rows[precision] = {
                **compare(runs, options.rounds),
                "error": {
                    form: float(np.sqrt(np.square(one).mean() / exact.var())) for form, one in off.items()
                },
                "of_range": float(np.abs(off["fast"]).max() / np.ptp(exact)),
            }
    return rows


def single(taps: int, channels: tuple[int, int], side: int) -> Any:
    """Three convolutions behind each other, there and back between the numbers of channels."""
    ops, rng = openvino().opset13, np.random.default_rng(0)
    image = ops.parameter([1, channels[0], side, side], np.float32)
    value, pad = image, [1, 1] if taps == 3 else [0, 0]
    for inputs, outputs in (channels, channels[::-1], channels):
        shape = (outputs, inputs, taps, taps)
        weight = (rng.standard_normal(shape) / (inputs**0.5 * taps)).astype(np.float32)
        bias = rng.standard_normal((1, outputs, 1, 1)).astype(np.float32)
        made = ops.convolution(value, ops.constant(weight), [1, 1], pad, pad, [1, 1])
        value = ops.relu(ops.add(made, ops.constant(bias)))
    return openvino().Model([ops.reduce_sum(value, np.array([1]), True)], [image])


def sweep(precisions: list[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every size on its own."""
    rows = []
    for taps in FORMS:
        for channels in CHANNELS:
            for side in SIDES:
                if channels[0] * channels[1] * side**2 > MOST:
                    continue
                shape = (channels[1], channels[0], taps, taps)
                row: dict[str, Any] = {"taps": taps, "channels": channels, "side": side}
                row["saved_per_moved"], row["saved"] = gain(shape, side**2)
                for precision in precisions:
                    models = {form: single(taps, channels, side) for form in ("plain", "fast")}
                    replace_convolutions(models["fast"], lambda _: True)
                    row[precision] = compare(
                        {form: ready(model, precision, options.threads) for form, model in models.items()},
                        options.rounds,
                    )
                rows.append(row)
    return rows


def misses(found: Mapping[str, Any]) -> list[str]:
    """What is over its bar, in words."""
    failures = []
    for preset, rows in found.items():
        bar = PRESET_BARS.get(preset, SLOWER_BAR)
        for precision, row in rows.items():
            if row["ratio"] < bar:
                failures.append(f"{preset} {precision}: {row['ratio']:.3f} × as fast, bar {bar} ×")
        if not rows["fp32"]["of_range"] <= ERROR_BAR:
            failures.append(f"{preset}: {rows['fp32']['of_range']:.1e} of the range, bar {ERROR_BAR:g}")
    return failures


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("presets", nargs="*", default=list(SHOWN))
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, default=0, help="0 = the engine's own choice")
    parser.add_argument("--sweep", action="store_true", help="single convolutions instead of presets")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    environment = record()
    precisions = ["fp32", *(["bf16"] if environment.has_bf16 else [])]
    singles = sweep(precisions, options) if options.sweep else []
    found = (
        {} if options.sweep else {name: preset_rows(name, precisions, options) for name in options.presets}
    )
    failures = misses(found)
    if options.json:
        values = {
            "environment": asdict(environment),
            "presets": found,
            "sweep": singles,
            "failures": failures,
        }
        print(json.dumps(values, indent=2))
        return 1 if failures else 0
    print(f"{environment.cpu}, {environment.usable_cores} cores, {environment.packages}")
    for preset, rows in found.items():
        for precision, row in rows.items():
            print(
                f"{preset:28} {precision}: {row['plain']:8.2f} ms plain, {row['fast']:8.2f} ms fast, "
                f"{row['ratio']:.3f} ×; error {row['error']['plain']:.1e} and {row['error']['fast']:.1e}"
            )
    for row in singles:
        ratios = "  ".join(
            f"{name} {row[name]['plain']:7.2f} ms {row[name]['ratio']:5.2f} ×" for name in precisions
        )
        print(
            f"{row['taps']} × {row['taps']}, {row['channels']} channels, {row['side']:3} pixels: saved "
            f"{row['saved_per_moved']:4.0f} per value moved, {row['saved'] / 1e6:6.0f} million; {ratios}"
        )
    print("\n".join(failures) or "all bars held")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
