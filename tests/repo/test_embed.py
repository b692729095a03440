"""What a C or C++ program gets: the tarball of `make dist-native`, unpacked elsewhere, linked against."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STRICT = ["-pedantic", "-Wall", "-Wextra", "-Werror"]
MOST_BYTES = 2 * 2**20
NEWEST_GLIBC = (2, 35)  # Ubuntu 22.04, JetPack 6

pytestmark = pytest.mark.slow

Program = Callable[..., str]

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


@pytest.fixture
def consumer(tmp_path: Path) -> Path:
    (tmp_path / "main.c").write_text(C_CONSUMER)
    (tmp_path / "main.cpp").write_text(CXX_CONSUMER)
    (tmp_path / "CMakeLists.txt").write_text(CMAKE_CONSUMER)
    return tmp_path


def test_the_tarball_holds_what_its_readme_says(native_prefix: Path) -> None:
    files = {
        path.relative_to(native_prefix).as_posix() for path in native_prefix.rglob("*") if not path.is_dir()
    }
    assert {
        *("LICENSE", "README.txt", "include/edgead/edgead.h", "include/edgead/edgead.hpp"),
        *("lib/libedgead.so", "lib/libedgead.so.1", "lib/pkgconfig/edgead.pc"),
        *("lib/cmake/edgead/edgeadConfig.cmake", "lib/cmake/edgead/edgeadConfigVersion.cmake"),
        *("examples/04_triggered_line_c/triggered_line.c", "examples/05_cameras_cpp/cameras.cpp"),
    } <= files
    assert (native_prefix / "lib" / "libedgead.so").readlink() == Path("libedgead.so.1")
    assert "@" not in (native_prefix / "README.txt").read_text()
    for file in sorted(files):  # relocatable: nothing remembers where it was built
        content = (native_prefix / file).read_bytes()
        assert str(ROOT).encode() not in content, file
        assert str(native_prefix.parent).encode() not in content, file


def test_the_library_is_small_and_needs_the_c_library_alone(
    native_prefix: Path, program: Program, record_property: Callable[[str, object], None]
) -> None:
    library = native_prefix / "lib" / "libedgead.so.1"
    dynamic = program("readelf", "-dW", library, cwd=native_prefix)
    needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic))
    assert {name for name in needed if not name.startswith("ld-linux")} <= {"libc.so.6", "libm.so.6"}
    assert re.findall(r"\(SONAME\).*\[(.+)\]", dynamic) == ["libedgead.so.1"]
    assert "RPATH" not in dynamic
    assert "RUNPATH" not in dynamic
    assert "not found" not in program("ldd", library, cwd=native_prefix)
    assert ".symtab" not in program("readelf", "-SW", library, cwd=native_prefix)  # stripped
    size = library.stat().st_size
    record_property("library_bytes", size)
    assert size <= MOST_BYTES
    versions = re.findall(r"GLIBC_(\d+)\.(\d+)", program("readelf", "-VW", library, cwd=native_prefix))
    newest = max((int(major), int(minor)) for major, minor in versions)
    assert newest <= NEWEST_GLIBC
    assert f"glibc {newest[0]}.{newest[1]} or newer" in (native_prefix / "README.txt").read_text()


def test_a_program_builds_by_find_package(native_prefix: Path, program: Program, consumer: Path) -> None:
    program("cmake", "-S", ".", "-B", "build", f"-DCMAKE_PREFIX_PATH={native_prefix}", cwd=consumer)
    program("cmake", "--build", "build", cwd=consumer)
    for name in ("in_c", "in_cxx"):
        assert "nowhere.edgead" in program(consumer / "build" / name, cwd=consumer)


def test_find_package_refuses_a_version_to_come(
    native_prefix: Path, program: Program, consumer: Path
) -> None:
    own = Path(sys.executable).with_name("cmake")
    cmake = str(own) if own.exists() else "cmake"
    listed = consumer / "CMakeLists.txt"
    listed.write_text(listed.read_text().replace("edgead 0.1", "edgead 999"))
    words = [cmake, "-S", ".", "-B", "build", f"-DCMAKE_PREFIX_PATH={native_prefix}"]
    done = subprocess.run(words, cwd=consumer, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "999" in done.stderr


def test_a_program_builds_by_pkg_config(native_prefix: Path, program: Program, consumer: Path) -> None:
    if shutil.which("pkg-config") is None:
        pytest.skip("pkg-config is missing; apt install pkg-config")
    environment = {
        "PKG_CONFIG_PATH": str(native_prefix / "lib" / "pkgconfig"),
        "LD_LIBRARY_PATH": str(native_prefix / "lib"),
    }
    for compiler, standard, source in (("cc", "c99", "main.c"), ("c++", "c++17", "main.cpp")):
        flags = "$(pkg-config --cflags --libs edgead)"
        line = f"{compiler} -std={standard} {' '.join(STRICT)} {source} -o program {flags}"
        # eval: pkg-config escapes the space in the path for the shell
        program("sh", "-c", f'eval "{line}"', cwd=consumer, env=environment)
        assert "nowhere.edgead" in program(consumer / "program", cwd=consumer, env=environment)


def test_the_readme_shows_a_program_that_builds_and_judges(
    native_prefix: Path, program: Program, tmp_path: Path
) -> None:
    openvino = pytest.importorskip("openvino")
    (engine,) = (Path(openvino.__file__).parent / "libs").glob("libopenvino_c.so*")
    (code,) = re.findall(r"^```c\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
    (tmp_path / "main.c").write_text(code)
    lib, environment = native_prefix / "lib", {"EDGEAD_OPENVINO_LIBRARY": str(engine)}
    strict = ["-std=c99", *STRICT, "-I", native_prefix / "include", "-L", lib, f"-Wl,-rpath,{lib}"]
    program("cc", "main.c", "-o", "judge", *strict, "-ledgead", cwd=tmp_path)
    (tmp_path / "part.edgead").symlink_to(ROOT / "tests" / "golden" / "bundle_v1.edgead")
    # a frame of grey value v scores 0.75·v there, and 126 is the threshold
    assert program(tmp_path / "judge", cwd=tmp_path, env=environment) == "pass\n"
    (tmp_path / "main.c").write_text(code.replace("1280 * 1024];", "1280 * 1024] = {[0 ... 1310719] = 240};"))
    program("cc", "main.c", "-o", "judge", *strict, "-Wno-pedantic", "-ledgead", cwd=tmp_path)
    assert program(tmp_path / "judge", cwd=tmp_path, env=environment) == "reject\n"
