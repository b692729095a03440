"""The windowed search in libedgead against the same search in OpenVINO and in torch, on one thread.

    python benchmarks/suites/window_search.py [--json] [--rounds 20] [--max-gib 4] [--cpu-time]

CPR's sizes: queries of 80×80 (window 3) and 40×40 (window 1) of D values, K = 10 references of a bank of N,
summed, up-sampled to 320×320 and weighted. Sides: libedgead's head on banks of fp32, fp16 and int8, N = 200
and 1,600; `slices`, OpenVINO on the static graph (references gathered, nine slices multiplied and summed), as
graph.onnx has it; `im2col`, torch on unfolded references, one at a time. The graphs hold the bank's first 20
references only, which is kind to them. Every run takes other references, so that they come from memory. All
sides run in turn in each round; the figures are medians. Banks larger than --max-gib are left out and named.
--cpu-time counts the process's CPU time, for machines with other work to do.
Bars: the fp32 head is ≥ 5 × as fast as im2col for each D; N = 1,600 takes ≤ 1.3 × as long as N = 200 for each
bank; the fp32 head is ≤ 1e-5 of the map's range from the graph. Exits with 1 when one is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from edgead._native.window_search import WindowSearch
from edgead.benchmarks.environment import record
from edgead.runtimes._openvino import openvino

IM2COL_BAR, GROWTH_BAR, ERROR_BAR = 5.0, 1.3, 1e-5
DIMS, COUNTS, NEAREST, IN_GRAPH = (16, 64, 384), (200, 1600), 10, 20
LEVELS, GRID = ((80, 3), (40, 1)), 320  # side, window
TYPES = {"fp32": np.float32, "fp16": np.float16, "int8": np.int8}
SEED = 20261125
Floats = npt.NDArray[np.float32]
Side = Callable[[npt.NDArray[np.int32]], Floats]


def units(random: np.random.Generator, shape: tuple[int, ...], axis: int) -> Floats:
    """Random vectors of length 1 along `axis`."""
    values = random.standard_normal(shape, np.float32)
    return values / np.linalg.norm(values, axis=axis, keepdims=True)


def bank_of(some: Floats, count: int, kind: str) -> npt.NDArray[np.generic]:
    """(count, side, D, side): the references of `some` again and again, each with memory of its own."""
    stored = np.rint(some * 127).astype(np.int8) if kind == "int8" else some.astype(TYPES[kind])
    return np.ascontiguousarray(np.resize(stored, (count, *stored.shape[1:])))


def head(banks: list[npt.NDArray[np.generic]], queries: list[Floats], weight: Floats) -> Side:
    """The search in libedgead."""
    search = WindowSearch(
        banks, [window for _, window in LEVELS], nearest=NEAREST, grid=(GRID, GRID), weighted=True
    )
    out = np.empty((GRID, GRID), np.float32)

    def run(references: npt.NDArray[np.int32]) -> Floats:
        search.run(queries, references, weight, out=out)
        return out

    return run


def slices(some: list[Floats], queries: list[Floats], weight: Floats) -> Side:
    """The static graph, in OpenVINO: the bank edge-replicated, so that no mask is needed."""
    package = openvino()
    ops: Any = package.opset13
    indices = ops.parameter([NEAREST], np.int32, name="references")
    inputs = [ops.parameter([1, *query.shape], np.float32) for query in queries]
    weigh = ops.parameter([1, 1, *weight.shape], np.float32)
    total = None
    for (side, window), bank, query in zip(LEVELS, some, inputs, strict=True):
        radius = window // 2
        edges = ((0, 0), (0, 0), (radius, radius), (radius, radius))
        constant = ops.constant(np.pad(bank.transpose(0, 2, 1, 3), edges, mode="edge"))
        near = ops.gather(constant, indices, np.int32(0))
        best = None
        for dy in range(window):
            for dx in range(window):
                cut = ops.slice(near, [dy, dx], [dy + side, dx + side], [1, 1], [2, 3]) if radius else near
                product = ops.reduce_sum(ops.multiply(cut, query), [1], True)
                largest = ops.reduce_max(product, [0], True)
                best = largest if best is None else ops.maximum(best, largest)
        norm = ops.sqrt(ops.reduce_sum(ops.multiply(query, query), [1], True))
        distance = ops.subtract(np.float32(1), ops.divide(best, ops.add(norm, np.float32(1e-8))))
        total = distance if total is None else ops.add(total, resize(ops, distance, LEVELS[0][0]))
    result = ops.multiply(resize(ops, total, GRID), resize(ops, weigh, GRID))
    model = package.Model([ops.result(result)], [indices, *inputs, weigh], "slices")
    config = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": 1,
    }
    request = package.Core().compile_model(model, "CPU", config).create_infer_request()
    for index, query in enumerate(queries):
        request.set_input_tensor(index + 1, package.Tensor(query[None]))
    request.set_input_tensor(len(queries) + 1, package.Tensor(weight[None, None]))

    def run(references: npt.NDArray[np.int32]) -> Floats:
        request.set_input_tensor(0, package.Tensor(references))
        request.infer()
        found: Floats = request.get_output_tensor().data[0, 0]
        return found

    return run


def resize(ops: Any, values: Any, side: int) -> Any:
    """Bilinear, half-pixel centres."""
    return ops.interpolate(
        values,
        np.array([side, side]),
        "linear_onnx",
        "sizes",
        axes=np.array([2, 3]),
        coordinate_transformation_mode="half_pixel",
    )


def im2col(some: list[Floats], queries: list[Floats], weight: Floats) -> Side:
    """Windows unfolded, outside cells masked, as the official code does; one reference at a time."""
    banks = [torch.from_numpy(np.ascontiguousarray(bank.transpose(0, 2, 1, 3))) for bank in some]
    tensors, weigh = [torch.from_numpy(query) for query in queries], torch.from_numpy(weight)

    def distance(level: int, references: npt.NDArray[np.int32]) -> torch.Tensor:
        (side, window), query = LEVELS[level], tensors[level]
        columns = query.reshape(query.shape[0], 1, side * side)
        ones = functional.unfold(torch.ones(1, 1, side, side), window, padding=window // 2)[0]
        best = torch.full((side * side,), -torch.inf)
        for index in references:
            unfolded = functional.unfold(banks[level][int(index)][None], window, padding=window // 2)[0]
            products = (unfolded.view(query.shape[0], window * window, -1) * columns).sum(0)
            best = torch.maximum(best, products.masked_fill(ones == 0, -torch.inf).amax(0))
        return (1 - best / (columns[:, 0].norm(dim=0) + 1e-8)).view(1, 1, side, side)

    def larger(values: torch.Tensor, side: int) -> torch.Tensor:
        return functional.interpolate(values, size=(side, side), mode="bilinear", align_corners=False)

    def run(references: npt.NDArray[np.int32]) -> Floats:
        total = distance(0, references)
        for level in range(1, len(LEVELS)):
            total = total + larger(distance(level, references), LEVELS[0][0])
        found: Floats = (larger(total, GRID) * larger(weigh[None, None], GRID))[0, 0].numpy()
        return found

    return run


def gib(dim: int, count: int, kind: str) -> float:
    """Of the banks of both levels."""
    return count * dim * sum(side * side for side, _ in LEVELS) * np.dtype(TYPES[kind]).itemsize / 2**30


def measure(dim: int, rounds: int, most_gib: float, clock: Callable[[], int]) -> dict[str, Any]:
    """Times, ratios and errors for descriptors of `dim` values."""
    random = np.random.default_rng(SEED)
    some = [units(random, (IN_GRAPH, side, dim, side), 2) for side, _ in LEVELS]
    queries = [random.standard_normal((dim, side, side), np.float32) for side, _ in LEVELS]
    weight = random.random((LEVELS[0][0], LEVELS[0][0]), np.float32)
    graphs: dict[str, Side] = {
        "slices": slices(some, queries, weight),
        "im2col": im2col(some, queries, weight),
    }
    with torch.inference_mode():
        times: dict[str, list[int]] = {}
        left_out = []
        first = np.arange(NEAREST, dtype=np.int32)
        exact = graphs["slices"](first).copy()
        errors = {"im2col": error(graphs["im2col"](first), exact)}
        for kind in TYPES:
            heads: dict[str, Side] = {}
            for count in COUNTS:
                if gib(dim, count, kind) > most_gib:
                    left_out.append(f"{kind} N = {count} ({gib(dim, count, kind):.1f} GiB)")
                    continue
                banks = [bank_of(bank, count, kind) for bank in some]
                heads[f"{kind} {count}"] = head(banks, queries, weight)
                errors[f"{kind} {count}"] = error(heads[f"{kind} {count}"](first), exact)
            alongside = graphs if kind == "fp32" else {}
            run_in_turn({**heads, **alongside}, rounds, random, clock, times)
    medians = {name: float(np.median(values)) / 1e6 for name, values in times.items()}
    growth = {
        kind: medians[f"{kind} {COUNTS[1]}"] / medians[f"{kind} {COUNTS[0]}"]
        for kind in TYPES
        if f"{kind} {COUNTS[1]}" in medians and f"{kind} {COUNTS[0]}" in medians
    }
    fp32 = medians.get(f"fp32 {COUNTS[0]}")
    faster = {name: medians[name] / fp32 for name in graphs} if fp32 else {}
    passed = (
        faster.get("im2col", IM2COL_BAR) >= IM2COL_BAR
        and all(value <= GROWTH_BAR for value in growth.values())
        and all(value <= ERROR_BAR for name, value in errors.items() if not name.startswith(("fp16", "int8")))
    )
    return {
        "dim": dim,
        "median_ms": medians,
        "error": errors,
        "growth": growth,
        "times_faster": faster,
        "left_out": left_out,
        "passed": passed,
    }


def error(found: Floats, exact: Floats) -> float:
    """Largest difference, as a share of the map's range."""
    return float(np.abs(found - exact).max() / np.ptp(exact))


