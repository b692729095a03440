"""What a selection knows so far, kept in one file, so that a killed one goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgead.bundle._storage import output_error, replace_file
from edgead.errors import OutputError, UsageError
from edgead.workflows._select_candidates import Network

_STATE = "select.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A network in one target.

    Attributes:
        name: ``patchcore 192x512 openvino:int8``.
        network: ``patchcore 192x512``.
        target: "" where the network as a whole fell out.
        status: ``measured``, ``too slow``, ``skipped``, ``failed`` or ``no time``.
        reason: why it was not measured to the end, or what its gate says.
        trial_ms: p99 of the untrained network, or its p50 where the queries carry no p99.
        p50_ms, p99_ms: of the trained one; the p99 is None where the queries do not carry it.
        verdict: on the budget: pass, fail or inconclusive.
        accuracy: see `SelectReport.measure`.
        steps_share: of the preset's steps that there was time for.
        train_s: what training was expected to take, seconds.
        busy: other programs used the machine while it was tried: ``too slow`` may be their doing.
    """

    name: str
    network: str
    target: str
    status: str
    reason: str = ""
    trial_ms: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    verdict: str = ""
    accuracy: float | None = None
    steps_share: float = 1.0
    train_s: float = 0.0
    busy: bool = False

    @property
    def holds(self) -> bool:
        """Whether it may be chosen: within the budget beyond doubt, and inside its gate."""
        usable = self.status == "measured" and not self.reason
        return usable and self.verdict == "pass" and self.accuracy is not None

    @property
    def doubtful(self) -> bool:
        """Whether it fell out for its latency, and a quiet machine may tell otherwise."""
        return self.status == "too slow" and self.busy


def candidates_in(folder: Path) -> tuple[Candidate, ...]:
    """What `select` with ``keep=folder`` noted there so far.

    Raises:
        UsageError: there is nothing of it.
    """
    try:
        values = json.loads((folder / _STATE).read_text())["candidates"]
    except (OSError, ValueError, KeyError) as err:
        raise UsageError(f"{folder} holds no selection ({err}); name the folder given as --keep") from err
    return tuple(Candidate(**one) for one in values.values())


class State:
    """What is done, one JSON file that is replaced as a whole."""

    def __init__(self, folder: Path, fingerprint: dict[str, Any], *, restart: bool) -> None:
        self.folder, self._fingerprint = folder, json.loads(json.dumps(fingerprint))
        if restart and (folder / _STATE).exists():
            self.remove()
        self._done: dict[str, dict[str, Any]] = {}
        path = folder / _STATE
        if path.exists():
            try:
                values = json.loads(path.read_text())
                begun, self._done = values["fingerprint"], values["candidates"]
            except (OSError, ValueError, KeyError, TypeError) as err:
                raise OutputError(f"{path} cannot be read ({err}); begin anew with --restart") from err
            differing = [key for key, value in self._fingerprint.items() if begun.get(key) != value]
            if differing:
                raise OutputError(
                    f"{folder} holds a selection that differs in {', '.join(differing)}; give another output "
                    "name, or begin anew with --restart"
                )
        try:
            folder.mkdir(exist_ok=True)
        except OSError as err:
            raise output_error(folder, err) from err

    def candidates(self) -> list[Candidate]:
        return [Candidate(**values) for values in self._done.values()]

    def of(self, network: Network) -> list[Candidate]:
        return [one for one in self.candidates() if one.network == network.name]

    def put(self, network: Network, candidates: Sequence[Candidate]) -> None:
        """Replace what is known of one network."""
        self._done = {key: one for key, one in self._done.items() if one["network"] != network.name}
        self._done |= {one.name: asdict(one) for one in candidates}
        values = {"fingerprint": self._fingerprint, "candidates": self._done}
        replace_file(self.folder / _STATE, json.dumps(values, indent=1).encode())

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
