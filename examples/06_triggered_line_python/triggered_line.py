"""A triggered line: a camera thread fills a ring of frame buffers, the main thread judges each part."""

from __future__ import annotations

import argparse
import signal
import statistics
import threading
import time
from collections import deque
from pathlib import Path

import numpy as np

from edgead import Frame, Session, open_bundle, read_image
from edgead.errors import EdgeadError

SLOTS = 8  # frames that may wait: the longest pause that goes unnoticed, in triggers


class Camera(threading.Thread):
    """Image files in the place of a camera. A slot is free again once the worker has put it back."""

    def __init__(self, frames: list[tuple[str, Frame]], interval_s: float, stop: threading.Event) -> None:
        super().__init__(name="camera")
        self.frames, self.interval_s, self.stop = frames, interval_s, stop
        self.rejected, self.done = 0, False
        size = max(frame.data.nbytes for _, frame in frames)
        self.free = deque(np.empty(size, np.uint8) for _ in range(SLOTS))  # yours come from the driver
        self.full: deque[tuple[int, str, Frame, np.ndarray, float]] = deque()
        self.changed = threading.Condition()

    def run(self) -> None:
        """Trigger until told to stop, or until every file has been shown once."""
        start = time.perf_counter()
        for part, (name, shown) in enumerate(self.frames):
            if self.interval_s:
                self.stop.wait(max(0.0, start + (part + 1) * self.interval_s - time.perf_counter()))
            with self.changed:
                self.changed.wait_for(lambda: self.free or self.interval_s)
                slot = self.free.popleft() if self.free else None
            if self.stop.is_set():
                break
            if slot is None:  # nobody has seen this part
                self.rejected += 1
                gate(part, "ERROR", float("nan"), "dropped: no free buffer")
                continue
            triggered = time.perf_counter()
            pixels = slot[: shown.data.nbytes].reshape(shown.data.shape)
            pixels[:] = shown.data  # what the driver's DMA does
            with self.changed:
                self.full.append((part, name, Frame(pixels, shown.pixel_format), slot, triggered))
                self.changed.notify_all()
        with self.changed:
            self.done = True
            self.changed.notify_all()


def gate(part: int, decision: str, score: float, note: str) -> None:
    """The place of the output to the PLC. Whatever is not OK is a reject."""
    print(
        f"{'pass  ' if decision == 'OK' else 'REJECT'} {decision:5} {score:8.4f} part {part} {note}",
        flush=True,
    )


def main() -> None:
    """Judge until the camera has stopped and the ring is empty: no triggered part goes without an answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("frames", type=Path, nargs="+", help="8-bit images")
    parser.add_argument("--target", help="such as openvino:fp32; default: the first that runs here")
    parser.add_argument(
        "--interval-ms", type=float, default=50.0, help="0: as soon as there is a free buffer"
    )
    parser.add_argument("--deadline-ms", type=float, default=100.0, help="from trigger to decision; 0: none")
    options = parser.parse_args()
    times: list[float] = []
    rejected = late = 0
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    camera = Camera([(str(p), read_image(p)) for p in options.frames], options.interval_ms / 1e3, stop)
    with open_bundle(options.bundle) as bundle, Session.open(bundle, options.target) as session:
        session.predict(camera.frames[0][1])  # warm up before the first part
        camera.start()
        while True:
            with camera.changed:
                camera.changed.wait_for(lambda: camera.full or camera.done)
                if not camera.full:
                    break
                part, note, frame, slot, triggered = camera.full.popleft()
            decision, score = "ERROR", float("nan")
            try:
                prediction = session.predict(frame)
                decision, score = prediction.decision, prediction.score
            except EdgeadError as error:
                note += f": {error}"
            times.append((time.perf_counter() - triggered) * 1e3)
            if options.deadline_ms and times[-1] > options.deadline_ms:  # the part has gone
                decision, late = "ERROR", late + 1
            rejected += decision != "OK"
            gate(part, decision, score, note)
            with camera.changed:
                camera.free.append(slot)
                camera.changed.notify_all()
        camera.join()
    total = rejected + camera.rejected
    print(f"{len(times)} judged, {total} rejected, {camera.rejected} dropped, {late} late")
    if times:
        print(f"trigger to decision: median {statistics.median(times):.1f} ms, longest {max(times):.1f} ms")


if __name__ == "__main__":
    main()
