"""The drawn tree of edgead.errors is what the classes are."""

from __future__ import annotations

import inspect
import re

from edgead import errors

_LINE = re.compile(r"^(?P<indent>[ │├└─]*)(?P<name>[A-Z]\w+)(?: +(?P<code>\d+) {3}(?P<when>\S.*))?$")
_STEP = 4  # columns per level of the drawing


def _drawn() -> dict[str, tuple[str | None, int | None]]:
    """Name → (parent, exit code) as drawn in the module's docstring."""
    tree: dict[str, tuple[str | None, int | None]] = {}
    path: list[str] = []
    for line in inspect.getdoc(errors).splitlines():  # type: ignore[union-attr]
        match = _LINE.match(line.removeprefix(" " * _STEP)) if line.startswith(" " * _STEP) else None
        if match is None:
            continue
        level = len(match["indent"]) // _STEP
        del path[level:]
        parent = path[-1] if path else None
        tree[match["name"]] = (parent, int(match["code"]) if match["code"] else None)
        path.append(match["name"])
    return tree


def _classes() -> dict[str, type[Exception]]:
    return {
        name: member
        for name, member in inspect.getmembers(errors, inspect.isclass)
        if issubclass(member, Exception) and member.__module__ == errors.__name__
    }


def test_every_class_is_drawn_and_every_drawn_name_is_a_class() -> None:
    assert _drawn().keys() == _classes().keys()
    assert len(_drawn()) >= 15


def test_parents_are_as_drawn() -> None:
    classes = _classes()
    for name, (parent, _) in _drawn().items():
        expected = classes[parent] if parent is not None else Exception
        assert classes[name].__bases__ == (expected,), name


def test_exit_codes_are_as_drawn() -> None:
    classes = _classes()
    for name, (_, code) in _drawn().items():
        if code is not None:
            assert classes[name].exit_code == code, name  # type: ignore[attr-defined]


def test_families_that_are_not_each_others_parents_share_no_exit_code() -> None:
    drawn = _drawn()
    families = {
        name: code for name, (parent, code) in drawn.items() if parent in (None, "EdgeadError") and code
    }
    assert len(set(families.values())) == len(families)


def test_a_bug_is_no_user_error() -> None:
    assert not issubclass(errors.InternalError, errors.EdgeadError)