def run_in_turn(
    sides: Mapping[str, Side],
    rounds: int,
    random: np.random.Generator,
    clock: Callable[[], int],
    times: dict[str, list[int]],
) -> None:
    """Each side once per round, each time on other references, the same distance apart in every bank."""
    for side in sides:
        times[side] = []
    for turn in range(rounds + 1):
        for name, side in sides.items():
            count = int(name.split()[1]) if " " in name else IN_GRAPH
            references = random.permutation(count)[:NEAREST].astype(np.int32)
            begin = clock()
            side(references)
            if turn > 0:  # the first one warms up
                times[name].append(clock() - begin)


def show(result: dict[str, Any]) -> None:
    """One D as a table."""
    print(f"\nD = {result['dim']}, K = {NEAREST}, one thread")
    print(f"{'':12} {'median ms':>10} {'error/range':>12}")
    for name, ms in result["median_ms"].items():
        shift = f"{result['error'][name]:12.1e}" if name in result["error"] else f"{'':12}"
        print(f"{name:12} {ms:10.3f} {shift}")
    for name, ratio in result["times_faster"].items():
        print(f"head, fp32, N = {COUNTS[0]}: {ratio:.1f} × as fast as {name}")
    for kind, ratio in result["growth"].items():
        print(f"{kind}: N = {COUNTS[1]} takes {ratio:.2f} × as long as N = {COUNTS[0]}")
    if result["left_out"]:
        print(f"left out, larger than --max-gib: {', '.join(result['left_out'])}")


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="libedgead's windowed search against OpenVINO and torch")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--max-gib", type=float, default=4.0, help="largest bank that is measured")
    parser.add_argument("--dims", type=int, nargs="+", default=list(DIMS))
    parser.add_argument("--cpu-time", action="store_true", help="count CPU time, not wall time")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: use at least 1")

    torch.set_num_threads(1)
    environment = record()
    clock = time.process_time_ns if options.cpu_time else time.perf_counter_ns
    results = [measure(dim, options.rounds, options.max_gib, clock) for dim in options.dims]
    passed = all(result["passed"] for result in results)
    if options.json:
        print(json.dumps({"cases": results, "passed": passed, "environment": asdict(environment)}, indent=2))
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
