"""What a C or C++ program gets: the tarball of `make dist-native`, unpacked elsewhere, linked against."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "runtimes" / "native" / "cmake" / "dist.cmake"
STRICT = ["-pedantic", "-Wall", "-Wextra", "-Werror"]
MOST_BYTES = 2 * 2**20
NEWEST_GLIBC = (2, 35)  # Ubuntu 22.04, JetPack 6

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="builds the x86-64 tarball"),
]

C_CONSUMER = """\
#include <edgead/edgead.h>
#include <stdio.h>

int main(void) {
  char message[512];
  edgead_model *model = NULL;
  if (edgead_abi_check(EDGEAD_ABI_VERSION, message, sizeof message) != EDGEAD_OK) return 1;
  const edgead_status status = edgead_model_open("nowhere.edgead", NULL, &model, message, sizeof message);
  if (status != EDGEAD_ERR_NOT_FOUND) return 2;
  printf("%s %s\\n", edgead_version_string(), message);
  return 0;
}
"""
CXX_CONSUMER = """\
#include <edgead/edgead.hpp>
#include <iostream>

int main() {
  try {
    edgead::Model model("nowhere.edgead");
  } catch (const edgead::Error &error) {
    std::cout << edgead_version_string() << ' ' << error.what() << '\\n';
    return error.status() == EDGEAD_ERR_NOT_FOUND ? 0 : 2;
  }
  return 1;
}
"""
CMAKE_CONSUMER = """\
cmake_minimum_required(VERSION 3.20)
project(consumer LANGUAGES C CXX)
find_package(edgead 0.1 REQUIRED)
set(CMAKE_CXX_STANDARD 17)
add_executable(in_c main.c)
add_executable(in_cxx main.cpp)
target_link_libraries(in_c PRIVATE edgead::edgead)
target_link_libraries(in_cxx PRIVATE edgead::edgead)
"""


def run(*words: object, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a program that must succeed; give its stdout."""
    command = [str(word) for word in words]
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def cmake() -> str:
    """The CMake of the environment that runs this test."""
    own = Path(sys.executable).with_name("cmake")
    found = str(own) if own.exists() else shutil.which("cmake")
    assert found, "cmake is missing; pip install cmake"
    return found


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tarball, made and unpacked into a folder that is neither the tree nor the build."""
    work = tmp_path_factory.mktemp("dist")
    options = {"ARCH": "x86_64", "OUT": work / "out", "BUILD": work / "build", "PYTHON": sys.executable}
    run(cmake(), *(f"-D{key}={value}" for key, value in options.items()), "-P", DIST, cwd=work)
    (made,) = (work / "out").iterdir()
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
    assert version is not None
    assert made.name == f"edgead-{version[1]}-linux-x86_64.tar.gz"
    with tarfile.open(made) as archive:
        archive.extractall(work / "unpacked", filter="data")
    shutil.rmtree(work / "build")
    (folder,) = (work / "unpacked").iterdir()
    return folder.rename(work / "edgead elsewhere")  # a space, and another name


@pytest.fixture
def consumer(tmp_path: Path) -> Path:
    (tmp_path / "main.c").write_text(C_CONSUMER)
    (tmp_path / "main.cpp").write_text(CXX_CONSUMER)
    (tmp_path / "CMakeLists.txt").write_text(CMAKE_CONSUMER)
    return tmp_path


def test_the_tarball_holds_what_its_readme_says(prefix: Path) -> None:
    files = {path.relative_to(prefix).as_posix() for path in prefix.rglob("*") if not path.is_dir()}
    assert {
        *("LICENSE", "README.txt", "include/edgead/edgead.h", "include/edgead/edgead.hpp"),
        *("lib/libedgead.so", "lib/libedgead.so.1", "lib/pkgconfig/edgead.pc"),
        *("lib/cmake/edgead/edgeadConfig.cmake", "lib/cmake/edgead/edgeadConfigVersion.cmake"),
        *("examples/04_triggered_line_c/triggered_line.c", "examples/05_cameras_cpp/cameras.cpp"),
    } <= files
    assert (prefix / "lib" / "libedgead.so").readlink() == Path("libedgead.so.1")
    assert "@" not in (prefix / "README.txt").read_text()
    for file in sorted(files):  # relocatable: nothing remembers where it was built
        content = (prefix / file).read_bytes()
        assert str(ROOT).encode() not in content, file
        assert str(prefix.parent).encode() not in content, file


def test_the_library_is_small_and_needs_the_c_library_alone(
    prefix: Path, record_property: Callable[[str, object], None]
) -> None:
    library = prefix / "lib" / "libedgead.so.1"
    dynamic = run("readelf", "-dW", library, cwd=prefix)
    needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic))
    assert needed <= {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2"}
    assert re.findall(r"\(SONAME\).*\[(.+)\]", dynamic) == ["libedgead.so.1"]
    assert "RPATH" not in dynamic
    assert "RUNPATH" not in dynamic
    assert "not found" not in run("ldd", library, cwd=prefix)
    assert ".symtab" not in run("readelf", "-SW", library, cwd=prefix)  # stripped
    size = library.stat().st_size
    record_property("library_bytes", size)
    assert size <= MOST_BYTES
    versions = re.findall(r"GLIBC_(\d+)\.(\d+)", run("readelf", "-VW", library, cwd=prefix))
    newest = max((int(major), int(minor)) for major, minor in versions)
    assert newest <= NEWEST_GLIBC
    assert f"glibc {newest[0]}.{newest[1]} or newer" in (prefix / "README.txt").read_text()


def test_a_program_builds_by_find_package(prefix: Path, consumer: Path) -> None:
    run(cmake(), "-S", ".", "-B", "build", f"-DCMAKE_PREFIX_PATH={prefix}", cwd=consumer)
    run(cmake(), "--build", "build", cwd=consumer)
    for program in ("in_c", "in_cxx"):
        assert "nowhere.edgead" in run(consumer / "build" / program, cwd=consumer)


def test_find_package_refuses_a_version_to_come(prefix: Path, consumer: Path) -> None:
    listed = consumer / "CMakeLists.txt"
    listed.write_text(listed.read_text().replace("edgead 0.1", "edgead 999"))
    words = [cmake(), "-S", ".", "-B", "build", f"-DCMAKE_PREFIX_PATH={prefix}"]
    done = subprocess.run(words, cwd=consumer, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "999" in done.stderr


def test_a_program_builds_by_pkg_config(prefix: Path, consumer: Path) -> None:
    if shutil.which("pkg-config") is None:
        pytest.skip("pkg-config is missing; apt install pkg-config")
    environment = {
        "PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig"),
        "LD_LIBRARY_PATH": str(prefix / "lib"),
    }
    for compiler, standard, source in (("cc", "c99", "main.c"), ("c++", "c++17", "main.cpp")):
        flags = "$(pkg-config --cflags --libs edgead)"
        line = f"{compiler} -std={standard} {' '.join(STRICT)} {source} -o program {flags}"
        # eval: pkg-config escapes the space in the path for the shell
        run("sh", "-c", f'eval "{line}"', cwd=consumer, env=environment)
        assert "nowhere.edgead" in run(consumer / "program", cwd=consumer, env=environment)
