"""The native examples and the Python one with their loop, held to the Python session on a bundle."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGET = "openvino:fp32"
# Printed to 4 digits; the C session's float arithmetic is the Python session's.
SCORE_TOLERANCE = 2e-3
FAR_FROM_THE_THRESHOLD = 2e-3
LINE = re.compile(r"^(pass  |REJECT) (OK|NG|ERROR) +(-?[\d.]+|-?nan) (?:part|camera) (\d+) (\S+)(.*)$")

Program = Callable[..., str]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@dataclass(frozen=True)
class Judged:
    """One printed line of an example."""

    decision: str
    score: float
    number: int
    name: str
    note: str


def judged(printed: str) -> list[Judged]:
    """The lines about parts; a part passes on OK alone."""
    found = []
    for line in printed.splitlines():
        match = LINE.match(line)
        if match is None:
            continue
        gate, decision, score, number, name, note = match.groups()
        assert (gate == "REJECT") is (decision != "OK"), line
        found.append(Judged(decision, float(score), int(number), name, note.strip()))
    return found


@pytest.fixture(scope="session")
def engine() -> dict[str, str]:
    """Environment that says where the engine of the openvino wheel lies."""
    openvino = pytest.importorskip("openvino")
    (library,) = (Path(openvino.__file__).parent / "libs").glob("libopenvino_c.so*")
    return {"EDGEAD_OPENVINO_LIBRARY": str(library)}


@pytest.fixture(scope="session")
def expected(spine: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float]]:
    """Frame file → decision and score of the Python session; PPM and PGM, good and defective."""
    import cv2

    from edgead import Session, open_bundle, read_image

    folder = tmp_path_factory.mktemp("frames")
    for path in sorted((spine.data / "test").rglob("*.png")):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert cv2.imwrite(str(folder / f"{path.parent.name}_{path.stem}.ppm"), image)
    gray = cv2.imread(str(next((spine.data / "test" / "good").glob("*.png"))), cv2.IMREAD_GRAYSCALE)
    assert cv2.imwrite(str(folder / "gray.pgm"), gray[:70])
    found = {}
    with open_bundle(spine.bundle) as bundle, Session.open(bundle, TARGET) as session:
        for path in sorted(folder.iterdir()):
            prediction = session.predict(read_image(path))
            found[str(path)] = (prediction.decision, prediction.score)
    assert {decision for decision, _ in found.values()} == {"OK", "NG"}
    return found


def agree(lines: list[Judged], expected: dict[str, tuple[str, float]]) -> None:
    assert sorted(line.name for line in lines) == sorted(expected)
    for line in lines:
        decision, score = expected[line.name]
        assert line.score == pytest.approx(score, abs=SCORE_TOLERANCE), line
        if abs(score - 0.5) > FAR_FROM_THE_THRESHOLD:
            assert line.decision == decision, line


@pytest.fixture(scope="session")
def built(native_prefix: Path, program: Program, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both native examples, from the unpacked tarball, with warnings as errors."""
    work, made = tmp_path_factory.mktemp("examples"), {}
    strict = "-pedantic -Wall -Wextra -Werror"
    for folder in sorted((native_prefix / "examples").iterdir()):
        build = work / folder.name
        flags = [f"-DCMAKE_{language}_FLAGS={strict}" for language in ("C", "CXX")]
        program(
            *("cmake", "-S", folder, "-B", build, f"-DCMAKE_PREFIX_PATH={native_prefix}", *flags, "-Wno-dev"),
            "-DCMAKE_BUILD_TYPE=Release",
            cwd=work,
        )
        program("cmake", "--build", build, cwd=work)
        (source,) = (*folder.glob("*.c"), *folder.glob("*.cpp"))
        made[folder.name] = build / source.stem
    assert sorted(made) == ["04_triggered_line_c", "05_cameras_cpp"]
    return made


