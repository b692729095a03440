"""`edgead doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgead.workflows.doctor import DoctorReport


def command(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """What this machine can run, and what is missing.

    Example: edgead doctor --json
    """
    from edgead.cli._output import emit
    from edgead.workflows.doctor import doctor

    report = doctor()
    emit(report, as_json=as_json, human=lambda: _text(report))


def _text(report: DoctorReport) -> str:
    import sys

    from edgead.cli._output import colour

    lines = [f"edgead {report['edgead']}, Python {report['python']}", ""]
    width = max(map(len, report["runtimes"]))
    for name, state in report["runtimes"].items():
        mark = colour("✓", "green", sys.stdout) if state["available"] else colour("✗", "red", sys.stdout)
        told = " ".join(part for part in (state["version"], state["why"]) if part)
        lines.append(f"{mark} {name:<{width}}  {told}")
    cpu = report["cpu"]
    features = " ".join([cpu["architecture"], *cpu["flags"]])
    lines += ["", f"CPU       {cpu['model']}, {cpu['usable_cores']} cores usable, {features}"]
    library = report["libedgead"]
    lines.append(
        f"libedgead {library['version']}, pixel and map kernels: {library['kernels']}"
        if library["loaded"]
        else f"libedgead cannot be used: {library['why']}"
    )
    gpu = report["gpu"]
    lines.append("GPU       " + (", ".join(gpu["names"]) if gpu["available"] else gpu["why"]))
    return "\n".join(lines)
