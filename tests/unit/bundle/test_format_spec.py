"""FORMAT.md says what the code does: its example is read, every field and limit stands in it."""

from __future__ import annotations

import dataclasses
import re
import typing
from pathlib import Path
from typing import Any

import edgead.bundle
from edgead.bundle import _codec, _tree, head, sidecar
from edgead.bundle.manifest import Manifest
from edgead.types import MAX_TILES

TEXT = (Path(edgead.bundle.__path__[0]) / "FORMAT.md").read_text(encoding="utf-8")


def fields(cls: Any, seen: set[str]) -> set[str]:
    for field in dataclasses.fields(cls):
        seen.add(field.name)
        hint = typing.get_type_hints(cls)[field.name]
        for part in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(part):
                fields(part, seen)
    return seen


def test_the_example_is_read() -> None:
    example = re.search(r"```json\n(.*?)```", TEXT, re.DOTALL)
    assert example is not None
    assert Manifest.from_json(example[1].encode()).detector.name == "simplenet"


def test_every_field_stands_in_the_specification() -> None:
    prose = TEXT.split("## Example")[0]
    names = fields(Manifest, set()) | fields(sidecar.SiteThresholds, set()) | fields(head.WindowSearch, set())
    assert len(names) > 60
    assert not [name for name in sorted(names) if f"`{name}`" not in prose and f"`{name}` " not in prose]


def test_every_limit_stands_in_the_specification() -> None:
    assert f"At most {_tree.MAX_FILES:,} files and {_tree.MAX_TOTAL_BYTES >> 30} GiB" in TEXT
    assert f"`manifest.json` at most {_tree.MAX_MANIFEST_BYTES >> 20} MiB" in TEXT
    assert f"`MANIFEST.sha256` at most {_tree.MAX_HASH_LIST_BYTES >> 20} MiB" in TEXT
    assert f"at most {_tree.MAX_NAME} characters and {_tree.MAX_DEPTH} parts" in TEXT
    assert f"nesting at most {_codec.MAX_NESTING}" in TEXT
    assert f"(at most {sidecar.MAX_BYTES >> 20} MiB)" in TEXT
    assert f"N (1 to {head.MAX_REFERENCES:,})" in TEXT
    assert f"D (1 to {head.MAX_DIM:,})" in TEXT
    assert f"1 to {head.MAX_LEVELS} `levels`" in TEXT
    assert f"`width` (1 to {head.MAX_SIDE:,}), `window` (odd, 1 to {head.MAX_WINDOW})" in TEXT
    assert f"(1 to {MAX_TILES} each) tiles" in TEXT
    assert f"at most {head.MAX_BANK_BYTES >> 30} GiB, vectors" in TEXT
