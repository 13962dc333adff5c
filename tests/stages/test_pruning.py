from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from safs_ray import stages
from safs_ray.accuracy import accuracy
from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Configuration, ConfigurationError
from safs_ray.data import Dataset, Splits
from safs_ray.experiment import plan
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.randomness import derive
from safs_ray.stages import Result
from safs_ray.stages.beginning import dense_training
from safs_ray.stages.pruning import _early
from safs_ray.storage import Folder
from safs_ray.training import Context, Trainer
from tests.stages.altered import WILD, changed


@pytest.mark.filterwarnings("ignore:pruning has emptied")
@pytest.mark.parametrize("allocation", ["layer", "global", "erk"])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.99])
def test_pruning_reaches_its_sparsity(
    configuration: Configuration, dense: Result, splits: Splits, allocation: str, sparsity: float
) -> None:
    section = changed(configuration, "pruning", sparsity=sparsity, allocation=allocation)
    network = stages.prune(dense.network, Context(section, splits)).network
    assert network.sparsity == pytest.approx(sparsity, abs=2e-4)
    for name, mask in network.masks.items():
        assert (network.state[name][~mask] == 0).all()


def test_without_retraining_the_largest_weights_stay_as_they_are(
    configuration: Configuration, dense: Result, splits: Splits
) -> None:
    section = changed(configuration, "pruning", epochs=0)
    result = stages.prune(dense.network, Context(section, splits))
    for name, mask in result.network.masks.items():
        assert torch.equal(result.network.state[name], dense.network.state[name] * mask)
    assert 0 <= result.validation_accuracy <= 1


def test_weights_are_rewound_to_what_dense_training_passed_through(
    configuration: Configuration, specification: Specification, dense: Result, splits: Splits, tmp_path: Path
) -> None:
    """After two of its three epochs; with rewind 0, to the very beginning; an interruption costs nothing."""

    def early(section: Configuration, checkpoints: Checkpoints | None) -> tuple[Network, list[int]]:
        assert section.pruning.rewind is not None
        seen: list[int] = []
        told = Context(section, splits, report=lambda epoch, _: seen.append(epoch), checkpoints=checkpoints)
        network, before = _early(dense.network, section.pruning.rewind, told)
        spent.append(before)
        return network, seen

    spent: list[float] = []

    passed: dict[int, Network] = {}
    for rewind in (0, 2):
        section = changed(configuration, "pruning", schedule="iterative", rewind=rewind)
        passed[rewind], seen = early(section, None)
        assert seen == list(range(1, rewind + 1))
    assert passed[0].fingerprint == Network.initial(dense.network.specification, derive(0, "dense")).fingerprint
    shorter = changed(configuration, "dense", epochs=2)
    two = stages.train_dense(specification, Context(shorter, splits)).network
    last = Trainer([passed[0]], dense_training(Context(shorter, splits))).run()
    assert passed[2].fingerprint == last.current().fingerprint
    assert two.fingerprint == last.standing.best.fingerprint
    checkpoints = Checkpoints(Folder.at(tmp_path), seconds=0)
    early(changed(configuration, "pruning", schedule="iterative", rewind=1), checkpoints)
    resumed, seen = early(changed(configuration, "pruning", schedule="iterative", rewind=2), checkpoints)
    assert (resumed.fingerprint, seen) == (passed[2].fingerprint, [2])
    assert spent[:-1] == [0.0] * 3
    assert spent[-1] > 0


def test_a_dense_training_that_diverges_before_it_is_rewound_to_is_refused(
    configuration: Configuration, dense: Result, splits: Splits
) -> None:
    wild = changed(changed(configuration, "dense", hyperparameters=WILD), "pruning", schedule="iterative", rewind=2)
    with pytest.raises(ConfigurationError) as refused:
        stages.prune(dense.network, Context(wild, splits))
    assert str(refused.value).startswith("dense.hyperparameters.learning_rate=")
    assert "the training diverges before pruning.rewind=2; take a smaller one" in str(refused.value)


@pytest.mark.parametrize(
    "values",
    [
        {"schedule": "iterative", "rewind": 1, "fraction": 0.7},
        {"schedule": "swamp", "rewind": 0, "fraction": 0.7, "particles": 2},
        {"schedule": "gradual"},
    ],
    ids=lambda values: values["schedule"],
)
def test_every_epoch_of_pruning_is_planned_and_reported(
    configuration: Configuration, dense: Result, splits: Splits, values: dict[str, object]
) -> None:
    section = changed(configuration, "pruning", **values)
    seen: list[int] = []
    stages.prune(dense.network, Context(section, splits, report=lambda epoch, _: seen.append(epoch)))
    assert seen == list(range(1, plan(section)["pruning"] + 1))


def test_an_emptied_layer_is_told(configuration: Configuration, dense: Result, splits: Splits) -> None:
    small = {**dense.network.state, "fc2.weight": dense.network.state["fc2.weight"] * 1e-6}
    network = replace(dense.network, state=small)
    section = changed(configuration, "pruning", allocation="global", epochs=0)
    with pytest.warns(UserWarning, match=r"^pruning has emptied fc2.weight; 0 of 10 outputs can still be reached"):
        stages.prune(network, Context(section, splits))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stages.prune(dense.network, Context(changed(section, "pruning", sparsity=0.5), splits))


def test_during_the_search_every_training_makes_the_dense_network_sparse(
    configuration: Configuration, dataset: Dataset, dense: Result, splits: Splits, device: torch.device
) -> None:
    section = changed(configuration, "pruning", schedule="gradual", allocation="global", interval=1)
    section = changed(section, "search", when="during", steps=2, epochs=2)
    start = stages.prune(dense.network, Context(section, splits))
    assert start.network.fingerprint == dense.network.fingerprint
    assert start.validation_accuracy == accuracy(dense.network, splits.validation, device, Configuration())
    assert plan(section)["pruning"] == 0
    chosen = section.pruning.hyperparameters
    found = stages.search(start.network, Context(section, splits), chosen)
    total = dense.network.prunable_count
    assert found.network.nonzero_weights == total - round(0.9 * total)
    final = stages.folds(configuration, dataset).final(0)
    last = stages.finish(start.network, Context(section, final), found.recipe, 0)
    assert last.network.nonzero_weights == total - round(0.9 * total)
    assert last.network.fingerprint != found.network.fingerprint


def test_a_retraining_that_diverges_at_once_is_refused(
    configuration: Configuration, dense: Result, splits: Splits
) -> None:
    wild = replace(dense, network=dense.network.assign(["symexp", "symexp"])).network
    with pytest.raises(ConfigurationError, match=r"pruning\.hyperparameters\.learning_rate=10\.0: .*diverges"):
        stages.prune(wild, Context(changed(configuration, "pruning", hyperparameters=WILD), splits))
