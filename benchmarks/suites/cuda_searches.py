"""The CUDA searches against libedgead's for the CPU: the same neighbours and maps, and how fast.

    python benchmarks/suites/cuda_searches.py [--rounds 30] [--images 1 16] [--json]

On an NVIDIA GPU: the bank search (1,024 queries × 16,384 × 152 and × 20,480 × 1,536) and CPR's windowed
search (80×80 and 40×40 cells, 10 of 32 references, D = 16 in fp32 and int8, 64 and 384 in fp16). Each is
recorded as one CUDA graph and timed on the device; the CPU's times are of one image and one thread. TFLOP/s
count one multiplication and one addition per value that the definition compares. Inputs are random, seeded.

Bars: no index and no distance of the bank search differs from libedgead's, a map of the windowed search by at
most 1e-6 of its range. Exits with 1 when one is missed. Without a GPU it says so; `cuda_kernels.py` prints
what the kernels take of a multiprocessor.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from cuda_kernels import SEED, Case, measure

from edgead._native.bank_search import BankSearch
from edgead._native.window_search import WindowSearch
from edgead.benchmarks.environment import record
from edgead.runtimes.cuda._device import Device, constant
from edgead.runtimes.cuda.bank_search import CudaBankSearch
from edgead.runtimes.cuda.pycuda_device import PycudaDevice, pipeline_missing
from edgead.runtimes.cuda.window_search import CudaWindowSearch

BANKS = ((1024, 16384, 152), (1024, 20480, 1536))  # queries, vectors, values
WINDOWS = ((16, "float32"), (16, "int8"), (64, "float16"), (384, "float16"))
LEVELS, GRID = ((80, 80, 3), (40, 40, 1)), (320, 320)  # height, width, window
REFERENCES, NEAREST = 32, 10
MAP_BAR = 1e-6


def bank_case(device: Device, size: tuple[int, int, int], images: int) -> tuple[Case, int]:
    """A search of a bank, and its operations for one run."""
    queries, vectors, dim = size
    rng = np.random.default_rng(SEED)
    spread = rng.random(dim, dtype=np.float32) ** 3  # some channels tell little, as in features
    bank = np.abs(rng.standard_normal((vectors, dim), np.float32)) * spread
    drawn = bank[rng.integers(0, vectors, images * queries)].reshape(images, queries, dim)
    drawn += rng.standard_normal(drawn.shape, np.float32) * spread * np.float32(0.5)
    search = CudaBankSearch(device, bank, cells=queries, images=images)
    address = constant(device, drawn, "queries")
    out = device.allocate(4 * images * queries, "distances")
    native = BankSearch(bank, queries=queries, threads=1)
    indices, distances = np.empty(queries, np.int32), np.empty(queries, np.float32)

    def on_cpu(image: int = 0) -> None:
        native.run(drawn[image], indices=indices, distances=distances)

    def error() -> float:
        found = device.pinned((images, queries), "int32"), device.pinned((images, queries), "float32")
        device.copy_out(found[0], search.indices)
        device.copy_out(found[1], out)
        device.synchronize()
        wrong = 0
        for image in range(images):
            on_cpu(image)
            wrong += int(np.count_nonzero((found[0][image] != indices) | (found[1][image] != distances)))
        return wrong / (images * queries)

    name = f"bank {queries}×{vectors}×{dim}"
    moved = bank.nbytes + drawn.nbytes + images * queries * 8
    case = Case(name, images, moved, lambda: search.enqueue(address, out), on_cpu, error, 0.0)
    return case, 2 * images * queries * vectors * dim


def window_case(
    device: Device, dim: int, bank_type: str, images: int, levels: Sequence[tuple[int, int, int]] = LEVELS
) -> tuple[Case, int]:
    """CPR's search, and its operations for one run."""
    rng = np.random.default_rng(SEED)
    banks, queries, moved, operations = [], [], 0, 0
    for height, width, window in levels:
        vectors = rng.standard_normal((REFERENCES, height, dim, width), np.float32)
        vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
        stored = np.rint(vectors * 127) if bank_type == "int8" else vectors
        banks.append(np.ascontiguousarray(stored, bank_type))
        queries.append(rng.standard_normal((images, dim, height, width), np.float32))
        moved += images * (NEAREST * banks[-1][0].nbytes + queries[-1][0].nbytes)
        operations += 2 * images * NEAREST * height * width * window**2 * dim
    references = np.stack([rng.permutation(REFERENCES)[:NEAREST] for _ in range(images)]).astype(np.int32)
    windows = [window for *_, window in levels]
    search = CudaWindowSearch(device, banks, windows, nearest=NEAREST, grid=GRID, images=images)
    addresses = [constant(device, query, "queries") for query in queries]
    named = constant(device, references, "references")
    out = device.allocate(4 * images * GRID[0] * GRID[1], "the map")
    native = WindowSearch(banks, windows, nearest=NEAREST, grid=GRID)
    expected = np.empty(GRID, np.float32)

    def on_cpu(image: int = 0) -> None:
        native.run([query[image] for query in queries], references[image], out=expected)

    def error() -> float:
        found = device.pinned((images, *GRID), "float32")
        device.copy_out(found, out)
        device.synchronize()
        worst = 0.0
        for image in range(images):
            on_cpu(image)
            worst = max(worst, float(np.abs(found[image] - expected).max() / np.ptp(expected)))
        return worst

    name = f"windows D={dim} {bank_type}"
    moved += images * expected.nbytes
    case = Case(name, images, moved, lambda: search.enqueue(addresses, named, out), on_cpu, error, MAP_BAR)
    return case, operations


def run(
    device: Device, cases: Sequence[tuple[Case, int]], rounds: int, *, warm_up: int = 3
) -> list[dict[str, Any]]:
    """A row per case, with its TFLOP/s."""
    rows = measure(device, [case for case, _ in cases], rounds, None, warm_up=warm_up)
    for row, (_, operations) in zip(rows, cases, strict=True):
        row["tflop_per_s"] = operations / (row["device_us"] * 1e6) if row["device_us"] else None
    return rows


def table(result: dict[str, Any]) -> str:
    """Everything in Markdown; empty without a GPU."""
    if not result["rows"]:
        return ""
    lines = [f"{result['device']}", "", "| case | images | error | device µs | TFLOP/s | CPU µs per image |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    lines += [
        f"| {row['case']} | {row['images']} | {row['error']:.1e} | {row['device_us']:.1f} "
        f"| {row['tflop_per_s']:.1f} | {row['cpu_us_per_image']:.0f} |"
        for row in result["rows"]
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure where there is a GPU."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--images", type=int, nargs="+", default=[1, 16], help="of a batch")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if min(options.rounds, *options.images) < 1:
        parser.error("--rounds and --images must be at least 1")
    result: dict[str, Any] = {"environment": asdict(record()), "device": None, "rows": []}
    result["lacking"] = pipeline_missing()
    if result["lacking"]:
        print(f"no search was run: {result['lacking']}", file=sys.stderr)
    else:
        device = PycudaDevice(0, "cuda_searches.py")
        with device:
            result["device"] = device.facts.name
            cases = []
            for images in options.images:
                cases += [bank_case(device, size, images) for size in BANKS]
                cases += [window_case(device, *kind, images) for kind in WINDOWS]
            result["rows"] = run(device, cases, options.rounds)
        device.close()
    result["passed"] = all(row["passed"] for row in result["rows"])
    print(json.dumps(result, indent=2) if options.json else table(result))
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
