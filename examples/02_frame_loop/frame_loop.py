"""A loop over frames with a deadline: a part passes on OK alone."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from edgead import Frame, Session, open_bundle, read_image
from edgead.errors import EdgeadError


def grab(path: Path) -> Frame:
    """A file in the place of a camera: a buffer whose rows are padded to 64 bytes, MONO8 or BGR8."""
    image = read_image(path)
    step = image.data[0, 0].nbytes  # bytes per pixel
    stride = -(-image.width * step // 64) * 64
    buffer = bytearray(stride * image.height)  # yours comes from the driver
    pixels = np.ndarray(image.data.shape, np.uint8, buffer, strides=(stride, step, 1)[: image.data.ndim])
    pixels[:] = image.data
    return Frame(pixels, image.pixel_format)


def main() -> None:
    """Judge every frame, then print the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path, help="folder of 8-bit images, the frames")
    parser.add_argument("--target", help="such as openvino:fp32; default: the first that runs here")
    parser.add_argument("--deadline-ms", type=float, default=50.0)
    options = parser.parse_args()
    times: list[float] = []
    rejected = 0
    with open_bundle(options.bundle) as bundle, Session.open(bundle, options.target) as session:
        for path in sorted(options.images.iterdir()):
            decision, score = "ERROR", float("nan")
            try:
                frame = grab(path)
                start = time.perf_counter()
                prediction = session.predict(frame)
                times.append((time.perf_counter() - start) * 1e3)
                if times[-1] <= options.deadline_ms:  # a late answer is none: the part has gone
                    decision, score = prediction.decision, prediction.score
            except EdgeadError as error:
                print(error, file=sys.stderr)
            rejected += decision != "OK"
            print(f"{'pass  ' if decision == 'OK' else 'REJECT'} {decision:5} {score:7.3f} {path.name}")
    late = sum(took > options.deadline_ms for took in times)
    print(f"{rejected} rejected, {late} answers later than {options.deadline_ms:g} ms")
    if times:
        print(f"median {statistics.median(times):.2f} ms, longest {max(times):.2f} ms")


if __name__ == "__main__":
    main()
