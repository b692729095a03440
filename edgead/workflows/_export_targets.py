"""Which targets an export makes, and which of them cannot run here and so are not verified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgead.benchmarks.environment import record
from edgead.errors import RuntimeMissingError, UsageError
from edgead.exporters._base import Exporter
from edgead.exporters._registry import exporter_for
from edgead.exporters._tensorrt import TensorRTOptions, TypedPlanExporter
from edgead.exporters.openvino_exporter import OpenVINOExporter
from edgead.runtimes._registry import availability
from edgead.types import Target

Convolutions = Literal["auto", "fast", "plain"]
_EXAMPLE = "tensorrt_rtx:fp16:cuda"


@dataclass(frozen=True, slots=True)
class Exporters:
    """Engine name to exporter.

    Attributes:
        tensorrt: of those of TensorRT, None for its defaults.
        convolutions: whether those of OpenVINO write float graphs with fewer products; "auto": where this CPU
            is of the kind that was measured.
    """

    tensorrt: TensorRTOptions | None = None
    convolutions: Convolutions = "auto"

    def __call__(self, engine: str) -> Exporter:
        """As `exporter_for`."""
        made = exporter_for(engine)
        if self.tensorrt is not None and isinstance(made, TypedPlanExporter):
            made.options = self.tensorrt
        if isinstance(made, OpenVINOExporter):
            made.fast = self._fast()
        return made

    def _fast(self) -> bool:
        flags = set(record().cpu_flags)
        # AMX multiplies so fast that less would be saved than what is moved takes.
        measured = "avx2" in flags and not flags & {"amx_bf16", "amx_tile"}
        return measured if self.convolutions == "auto" else self.convolutions == "fast"


def choose(
    targets: Sequence[str], unverified: Sequence[str], exporters: Exporters
) -> tuple[tuple[Target, ...], tuple[Target, ...]]:
    """(targets that run here, targets that do not), each once: looked at before long work begins.

    Raises:
        UsageError: none is to run here, one is named twice, unknown or of a precision that its engine has
            not, an unverified one can run here or cannot be built without running, or options fit none.
        RuntimeMissingError: the engine of one of `targets` is missing, or what builds one of `unverified`.
        EngineError: an engine has not the device.
    """
    wanted, unseen = (tuple(map(Target.parse, texts)) for texts in (targets, unverified))
    if not wanted:
        raise UsageError("no target that runs here; name one or more, for instance openvino:fp32")
    both = wanted + unseen
    doubles = {str(target) for target in both if both.count(target) > 1}
    if doubles:
        raise UsageError(f"target {', '.join(sorted(doubles))} is named twice")
    made = {target: exporters(target.engine) for target in both}
    if exporters.tensorrt and not any(isinstance(one, TypedPlanExporter) for one in made.values()):
        raise UsageError(
            f"{', '.join(map(str, both))}: GPUs, compatibility, timing cache and workspace are options of "
            f"TensorRT; leave them out, or name a target such as {_EXAMPLE}"
        )
    for target, exporter in made.items():
        exporter.check(target)
        here = availability(target)
        elsewhere = exporter.runs_typed_graph and target.device != "cpu"
        if target in wanted and not here.available:
            advice = f"; to build it for a machine that runs it: --unverified {target}" if elsewhere else ""
            raise RuntimeMissingError(f"{target} cannot be calibrated here: {here.why}{advice}")
        if target in unseen and not elsewhere:
            raise UsageError(
                f"{target} cannot be built unverified: only a target on a GPU can, of an engine that "
                f"computes in the types of its graph, such as {_EXAMPLE}"
            )
        if target in unseen and here.available:
            raise UsageError(f"{target} can run here: name it with --target, and it is verified")
    return wanted, unseen
