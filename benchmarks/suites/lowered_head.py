"""SimpleNet's lowered head against its straightforward head, both as ONNX graphs in the same engine.

    python benchmarks/suites/lowered_head.py [--json] [--forms]

Straightforward: patches unfolded, averaged to the embedding, up-sampled, two linear layers, as the detector
computes them. Lowered: `exporters/lowering/simplenet.py`. Whole graphs (image to map) and heads alone
(backbone features to map), with random weights, which cost the same as trained ones. Multiply-accumulates
(MACs) are counted in the exported graphs: convolutions and matrix products, means and up-sampling not. All
sides run in turn in each round; the figures are medians over all rounds. --forms times every exact form of
each tap's affine map, to show whether the cheapest by MACs, which lowering takes, is the fastest.
--cpu-time counts the process's CPU time, for machines with other work to do (use it with --threads 1).
Bar: the lowered head has at most 1/2.5 of the MACs. Exits with 1 when it is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from edgead.benchmarks.environment import record
from edgead.detectors._presets import PRESETS
from edgead.detectors.simplenet import SimpleNet
from edgead.exporters.lowering._patch_affine import forms, poolings
from edgead.exporters.lowering.simplenet import LoweredSimpleNet, affine, lower
from edgead.exporters.onnx_exporter import trace
from edgead.exporters.openvino_exporter import OpenVINOExporter
from edgead.runtimes._openvino import openvino
from edgead.types import Target

MACS_BAR = 2.5
ERROR_BAR = 1e-5  # of the map's range, fp32
SEED = 20261123
ENGINES = ("openvino:fp32", "openvino:bf16", "onnxruntime:fp32")
Run = Callable[[], "np.ndarray[Any, Any]"]


class StraightHead(nn.Module):
    """Everything after the backbone, as the detector computes it."""

    def __init__(self, detector: SimpleNet) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, *taps: Tensor) -> Tensor:
        """(N, C_i, h_i, w_i) per tap to (N, 1, h, w)."""
        embedded = self.detector.embedding(taps)
        count, rows, cols, dim = embedded.shape
        hidden = self.detector.projection(embedded.reshape(-1, dim))
        return -self.detector.discriminator(hidden).view(count, 1, rows, cols)


class LoweredHead(nn.Module):
    """The same of the lowered detector."""

    def __init__(self, lowered: LoweredSimpleNet) -> None:
        super().__init__()
        self.branches, self.tail, self.slope = lowered.branches, lowered.tail, lowered.slope
        self.head = lowered.head

    def forward(self, *taps: Tensor) -> Tensor:
        """(N, C_i, h_i, w_i) per tap to (N, 1, h, w)."""
        return self.head(taps)


class Map(nn.Module):
    """The map alone of a detector's output."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: Tensor) -> Tensor:
        """(N, H, W, 3) to (N, 1, h, w)."""
        anomaly_map: Tensor = self.module(image).anomaly_map
        return anomaly_map


def macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of the graph's Conv, Gemm and MatMul nodes."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {entry.name: list(entry.dims) for entry in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        shapes[value.name] = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    total = 0
    for node in graph.node:
        out = int(np.prod(shapes[node.output[0]])) if node.output[0] in shapes else 0
        if node.op_type == "Conv":
            total += out * int(np.prod(shapes[node.input[1]][1:]))
        elif node.op_type in ("Gemm", "MatMul"):
            rows, cols = shapes[node.input[1]]
            total += out * (rows * cols // shapes[node.output[0]][-1])
    return total


def engine_run(engine: str, path: Path, inputs: Mapping[str, Tensor], threads: int) -> Run:
    """The graph as it ships for an engine, ready to be run on fixed inputs."""
    arrays = {name: value.numpy() for name, value in inputs.items()}
    if engine.startswith("openvino"):
        hint = {"fp32": "f32", "bf16": "bf16"}[engine.split(":")[1]]
        config = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        made = OpenVINOExporter().compile(path, Target.parse(engine), path.with_suffix(""))
        package = openvino()
        compiled = package.Core().compile_model(made.main_file, "CPU", config)
        request = compiled.create_infer_request()
        for name, array in arrays.items():
            request.set_tensor(name, package.Tensor(array))

        def run_openvino() -> np.ndarray[Any, Any]:
            request.infer()
            result: np.ndarray[Any, Any] = request.get_output_tensor().data
            return result

        return run_openvino
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run_onnxruntime() -> np.ndarray[Any, Any]:
        result: np.ndarray[Any, Any] = session.run(None, arrays)[0]
        return result

    return run_onnxruntime


def median_ms(runs: Mapping[str, Run], rounds: int, clock: Callable[[], int]) -> dict[str, float]:
    """Every side once untimed and once timed per round, in turn."""
    times: dict[str, list[int]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            run()
            begin = clock()
            run()
            times[name].append(clock() - begin)
    return {name: float(np.median(values)) / 1e6 for name, values in times.items()}


def compare(
    modules: Mapping[str, nn.Module], inputs: Mapping[str, Tensor], options: argparse.Namespace
) -> dict[str, Any]:
    """MACs, and per engine the times and the largest difference to the first module's map in torch."""
    clock = time.process_time_ns if options.cpu_time else time.perf_counter_ns
    with torch.inference_mode():
        expected = next(iter(modules.values()))(*inputs.values()).numpy()
    result: dict[str, Any] = {"macs": {}, "engines": {}}
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{index}.onnx" for index, name in enumerate(modules)}
        for name, module in modules.items():
            model = trace(module, inputs, ["anomaly_map"], {})
            result["macs"][name] = macs(model)
            onnx.save(model, paths[name])
        for engine in ENGINES:
            runs = {name: engine_run(engine, path, inputs, options.threads) for name, path in paths.items()}
            errors = {
                name: float(np.abs(run() - expected).max() / np.ptp(expected)) for name, run in runs.items()
            }
            result["engines"][engine] = {"ms": median_ms(runs, options.rounds, clock), "error": errors}
    return result


def random_detector(preset: str) -> SimpleNet:
    """Random weights, and batch norm statistics that keep the features' spread, as trained ones do."""
    torch.manual_seed(SEED)
    detector = SimpleNet.from_config(PRESETS[preset]["config"])
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2.0)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    return detector.eval()


def measure(preset: str, options: argparse.Namespace) -> dict[str, Any]:
    """One preset: whole graph and head alone, and the forms of each tap where asked."""
    detector = random_detector(preset)
    lowered = lower(detector)
    image = torch.randint(0, 256, (1, *detector.geometry.input_size, 3), dtype=torch.uint8)
    with torch.inference_mode():
        taps = detector.backbone(detector.backbone.normalise(image))
    features = {f"tap{index}": tap.clone() for index, tap in enumerate(taps)}
    parts = {
        "whole": compare(
            {"straight": Map(detector).eval(), "lowered": Map(lowered).eval()}, {"image": image}, options
        ),
        "head": compare(
            {"straight": StraightHead(detector).eval(), "lowered": LoweredHead(lowered).eval()},
            features,
            options,
        ),
    }
    ratio = parts["head"]["macs"]["straight"] / parts["head"]["macs"]["lowered"]
    exact = all(
        error <= ERROR_BAR
        for part in parts.values()
        for engine, values in part["engines"].items()
        if engine.endswith("fp32")
        for error in values["error"].values()
    )
    result: dict[str, Any] = {"preset": preset, **parts, "macs_ratio": ratio}
    result["passed"] = ratio >= MACS_BAR and exact
    if options.forms:
        result["forms"] = {
            name: compare(every_form(detector, index), {"features": tap}, options)
            for index, (name, tap) in enumerate(features.items())
        }
    return result


def every_form(detector: SimpleNet, tap: int) -> dict[str, nn.Module]:
    """The forms of one tap's affine map by name, fewest MACs first."""
    mixing, _ = affine(detector)
    found = forms(mixing, poolings(detector.backbone, detector.config)[tap], detector.config.patch_size)
    return {form.name: form.layers.float().eval() for form in found}


def show(result: dict[str, Any]) -> None:
    """One preset as a table."""
    print(f"\n{result['preset']}: head {result['macs_ratio']:.2f}× fewer MACs (bar {MACS_BAR:g}×)")
    tables = {"whole": result["whole"], "head": result["head"], **result.get("forms", {})}
    columns = f"{'MMACs':>9} {'median ms':>10} {'first/this':>11} {'error/range':>12}"
    print(f"{'':8} {'engine':18} {'side':10} {columns}")
    for part, table in tables.items():
        for engine, values in table["engines"].items():
            first = next(iter(values["ms"].values()))
            for side, ms in values["ms"].items():
                print(
                    f"{part:8} {engine:18} {side:10} {table['macs'][side] / 1e6:9.1f} {ms:10.3f} "
                    f"{first / ms:10.2f}× {values['error'][side]:12.1e}"
                )


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="SimpleNet's lowered head against its straightforward head")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--forms", action="store_true", help="time every exact form of each tap's affine map")
    parser.add_argument("--cpu-time", action="store_true", help="count CPU time, not wall time")
    parser.add_argument("--threads", type=int, default=0, help="0 = the engine's own choice")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--preset", action="append", choices=sorted(PRESETS), help="may be repeated")
    options = parser.parse_args()
    if options.rounds < 1 or options.threads < 0:
        parser.error(f"--rounds {options.rounds} --threads {options.threads}: at least 1 and 0")

    environment = record()
    results = [measure(preset, options) for preset in options.preset or ("simplenet", "simplenet_wrn50")]
    passed = all(result["passed"] for result in results)
    if options.json:
        everything = {"presets": results, "passed": passed, "environment": asdict(environment)}
        print(json.dumps(everything, indent=2))
    else:
        for name, value in asdict(environment).items():
            print(f"{name:15} {value}")
        print(f"{'clock':15} {'CPU time of the process' if options.cpu_time else 'wall'}")
        for result in results:
            show(result)
        print("passed" if passed else "FAILED")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
