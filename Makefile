# Every target sets up what it needs: a virtual environment in .venv, pinned by constraints.txt.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DOCS_READY := .venv/.docs-ready
CHECK_READY := .venv/.docs-check-ready
OLDEST := .venv-oldest/bin/python
OLDEST_READY := .venv-oldest/.ready
QUIET := --quiet --disable-pip-version-check
INSTALL := $(BIN)/python -m pip install $(QUIET)
# The extras of users that the tests need; what developers need beside them are the groups.
EXTRAS := demo,export,safe,distributed,accelerate

.PHONY: help venv demo test test-slow test-oldest lint format docs docs-check benchmark clean

help:
	@echo "make demo        the main job: six tasks, one network, two pictures in demo/"
	@echo "make test        the tests"
	@echo "make venv        only the virtual environment, in .venv"
	@echo "make test-slow   the tests that take minutes"
	@echo "make test-oldest the tests, with the oldest releases of what this rests on"
	@echo "make lint        style, spelling and types"
	@echo "make format      mend the style"
	@echo "make docs        the documentation, with every example run, in build/docs"
	@echo "make docs-check  links, pictures, code and a browser's view of what make docs built"
	@echo "make benchmark   the published settings on permuted MNIST (DATA=folder)"
	@echo "make clean       remove the virtual environment and what was built"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) "$$(grep '^pip==' constraints.txt)"
	$(INSTALL) "$$(grep '^torch==' constraints.txt)"
	$(INSTALL) -c constraints.txt -e ".[$(EXTRAS)]" --group dev
	touch $(READY)

$(DOCS_READY): $(READY)
	$(INSTALL) -c constraints.txt -e ".[$(EXTRAS),text]" --group docs
	touch $(DOCS_READY)

$(CHECK_READY): $(DOCS_READY)
	$(INSTALL) -c constraints.txt --group docs-check
	touch $(CHECK_READY)

venv: $(READY)

# One thread: sums, and so the numbers in the README, depend on how many there are.
demo: $(READY)
	$(BIN)/python docs/examples/demo.py --out demo --threads 1

# Two processes of one thread each: torch's threads get in each other's way.
test test-slow test-oldest: export OMP_NUM_THREADS = 1

test: $(READY)
	$(BIN)/python -m pytest -n 2

test-slow: $(READY)
	$(BIN)/python -m pytest -n 2 -m slow

$(OLDEST_READY): pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv .venv-oldest
	$(OLDEST) -m pip install $(QUIET) "$$(grep '^pip==' constraints-oldest.txt)"
	$(OLDEST) -m pip install $(QUIET) "$$(grep '^torch==' constraints-oldest.txt)"
	$(OLDEST) -m pip install $(QUIET) -c constraints-oldest.txt -e ".[$(EXTRAS)]" --group test
	touch $(OLDEST_READY)

test-oldest: $(OLDEST_READY)
	$(OLDEST) -m pytest -n 2

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# One thread: the numbers on the pages must not depend on the number of cores.
docs: $(DOCS_READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -q -W --keep-going docs build/docs
	@echo "open build/docs/index.html"

# Two pages have tests of their own, which give their code the data that it talks of.
GUIDE = $(filter-out docs/guide/machines.md docs/guide/scikit-learn.md,$(wildcard docs/guide/*.md))

# The pages are shown in a Chromium of the system, or one of playwright's. Where there is none:
# make docs-check FLAGS=--no-browser
docs-check: $(CHECK_READY) docs
	OMP_NUM_THREADS=1 $(BIN)/python docs/check_code.py docs/start.md $(GUIDE)
	$(BIN)/python docs/check_site.py build/docs --out build/screenshots $(FLAGS)

benchmark: $(READY)
	$(BIN)/python -m benchmarks.permuted_mnist --data-dir "$(DATA)"

clean:
	rm -rf .venv .venv-oldest demo build dist *.egg-info
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis
	rm -rf docs/auto_examples docs/api/generated docs/api/backreferences
