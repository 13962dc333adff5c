"""The loop that docs/loop.md shows trains as it stands there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from safs_ray import stages
from safs_ray.config import validate
from safs_ray.network import Network
from safs_ray.training import Context, Training, train

FOLDER = Path(__file__).parents[2]


def test_loop_of_the_page_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (FOLDER / "docs" / "loop.md").read_text()
    for shown in ("tests/docs/loop/mine.py", "examples/lightning_loop.py", "examples/transformers_loop.py"):
        assert f'--8<-- "{shown}"' in page
    monkeypatch.syspath_prepend(FOLDER / "tests" / "docs" / "loop")
    run = validate(
        {
            "model": {"name": "mine:network"},
            "task": {"loop": "mine:train"},
            "data": {"source": "inputs:mine:examples"},
            "pruning": {"score": "synflow", "allocation": "global", "sparsity": 0.9, "epochs": 4},
        }
    )
    dataset = stages.load(run)
    context = Context(run, stages.folds(run, dataset).search())
    network = Network.initial(stages.specify(run, dataset, context.splits), seed=0)
    hyperparameters = run.pruning.hyperparameters.model_copy(update={"learning_rate": 1e-2})
    dense = train(network, Training(context, hyperparameters, epochs=12, seed=0), None)
    assert dense.accuracy > 0.95
    pruned = stages.prune(dense.network, context)
    assert pruned.network.nonzero_weights == 422
    assert 0 < pruned.validation_accuracy < 1
    assert torch.equal(pruned.network.masks["2.weight"], pruned.network.state["2.weight"] != 0)
