"""libedgead's bank search against the same search as an OpenVINO graph and in faiss.

    python benchmarks/suites/bank_search.py [--json] [--rounds 20] [--threads 2] [--growth 1000 4000 …]

M = 1,024 queries; banks of 1,000 to 65,536 × 152 and of 20,480 × 1,536; each round takes other queries. Kinds
of values: `features` (correlated, as of a network), `heavy` (Cauchy) and `far` (outliers: 1,000 times the
features; the first 64 queries only, since nearly all vectors are nearly equally near). Sides: `edgead`;
`openvino`, fp32, |q|² − 2·q·bᵀ + |b|², TopK, Sqrt; `faiss`, IndexFlatL2, where faiss-cpu is installed. All
sides run in turn in each round; the figures are medians and least ones. A mismatch is a neighbour that is
farther, in float64, than the nearest. --growth: banks of 152 values of these sizes, edgead alone.
Bars, on `features` of 16,384 × 152 and 20,480 × 1,536: ≥ 3 × as fast as OpenVINO, ≥ 2.5 × as fast as faiss;
no mismatch anywhere. Exits with 1 when one is missed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from edgead._native.bank_search import BankSearch
from edgead.benchmarks.environment import record
from edgead.runtimes._openvino import openvino

BARS = {"openvino": 3.0, "faiss": 2.5}
CASES = ((1000, 152), (4000, 152), (16384, 152), (65536, 152), (20480, 1536))
JUDGED = ((16384, 152), (20480, 1536))
QUERIES, FAR_QUERIES, SETS, SEED = 1024, 64, 4, 20261125
GROWTH = (1000, 4000, 16000, 64000, 256000, 1000000)
PEAK_GOPS = 448  # int8, of one core of the machine that the bars are for
Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.integer]
Side = Callable[[Floats], Indices]


def drawn(random: np.random.Generator, kind: str, mixing: Floats, count: int) -> Floats:
    """(count, D) values of a kind."""
    dim = mixing.shape[1]
    if kind == "heavy":
        return random.standard_cauchy((count, dim)).clip(-1e6, 1e6).astype(np.float32)
    hidden = random.standard_normal((count, len(mixing)), np.float32)
    return hidden @ mixing + np.float32(0.5) * random.standard_normal((count, dim), np.float32)


def edgead_side(bank: Floats, threads: int) -> Side:
    """The search in libedgead."""
    search = BankSearch(bank, queries=QUERIES, threads=threads)
    indices, distances = np.empty(QUERIES, np.int32), np.empty(QUERIES, np.float32)

    def run(queries: Floats) -> Indices:
        count = len(queries)
        search.run(queries, indices=indices[:count], distances=distances[:count])
        return indices[:count].copy()

    return run


def openvino_side(bank: Floats, threads: int) -> Side:
    """The static graph in OpenVINO."""
    package = openvino()
    ops: Any = package.opset13
    queries = ops.parameter([QUERIES, bank.shape[1]], np.float32)
    product = ops.matmul(queries, ops.constant(bank), False, True)
    own = ops.reduce_sum(ops.multiply(queries, queries), [1], True)
    theirs = ops.constant(np.square(bank).sum(1)[None])
    squares = ops.add(ops.subtract(own, ops.multiply(product, np.float32(2))), theirs)
    best = ops.topk(ops.sqrt(ops.relu(squares)), np.int32(1), 1, "min", "value")
    model = package.Model([best.output(0), best.output(1)], [queries], "bank")
    config = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
    }
    request = package.Core().compile_model(model, "CPU", config).create_infer_request()

    def run(queries: Floats) -> Indices:
        request.set_input_tensor(0, package.Tensor(queries))
        request.infer()
        found: Indices = request.get_output_tensor(1).data[:, 0]
        return found

    return run


def faiss_side(bank: Floats, threads: int) -> Side:
    """Exact flat index of faiss."""
    faiss = importlib.import_module("faiss")
    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatL2(bank.shape[1])
    index.add(bank)

    def run(queries: Floats) -> Indices:
        found: Indices = index.search(queries, 1)[1][:, 0]
        return found

    return run


def mismatches(bank: Floats, queries: Floats, found: Indices) -> int:
    """How many neighbours are farther than the nearest, in float64."""
    wide = bank.astype(np.float64)
    wrong = 0
    for query, index in zip(queries.astype(np.float64), found, strict=True):
        squares = np.square(wide - query).sum(1)
        wrong += int(squares[index] > squares.min() * (1 + 1e-13))
    return wrong


def measure(kind: str, count: int, dim: int, rounds: int, threads: int, sides: list[str]) -> dict[str, Any]:
    """Times, ratios and mismatches of one bank."""
    random = np.random.default_rng(SEED)
    mixing = random.standard_normal((24, dim), np.float32)
    bank = drawn(random, kind, mixing, count)
    sets = [drawn(random, kind, mixing, QUERIES) for _ in range(SETS)]
    if kind == "far":
        sets, sides = [one[:FAR_QUERIES] * np.float32(1000) for one in sets], ["edgead"]
    makers = {"edgead": edgead_side, "openvino": openvino_side, "faiss": faiss_side}
    running = {name: makers[name](bank, threads) for name in sides}
    times: dict[str, list[int]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        queries = sets[turn % SETS]
        for name, side in running.items():
            begin = time.perf_counter_ns()
            side(queries)
            if turn > 0:  # the first one warms up
                times[name].append(time.perf_counter_ns() - begin)
    least = {name: min(values) / 1e6 for name, values in times.items()}
    medians = {name: float(np.median(values)) / 1e6 for name, values in times.items()}
    checked = np.ascontiguousarray(sets[0][:: max(1, len(sets[0]) // 64)])
    wrong = mismatches(bank, checked, running["edgead"](checked))
    faster = {name: medians[name] / medians["edgead"] for name in sides if name != "edgead"}
    judged = kind == "features" and (count, dim) in JUDGED
    return {
        "kind": kind,
        "vectors": count,
        "dim": dim,
        "queries": len(sets[0]),
        "median_ms": medians,
        "min_ms": least,
        "times_faster": faster,
        "gops": 2e-6 * len(sets[0]) * count * dim / medians["edgead"],
        "mismatches": wrong,
        "passed": wrong == 0 and (not judged or all(ratio >= BARS[name] for name, ratio in faster.items())),
    }


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="libedgead's bank search against OpenVINO and faiss")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--cases",
        type=int,
        nargs="+",
        default=list(range(len(CASES))),
        help="; ".join(f"{case}: {count:,} × {dim:,}" for case, (count, dim) in enumerate(CASES)),
    )
    parser.add_argument("--growth", type=int, nargs="*", default=list(GROWTH))
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: use at least 1")

    environment = asdict(record())
    sides = ["edgead", "openvino"] + (["faiss"] if importlib.util.find_spec("faiss") else [])
    results = [
        measure(kind, *CASES[case], options.rounds, options.threads, sides)
        for case in options.cases
        for kind in ("features", "heavy", "far")
    ]
    growth = [
        measure("features", count, 152, min(options.rounds, 5), options.threads, ["edgead"])
        for count in options.growth
    ]
    passed = all(result["passed"] for result in [*results, *growth])
    if options.json:
        found = {"cases": results, "growth": growth, "passed": passed, "environment": environment}
        print(json.dumps(found, indent=2))
        return 0 if passed else 1
    for name, value in environment.items():
        print(f"{name:15} {value}")
    for result in [*results, *growth]:
        print(f"\n{result['queries']} {result['kind']} × {result['vectors']:,} × {result['dim']}:")
        for name, ms in result["median_ms"].items():
            ratio = result["times_faster"].get(name)
            least = f"(min {result['min_ms'][name]:.2f})"
            faster = f"  edgead is {ratio:.1f} × as fast" if ratio else ""
            print(f"  {name:10} {ms:10.2f} ms {least:15}{faster}")
        share = result["gops"] / PEAK_GOPS
        print(
            f"  brute force would take {result['gops']:.0f} GOP/s, {share:.0%} of a core's int8 peak; "
            f"{result['mismatches']} mismatches"
        )
    print("passed" if passed else "FAILED")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
