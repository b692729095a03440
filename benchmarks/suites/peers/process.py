"""A program in another environment that answers a line of JSON with a line of JSON."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

MARK = "@@"  # before each answer: other packages print as well


class PeerProcess:
    """Runs `script` with the interpreter of the peer's environment; use it as a context manager.

    Args:
        python: the interpreter.
        script: prints an answer when it is ready, then one for each line that it reads.
        arguments: of the script.
        work: its working directory.
    """

    def __init__(self, python: Path, script: Path, *arguments: object, work: Path) -> None:
        self._log = work / "peer.log"
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [python.absolute(), script, *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=work,
            )
        self.ready = self._answer()

    def ask(self, **values: Any) -> dict[str, Any]:
        """Send one line, wait for the answer.

        Raises:
            SystemExit: the program ended; the message has its last words.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(values) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(MARK):
                answer: dict[str, Any] = json.loads(line.removeprefix(MARK))
                return answer
        words = self._log.read_text(errors="replace").strip().splitlines()[-8:]
        raise SystemExit(f"the peer ended with code {self._process.wait()}:\n" + "\n".join(words))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def __enter__(self) -> PeerProcess:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
