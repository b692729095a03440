from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "bundle_v1.edgead" / "graph.onnx"

# Ends with the name of the first forbidden event: a child process, or a word with another machine.
_QUIET = """
import sys
from pathlib import Path

def watch(event, arguments):
    if event in ("os.fork", "os.posix_spawn", "socket.connect", "urllib.Request"):
        print(event, arguments, file=sys.stderr)
        import os
        os._exit(9)

sys.addaudithook(watch)
from edgead.exporters.openvino_exporter import OpenVINOExporter
from edgead.types import Target

made = OpenVINOExporter().compile(Path(sys.argv[1]), Target("openvino", "fp32"), Path(sys.argv[2]))
assert made.main_file.is_file()
"""


def test_compiles_without_a_child_process_and_without_a_word_to_the_network(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _QUIET, str(_GOLDEN), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
