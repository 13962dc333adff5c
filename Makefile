PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test docs clean

run: .venv/run  ## install, then the main job on the embedded digits
	$(BIN)/python -m safs_ray.tune

test: .venv/test  ## install with the test extras, then lint, types and tests, on up to four cores
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=loadfile

docs: .venv/docs  ## install what builds the documentation, then build it into build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:  ## remove the virtual environment and compiled kernels
	rm -rf .venv build
	find safs_ray -name '*.nb[ic]' -delete

# Compiled once here, imports are fast in every process that Ray starts.
.venv/run: pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode -e .
	touch $@

.venv/test: pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode -e '.[test]'
	touch $@

.venv/docs: pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --python $(BIN)/python -e '.[docs]'
	touch $@

$(BIN)/uv:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
