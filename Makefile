PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test clean

run: .venv/run  ## install, then the main job on the embedded digits
	$(BIN)/python -m safs_ray.tune

test: .venv/test  ## install with the test extras, then lint, types and tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

clean:  ## remove the virtual environment
	rm -rf .venv

# Compiled once here, imports are fast in every process that Ray starts.
.venv/run: pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode -e .
	touch $@

.venv/test: pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode -e '.[test]'
	touch $@

$(BIN)/uv:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
