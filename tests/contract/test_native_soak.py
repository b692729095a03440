"""Memory of a session over 40,000 frames of OpenVINO; the null engine has test_session_soak.cpp."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "bundle_v1.edgead"
_FRAMES = 40_000

# In a process of its own: pytest's memory moves by itself. After a fifth more frames, to warm up.
_SOAK = """
import sys
from pathlib import Path

import numpy as np

from edgead._native.model import NativeModel
from edgead._native.session import NativeSession
from edgead.runtimes.native_runtime import packaged_library

def resident_bytes():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))

library = packaged_library("openvino")
model = NativeModel(sys.argv[1], target="openvino:fp32", engine_library=library, threads=1)
session = NativeSession(model)
kinds = [np.full(size, 100, np.uint8) for size in ((60, 80), (61, 83))]
frames = int(sys.argv[2])
for number in range(frames + frames // 5):
    if number == frames // 5:
        start = resident_bytes()
    assert session.run(kinds[number % 8 == 0], "MONO8").score_raw == 75.0
print(resident_bytes() - start)
"""


def test_many_openvino_frames_leave_no_memory_behind() -> None:
    command = [sys.executable, "-c", _SOAK, str(_GOLDEN), str(_FRAMES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    grown = int(done.stdout)
    sys.stdout.write(
        f"{_FRAMES} frames: resident memory grew by {grown} bytes ({grown / _FRAMES:.2f} each)\n"
    )
    # The kernel takes cold pages and gives them back; the smallest allocation kept a frame would be 32 bytes.
    assert grown < _FRAMES * 32
