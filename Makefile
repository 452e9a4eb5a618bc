# Everything runs in .venv, made with the tested versions of constraints.txt.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# torch's own products of small matrices gain nothing from more threads, and lose to the switching.
export OMP_NUM_THREADS ?= 1

.PHONY: install evaluate test test-fast check format bench-compression bench-instrument bench-evaluate bench-runtimes bench-train compare-returns clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=24"
	@# torch first and alone: asked for through another package, pip would take the newest build with CUDA.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $(STAMP)

evaluate: install
	$(BIN)/compressrl evaluate --algo sac --compressor qat

test: install
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

test-fast: install
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not slow"

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-compression: install
	@# A cell that failed has its reason in the report.
	-$(BIN)/compressrl study run tests/benchmarks/compression.toml
	$(BIN)/compressrl study report runs/study/compression --out runs/study/compression/compression.html
	cp runs/study/compression/compression.md docs/results/
	$(BIN)/python tests/benchmarks/bench_int8.py
	$(BIN)/python tests/benchmarks/bench_narrow.py
	$(BIN)/python tests/benchmarks/bench_runtimes.py

bench-instrument: install
	$(BIN)/python tests/benchmarks/bench_instrument.py

bench-evaluate: install
	$(BIN)/python tests/benchmarks/bench_evaluate.py

bench-runtimes: install
	$(BIN)/python tests/benchmarks/bench_runtimes.py

bench-train: install
	$(BIN)/python tests/benchmarks/bench_train.py

compare-returns: install
	$(BIN)/python tests/benchmarks/compare_returns.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
