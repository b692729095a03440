# make quickstart   install into .venv, then train, export, verify, bench and run on real images
# make test         install with the development extras, run the C++ tests and pytest
# make test-sanitize  C++ tests under ASan, UBSan and TSan, Python's native ones under ASan
# make test-arm     cross-compile for 64-bit ARM and run the C++ tests under qemu
# make fuzz         fuzz bundle reader and image view, FUZZ_SECONDS each (needs clang)
# make dist-native  tarballs of libedgead for C and C++ programs, x86-64 and ARM, in build/dist
# make check        format, lint, layers, types
# make format       let ruff mend what it can
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# 2 jobs: a light IPC should survive the build
export CMAKE_BUILD_PARALLEL_LEVEL ?= 2
SOURCES := $(shell find edgead exporters runtimes calibration benchmarks -type f \
	-not -name '*.pyc' -not -path 'benchmarks/suites/*') pyproject.toml constraints.txt README.md

.PHONY: quickstart test check format ctest test-sanitize test-arm fuzz dist-native clean
.DELETE_ON_ERROR:

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.quickstart: .venv/bin/python $(SOURCES)
	@echo "installing edgead with its quickstart extras into .venv (a minute or two)"
	$(PIP) '.[quickstart]'
	@touch $@

.venv/.dev: .venv/bin/python $(SOURCES)
	@echo "installing edgead with its development extras into .venv (a minute or two)"
	$(PIP) '.[dev]'
	@touch .venv/.quickstart $@

quickstart: .venv/.quickstart
	$(BIN)/edgead quickstart -o build/quickstart --overwrite

ctest: .venv/.dev
	$(BIN)/cmake -S runtimes/native -B build/native -DEDGEAD_BUILD_TESTS=ON -DPython3_EXECUTABLE=$(abspath $(BIN))/python >/dev/null
	$(BIN)/cmake --build build/native
	$(BIN)/ctest --test-dir build/native --output-on-failure

test: ctest
	$(BIN)/pytest

# libFuzzer comes with Debian's clang. Finds and what grew of the corpus stay below build/fuzz.
FUZZ_SECONDS ?= 900
FUZZERS := manifest zip png image_view
FUZZ_CC ?= clang-14
FUZZ_CXX ?= clang++-14
fuzz: .venv/.dev
	$(BIN)/cmake -S runtimes/native -B build/fuzz -DEDGEAD_BUILD_FUZZERS=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo \
		-DCMAKE_C_COMPILER=$(FUZZ_CC) -DCMAKE_CXX_COMPILER=$(FUZZ_CXX) -DPython3_EXECUTABLE=$(abspath $(BIN))/python >/dev/null
	$(BIN)/cmake --build build/fuzz --target fuzzers
	@set -e; for name in $(FUZZERS); do \
		mkdir -p build/fuzz/corpus/$$name build/fuzz/finds; \
		echo "fuzzing $$name for $(FUZZ_SECONDS) s; a find goes to build/fuzz/finds/$$name-*"; \
		build/fuzz/fuzz/fuzz_$$name -max_total_time=$(FUZZ_SECONDS) -timeout=20 -rss_limit_mb=2048 \
			-print_final_stats=1 -artifact_prefix=build/fuzz/finds/$$name- \
			$$(test -f runtimes/native/fuzz/$$name.dict && echo -dict=runtimes/native/fuzz/$$name.dict) \
			build/fuzz/corpus/$$name runtimes/native/fuzz/corpus/$$name; \
	done
	@echo "no find; inputs that reach new code are in build/fuzz/corpus, none in build/fuzz/finds"

# Python itself is not instrumented: the sanitizer and libstdc++, whose throw it wraps, are loaded ahead of it, and what
# Python leaks by design is not looked at. The engines' own libraries are not instrumented either.
SANITIZED := $(BIN)/cmake -S runtimes/native -DEDGEAD_BUILD_TESTS=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo \
	-DPython3_EXECUTABLE=$(abspath $(BIN))/python
test-sanitize: export UBSAN_OPTIONS = print_stacktrace=1
test-sanitize: .venv/.dev
	$(SANITIZED) -B build/native-asan -DEDGEAD_SANITIZE=address,undefined >/dev/null
	$(BIN)/cmake --build build/native-asan
	$(BIN)/ctest --test-dir build/native-asan --output-on-failure
	preload="$(CURDIR)/build/native-asan/tests/libno_deepbind.so" && \
	for name in libasan libstdc++; do preload="$$preload $$(g++ -print-file-name=$$name.so)"; done && \
	LD_PRELOAD="$$preload" ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0 \
		EDGEAD_LIBRARY=$(CURDIR)/build/native-asan/libedgead.so \
		$(BIN)/pytest tests/unit/native $(wildcard tests/unit/runtimes/test_native*.py)
	$(SANITIZED) -B build/native-tsan -DEDGEAD_SANITIZE=thread >/dev/null
	$(BIN)/cmake --build build/native-tsan
	TSAN_OPTIONS=suppressions=$(CURDIR)/runtimes/native/tests/tsan.supp setarch -R \
		$(BIN)/ctest --test-dir build/native-tsan --output-on-failure

test-arm: .venv/.dev
	@command -v aarch64-linux-gnu-g++ >/dev/null && command -v qemu-aarch64 >/dev/null || { echo \
	"make test-arm needs a cross compiler and an emulator: apt install g++-aarch64-linux-gnu qemu-user" >&2; exit 1; }
	$(BIN)/cmake -S runtimes/native -B build/native-arm -DEDGEAD_BUILD_TESTS=ON \
		-DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake -DPython3_EXECUTABLE=$(abspath $(BIN))/python >/dev/null
	$(BIN)/cmake --build build/native-arm
	$(BIN)/ctest --test-dir build/native-arm --output-on-failure

dist-native: .venv/.dev
	$(BIN)/cmake -D ARCH=x86_64 -D OUT=build/dist -D PYTHON=$(abspath $(BIN))/python -P runtimes/native/cmake/dist.cmake
	$(BIN)/cmake -D ARCH=aarch64 -D OUT=build/dist -D PYTHON=$(abspath $(BIN))/python -P runtimes/native/cmake/dist.cmake

# The layers and the types are checked on the installed wheel: that is what ships, and only there do the
# folders stand under their import names. From .venv, so that the source tree does not shadow it.
check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	cd .venv && bin/lint-imports --config ../pyproject.toml --no-cache
	cd .venv && bin/mypy --config-file ../pyproject.toml --no-incremental -p edgead

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf build .venv .pytest_cache .ruff_cache
