"""The README's commands, run once in order on drawn parts; the tarball that C programs build against."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SIZE = 96
_FOLDERS = {
    "good-images": (24, False),
    "new-images": (3, True),
    "site-good": (4, False),
    "labelled/test/good": (4, False),
    "labelled/test/scratch": (4, True),
}


@dataclass(frozen=True)
class Done:
    """One command or Python block of the README, and how it ended."""

    text: str
    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Tour:
    """The folder that the README's commands leave behind."""

    folder: Path
    done: tuple[Done, ...]


def blocks() -> list[tuple[str, str]]:
    """(language, text) of every fenced block of the README."""
    return _FENCE.findall((ROOT / "README.md").read_text(encoding="utf-8"))


def steps() -> list[list[str]]:
    """What the README tells its reader to run, as arguments of Python; the two set-up commands apart."""
    found = []
    for language, text in blocks():
        if language == "python":
            found.append(["-c", text])
        elif language == "sh":
            for line in text.replace("\\\n", " ").splitlines():
                program, *arguments = shlex.split(line)
                if program == "make":
                    continue
                assert program == "edgead", f"the test cannot run {line!r}"
                found.append(["-m", "edgead", *arguments])
    return found


def _draw(folder: Path, count: int, scratched: bool, random: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    y, x = np.mgrid[:_SIZE, :_SIZE]
    for index in range(count):
        pixels = 150 + 20 * np.sin(x / 5) + 10 * np.sin(y / 11) + random.normal(0, 4, (_SIZE, _SIZE))
        if scratched:
            left, top = (int(at) for at in random.integers(20, _SIZE - 40, 2))
            cv2.line(pixels, (left, top), (left + 22, top + 16), 40, 3)
        assert cv2.imwrite(str(folder / f"{index + 1:04}.png"), pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Tour:
    """Run everything. Takes a minute or two: the training is a real one."""
    folder, random = tmp_path_factory.mktemp("tour"), np.random.default_rng(0)
    for name, (count, scratched) in _FOLDERS.items():
        _draw(folder / name, count, scratched, random)
    done = []
    for arguments in steps():
        ended = subprocess.run(
            [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
        done.append(Done(" ".join(arguments[1:]), ended.returncode, ended.stdout, ended.stderr))
    return Tour(folder, tuple(done))


Program = Callable[..., str]


@pytest.fixture(scope="session")
def program() -> Program:
    """Run a program that must succeed: ``program("cmake", …, cwd=…, env=…)`` gives its stdout."""

    def run(*words: object, cwd: Path, env: dict[str, str] | None = None) -> str:
        command = [str(word) for word in words]
        own = Path(sys.executable).with_name("cmake")  # it may come by pip
        if command[0] == "cmake" and own.exists():
            command[0] = str(own)
        done = subprocess.run(
            command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def native_prefix(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This machine's tarball of `make dist-native`, unpacked away from the tree; the build is gone."""
    if shutil.which("cmake") is None and not Path(sys.executable).with_name("cmake").exists():
        pytest.skip("cmake is missing; pip install '.[dev]'")
    work = tmp_path_factory.mktemp("dist")
    script = ROOT / "runtimes" / "native" / "cmake" / "dist.cmake"
    options = {"OUT": work / "out", "BUILD": work / "build", "PYTHON": sys.executable}
    words = [f"-D{key}={value}" for key, value in options.items()]
    program("cmake", f"-DARCH={platform.machine()}", *words, "-P", script, cwd=work)
    (made,) = (work / "out").iterdir()
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    assert version is not None
    assert made.name == f"edgead-{version[1]}-linux-{platform.machine()}.tar.gz"
    with tarfile.open(made) as archive:
        archive.extractall(work / "unpacked", filter="data")
    shutil.rmtree(work / "build")
    (folder,) = (work / "unpacked").iterdir()
    return folder.rename(work / "edgead elsewhere")  # a space, and another name
