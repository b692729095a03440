"""Sort predictions by score and cut the regions of the worst out of the images."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2


def crop(path: str, box: list[int], margin: int) -> Any:
    """The pixels of `box` (x, y, w, h) and `margin` around it, as far as the image goes."""
    x, y, w, h = box
    pixels = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise SystemExit(f"{path} cannot be read; run this where `edgead run` was run")
    return pixels[max(y - margin, 0) : y + h + margin, max(x - margin, 0) : x + w + margin]


def main() -> None:
    """List what has no answer, then the highest scores; write crops."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("predictions", type=Path, help="predictions.jsonl of `edgead run`")
    parser.add_argument("-o", "--output", type=Path, default=Path("crops"))
    parser.add_argument("--top", type=int, default=10, help="how many images")
    parser.add_argument("--margin", type=int, default=8, help="pixels around a region")
    options = parser.parse_args()

    lines = options.predictions.read_text(encoding="utf-8").splitlines()
    predictions = [json.loads(line) for line in lines]
    for one in predictions:
        if one["decision"] == "ERROR":  # not judged, so not good
            print(f"ERROR {one['path']}: {one['error']}")
    judged = sorted(
        (one for one in predictions if one["decision"] != "ERROR"), key=lambda one: one["score"], reverse=True
    )
    options.output.mkdir(parents=True, exist_ok=True)
    for rank, one in enumerate(judged[: options.top]):
        print(f"{one['score']:8.3f} {one['decision']} {one['path']}: {len(one['regions'])} regions")
        for number, region in enumerate(one["regions"]):
            name = f"{rank:02}_{Path(one['path']).stem}_{number}.png"
            cv2.imwrite(str(options.output / name), crop(one["path"], region["box"], options.margin))


if __name__ == "__main__":
    main()
