# make setup | demo | test | lint | rehearse | campaign | gpu: each makes .venv itself when it is missing or out of date

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
export OMP_NUM_THREADS = 1

.PHONY: setup demo test lint rehearse campaign gpu

setup: $(READY)

$(READY): pyproject.toml constraints.txt tools/install_detectron2.py
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -e '.[detection,segmentation,dev]' -c constraints.txt
	$(BIN)/python tools/install_detectron2.py
	touch $@

demo: $(READY)
	$(BIN)/python tools/run_suite.py configs/suites/demo.py --out outputs/demo --jobs 2

test: $(READY)
	$(BIN)/pytest -q -n 2

rehearse: $(READY)
	$(BIN)/python tools/rehearse.py --device cpu --jobs 2

campaign: $(READY)  # hundreds of bad inputs, each of which must end in one clear error
	$(BIN)/python -m tests.campaign --jobs 2

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy pretrain transfer

gpu: $(READY)  # twenty minutes on a CUDA device; writes results/gpu/report.md
	$(BIN)/python tools/gpu_report.py
