from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgead.benchmarks.targets_file import OPTIONS, choose, read_targets
from edgead.errors import InputError, UsageError

TWO = """
[[target]]
bundle = "solar"
device = "line-7"
target = "openvino:fp32"
scenario = "paced"
fps = 20
p99 = "50ms"

[[target]]
bundle = "solar"
device = "line-8"
deadline = "80ms"

[[target]]
bundle = "bottle*"
p999 = "9ms"
seconds = 1.5
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "targets.toml"
    path.write_text(TWO)
    return path


def test_a_row_per_bundle_and_device(file: Path) -> None:
    rows = read_targets(file)
    row = choose(rows, file, "solar", "line-7", None)
    assert row.options == {"target": "openvino:fp32", "scenario": "paced", "fps": 20, "p99": "50ms"}
    assert choose(rows, file, "solar", "line-8", "onnxruntime:fp32").options == {"deadline": "80ms"}
    assert choose(rows, file, "bottle-2", "anywhere", None).options == {"p999": "9ms", "seconds": 1.5}


@pytest.mark.parametrize(
    ("bundle", "device", "target"),
    [("solar", "line-9", None), ("moon", "line-7", None), ("solar", "line-7", "onnxruntime:fp32")],
)
def test_no_row_fits(file: Path, bundle: str, device: str, target: str | None) -> None:
    with pytest.raises(UsageError, match=r"has no row for bundle .*there is solar on line-7, openvino:fp32"):
        choose(read_targets(file), file, bundle, device, target)


def test_several_rows_fit(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text(
        '[[target]]\nbundle = "*"\ntarget = "a:fp32"\n[[target]]\nbundle = "x"\ntarget = "b:fp32"\n'
    )
    rows = read_targets(path)
    with pytest.raises(UsageError, match="2 rows for bundle x on device d; name one with --target"):
        choose(rows, path, "x", "d", None)
    assert choose(rows, path, "x", "d", "b:fp32").options == {"target": "b:fp32"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "write one [[target]] per bundle"),
        ("p99 = '5ms'", "write one [[target]] per bundle"),
        ("[target]\nbundle = 'a'", "write one [[target]] per bundle"),
        ("[[target]\n", "cannot be read"),
        ("[[target]]\np99 = '5ms'", "number 1 has no bundle"),
        ("[[target]]\nbundle = 'a'\nP99 = '5ms'", "unknown key 'P99'; there is bundle, device, target"),
        ("[[target]]\nbundle = 'a'\np99 = 5", "p99 = 5 is not text"),
        ("[[target]]\nbundle = 'a'\nfps = '20'", "fps = '20' is not a number"),
        ("[[target]]\nbundle = 'a'\nqueries = true", "queries = True is not a number"),
        ("[[target]]\nbundle = 'a'\nqueries = 1.5", "queries = 1.5 is not a number"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(message)):
        read_targets(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_targets(tmp_path / "none.toml")


def test_every_key_is_an_option_of_the_plan() -> None:
    import inspect

    from edgead.workflows._bench_plan import Plan

    assert set(OPTIONS) - {"target"} <= set(inspect.signature(Plan.of).parameters)
