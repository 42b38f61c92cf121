# One command each; `make demo` and `make test` install what they need first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
BENCH  := .venv-bench
SUPPLY := .venv-supply
DEMO   ?= demo
DEMO_SETTINGS ?=
STUDY  ?= study-phantom
RECIPES ?= study-recipes
PERMUTATION ?= study-permutation
REGIME ?= study-regime
SHAPES ?=
ACCURACY ?= accuracy-work
ACCURACY_OPTIONS ?=
DEVICE ?= cpu
DATA   ?= ../shared/data/nnunet_real
MEMORISE ?= memorised
PYTEST_WORKERS ?= auto
REV    ?= HEAD
COVERAGE ?=
GPU_PYTHON  ?= python3
GPU_WHEELS  ?= wheels
GPU_WORK    ?= gpu-work
GPU_OUT     ?= gpu-results
GPU_DEVICE  ?= cuda
GPU_SECONDS ?= 540
GPU_SETTINGS ?=
GPU_PEERS   ?= monai==1.6.0
GPU_THERE   ?= numpy scipy pandas matplotlib scikit-image pillow fonttools networkx kiwisolver contourpy

.PHONY: help screenshots install install-bench demo study-phantom study-permutation study-regime study-recipes accuracy memorise memorise-strong fit-forecast check test test-slow test-cluster test-bench torture bench docs pins sbom audit release gpu gpu-wheels clean

help:
	@echo "make install    .venv with everything pinned in constraints.txt"
	@echo "make demo       train six models on phantoms and write the report (about 2 minutes on two cores)"
	@echo "make study-phantom  why the weights need another rate (about 90 minutes on two cores; DEVICE=cuda: the paper's size)"
	@echo "make study-permutation  does an organ fail by its weight, and what else could it be (about 3 hours of one core, resumable)"
	@echo "make study-regime   scale or direction in the paper's place (about 30 hours of one core, resumable; SHAPES=folder, DEVICE=cuda)"
	@echo "make study-recipes  which ingredients make a better recipe at equal processor time (hours, resumable)"
	@echo "make fit-forecast   the same, and the constants of the forecast of failing organs, judged (SHAPES=folder)"
	@echo "make accuracy   Dice for CPU time beside nnU-Net and MONAI (many hours; continues where it was stopped)"
	@echo "make memorise   two real scans learnt by heart (about 50 minutes on two cores; DATA=folder with ts_example and lidc0001)"
	@echo "make memorise-strong  the same with the preset strong, in half the processor time"
	@echo "make test       all tests but the slow ones; COVERAGE=1 also measures which lines they run"
	@echo "make screenshots    the pictures of the viewer's page in docs/images/, by the viewer's own tests in Chromium"
	@echo "make test-slow  the slow ones (about an hour on two cores)"
	@echo "make docs       the documentation as a site, in site/ (links are checked)"
	@echo "make check      lint, types, import contracts, format"
	@echo "make install-bench  .venv-bench with nnU-Net v2 and MONAI, to run beside them (2 GB)"
	@echo "make test-cluster   torchrun and Ray, with processes and nodes killed (about 3 minutes)"
	@echo "make test-bench     nnU-Net trains with our loss, there; parts of our own are as its own (about 2 minutes)"
	@echo "make torture    faults, kills, hostile files, full disks, long runs: the long versions (under 30 minutes on two cores)"
	@echo "make pins       requirements.txt: what constraints.txt pins for users, with hashes"
	@echo "make sbom       dist/sbom.cdx.json: a bill of materials (CycloneDX), with hashes and licences"
	@echo "make audit      known vulnerabilities of what is pinned, where the advisory database can be reached"
	@echo "make release    dist/: wheel and source distribution of REV=HEAD, the same bytes wherever they are made"
	@echo "make bench      timings, into benchmarks/results/ (one of them in a minute, not recorded: python -m benchmarks.bench_NAME --quick)"
	@echo "make gpu        the next pieces of what needs a GPU, within GPU_SECONDS=540; results in GPU_OUT=gpu-results"
	@echo "make gpu-wheels wheels for a GPU machine without a network (Python 3.12), into wheels/"

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,oracle]'
	touch $@

install-bench: $(BENCH)/.installed

$(BENCH)/.installed: scripts/install_bench.sh pyproject.toml constraints.txt
	PYTHON=$(PYTHON) bash scripts/install_bench.sh $(BENCH)
	touch $@

demo: install
	BIN=$(BIN) bash scripts/demo.sh $(DEMO) $(DEMO_SETTINGS)

study-phantom: install
	BIN=$(BIN) bash scripts/study_phantom.sh $(STUDY) $(DEVICE)

study-permutation: install
	BIN=$(BIN) bash scripts/study_permutation.sh $(PERMUTATION)

study-regime: install
	BIN=$(BIN) bash scripts/study_regime.sh $(REGIME) $(DEVICE) $(SHAPES)

study-recipes: install
	BIN=$(BIN) bash scripts/study_recipes.sh $(RECIPES) "$(SHAPES)" $(DATA)

accuracy: install install-bench
	test -f $(ACCURACY)/cost.json || $(BENCH)/bin/python -m benchmarks.bench_accuracy cost --work $(ACCURACY) $(ACCURACY_OPTIONS)
	$(BENCH)/bin/python -m benchmarks.bench_accuracy all --work $(ACCURACY) --before "nice -n 15" $(ACCURACY_OPTIONS)
	$(BENCH)/bin/python -m benchmarks.bench_accuracy page --work $(ACCURACY)

