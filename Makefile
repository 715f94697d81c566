# Every target sets up what it needs: a virtual environment in .venv, pinned by constraints.txt.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo test test-slow lint format benchmark clean

help:
	@echo "make demo       the main job: six tasks, one network, two pictures in demo/"
	@echo "make test       the tests"
	@echo "make test-slow  the tests that take minutes"
	@echo "make lint       style and spelling"
	@echo "make format     mend the style"
	@echo "make benchmark  the published settings on permuted MNIST (DATA=folder)"
	@echo "make clean      remove the virtual environment and what was built"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(READY)

demo: $(READY)
	$(BIN)/python docs/examples/demo.py --out demo

test: $(READY)
	$(BIN)/python -m pytest

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(READY)
	$(BIN)/python -m benchmarks.permuted_mnist --data-dir "$(DATA)"

clean:
	rm -rf .venv demo build *.egg-info .pytest_cache .ruff_cache .hypothesis