@pytest.fixture
def line(
    built: dict[str, Path], engine: dict[str, str], spine: Any, tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the triggered line in C."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
        words = [built["04_triggered_line_c"], spine.bundle, "--target", TARGET, *arguments]
        process = subprocess.Popen(
            [str(word) for word in words],
            cwd=tmp_path,
            env={**os.environ, **engine, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_line_in_c_decides_as_python_does(line: Any, expected: dict[str, tuple[str, float]]) -> None:
    process = line("--interval-ms", 0, "--deadline-ms", 0, *expected)
    out, err = process.communicate()
    assert process.returncode == 0, err
    lines = judged(out)
    assert [each.number for each in lines] == list(range(len(expected)))  # one worker: in order
    agree(lines, expected)
    rejected = sum(each.decision != "OK" for each in lines)
    assert f"{len(expected)} judged, {rejected} rejected, 0 dropped, 0 late" in out
    assert "trigger to decision: median " in out


def test_a_late_answer_of_the_line_in_c_is_a_reject(
    line: Any, expected: dict[str, tuple[str, float]]
) -> None:
    process = line("--interval-ms", 0, "--deadline-ms", 0.001, *expected)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert [each.decision for each in judged(out)] == ["ERROR"] * len(expected)
    assert f"{len(expected)} rejected, 0 dropped, {len(expected)} late" in out


def test_a_part_without_a_free_buffer_is_a_reject(line: Any) -> None:
    process = line(
        "--interval-ms", 0.01, "--deadline-ms", 0, "--parts", 500
    )  # drawn frames, no engine is that fast
    out, err = process.communicate()
    assert process.returncode == 0, err
    lines = judged(out)
    assert sorted(each.number for each in lines) == list(range(500))
    dropped = [each for each in lines if each.name == "dropped:"]
    assert dropped
    assert all(each.decision == "ERROR" for each in dropped)
    assert f"{500 - len(dropped)} judged, " in out
    assert f", {len(dropped)} dropped, 0 late" in out


def test_the_line_in_c_stops_cleanly(line: Any) -> None:
    process = line("--interval-ms", 20, "--parts", 100_000, "--deadline-ms", 0)
    first = process.stdout.readline()
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    rest, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    lines = judged(first + rest)
    assert [each.number for each in lines] == list(range(len(lines)))  # every triggered part was answered
    assert f"{len(lines)} judged, " in rest


def test_the_line_in_c_says_what_is_missing(line: Any, tmp_path: Path) -> None:
    process = line(EDGEAD_OPENVINO_LIBRARY=str(tmp_path / "libnowhere.so"))
    out, err = process.communicate()
    assert process.returncode == 1
    assert "libnowhere.so" in err
    assert not judged(out)


def test_the_cameras_in_cxx_decide_as_python_does(
    built: dict[str, Path],
    engine: dict[str, str],
    spine: Any,
    expected: dict[str, tuple[str, float]],
    program: Program,
    tmp_path: Path,
) -> None:
    out = program(built["05_cameras_cpp"], spine.bundle, 3, *expected, cwd=tmp_path, env=engine)
    lines = judged(out)
    agree(lines, expected)
    for camera in range(3):
        names = [each.name for each in lines if each.number == camera]
        assert names == list(expected)[camera::3]
        assert f"camera {camera}: {len(names)} judged, " in out
    assert out.startswith(f"{TARGET} on simplenet sha256:")


def test_the_line_in_python_decides_as_the_session_does(
    spine: Any, expected: dict[str, tuple[str, float]], program: Program, tmp_path: Path
) -> None:
    script = ROOT / "examples" / "06_triggered_line_python" / "triggered_line.py"
    words = [sys.executable, script, spine.bundle, *expected, "--target", TARGET]
    out = program(*words, "--interval-ms", 0, "--deadline-ms", 0, cwd=tmp_path)
    lines = judged(out)
    agree(lines, expected)
    rejected = sum(each.decision != "OK" for each in lines)
    assert f"{len(expected)} judged, {rejected} rejected, 0 dropped, 0 late" in out
    late = judged(program(*words, "--interval-ms", 0, "--deadline-ms", 0.001, cwd=tmp_path))
    assert {each.decision for each in late} == {"ERROR"}


def test_the_line_in_python_stops_cleanly(spine: Any, expected: dict[str, tuple[str, float]]) -> None:
    script = ROOT / "examples" / "06_triggered_line_python" / "triggered_line.py"
    words = [sys.executable, script, spine.bundle, *[next(iter(expected))] * 5000, "--interval-ms", "20"]
    process = subprocess.Popen(
        list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    rest, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    lines = judged(first + rest)
    assert [each.number for each in lines] == list(range(len(lines)))
    assert f"{len(lines)} judged, " in rest
