PYTHON ?= python3
BIN := .venv/bin

# Which build of PyTorch: that of the package index, which on Linux brings CUDA, or one of PyTorch's own index, by the
# names of uv's --torch-backend: cpu, auto, cu130, … An environment keeps the one that it was made with.
TORCH ?= $(shell cat .venv/torch 2> /dev/null)
INSTALL = $(BIN)/uv pip install --python $(BIN)/python $(if $(TORCH),--torch-backend=$(TORCH))
DONE = echo "$(TORCH)" > .venv/torch && touch $@

.PHONY: run test docs clean FORCE

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
.venv/run: pyproject.toml $(BIN)/uv
	$(INSTALL) --compile-bytecode -e .
	@$(DONE)

.venv/test: pyproject.toml $(BIN)/uv
	$(INSTALL) --compile-bytecode -e '.[test]'
	@$(DONE)

.venv/docs: pyproject.toml $(BIN)/uv
	$(INSTALL) -e '.[docs]'
	@$(DONE)

# With another build of PyTorch the environment is made anew: uv would keep the torch that is there, for its version will
# do, and the gigabytes of CUDA that came with it.
$(BIN)/uv: FORCE
	@if test -d .venv && test "$(TORCH)" != "$$(cat .venv/torch 2> /dev/null)"; then \
	    echo ".venv has another build of PyTorch than TORCH=$(TORCH) asks for: it is made anew"; rm -rf .venv; fi
	@test -x $@ || { $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet uv; }
