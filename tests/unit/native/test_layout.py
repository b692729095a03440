"""The structs of the Python binding beside the C compiler's own, and its numbers beside the header's."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path

import pytest

from edgead import types
from edgead._native import (
    _library,
    bank_search,
    image,
    model,
    postprocessor,
    preprocessor,
    session,
    window_search,
)
from edgead.errors import BundleError, EngineError, ImageError, InternalError, RuntimeMissingError, UsageError

INCLUDE = Path(__file__).resolve().parents[3] / "runtimes" / "native" / "include"
HEADER = (INCLUDE / "edgead" / "edgead.h").read_text(encoding="utf-8")
STRUCTS: dict[str, type[ctypes.Structure]] = {
    "edgead_image": image.Image,
    "edgead_preprocess_options": preprocessor._Options,
    "edgead_banded": postprocessor.BandedStruct,
    "edgead_postprocess_options": postprocessor._Options,
    "edgead_region": postprocessor.RegionStruct,
    "edgead_post_params": postprocessor._Params,
    "edgead_post_result": postprocessor._Result,
    "edgead_search_level": window_search.LevelStruct,
    "edgead_window_search_options": window_search._Options,
    "edgead_bank_search_options": bank_search._Options,
    "edgead_model_options": model.ModelOptions,
    "edgead_thresholds": model.ThresholdsStruct,
    "edgead_model_info": model.InfoStruct,
    "edgead_self_test_result": model.SelfTestStruct,
    "edgead_session_options": session.SessionOptions,
    "edgead_result": session.ResultStruct,
}


def _declared() -> dict[str, list[str]]:
    """Struct → its fields, as the header declares them."""
    plain = re.sub(r"/\*.*?\*/", "", HEADER, flags=re.DOTALL)
    found = {}
    for name, body in re.findall(r"typedef struct (\w+) \{(.*?)\} \1;", plain, re.DOTALL):
        fields = []
        for declaration in body.split(";"):
            fields += [re.findall(r"\w+", part)[-1] for part in declaration.split(",") if part.strip()]
        found[name] = fields
    return found


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Sizes and offsets by the C compiler: ``edgead_image`` and ``edgead_image.width``, with ``:size``."""
    folder = tmp_path_factory.mktemp("layout")
    lines = []
    for name, fields in _declared().items():
        lines.append(f'printf("{name} %zu\\n", sizeof({name}));')
        for field in fields:
            lines.append(f'printf("{name}.{field} %zu\\n", offsetof({name}, {field}));')
            lines.append(f'printf("{name}.{field}:size %zu\\n", sizeof((({name} *)0)->{field}));')
    source = folder / "layout.c"
    source.write_text(
        "#include <stdio.h>\n#include <edgead/edgead.h>\nint main(void) {\n"
        + "\n".join(lines)
        + "\nreturn 0;\n}"
    )
    subprocess.run(
        ["cc", "-std=c99", "-I", str(INCLUDE), "-o", str(folder / "layout"), str(source)], check=True
    )
    said = subprocess.run([str(folder / "layout")], capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in (line.split() for line in said.splitlines())}


def test_every_struct_of_the_header_is_bound() -> None:
    assert _declared().keys() == STRUCTS.keys()


@pytest.mark.parametrize("name", STRUCTS)
def test_fields_lie_where_the_compiler_puts_them(name: str, compiled: dict[str, int]) -> None:
    struct = STRUCTS[name]
    fields = [field for field, *_ in struct._fields_]  # type: ignore[misc]
    assert fields == _declared()[name]
    assert ctypes.sizeof(struct) == compiled[name]
    for field in fields:
        descriptor = getattr(struct, field)
        assert descriptor.offset == compiled[f"{name}.{field}"], field
        assert descriptor.size == compiled[f"{name}.{field}:size"], field


def _numbers(prefix: str) -> dict[str, int]:
    pairs = re.findall(rf"#define {prefix}(\w+) \(?(?:\(uint64_t\))?(\d+)u?\)?", HEADER)
    return {name: int(value) for name, value in pairs}


def test_the_numbers_are_the_header_s() -> None:
    assert _numbers("EDGEAD_PIXEL_") == types.PIXEL_FORMATS
    assert _numbers("EDGEAD_ABI_")["VERSION"] == _library.ABI_VERSION
    cpu = {name.removeprefix("CPU_"): value for name, value in vars(_library).items() if name[:4] == "CPU_"}
    assert _numbers("EDGEAD_CPU_") == cpu
    banks = {"float32": "FP32", "float16": "FP16", "int8": "INT8"}
    assert _numbers("EDGEAD_BANK_") == {
        banks[name]: value for name, value in window_search.BANK_TYPES.items()
    }
    decisions = _numbers("EDGEAD_DECISION_")
    assert sorted(decisions, key=decisions.__getitem__) == list(session._DECISIONS)
    assert _numbers("EDGEAD_DEADLINE_") == {
        "FROM_CALL": session._FROM_CALL,
        "FROM_TRIGGER": session._FROM_TRIGGER,
    }
    tests = _numbers("EDGEAD_SELF_TEST_")
    assert [name.lower().replace("_", " ") for name in tests] == list(model._SELF_TESTS)
    assert list(tests.values()) == [0, 1, 2]


def test_every_status_has_its_error() -> None:
    errors = {
        "INVALID_ARGUMENT": UsageError,
        "INVALID_IMAGE": ImageError,
        "BUFFER_TOO_SMALL": UsageError,
        "UNSUPPORTED": RuntimeMissingError,
        "OUT_OF_MEMORY": RuntimeMissingError,
        "INTERNAL": InternalError,
        "NOT_FOUND": UsageError,
        "BUNDLE": BundleError,
        "RUNTIME_MISSING": RuntimeMissingError,
        "ENGINE": EngineError,
        "SELF_TEST": EngineError,
        "INVALID_STATE": InternalError,
    }
    codes = _numbers("EDGEAD_ERR_")
    assert codes.keys() == errors.keys()
    for name, kind in errors.items():
        message = _library.error_buffer()
        message.value = b"what happened"
        with pytest.raises(kind, match="what happened") as caught:
            _library.check(codes[name], message)
        assert type(caught.value) is kind, name
