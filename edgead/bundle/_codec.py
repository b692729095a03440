"""JSON ↔ frozen dataclasses, strictly: the annotations are the schema.

Reading refuses what another language's reader might read differently: NaN, double keys, integers beyond
±2^53, control characters. Fields that the class does not have are ignored, so that a later minor addition
stays readable; fields that it has are all required, but for those with the metadata `OPTIONAL`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import types
import typing
from typing import Any, Literal, TypeVar, Union

from edgead.errors import BundleError, InternalError, UsageError

MAX_INTEGER = 2**53 - 1  # what a double, and so every JSON reader, holds exactly
MAX_NESTING = 32
OPTIONAL = {"optional": True}
"""Metadata of a field that may be missing; its default is not written."""

T = TypeVar("T")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def to_values(value: object) -> dict[str, Any]:
    """`value`, a dataclass of this module's kind, as what JSON holds.

    Raises:
        InternalError: as `dump`.
    """
    values = _plain(value, type(value).__name__)
    assert isinstance(values, dict)
    return values


def dump(value: object) -> bytes:
    """`value`, a dataclass of this module's kind, as UTF-8 JSON with a final newline.

    Raises:
        InternalError: something in it is no JSON value (a numpy scalar, NaN).
    """
    text = json.dumps(_plain(value, type(value).__name__), indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def _plain(value: object, where: str) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [
            field.name
            for field in dataclasses.fields(value)
            if not field.metadata.get("optional") or getattr(value, field.name) != field.default
        ]
        return {name: _plain(getattr(value, name), f"{where}.{name}") for name in names}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, str) and not _CONTROL.search(value):
        return value
    raise InternalError(f"{where} is {value!r} ({type(value).__name__}), which JSON cannot hold")


def parse(data: bytes, source: str, limit: int) -> object:
    """Read JSON of at most `limit` bytes.

    Raises:
        BundleError: too long, not UTF-8 JSON, or a value that not every reader would read alike.
    """
    if len(data) > limit:
        raise BundleError(f"{source} has {len(data):,} bytes, more than the limit of {limit:,}")
    try:
        tree = json.loads(data.decode(), object_pairs_hook=_single_keys, parse_constant=_no_constant)
    except RecursionError as err:
        raise BundleError(f"{source} is nested deeper than {MAX_NESTING} levels") from err
    except ValueError as err:
        raise BundleError(f"{source} is not valid JSON: {err}") from err
    _check_values(tree, source, 0)
    return tree


def _single_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result: dict[str, object] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r} stands twice")
        result[key] = value
    return result


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is not a number that JSON allows")


def _check_values(value: object, where: str, depth: int) -> None:
    if depth > MAX_NESTING:
        raise BundleError(f"{where} is nested deeper than {MAX_NESTING} levels")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_values(key, where, depth + 1)
            _check_values(item, _field(where, key), depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_values(item, where, depth + 1)
    elif isinstance(value, str) and _CONTROL.search(value):
        raise BundleError(f"{where}: {value[:80]!r} has control characters")
    elif isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise BundleError(f"{where}: an integer is larger than 2^53 - 1")
    elif isinstance(value, float) and not math.isfinite(value):
        raise BundleError(f"{where}: a number is too large for a double")


def decode(cls: type[T], tree: object, source: str) -> T:
    """Make a `cls` of parsed JSON.

    Raises:
        BundleError: a field is missing or of another type; the message says which.
    """
    result: T = _decode(cls, tree, source)
    return result


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _field(where: str, name: str) -> str:
    return f"{where}.{name}" if ": " in where else f"{where}: {name}"


def _wrong(where: str, value: object, expected: str) -> BundleError:
    shown = repr(value)
    return BundleError(f"{where} is {shown if len(shown) <= 80 else shown[:77] + '...'}, must be {expected}")


def _decode(hint: Any, value: object, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _decode_dataclass(hint, value, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):  # only `X | None` is used
        return None if value is None else _decode(arguments[0], value, where)
    if origin is Literal:
        if value not in arguments or not isinstance(value, str):
            raise _wrong(where, value, "one of " + ", ".join(arguments))
        return value
    if origin is tuple:
        return _decode_tuple(arguments, value, where)
    if origin is dict:
        if not isinstance(value, dict):
            raise _wrong(where, value, "an object")
        return {key: _decode(arguments[1], item, _field(where, key)) for key, item in value.items()}
    if hint is object:
        return value
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is str and isinstance(value, str):
        return value
    if hint is bool and isinstance(value, bool):
        return value
    names = {float: "a number", int: "an integer", str: "a string", bool: "true or false"}
    if hint not in names:
        raise InternalError(f"{where}: the codec has no rule for {hint}")
    raise _wrong(where, value, names[hint])


def _decode_dataclass(cls: Any, value: object, where: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(where, value, "an object")
    hints = _hints(cls)
    arguments: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if field.name not in value and field.metadata.get("optional"):
            continue
        if field.name not in value:
            raise BundleError(f"{where}: the field {field.name!r} is missing")
        arguments[field.name] = _decode(hints[field.name], value[field.name], _field(where, field.name))
    try:
        return cls(**arguments)
    except UsageError as err:  # its message names the class
        raise BundleError(f"{where.partition(': ')[0]}: {err}") from err


def _decode_tuple(arguments: tuple[Any, ...], value: object, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _wrong(where, value, "an array")
    if arguments[-1] is Ellipsis:
        return tuple(_decode(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if len(value) != len(arguments):
        raise _wrong(where, value, f"an array of {len(arguments)}")
    pairs = enumerate(zip(arguments, value, strict=True))
    return tuple(_decode(hint, item, f"{where}[{index}]") for index, (hint, item) in pairs)


def check_schema(tree: object, known: int, source: str) -> None:
    """Look at the schema before anything else, so that a later format gives the right advice.

    Raises:
        BundleError: no schema, or one that this edgead does not read.
    """
    schema = tree.get("schema") if isinstance(tree, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise BundleError(
            f"{source}: schema is {schema!r}, must be an integer from 1; this is no edgead file"
        )
    if schema > known:
        raise BundleError(
            f"{source}: schema {schema} was made by a newer edgead; upgrade (this one reads up to {known})"
        )
