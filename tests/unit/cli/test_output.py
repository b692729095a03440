from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest

from edgead.cli import _output
from edgead.types import Region, Target


def test_json_is_data_on_stdout_and_says_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"target": Target("openvino", "fp32"), "path": Path("a/b"), "scores": np.array([1.0, math.nan])}
    _output.emit(data, as_json=True, human="not this")
    out, err = capsys.readouterr()
    assert json.loads(out) == {"target": "openvino:fp32", "path": "a/b", "scores": [1.0, None]}
    assert err == ""


def test_human_text_is_made_only_when_it_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    def never() -> str:
        raise AssertionError

    _output.emit([1], as_json=True, human=never)
    _output.emit([1], as_json=False, human=lambda: "one")
    assert capsys.readouterr().out == "[\n  1\n]\none\n"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Region((1, 2, 3, 4), 12, 0.5), {"box": [1, 2, 3, 4], "area": 12, "peak": 0.5}),
        ({"a": (np.float32(0.25), np.int64(3))}, {"a": [0.25, 3]}),
        (-math.inf, None),
        (True, True),
        (None, None),
    ],
)
def test_jsonable(value: object, expected: object) -> None:
    assert _output.jsonable(value) == expected


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_only_in_a_terminal_that_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert _output.colour("x", "red", io.StringIO()) == "x"
    assert _output.colour("x", "red", _Terminal()) == "\x1b[31mx\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert _output.colour("x", "red", _Terminal()) == "x"


def test_table_aligns_numbers_right_and_is_never_cut() -> None:
    long = "p" * 300
    assert _output.table(("name", "ms"), [(long, 1), ("b", 10)]).splitlines() == [
        f"name{' ' * 296}  ms",
        f"{'─' * 300}  ──",
        f"{long}   1",
        f"b{' ' * 299}  10",
    ]
    assert _output.table(("name",), []) == "name\n────"


def test_a_terminal_without_unicode_gets_question_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    _output.emit(None, as_json=False, human="✓ fine")
    assert raw.getvalue() == b"? fine\n"