memorise: install
	BIN=$(BIN) bash scripts/memorise_real.sh $(DATA) $(MEMORISE) docs/results/memorised-real-ct.md

memorise-strong: install
	BIN=$(BIN) bash scripts/memorise_real.sh $(DATA) $(MEMORISE)-strong docs/results/memorised-real-ct-strong.md strong

fit-forecast: install
	BIN=$(BIN) bash scripts/study_phantom.sh $(STUDY) $(DEVICE) forecast $(SHAPES)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# compiled test files are kept, also where the environment says otherwise: each process would rewrite all of them anew
test: install
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(PYTEST_WORKERS) --dist loadfile -m "not slow" $(if $(COVERAGE),--cov)

screenshots: install
	VISCERA_SCREENSHOTS=$(CURDIR)/docs/images $(BIN)/pytest -n 0 tests/view/test_in_the_browser.py

test-slow: install
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(PYTEST_WORKERS) -m slow --durations 10

docs: $(VENV)/.installed-docs
	$(BIN)/python scripts/docs_pages.py
	$(BIN)/zensical build --strict --clean

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

test-cluster: install
	$(BIN)/pytest -n 2 --dist loadfile -m cluster

torture: install
	OMP_NUM_THREADS=1 $(BIN)/python -m torture

$(SUPPLY)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(SUPPLY)
	$(SUPPLY)/bin/pip install --quiet --constraint constraints.txt cyclonedx-bom pip-audit uv
	touch $@

pins: $(SUPPLY)/.installed
	$(SUPPLY)/bin/python scripts/pins.py $(SUPPLY)/bin/uv

sbom: install $(SUPPLY)/.installed
	$(BIN)/python -m scripts.sbom $(SUPPLY)/bin dist/sbom.cdx.json

audit: $(SUPPLY)/.installed
	$(SUPPLY)/bin/python scripts/audit.py $(SUPPLY)/bin/pip-audit

release: install
	$(BIN)/python scripts/release.py $(REV) dist

test-bench: install install-bench
	$(BIN)/pytest -m slow tests/oracle/test_nnunet_training.py tests/oracle/test_designs_nnunet.py \
	    tests/oracle/test_augment_nnunet.py tests/oracle/test_planning_nnunet.py \
	    tests/oracle/test_ignored_nnunet.py --durations 10

bench: install install-bench
	$(BENCH)/bin/python -m benchmarks.bench_feed
	$(BENCH)/bin/python -m benchmarks.bench_train
	$(BENCH)/bin/python -m benchmarks.bench_ranks
	$(BIN)/python -m benchmarks.bench_links
	$(BIN)/python -m benchmarks.bench_ray
	$(BIN)/python -m benchmarks.batch_statistics
	$(BIN)/python -m benchmarks.bench_precision
	$(BIN)/python -m benchmarks.bench_modes $(if $(wildcard $(DATA)),precision --real $(DATA))
	$(BENCH)/bin/python -m benchmarks.bench_pages
	$(BENCH)/bin/python -m benchmarks.bench_loss
	$(BIN)/python -m benchmarks.bench_partial
	$(BENCH)/bin/python -m benchmarks.bench_augmentation
	$(BIN)/python -m benchmarks.bench_patients
	$(BIN)/python -m benchmarks.bench_diagnostics
	$(BIN)/python -m benchmarks.bench_batch_norm
	$(BIN)/python -m benchmarks.bench_designs
	$(BIN)/python -m benchmarks.bench_busy
	$(BENCH)/bin/python -m benchmarks.bench_dicom
	$(BIN)/python -m benchmarks.bench_dicom_out
	$(BENCH)/bin/python -m benchmarks.bench_prepare
	$(BENCH)/bin/python -m benchmarks.bench_surface
	$(BENCH)/bin/python -m benchmarks.bench_dice
	$(BENCH)/bin/python -m benchmarks.bench_start
	$(BIN)/python -m benchmarks.bench_report
	$(BIN)/python -m benchmarks.bench_demo
	$(BIN)/python -m benchmarks.bench_suite
	$(BIN)/python -m benchmarks.bench_before
	$(BIN)/python -m benchmarks.bench_restore
	$(BIN)/python -m benchmarks.bench_bundle
	$(BIN)/python -m benchmarks.bench_trust
	$(BENCH)/bin/python -m benchmarks.bench_scale
	$(BENCH)/bin/python -m benchmarks.bench_predict
	$(BIN)/python -m benchmarks.scale_model
	$(BIN)/python -m benchmarks.speed_page

gpu:
	@GPU_PYTHON="$(GPU_PYTHON)" GPU_WHEELS="$(GPU_WHEELS)" bash scripts/gpu.sh "$(GPU_WORK)" "$(GPU_OUT)" \
	    --device "$(GPU_DEVICE)" --seconds "$(GPU_SECONDS)" $(GPU_SETTINGS)

gpu-wheels:
	$(PYTHON) scripts/gpu_wheels.py "$(GPU_WHEELS)" --there "$(GPU_THERE)" --peers "$(GPU_PEERS)"

clean:
	rm -rf $(VENV) $(BENCH) $(SUPPLY) $(DEMO) .mypy_cache .ruff_cache .pytest_cache .coverage .coverage.*
