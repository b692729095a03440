# make quickstart   install into .venv, then train, export, verify, bench and run on real images
# make test         install with the development extras, run the C++ tests and pytest
# make fuzz         fuzz bundle reader and image view, FUZZ_SECONDS each (needs clang)
# make check        format, lint, layers, types
# make format       let ruff mend what it can
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# 2 jobs: a light IPC should survive the build
export CMAKE_BUILD_PARALLEL_LEVEL ?= 2
SOURCES := $(shell find edgead exporters runtimes calibration benchmarks -type f \
	-not -name '*.pyc' -not -path 'benchmarks/suites/*') pyproject.toml constraints.txt README.md

.PHONY: quickstart test fuzz check format ctest clean
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
