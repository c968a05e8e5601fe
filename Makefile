# Two commands do all: `make demo` and `make test`. Both set up .venv first, once.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEMO := runs/demo
unexport PYTHONDONTWRITEBYTECODE  # the tests start hundreds of processes, which would compile every file again

.PHONY: demo test test-all format lint types wheel docs clean

demo: $(READY)
	@if grep -qs '"ended": {' $(DEMO)/config.json; then echo "Trained before; rm -r $(DEMO) makes it train again."; $(BIN)/elman info $(DEMO); \
	elif [ -f $(DEMO)/config.json ]; then $(BIN)/elman train text --resume $(DEMO); \
	else $(BIN)/elman train text --minutes 2 --out $(DEMO); fi
	@echo "A sample:"; echo
	@$(BIN)/elman generate $(DEMO) --prompt "The statement" --length 400 --temperature 0.6 --seed 1
	@echo; echo "Pictures: $(DEMO)/curves.png"

test: $(READY)
	@$(BIN)/pytest

test-all: $(READY)
	@$(BIN)/pytest --thorough

format: $(READY)
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

lint: $(READY)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@output=$$($(BIN)/lint-imports --no-cache --no-logo) || { echo "$$output"; exit 1; }

types: $(READY)
	@$(BIN)/mypy --no-error-summary

docs: $(READY)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build  # with --quiet, warnings would not be errors
	@$(BIN)/pytest --thorough tests/test_docs.py tests/test_new_task.py tests/test_examples.py \
		tests/browser/test_site.py elman/serve elman/tasks elman/tune

wheel: $(READY)
	@PYTHON=$(BIN)/python sh tests/installed.sh

# One at a time: the second of two `make` waits for the lock, which ends with the shell that inherits it.
ALONE := import fcntl, os, sys; file = open("Makefile"); fcntl.flock(file, fcntl.LOCK_EX); \
	os.set_inheritable(file.fileno(), True); os.execvp("sh", ["sh", "-ec", sys.argv[1]])

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "elman needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	@$(PYTHON) -c '$(ALONE)' 'if [ $@ -nt pyproject.toml ] && [ $@ -nt constraints.txt ]; then exit; fi; \
	echo "Setting up .venv (about a minute, and two gigabytes)"; \
	$(PYTHON) -m venv .venv; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all,dev,docs]"; \
	touch $@'

clean:
	@rm -rf .venv dist build site .pytest_cache .mypy_cache .ruff_cache .hypothesis
