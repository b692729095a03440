"""Every .cu file compiles for every GPU that edgead promises, without spilling a register."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgead.errors import EngineError
from edgead.runtimes.cuda._compile import FOLDER, SOURCES, compile_source

CAPABILITIES = [(7, 5), (8, 0), (8, 6), (8, 7), (8, 9), (9, 0)]
MOST_REGISTERS = 80  # three blocks of 256 threads per multiprocessor
# Two of them for 64 sums per thread, three of 128 threads for 36.
MORE_REGISTERS = {"bank_screen": 128, "window_match": 136}
MOST_SHARED = 48 * 1024


def test_every_source_is_listed() -> None:
    assert tuple(sorted(path.stem for path in FOLDER.glob("*.cu"))) == SOURCES


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_kernels_fit_without_spills(source: str, capability: tuple[int, int], tmp_path: Path) -> None:
    compiled = compile_source(source, capability, cache=tmp_path)
    assert compiled.cubin.startswith(b"\x7fELF")
    kernels = [
        line.partition("(")[2].partition(",")[0]
        for line in (FOLDER / f"{source}.cu").read_text().splitlines()
        if line.startswith("EDGEAD_KERNEL(")
    ]
    found = compiled.resources()
    assert sorted(found) == sorted(kernels)
    for name, taken in found.items():
        assert taken.spill_bytes == taken.stack_bytes == 0, name
        most = next((n for stem, n in MORE_REGISTERS.items() if name.startswith(stem)), MOST_REGISTERS)
        assert 0 < taken.registers <= most, name
        assert taken.shared_bytes <= MOST_SHARED, name
    assert compile_source(source, capability, cache=tmp_path) == compiled  # from the cache
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".cubin", ".log"]


def test_a_gpu_that_nvrtc_does_not_know_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="this GPU is sm_31"):
        compile_source("post", (3, 1), cache=tmp_path)


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.touch()
    assert compile_source("post", (9, 0), cache=taken).cubin.startswith(b"\x7fELF")


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not here")
@pytest.mark.parametrize("source", SOURCES)
def test_nvcc_takes_the_files_too(source: str, tmp_path: Path) -> None:
    command = ["nvcc", "-std=c++17", "-arch=sm_90", "-cubin", "--fmad=false", "-Werror=all-warnings"]
    done = subprocess.run(
        [*command, str(FOLDER / f"{source}.cu"), "-o", str(tmp_path / "out.cubin")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
