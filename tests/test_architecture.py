"""The rooms import only from rooms before them, and only tune/ imports Ray."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import safs_ray

PACKAGE = Path(safs_ray.__file__).parent
ROOMS = (
    "config",
    "keys",
    "log",
    "machine",
    "storage",
    "display",
    "checkpoints",
    "randomness",
    "references",
    "losses",
    "mapped",
    "metrics",
    "data",
    "tensorfile",
    "sources",
    "operators",
    "dropout",
    "activations",
    "models",
    "pruning",
    "network",
    "sparse",
    "engine",
    "accuracy",
    "optimizers",
    "training",
    "schedules",
    "search",
    "stages",
    "experiment",
    "report",
    "export",
    "sparsification",
    "testing",
    "tune",
)
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} uses a relative import"
            yield node.module or ""
            if node.module == "safs_ray":
                yield from (f"safs_ray.{alias.name}" for alias in node.names)


def test_every_module_lies_in_a_room() -> None:
    assert {room_of(module) for module in MODULES} - {"__init__"} == set(ROOMS)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_up(module: Path) -> None:
    allowed = ROOMS if room_of(module) == "__init__" else ROOMS[: ROOMS.index(room_of(module)) + 1]
    rooms = {name.split(".")[1] for name in imports(module) if name.startswith("safs_ray.")}
    assert rooms <= set(allowed)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_tune_imports_ray(module: Path) -> None:
    assert room_of(module) == "tune" or not any(name.split(".")[0] == "ray" for name in imports(module))


UNPICKLES = {
    "sources/imagenet16.py": "bytes of published sums alone",
    "search/contract.py": "what it has pickled itself, to see that it comes back the same",
}
"""The modules that may import pickle, and why that is safe."""


def calls(module: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_runs_what_a_file_says(module: Path) -> None:
    """Weights are read as tensors alone, YAML as plain values, and nothing is unpickled but what is listed above."""
    if str(module.relative_to(PACKAGE)) not in UNPICKLES:
        assert not {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"} & set(imports(module))
    for name, call in calls(module):
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert name not in ("eval", "exec", "os.system", "yaml.unsafe_load", "yaml.full_load"), name
        assert name != "torch.load" or keywords["weights_only"] == "True"
        assert name not in ("np.load", "numpy.load") or keywords.get("allow_pickle", "False") == "False"
        assert name != "yaml.load" or ast.unparse(call.args[1]) == "_Loader"


def test_no_secret_is_read_from_the_environment() -> None:
    read = [
        ast.unparse(argument)
        for module in MODULES
        for name, call in calls(module)
        for argument in call.args[:1]
        if name in ("os.environ.get", "os.getenv", "environ.get", "getenv")
    ]
    assert not [name for name in read if re.search("KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL", name, re.IGNORECASE)]


def test_the_core_works_where_ray_cannot_be_imported() -> None:
    code = """
import sys
sys.modules["ray"] = None
from safs_ray import config, experiment, stages
from safs_ray.experiment.local import InProcess
from safs_ray.training import Context
run = config.validate({
    "data": {"size": 8, "limit": 60, "validation": 0.2}, "model": {"name": "mlp"},
    "dense": {"epochs": 1}, "pruning": {"epochs": 1}, "search": {"steps": 2, "epochs": 1},
    "finetune": {"epochs": 1, "epochs_per_step": 1}, "tune": {"grace_period": 1, "trials": 1},
    "final": {"folds": 1, "epochs": 1, "ablations": []}, "run": {"execution": "dense"},
})
data = stages.load(run)
folds = stages.folds(run, data)
search, final = Context(run, folds.search()), Context(run, folds.final(0))
specification = stages.specify(run, data, search.splits)
pruned = stages.prune(stages.train_dense(specification, search).network, search)
found = stages.search(pruned.network, search, run.pruning.hyperparameters)
last = stages.finish(pruned.network, final, found.recipe, 0)
assert 0 <= last.test_accuracy <= 1
assert experiment.run(run, specification, InProcess(run, data))["finished"]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_no_stage_loads_torchs_compiler() -> None:
    """It would take a second and 170 MB of every process."""
    code = """
import sys
from safs_ray import config, stages
from safs_ray.training import Context

for optimizer in ("sgd", "adam", "adamw", "tadam", "fromage"):
    chosen = {"optimizer": optimizer, "learning_rate": 1e-3, "batch_size": 32}
    run = config.validate({
        "data": {"source": "digits", "limit": 160}, "model": {"name": "lenet5"},
        "dense": {"epochs": 1, "hyperparameters": chosen},
        "pruning": {"sparsity": 0.9, "epochs": 1, "hyperparameters": chosen},
    })
    data = stages.load(run)
    context = Context(run, stages.folds(run, data).search())
    specification = stages.specify(run, data, context.splits)
    stages.check(run, data, context.splits)
    stages.prune(stages.train_dense(specification, context).network, context)
    assert "torch._dynamo" not in sys.modules, optimizer
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
