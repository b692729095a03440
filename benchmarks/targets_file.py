"""`targets.toml`: what each bundle has to hold on each device, kept in the line's own repository.

[[target]]
bundle = "solar"            # the name of the folder or zip, without .edgead; * and ? stand for anything
device = "line-7"           # the machine's host name, or what --device says
target = "openvino:fp32"    # every other key is an option of edgead bench, and may be left out
scenario = "paced"
fps = 20
p99 = "50ms"
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from edgead.errors import InputError, RuntimeMissingError, UsageError

# Option → the type that its value must have.
OPTIONS: dict[str, type | tuple[type, ...]] = {
    "target": str,
    "scenario": str,
    "fps": (int, float),
    "p99": str,
    "p999": str,
    "deadline": str,
    "jitter": str,
    "keep_warm": str,
    "streams": int,
    "queue": int,
    "queries": int,
    "seconds": (int, float),
    "threads": int,
    "runtime": str,
}
_TABLE = "target"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One `[[target]]` of the file.

    Attributes:
        bundle: pattern of the bundle's name.
        device: pattern of the device's name; ``*`` where none was given.
        options: of `edgead bench`.
    """

    bundle: str
    device: str
    options: dict[str, Any]


def read_targets(path: Path) -> tuple[Row, ...]:
    """All rows of the file.

    Raises:
        InputError: not to be read, no TOML, or a key or value that is not known.
        RuntimeMissingError: Python 3.10 without the package tomli.
    """
    try:
        content = _loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise InputError(f"{path} cannot be read: {err}") from err
    rows = content.get(_TABLE)
    if set(content) != {_TABLE} or not isinstance(rows, list) or not rows:
        raise InputError(f"{path}: write one [[target]] per bundle and device, and nothing else at the top")
    return tuple(_row(path, number, row) for number, row in enumerate(rows, 1))


def choose(rows: tuple[Row, ...], path: Path, bundle: str, device: str, target: str | None) -> Row:
    """The one row for a bundle on a device, and for a target where one is named.

    Raises:
        UsageError: none fits, or several do; the message lists them.
    """
    here = [row for row in rows if fnmatchcase(bundle, row.bundle) and fnmatchcase(device, row.device)]
    fitting = [row for row in here if target is None or row.options.get("target", target) == target]
    if len(fitting) == 1:
        return fitting[0]
    listed = "; ".join(
        f"{row.bundle} on {row.device}, {row.options.get('target', 'any target')}" for row in rows
    )
    wanted = f"bundle {bundle} on device {device}" + (f", target {target}" if target else "")
    if not fitting:
        raise UsageError(
            f"{path} has no row for {wanted}; there is {listed}. --device names this machine as the file does"
        )
    raise UsageError(
        f"{path} has {len(fitting)} rows for {wanted}; name one with --target. There is {listed}"
    )


def _row(path: Path, number: int, row: dict[str, Any]) -> Row:
    where = f"{path}, [[target]] number {number}"
    known = {"bundle": str, "device": str, **OPTIONS}
    for name, value in row.items():
        if name not in known:
            raise InputError(f"{where}: unknown key {name!r}; there is {', '.join(known)}")
        if not isinstance(value, known[name]) or isinstance(value, bool):
            shown = "a number" if known[name] is not str else 'text, such as "5ms" for a time'
            raise InputError(f"{where}: {name} = {value!r} is not {shown}")
    if "bundle" not in row:
        raise InputError(f'{where} has no bundle; write bundle = "NAME", or "*" for every one')
    options = {name: value for name, value in row.items() if name in OPTIONS}
    return Row(bundle=row["bundle"], device=row.get("device", "*"), options=options)


def _loads(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ModuleNotFoundError as err:
            raise RuntimeMissingError(
                "Python 3.10 reads targets.toml with the package tomli; pip install 'edgead[bench]'"
            ) from err
    return tomllib.loads(text)
