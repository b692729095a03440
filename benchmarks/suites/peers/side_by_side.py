"""A bundle beside anomalib: its OpenVINOInferencer and its exported graphs, same images, one interleaved run.

    python3 -m venv PEER && PEER/bin/pip install 'anomalib[openvino]' onnxruntime    # of its own: 6 GB
    python benchmarks/suites/peers/side_by_side.py BUNDLE --images DIR --peer PEER/bin/python
        [--models padim,stfpm,efficient_ad,super_simple_net] [--queries 60] [--json | --markdown]

Every image is decoded and brought to 256×256 RGB beforehand, in the same way for all. It goes in turn through
each target of BUNDLE (frame to decision, all outputs) and each peer: anomalib's inferencer on its own FP32
export (which OpenVINO runs in bf16 where the CPU can), the same graph in OpenVINO with a fixed batch of 1,
and in ONNX Runtime in fp32. The peers' weights are random, which changes what they find and not how long they
take; their time is taken inside their own process. All others are idle while one works.

The ratio is the median over the images of a system's time ÷ that of the bundle's first target, with its 99 %
interval. There is no bar, since the detectors differ: `efficientad_anomalib.py` compares the same weights.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from process import PeerProcess

from edgead import Frame, Session, open_bundle
from edgead.benchmarks.environment import record
from edgead.benchmarks.interleaved import interleaved
from edgead.benchmarks.order_statistics import interval_ranks, rank
from edgead.benchmarks.run import STAGES, Limits, Run
from edgead.benchmarks.sut import PredictorSut, SampleLibrary
from edgead.cli._progress import RichProgress
from edgead.errors import RuntimeMissingError
from edgead.imaging.preprocess import Preprocess
from edgead.types import Geometry
from edgead.workflows._bench_images import find, load

SIDE = 256
IMAGES = 60
MODELS = ("padim", "stfpm", "efficient_ad", "super_simple_net")
SCRIPT = Path(__file__).with_name("anomalib_side.py")

Sample = tuple[int, Frame]


class Ours:
    """A target of the bundle."""

    def __init__(self, session: Session) -> None:
        self._sut = PredictorSut(session, name=f"edgead {session.target}", runtime=session.runtime)
        self.name, self.runtime, self.stages = self._sut.name, session.runtime, self._sut.stages

    def issue(self, sample: Sample) -> tuple[int, ...]:
        """Judge the frame."""
        return self._sut.issue(sample[1])


class Theirs:
    """A system in the peer's process."""

    runtime = "anomalib"
    stages = ("inside",)

    def __init__(self, peer: PeerProcess, model: str, system: str) -> None:
        self._peer, self._ask = peer, {"model": model, "system": system}
        self.name = f"anomalib {model}, {system}"

    def issue(self, sample: Sample) -> tuple[int, ...]:
        """Let it judge the image of that number."""
        return (int(self._peer.ask(do="time", index=sample[0], **self._ask)["ns"]),)


def durations_ms(run: Run) -> np.ndarray:
    """What each query took: of a peer, without the way to its process."""
    inside = run.stages == Theirs.stages
    return (run.times[:, STAGES] if inside else run.service_ns) / 1e6


def row(name: str, run: Run, first: Run) -> dict[str, Any]:
    """Percentiles in ms, and the ratio to the first system with its interval."""
    taken = durations_ms(run)
    pairs = np.sort(taken / durations_ms(first))
    n = len(pairs)
    low, high = interval_ranks(0.5, n)
    p50, p90 = np.quantile(taken, [0.5, 0.9], method="inverted_cdf").tolist()
    return {
        "system": name,
        "p50_ms": p50,
        "p90_ms": p90,
        "ratio": float(pairs[rank(0.5, n) - 1]),
        "ratio_interval": [
            float(pairs[low - 1]) if low else None,
            float(pairs[high - 1]) if high <= n else None,
        ],
    }


def measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Everything, as JSON values."""
    show = RichProgress()
    with contextlib.ExitStack() as scope:
        bundle = scope.enter_context(open_bundle(options.bundle))
        files = find(options.images, IMAGES)
        geometry = Geometry(height=SIDE, width=SIDE)
        pixels = np.stack(list(map(Preprocess(geometry), load(files, geometry, None, show).frames)))
        np.save(work / "images.npy", pixels)
        samples = [(index, Frame(image, "RGB8")) for index, image in enumerate(pixels)]
        suts: list[Ours | Theirs] = []
        for target in bundle.targets:
            try:
                suts.append(Ours(scope.enter_context(Session.open(bundle, target))))
            except RuntimeMissingError as error:
                show.say(f"left out: {target}: {error}")
        peer = scope.enter_context(PeerProcess(options.peer, SCRIPT, work, work=work))
        for model in options.models:
            show.say(f"exporting anomalib's {model}")
            for system in peer.ask(do="open", model=model)["systems"]:
                suts.append(Theirs(peer, model, system))
        limits = Limits(min_queries=options.queries, max_duration_ns=round(options.seconds * 1e9))
        runs = interleaved(tuple(suts), SampleLibrary(samples), limits=limits, progress=show)
    return {
        "bundle": options.bundle.name,
        "images": len(samples),
        "queries": len(runs[0]),
        "complete": runs[0].complete,
        "peer": peer.ready,
        "systems": [row(sut.name, run, runs[0]) for sut, run in zip(suts, runs, strict=True)],
    }


def markdown(result: dict[str, Any]) -> str:
    """The table for a README."""
    lines = ["| system | p50 ms | p90 ms | × |", "|---|---:|---:|---:|"]
    for one in result["systems"]:
        lines.append(f"| {one['system']} | {one['p50_ms']:.1f} | {one['p90_ms']:.1f} | {one['ratio']:.2f} |")
    return "\n".join(lines)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--images", type=Path, action="append", required=True)
    parser.add_argument("--peer", type=Path, required=True, help="python of the environment with anomalib")
    parser.add_argument("--models", type=lambda text: text.split(","), default=list(MODELS))
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=1_200.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    unknown = set(options.models) - set(MODELS)
    if unknown or options.queries < 1:
        parser.error(f"--models {unknown or ''} --queries {options.queries}: there is {', '.join(MODELS)}")

    environment = record()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options, Path(folder))
    if options.json:
        print(json.dumps({**result, "environment": asdict(environment)}, indent=2))
        return 0
    if options.markdown:
        print(markdown(result))
        return 0
    for name, value in asdict(environment).items():
        print(f"{name:15} {value}")
    print(f"\n{result['queries']} rounds on {result['images']} images; peer {result['peer']}")
    print(f"{'system':48}{'p50 ms':>9}{'p90 ms':>9}{'ratio':>9}   99 % interval")
    for one in result["systems"]:
        low, high = ("?" if bound is None else f"{bound:.3f}" for bound in one["ratio_interval"])
        print(
            f"{one['system']:48}{one['p50_ms']:9.2f}{one['p90_ms']:9.2f}{one['ratio']:9.3f}   {low} to {high}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
