r"""Wire the verbs: every file of this folder that exposes `command` is one, named after its file.

A trailing underscore keeps a keyword usable: `import_.py` is the verb `import`; `distill_teacher.py` is
`distill-teacher`. At its top, a verb's file imports only typer and what is as light; the rest is imported
inside `command`, whose docstring is its help: a summary in one line, then an example ("Example: edgead VERB
…"). Help texts are rich markup: a literal bracket is written as ``\[``. A constant `INTERRUPTED` says
what Ctrl-C leaves behind.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from edgead import __version__
from edgead.cli._errors import guarded, report
from edgead.discovery import load, stems

ORDER = (
    "doctor",
    "distill_teacher",
    "train",
    "import",
    "export",
    "verify",
    "bench",
    "run",
    "inspect",
    "threshold",
    "select",
    "quickstart",
)


def verb_files() -> tuple[str, ...]:
    """File stems of the verbs that exist, in the order of a person's work; unlisted ones last, by name."""
    files = [stem for stem in stems("edgead.cli") if stem != "app"]
    rank = {verb: place for place, verb in enumerate(ORDER)}
    return tuple(sorted(files, key=lambda stem: (rank.get(stem.rstrip("_"), len(rank)), stem)))


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"edgead {__version__}")
        raise typer.Exit()


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Compile image-anomaly detectors into verified, millisecond engines for inspection lines."""


def build() -> typer.Typer:
    """The application with all verbs."""
    app = typer.Typer(
        name="edgead",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="Exit codes: 0 ok, 1 bug, 2 usage, 3 gate or target failed, 4 inconclusive, 5 bad input, "
        "6 bad bundle, 7 runtime missing, 8 finished but images were skipped, 130 interrupted.",
    )
    app.callback()(_root)
    for stem in verb_files():
        module = load("edgead.cli", stem, kind="verb")
        app.command(stem.rstrip("_").replace("_", "-"))(
            guarded(module.command, getattr(module, "INTERRUPTED", ""))
        )
    return app


def main() -> None:
    """Entry point of the `edgead` command."""
    try:
        app = build()
    except (Exception, KeyboardInterrupt) as error:
        sys.exit(report(error))
    app(prog_name="edgead")
