"""One bundle, frame to decision, driven by libedgead and by Python, in turn.

    python benchmarks/suites/native_runtime.py [BUNDLE] [--target openvino:fp32] [--threads 1] [--json]

Without BUNDLE a small one is written to a temporary folder: the golden bundle's network of one convolution,
so that nearly all of the time is edgead's own. Frames are uint8 arrays in memory. Every round times each
driver on the same frames, one driver first in even rounds, the other in odd ones; medians of single frames
are printed, of the whole call and of the rest of it: without what the engine took in that call. Bars: the
rest is not longer with native (5 % is noise), and both give the same score for every frame.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from edgead import Frame, Session, open_bundle
from edgead.benchmarks.environment import record

FRAMES = {"1280x1024 BGR8": (1024, 1280, 3), "1280x1024 MONO8": (1024, 1280), "640x480 MONO8": (480, 640)}
REST_BAR = 0.95
GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden" / "make_bundle_v1.py"


def golden(folder: Path) -> Path:
    """The golden bundle, written anew."""
    spec = importlib.util.spec_from_file_location("make_bundle_v1", GOLDEN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.build(folder / "golden.edgead")
    return folder / "golden.edgead"


def timed(session: Session, frame: Frame) -> tuple[float, float]:
    """Milliseconds of one call, and of the call without its engine."""
    begin = time.perf_counter_ns()
    prediction = session.predict(frame)
    whole = (time.perf_counter_ns() - begin) / 1e6
    return whole, whole - prediction.timings_ms["engine"]


def measure(sessions: dict[str, Session], shape: tuple[int, ...], rounds: int) -> dict[str, object]:
    """Medians per driver, and whether their scores are the same."""
    random = np.random.default_rng(3)
    pixels = [random.integers(0, 256, shape, np.uint8) for _ in range(6)]
    frames = [Frame(one, "BGR8" if one.ndim == 3 else "MONO8") for one in pixels]
    same = all(
        len({session.predict(frame).score_raw for session in sessions.values()}) == 1 for frame in frames
    )
    names = list(sessions)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            session = sessions[name]
            session.predict(frames[-1])  # untimed: the other driver has had the caches
            times[name] += [timed(session, frame) for frame in frames]
    whole = {name: float(np.median([one[0] for one in values])) for name, values in times.items()}
    rest = {name: float(np.median([one[1] for one in values])) for name, values in times.items()}
    return {
        "ms": whole,
        "rest_ms": rest,
        "python_over_native": whole["python"] / whole["native"],
        "python_over_native_rest": rest["python"] / rest["native"],
        "same_scores": same,
    }


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="libedgead beside Python as the driver of one bundle")
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--target", default="openvino:fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: use at least 1")

    environment = record()
    with tempfile.TemporaryDirectory() as folder:
        path = options.bundle or golden(Path(folder))
        with (
            open_bundle(path) as bundle,
            Session.open(bundle, options.target, threads=options.threads, runtime="native") as native,
            Session.open(bundle, options.target, threads=options.threads, runtime="python") as python,
        ):
            sessions = {"native": native, "python": python}
            results = {name: measure(sessions, shape, options.rounds) for name, shape in FRAMES.items()}
    passed = all(
        row["same_scores"] and row["python_over_native_rest"] >= REST_BAR for row in results.values()
    )
    if options.json:
        facts = {"bundle": str(options.bundle or "golden"), "target": options.target, "frames": results}
        print(json.dumps({**facts, "passed": passed, "environment": asdict(environment)}, indent=2))
        return 0 if passed else 1
    for key, value in asdict(environment).items():
        print(f"{key:15} {value}")
    print(
        f"\n{options.bundle or 'golden bundle'}, {options.target}, {options.threads} threads; medians in ms"
    )
    head = ("frame", "native", "python", "ratio", "native, rest", "python, rest", "ratio", "same")
    print("{:18}{:>9}{:>9}{:>8}{:>14}{:>14}{:>8}{:>7}".format(*head))
    for name, row in results.items():
        ms, rest = row["ms"], row["rest_ms"]
        print(
            f"{name:18}{ms['native']:9.3f}{ms['python']:9.3f}{row['python_over_native']:7.2f}×"
            f"{rest['native']:14.3f}{rest['python']:14.3f}{row['python_over_native_rest']:7.2f}×"
            f"{'yes' if row['same_scores'] else 'NO':>7}"
        )
    print("rest = all but the engine; passed" if passed else "FAILED")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
