"""The README's table and picture, from a quickstart's output folder.

    make quickstart
    python benchmarks/suites/readme_table.py build/quickstart [--write] [--note TEXT] [--json]

Prints the table with the CPU and the versions that the bundle recorded; ``--write`` puts it into README.md
and draws examples/pictures/solar_cells.jpg anew. The picture shows the first four defects found,
the first good cell called OK and the first wrong decision, whatever they look like.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "examples" / "pictures" / "solar_cells.jpg"
START, END = "<!-- quickstart table -->", "<!-- end -->"
TILE, COLUMNS, QUALITY = (690, 370), 2, 80  # half the size of an overlay of a square frame


def milliseconds(value: float | None) -> str:
    """As in the quickstart's own table; a percentile that the samples do not carry is a dash."""
    return "–" if value is None else f"{value:.1f}"


def table(summary: dict[str, Any]) -> list[str]:
    """The rows of quickstart.json in Markdown."""
    lines = [
        "| target | image AUROC | flips | p50 ms | p99 ms | FPS | MB | gate |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in summary["targets"]:
        cells = (
            f"`{row['target']}`",
            f"{row['image_auroc']:.4f}",
            str(row["flips"]),
            milliseconds(row["p50_ms"]),
            milliseconds(row["p99_ms"]),
            f"{row['fps']:.0f}",
            f"{row['size_bytes'] / 1e6:.1f}",
            row["gate"],
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def caption(summary: dict[str, Any], manifest: dict[str, Any], note: str) -> str:
    """Where the figures were taken and on what."""
    from edgead.benchmarks.environment import record

    here, made = record(), manifest["targets"][0]["identity"]["device"]
    cores = f", {here.usable_cores} cores" if here.cpu == made else ""
    provenance, verified = manifest["provenance"], summary["verify"]
    tools = ", ".join(
        f"{name} {provenance['tools'][name]}"
        for name in ("edgead", "openvino", "onnxruntime", "torch")
        if name in provenance["tools"]
    )
    reference = verified["reference"]
    sentences = [
        f"{made}{cores}, {provenance['created'][:10]}; {tools}.",
        f"{verified['images']} cells, {verified['good']} of them good, none used for training or thresholds: "
        f"{reference['recall']:.0%} of the defective ones found, "
        f"{reference['false_positive_rate']:.1%} of the good ones called NG (torch).",
        f"Training took {summary['seconds']['train']:.0f} s of {sum(summary['seconds'].values()):.0f} s.",
    ]
    return " ".join([*sentences, *([note] if note else [])])


def choose(output: Path) -> list[Path]:
    """Overlays for the picture: four defects found, a good cell called OK, and the first wrong decision."""
    lines = (output / "run" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    found: dict[tuple[str, str], list[Path]] = {}
    for one in map(json.loads, lines):
        place = output / "run" / "overlays" / one["decision"] / f"{Path(one['path']).stem}.jpg"
        kind = "good" if Path(one["path"]).parent.name == "good" else "defective"
        found.setdefault((kind, one["decision"]), []).append(place)
    wrong = [*found.get(("good", "NG"), []), *found.get(("defective", "OK"), [])]
    return [*found.get(("defective", "NG"), [])[:4], *found.get(("good", "OK"), [])[:1], *wrong[:1]]


def draw(overlays: list[Path], place: Path) -> None:
    """Write `overlays` as one JPEG, two beside each other."""
    import cv2
    import numpy as np

    sheet = np.zeros((-(-len(overlays) // COLUMNS) * TILE[1], COLUMNS * TILE[0], 3), np.uint8)
    for index, path in enumerate(overlays):
        y, x = index // COLUMNS * TILE[1], index % COLUMNS * TILE[0]
        pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        sheet[y : y + TILE[1], x : x + TILE[0]] = cv2.resize(pixels, TILE, interpolation=cv2.INTER_AREA)
    done, encoded = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise SystemExit(f"{place} cannot be encoded")
    place.write_bytes(encoded.tobytes())


def main() -> None:
    """Print or write."""
    parser = argparse.ArgumentParser(description="the README's table from a quickstart")
    parser.add_argument("output", type=Path, help="the quickstart's output folder")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--note", default="", help="a sentence to add below the table")
    parser.add_argument("--write", action="store_true", help="update the README and the picture")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    summary = json.loads((options.output / "quickstart.json").read_text(encoding="utf-8"))
    manifest = json.loads((options.output / "cells.edgead" / "manifest.json").read_text(encoding="utf-8"))
    lines, below = table(summary), caption(summary, manifest, options.note)
    if options.json:
        print(json.dumps({"targets": summary["targets"], "caption": below}, indent=2))
    else:
        print("\n".join([*lines, "", below]))
    if options.write:
        before, _, rest = options.readme.read_text(encoding="utf-8").partition(START)
        _, end, after = rest.partition(END)
        if not end:
            raise SystemExit(f"{options.readme} has no {START} … {END}")
        block = "\n".join([START, *lines, "", below, END])
        options.readme.write_text(before + block + after, encoding="utf-8")
        draw(choose(options.output), options.picture)


if __name__ == "__main__":
    main()
