"""How well the label-free ranking of `edgead select` agrees with the real one.

    python benchmarks/suites/select_agreement.py DATA… --work DIR [--detectors simplenet,patchcore,padim]
        [--sizes 192,256,320] [--minutes 20] [--p99 1s] [--json]

DATA: MVTec layout. Every candidate is trained and judged by `select` without labels, then by the test
images, which nothing was fitted to; Spearman's rank correlation of the two accuracies over candidates. No
bar: the figure is reported. With a tighter --p99 candidates that cannot keep it are left out, and the winner
is what a user of `select` gets. DIR keeps what is done, so the same command goes on after a kill.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgead.benchmarks.environment import record
from edgead.cli._progress import RichProgress
from edgead.cli._size import parse_size
from edgead.errors import EdgeadError, GateFailed, Inconclusive
from edgead.workflows._select_state import candidates_in
from edgead.workflows.select import select
from edgead.workflows.verify import verify


def spearman(one: list[float], other: list[float]) -> float | None:
    """Pearson's correlation of the ranks (equal values share their mean rank); None where one is constant."""
    first, second = (_ranks(np.array(values)) for values in (one, other))
    if len(one) < 2 or not first.std() or not second.std():
        return None
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    below = (values[:, None] > values[None]).sum(1)
    return np.asarray(below + ((values[:, None] == values[None]).sum(1) - 1) / 2)


def compare(data: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One data set: a row per candidate, and the correlation."""
    work, show = options.work / data.name, RichProgress()
    work.mkdir(parents=True, exist_ok=True)
    winner = None
    with contextlib.suppress(GateFailed, Inconclusive):  # candidates are wanted, a winner is not needed
        winner = select(
            data,
            work / "winner.edgead",
            p99=options.p99,
            minutes=options.minutes,
            detectors=options.detectors.split(","),
            sizes=[parse_size(text) for text in options.sizes.split(",")],
            keep=work / "candidates",
            overwrite=True,
            progress=show,
        ).winner
    known = work / "real.json"
    real: dict[str, dict[str, Any]] = json.loads(known.read_text()) if known.exists() else {}
    rows = []
    for one in candidates_in(work / "candidates"):
        if one.status != "measured":
            continue
        if one.name not in real:
            bundle = work / "candidates" / f"{one.network.replace(' ', '-')}.edgead"
            seen = verify(bundle, data, targets=[one.target], progress=show).targets[one.target]
            real[one.name] = {
                "real": seen.accuracy.image_auroc,
                "au_pro": seen.accuracy.au_pro,
                "flips": len(seen.parity.flipped),
            }
            known.write_text(json.dumps(real))
        row = {"candidate": one.name, "label_free": one.accuracy, "p99_ms": one.p99_ms, "holds": one.holds}
        rows.append({**row, **real[one.name]})
    pairs = [row for row in rows if row["label_free"] is not None and row["real"] is not None]
    found = spearman([row["label_free"] for row in pairs], [row["real"] for row in pairs])
    return {"data": data.name, "p99": options.p99, "winner": winner, "candidates": rows, "spearman": found}


def main() -> int:
    """Compare on every data set and print tables or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, nargs="+", help="roots with train/good and test")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--detectors", default="simplenet,patchcore,padim")
    parser.add_argument("--sizes", default="192,256,320")
    parser.add_argument("--minutes", type=float, default=20.0, help="per data set")
    parser.add_argument("--p99", default="1s", help="the budget; 1s leaves nothing out")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        results = [compare(data, options) for data in options.data]
    except EdgeadError as err:
        print(err, file=sys.stderr)
        return err.exit_code
    environment = record()
    if options.json:
        print(json.dumps({"environment": asdict(environment), "results": results}, indent=2))
        return 0
    print(f"{environment.cpu}, {environment.usable_cores} cores, {environment.packages}")
    for one in results:
        shown = "unknown" if one["spearman"] is None else f"{one['spearman']:.3f}"
        print(f"\n{one['data']}: Spearman {shown} over {len(one['candidates'])} candidates; p99 {one['p99']}")
        print(f"winner: {one['winner'] or 'none'}")
        for row in sorted(one["candidates"], key=lambda row: -(row["real"] or 0)):
            late = "-" if row["p99_ms"] is None else f"{row['p99_ms']:.2f} ms"
            print(
                f"{row['candidate']:56s} label-free {row['label_free']:.4f}  real {row['real']:.4f}  AU-PRO "
                f"{row['au_pro']:.4f}  flips {row['flips']}  p99 {late}{'' if row['holds'] else ' (misses)'}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
