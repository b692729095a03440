"""Good images in, decisions on new images out: train, export, run."""

from __future__ import annotations

import argparse
from pathlib import Path

import edgead


def main() -> None:
    """Train where there is no MODEL yet, export, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("good", type=Path, help="folder of good images")
    parser.add_argument("new", type=Path, help="folder of images to judge")
    parser.add_argument("-o", "--output", type=Path, default=Path("out"))
    parser.add_argument("--target", default="openvino:fp32")
    options = parser.parse_args()
    model, bundle = options.output / "part.model", options.output / "part.edgead"

    if not model.exists():
        options.output.mkdir(parents=True, exist_ok=True)
        print("training, a minute or more", flush=True)
        trained = edgead.train("simplenet", options.good, model)
        print(f"trained on {trained.trained} images, {trained.reserved} held out")

    exported = edgead.export(
        model, bundle, calib=options.good, targets=[options.target], overwrite=True
    ).targets[options.target]
    print(
        f"NG from {exported.thresholds.image:.3f}; {len(exported.parity.flipped)} decisions differ from torch"
    )

    summary = edgead.run(bundle, [options.new], options.output / "results", overwrite=True)
    print(f"{summary.images} images: {summary.ok} OK, {summary.ng} NG, {len(summary.errors)} ERROR")
    for judged in summary.worst:
        print(f"{judged.score:8.3f} {judged.decision:5} {judged.overlay}")


if __name__ == "__main__":
    main()
