# make demo   install what `run` needs, then run Table 2 at smoke scale on embedded data and print the table
# make test   install with the development tools, then run lint, type checks and tests
# make docs   build the documentation into site/
# make lint   only ruff and mypy;  make clean  removes .venv
# Test files run in parallel, 1 to 2 GB each: make test WORKERS=4
# Another interpreter: make demo PYTHON=/path/to/python3.12   Another environment: VENV=/path

VENV := .venv
WORKERS ?= 2
BIN := $(VENV)/bin
PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(p) -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))))

.PHONY: demo test lint docs clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.installed
	@echo "== demo: configs/table2.yaml at smoke scale (16 rows, scikit-learn's digits)"
	$(BIN)/python -m nos_repro run configs/table2.yaml --scale smoke

test: lint
	@echo "== test 4/4: pytest, $(WORKERS) files at a time (warnings are errors; slow tests: $(BIN)/pytest -m slow)"
	$(BIN)/pytest -q -m "not slow" --numprocesses $(WORKERS) --dist loadfile

lint: $(VENV)/.installed-dev
	@echo "== test 1/4: ruff check"
	$(BIN)/ruff check .
	@echo "== test 2/4: ruff format --check"
	$(BIN)/ruff format --check .
	@echo "== test 3/4: mypy --strict"
	$(BIN)/mypy

docs: $(VENV)/.installed-dev
	@echo "== docs: the generated pages, then the site"
	$(BIN)/python -m docs.generate
	$(BIN)/zensical build --strict

$(VENV)/.created:
	@test -n "$(PYTHON)" || { echo "error: no Python >= 3.11 with venv on the PATH: install one" \
		"(on Debian: apt install python3-venv) or name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "== making $(VENV) with $(PYTHON)"
	"$(PYTHON)" -m venv $(VENV)
	@touch $@

# A finished environment is reused until pyproject.toml changes.
$(VENV)/.installed: pyproject.toml | $(VENV)/.created
	@echo "== installing into $(VENV) (PyTorch is large: this takes minutes and 2 to 6 GB)"
	$(BIN)/python -m pip install --editable ".[suite]"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "== installing the development tools into $(VENV)"
	$(BIN)/python -m pip install --editable ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV)
