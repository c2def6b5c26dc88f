# Two commands on a fresh machine with Python 3.11 or newer: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP     = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Where a packed copy of the data set lies beside the checkout, the tests use the real one.
FER2013_BUILDER ?= ../shared/data/build_fer2013.py

.PHONY: demo test check fer2013 clean

demo: $(VENV)/base.ok  ## Install the package and read the example photos.
	$(BIN)/mien read examples/*.jpg --draw demo-out

test: $(VENV)/lab.ok check fer2013  ## The whole test suite.
	MIEN_FER2013="$${MIEN_FER2013:-$$(ls data/fer2013.csv 2>/dev/null)}" OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile \
		--ignore tests/test_house.py  # which `check` has run

check: $(VENV)/lab.ok  ## Style, types, and the plan of the house.
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_house.py

fer2013: $(VENV)/base.ok
	@if [ -z "$$MIEN_FER2013" ] && [ -f "$(FER2013_BUILDER)" ] && [ ! -f data/fer2013new.csv ]; then \
		$(BIN)/python "$(FER2013_BUILDER)" data; fi

$(VENV)/base.ok: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) pip
	$(PIP) --editable .
	touch $@

$(VENV)/lab.ok: $(VENV)/base.ok
	$(PIP) torch
	$(PIP) --editable '.[all]' --group dev
	touch $@

clean:
	rm -rf $(VENV) demo-out .mypy_cache .ruff_cache .pytest_cache
