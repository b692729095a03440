"""`edgead quickstart`: everything that edgead does, once, on real solar cells that come by pip."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgead.benchmarks.report import BenchReport
from edgead.errors import GateFailed, OutputError, RuntimeMissingError
from edgead.progress import Progress, Silent
from edgead.types import Target
from edgead.workflows.bench import bench
from edgead.workflows.export import ExportReport, export
from edgead.workflows.run import RunSummary, run
from edgead.workflows.train import train
from edgead.workflows.verify import VerifyReport, verify

DETECTOR = "simplenet"
MIN_AUROC = 0.92
TRAIN, TEST_GOOD, TEST_DEFECTIVE = 400, 150, 150
PICTURES = 6  # of each kind
BENCH_QUERIES, BENCH_SECONDS = 600, 20.0  # 459 queries carry a p99
SUMMARY = "quickstart.json"
_GOOD, _DEFECTIVE = 0.0, 1.0  # defect probabilities that all labellers agreed on


@dataclass(frozen=True, slots=True)
class QuickstartReport:
    """What the quickstart made and measured.

    Attributes:
        output: the folder that holds everything.
        verified: accuracy and parity on cells that nothing was fitted on.
        exported: the bundle's targets.
        benched: target name to its latency.
        judged: the pictures.
        seconds: step name to wall time.
    """

    output: Path
    verified: VerifyReport
    exported: ExportReport
    benched: dict[str, BenchReport]
    judged: RunSummary
    seconds: dict[str, float]

    @property
    def bundle(self) -> Path:
        """The bundle."""
        return self.exported.bundle

    def rows(self) -> list[dict[str, object]]:
        """One row per target: AUROC, flips, latency, size, gate."""
        return [
            {
                "target": name,
                "image_auroc": verdict.accuracy.image_auroc,
                "flips": len(verdict.parity.flipped),
                "p50_ms": self.benched[name].latency_ms["p50"],
                "p99_ms": self.benched[name].latency_ms["p99"],
                "fps": self.benched[name].fps,
                "size_bytes": self.exported.targets[name].size_bytes,
                "gate": "passed" if verdict.passed else "; ".join(verdict.failures),
            }
            for name, verdict in self.verified.targets.items()
        ]


def quickstart(
    output: Path,
    *,
    seed: int = 0,
    overwrite: bool = False,
    restart: bool = False,
    progress: Progress | None = None,
) -> QuickstartReport:
    """Train, export, verify, bench and run on real solar cells; all of it goes to `output`.

    A training that was interrupted goes on where it stopped. The gate of a reduced precision (bf16) is shown
    and does not fail the quickstart; that of fp32 does.

    Args:
        output: a folder; cells, cells.model, cells.edgead, run and quickstart.json are written in it.
        seed: of the draw of the cells and of training.
        overwrite: write into a folder that an earlier quickstart made.
        restart: forget a training that was interrupted there, for instance of another seed.
        progress: where to report; None = nowhere.

    Raises:
        OutputError: `output` holds something else, or an earlier quickstart without `overwrite`.
        RuntimeMissingError: a package of the extra ``quickstart`` is not installed.
        GateFailed: an fp32 target is too far from the MODEL, or below `MIN_AUROC`.
    """
    show = progress or Silent()
    _check_output(output, overwrite)
    seconds: dict[str, float] = {}

    @contextmanager
    def step(name: str, what: str) -> Iterator[None]:
        show.say(f"── {name}: {what}")
        start = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - start

    cells, model, bundle = output / "cells", output / "cells.model", output / "cells.edgead"
    with step(
        "data", f"{TRAIN} good solar cells, {TEST_GOOD} good and {TEST_DEFECTIVE} defective for the test"
    ):
        make_cells(cells, seed=seed)
    with step("train", f"{DETECTOR} on {TRAIN} good cells, a fifth of them held out"):
        train(DETECTOR, cells, model, seed=seed, overwrite=True, restart=restart, progress=show)
    with step("export", "graph.onnx, engines, thresholds from the held-out cells"):
        exported = export(
            # bf16 is shown whatever its gate says; `verify` below judges on more images
            model,
            bundle,
            calib=cells,
            accept=True,
            overwrite=True,
            progress=show,
        )
    with step("verify", "every engine against torch, on cells that nothing was fitted on"):
        verified = verify(bundle, cells, model=model, progress=show)
    benched = {}
    with step("bench", "latency of every engine, one cell after the other"):
        for name in verified.targets:
            benched[name] = bench(
                bundle,
                [cells / "test"],
                target=Target.parse(name),
                queries=BENCH_QUERIES,
                seconds=BENCH_SECONDS,
                progress=show,
            )
    with step("run", "decisions and pictures"):
        pictures = [
            path
            for kind in ("good", "defective")
            for path in sorted((cells / "test" / kind).iterdir())[:PICTURES]
        ]
        judged = run(bundle, pictures, output / "run", overwrite=True, progress=show)
    report = QuickstartReport(output, verified, exported, benched, judged, seconds)
    summary = {"targets": report.rows(), "seconds": seconds, "verify": verified.to_json()}
    (output / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n")
    _gate(verified)
    return report


def _check_output(output: Path, overwrite: bool) -> None:
    try:
        if output.exists() and not output.is_dir():
            raise OutputError(f"{output} is not a folder; choose another output")
        ours = (output / SUMMARY).exists() or (output / "cells").is_dir()
        if output.is_dir() and any(output.iterdir()) and not ours:
            raise OutputError(f"{output} holds other files; choose an empty or new folder")
        if (output / SUMMARY).exists() and not overwrite:
            raise OutputError(f"{output} holds an earlier quickstart; replace it with --overwrite")
        output.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(f"{output} cannot be written: {err.strerror}; choose another folder") from err


def _gate(verified: VerifyReport) -> None:
    failures = []
    for name, verdict in verified.targets.items():
        if Target.parse(name).precision != "fp32":
            continue
        failures += [f"{name}: {text}" for text in verdict.failures]
        found = verdict.accuracy.image_auroc
        if found is None or found < MIN_AUROC:
            failures.append(f"{name}: image AUROC {found} is below {MIN_AUROC}")
    if failures:
        raise GateFailed("; ".join(failures))


def make_cells(root: Path, *, seed: int = 0) -> None:
    """Lay out monocrystalline cells of the ELPV data set as train/good, test/good, test/defective.

    Good = defect probability 0, defective = 1; the doubtful ones in between are left out. Which good cells
    are trained on is a seeded draw by file name. Files are linked, not copied, where the file system can.

    Source: Deitsch et al., "Automatic classification of defective photovoltaic module cells in
    electroluminescence images", Solar Energy 185 (2019); CC BY-NC-SA 4.0.

    Raises:
        RuntimeMissingError: the package `elpv-dataset` is not installed.
        OutputError: `root` cannot be written.
    """
    try:
        import elpv_dataset
    except ImportError as err:
        raise RuntimeMissingError(
            "the quickstart's images are not installed; type: pip install 'edgead[quickstart]'"
        ) from err
    data = Path(elpv_dataset.__file__).parent / "data"
    names: dict[float, list[str]] = {_GOOD: [], _DEFECTIVE: []}
    for line in (data / "labels.csv").read_text().splitlines():
        name, probability, kind = line.split()
        if kind == "mono" and float(probability) in names:
            names[float(probability)].append(name)
    draw = random.Random(seed)
    for group in names.values():
        draw.shuffle(group)
    good, defective = names[_GOOD], names[_DEFECTIVE]
    split = {
        "train/good": good[:TRAIN],
        "test/good": good[TRAIN : TRAIN + TEST_GOOD],
        "test/defective": defective[:TEST_DEFECTIVE],
    }
    try:
        for folder, members in split.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for name in members:
                _link(data / name, root / folder / Path(name).name)
            _remove_others(root / folder, kept=members, known=(*good, *defective))
    except OSError as err:
        raise OutputError(f"cannot write the quickstart's images to {root}: {err}") from err


def _remove_others(folder: Path, *, kept: Sequence[str], known: Sequence[str]) -> None:
    """Take out cells that an earlier draw, of another seed, put here: they may be test cells of this one."""
    for name in {Path(name).name for name in known} - {Path(name).name for name in kept}:
        (folder / name).unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
