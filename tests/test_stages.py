from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import ANY

import psutil
import pytest
import torch

from safs_ray import stages
from safs_ray.config import Configuration, ConfigurationError, Hyperparameters, ResourcesSection, RunSection
from safs_ray.data import Dataset, Splits
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.randomness import derive
from safs_ray.stages import Found, Recipe, Result
from safs_ray.storage import DamagedError, Folder
from safs_ray.training import Trainer, accuracy


def changed(configuration: Configuration, section: str, **values: object) -> Configuration:
    """The configuration with other values in one section."""
    part = getattr(configuration, section).model_copy(update=values)
    return configuration.model_copy(update={section: part})


def test_dense_network_learns(dense: Result) -> None:
    assert dense.validation_accuracy > 0.3
    assert dense.network.sparsity == 0
    assert dense.core_seconds > 0
    assert dense.test_accuracy is None


def test_initial_weights_are_pruned_when_dense_training_has_no_epochs(
    configuration: Configuration, dataset: Dataset, splits: Splits, device: torch.device
) -> None:
    untrained = changed(configuration, "dense", epochs=0)
    result = stages.train_dense(untrained, dataset, splits, device)
    initial = Network.initial(result.network.specification, derive(0, "dense"))
    assert result.network.fingerprint == initial.fingerprint
    assert result.validation_accuracy == accuracy(initial, splits.validation, device, RunSection())
    assert result.core_seconds == 0
    synflow = changed(untrained, "pruning", score="synflow", allocation="global", epochs=0)
    pruned = stages.prune(result.network, synflow, splits, device).network
    assert pruned.sparsity == pytest.approx(0.9, abs=0.01)
    for name, mask in pruned.masks.items():
        assert torch.equal(pruned.state[name], initial.state[name] * mask)


@pytest.mark.filterwarnings("ignore:pruning has emptied")
@pytest.mark.parametrize("allocation", ["layer", "global", "erk"])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.99])
def test_pruning_reaches_its_sparsity(
    configuration: Configuration, dense: Result, splits: Splits, device: torch.device, allocation: str, sparsity: float
) -> None:
    section = changed(configuration, "pruning", sparsity=sparsity, allocation=allocation)
    network = stages.prune(dense.network, section, splits, device).network
    assert network.sparsity == pytest.approx(sparsity, abs=2e-4)
    for name, mask in network.masks.items():
        assert (network.state[name][~mask] == 0).all()


def test_without_retraining_the_largest_weights_stay_as_they_are(
    configuration: Configuration, dense: Result, splits: Splits, device: torch.device
) -> None:
    section = changed(configuration, "pruning", epochs=0)
    result = stages.prune(dense.network, section, splits, device)
    for name, mask in result.network.masks.items():
        assert torch.equal(result.network.state[name], dense.network.state[name] * mask)
    assert 0 <= result.validation_accuracy <= 1


def test_weights_are_rewound_to_what_dense_training_passed_through(
    configuration: Configuration, dataset: Dataset, dense: Result, splits: Splits, device: torch.device
) -> None:
    """After two of its three epochs; with rewind 0, to the very beginning."""
    passed: dict[int, Network] = {}
    for rewind in (0, 2):
        section = changed(configuration, "pruning", schedule="iterative", rewind=rewind)
        seen: list[int] = []
        passed[rewind] = stages._early(
            dense.network, section, splits, device, lambda epoch, _, seen=seen: seen.append(epoch)
        )
        assert seen == list(range(1, rewind + 1))
    assert passed[0].fingerprint == Network.initial(dense.network.specification, derive(0, "dense")).fingerprint
    shorter = changed(configuration, "dense", epochs=2)
    two = stages.train_dense(shorter, dataset, splits, device).network
    last = Trainer(passed[0], stages._dense_training(shorter, splits, device)).run()
    assert passed[2].fingerprint == last.current().fingerprint
    assert two.fingerprint == last.best().fingerprint


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
    configuration: Configuration, dense: Result, splits: Splits, device: torch.device, values: dict[str, object]
) -> None:
    section = changed(configuration, "pruning", **values)
    seen: list[int] = []
    stages.prune(dense.network, section, splits, device, lambda epoch, _: seen.append(epoch))
    assert seen == list(range(1, stages.plan(section)["pruning"] + 1))


def test_an_emptied_layer_is_told(
    configuration: Configuration, dense: Result, splits: Splits, device: torch.device
) -> None:
    small = {**dense.network.state, "fc2.weight": dense.network.state["fc2.weight"] * 1e-6}
    network = replace(dense.network, state=small)
    section = changed(configuration, "pruning", allocation="global", epochs=0)
    with pytest.warns(UserWarning, match=r"^pruning has emptied fc2.weight; 0 of 10 outputs can still be reached"):
        stages.prune(network, section, splits, device)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stages.prune(dense.network, changed(section, "pruning", sparsity=0.5), splits, device)


def test_during_the_search_every_training_makes_the_dense_network_sparse(
    configuration: Configuration, dataset: Dataset, dense: Result, splits: Splits, device: torch.device
) -> None:
    section = changed(configuration, "pruning", schedule="gradual", allocation="global", interval=1)
    section = changed(section, "search", when="during", steps=2, epochs=2)
    start = stages.prune(dense.network, section, splits, device)
    assert start.network.fingerprint == dense.network.fingerprint
    assert start.validation_accuracy == accuracy(dense.network, splits.validation, device, RunSection())
    assert stages.plan(section)["pruning"] == 0
    chosen = section.pruning.hyperparameters
    found = stages.search(start.network, section, splits, chosen, device)
    total = dense.network.prunable_count
    assert found.network.nonzero_weights == total - round(0.9 * total)
    final = stages.folds(configuration, dataset).final(0)
    last = stages.finish(start.network.assign(found.assignment), section, final, 0, chosen, True, device)
    assert last.network.nonzero_weights == total - round(0.9 * total)
    assert last.network.fingerprint != found.network.fingerprint


def test_search_never_ends_below_its_start(
    configuration: Configuration, pruned: Result, splits: Splits, device: torch.device
) -> None:
    found = stages.search(pruned.network, configuration, splits, configuration.pruning.hyperparameters, device)
    searched = [evaluation for evaluation in found.evaluations if evaluation.phase == "search"]
    best = max(searched, key=lambda evaluation: evaluation.validation_accuracy)
    assert best.validation_accuracy >= searched[0].validation_accuracy
    assert found.assignment == best.assignment
    assert len(found.evaluations) == configuration.iterations


def test_groups_of_channels_have_operators_and_scales_of_their_own(
    configuration: Configuration, pruned: Result, splits: Splits, device: torch.device
) -> None:
    grouped = changed(configuration, "search", granularity="group", groups=3)
    found = stages.search(pruned.network, grouped, splits, configuration.pruning.hyperparameters, device)
    assert found.network.sites == ("act1.0", "act1.1", "act1.2", "act2.0", "act2.1", "act2.2")
    searched = [evaluation for evaluation in found.evaluations if evaluation.phase == "search"]
    assert searched[0].assignment == ("relu",) * 6
    assert any(len(set(evaluation.assignment)) > 1 for evaluation in searched)
    assert len({activation["alpha"] for activation in found.network.activations().values()}) > 1
    assert found.network.nonzero_weights == pruned.network.nonzero_weights


def test_the_test_images_are_read_at_the_end(
    configuration: Configuration, dataset: Dataset, pruned: Result, device: torch.device
) -> None:
    splits = stages.folds(configuration, dataset).final(1)
    result = stages.finish(
        pruned.network, configuration, splits, 1, configuration.pruning.hyperparameters, False, device
    )
    assert result.test_accuracy is not None
    assert result.test_accuracy * len(splits.test) == pytest.approx(round(result.test_accuracy * len(splits.test)))


def recipe(*assignment: str, rate: float = 5e-3) -> Recipe:
    return Recipe(assignment, Hyperparameters(learning_rate=rate, batch_size=32), learn_scales=True)


def test_finalists_are_the_best_and_each_recipe_is_one_of_them_once(configuration: Configuration) -> None:
    recipes = {0: recipe("relu"), 3: recipe("tanh"), 4: recipe("tanh"), 6: recipe("relu", rate=1e-3), 7: recipe("srs")}
    accuracies = {0: 0.5, 3: 0.7, 4: 0.7, 6: 0.5, 7: 0.1}
    assert stages.finalists_of(configuration, recipes, accuracies) == [3, 0, 6]
    assert stages.finalists_of(changed(configuration, "final", finalists=1), recipes, accuracies) == [3]
    assert stages.finalists_of(changed(configuration, "final", finalists=9), recipes, accuracies) == [3, 0, 6, 7]


def test_the_winner_has_the_highest_mean() -> None:
    assert stages.winner_of({5: [0.75, 0.0], 2: [0.5, 0.25], 1: [0.5, 0.375]}) == (1, 0.4375)
    assert stages.winner_of({5: [0.0], 2: [0.0]}) == (5, 0.0), "of equal ones that which the search ranked higher"


def finalist(
    configuration: Configuration, network: Network, splits: Splits, number: int, chosen: Hyperparameters, learn: bool
) -> Result:
    device = torch.device("cpu")
    return stages.train_finalist(network, configuration, splits, number, chosen, learn, device)


def test_a_finalist_is_trained_as_in_the_end_but_with_other_batches_and_images(
    configuration: Configuration, dataset: Dataset, pruned: Result, splits: Splits, device: torch.device
) -> None:
    chosen = configuration.pruning.hyperparameters
    first, again, other = (finalist(configuration, pruned.network, splits, n, chosen, True) for n in (0, 0, 1))
    assert first.network.fingerprint == again.network.fingerprint != other.network.fingerprint
    assert first.test_accuracy is None
    assert first.validation_accuracy == accuracy(first.network, splits.validation, device, RunSection())
    seen = stages.folds(configuration, dataset).search()
    seed = derive(0, "finalist", 0)
    last = stages._last_training(configuration, seen, seed, chosen, True, device, None)
    assert Trainer(pruned.network, last).run().best().fingerprint == first.network.fingerprint
    unscaled = finalist(configuration, pruned.network, splits, 0, chosen, False)
    assert {each["alpha"] for each in unscaled.network.activations().values()} == {1.0}


def test_a_lucky_winner_that_is_fragile_is_replaced(
    configuration: Configuration, pruned: Result, splits: Splits, device: torch.device
) -> None:
    """The first has the highest accuracy of the search, and diverges when it is trained again."""
    chosen = configuration.pruning.hyperparameters
    lucky = Recipe(("symexp", "symexp"), WILD, learn_scales=True)
    solid = Recipe(("relu", "tanh"), chosen, learn_scales=True)
    assert finalist(configuration, pruned.network.assign(lucky.assignment), splits, 0, WILD, True) == replace(
        pruned, network=pruned.network.assign(lucky.assignment), validation_accuracy=0.0, core_seconds=ANY
    )
    found = [
        Found(pruned.network.assign(each.assignment), each, reached, ())
        for each, reached in ((lucky, 0.9), (solid, 0.4), (replace(solid, assignment=("relu", "relu")), 0.1))
    ]
    two = changed(configuration, "final", finalists=2)
    assert stages.choose(found, pruned.network, two, splits, device) is found[1]
    one = changed(configuration, "final", finalists=1)
    assert stages.choose(found, pruned.network, one, splits, device) is found[0]
    assert stages.choose(found[:1], pruned.network, configuration, splits, device) is found[0]


WILD = Hyperparameters(optimizer="sgd", learning_rate=10.0, momentum=0.99, batch_size=8)


def test_a_retraining_that_diverges_at_once_is_refused(
    configuration: Configuration, dense: Result, splits: Splits, device: torch.device
) -> None:
    wild = replace(dense, network=dense.network.assign(["symexp", "symexp"])).network
    with pytest.raises(ConfigurationError, match=r"pruning\.hyperparameters\.learning_rate=10\.0: .*diverges"):
        stages.prune(wild, changed(configuration, "pruning", hyperparameters=WILD), splits, device)


def test_a_row_that_diverges_at_once_is_the_network_as_it_was(
    configuration: Configuration, dataset: Dataset, pruned: Result, device: torch.device
) -> None:
    splits = stages.folds(configuration, dataset).final(0)
    network = pruned.network.assign(["symexp", "symexp"])
    result = stages.finish(network, configuration, splits, 0, WILD, True, device)
    assert result.network.fingerprint == network.fingerprint
    assert result.validation_accuracy == accuracy(network, splits.validation, device, RunSection())
    assert result.test_accuracy == accuracy(network, splits.test, device, RunSection())


def test_results_are_saved_whole_or_not_at_all(pruned: Result, tmp_path: Path) -> None:
    folder = Folder.at(tmp_path / "stage")
    pruned.network.save(folder)
    assert Result.load(folder) is None, "a network without its metrics is a stage that was interrupted"
    pruned.save(folder)
    loaded = Result.load(folder)
    assert loaded is not None
    assert loaded.network.fingerprint == pruned.network.fingerprint
    assert loaded.validation_accuracy == pruned.validation_accuracy


def test_sweeps_in_the_order_of_the_run(configuration: Configuration) -> None:
    def listed(section: Configuration) -> list[tuple[str, int, int]]:
        return [(course.sweep, course.steps, count) for course, count in stages.sweeps(section)]

    assert listed(configuration) == [("SAFS", 4 + 2, 3)]
    staged = changed(changed(configuration, "search", protocol="staged", chains=5), "final", ablations=("stage 2",))
    assert listed(staged) == [("stage 1", 4, 5), ("SAFS", 2, 3), ("stage 2", 2, 3)]


class TestDamage:
    """Files of a stage that has completed, and are not what was written."""

    @pytest.fixture
    def folder(self, pruned: Result, tmp_path: Path) -> Path:
        pruned.save(Folder.at(tmp_path))
        return tmp_path

    def told(self, folder: Path) -> str:
        with pytest.raises(DamagedError) as damaged:
            Result.load(Folder.at(folder))
        assert str(damaged.value).startswith(f"{folder}/")
        assert "\n" not in str(damaged.value)
        return str(damaged.value).removeprefix(f"{folder}/").replace(" is not what was written there", "")

    @pytest.mark.parametrize("name", ["metrics.json", "network.json", "network.safetensors"])
    def test_a_file_cut_anywhere(self, folder: Path, name: str) -> None:
        whole = (folder / name).read_bytes()
        for end in (0, 1, len(whole) // 2, len(whole) - 2):
            (folder / name).write_bytes(whole[:end])
            assert self.told(folder).startswith(f"{name}: it is no ")

    @pytest.mark.parametrize("name", ["network.json", "network.safetensors"])
    def test_a_missing_file(self, folder: Path, name: str) -> None:
        (folder / name).unlink()
        told = self.told(folder)
        assert told.startswith("metrics.json: of its network a file is missing (")
        assert name in told

    def test_files_of_another_stage(self, folder: Path, dense: Result, tmp_path: Path) -> None:
        other = tmp_path / "other"
        dense.save(Folder.at(other))
        metrics = (folder / "metrics.json").read_bytes()
        (folder / "metrics.json").write_bytes((other / "metrics.json").read_bytes())
        assert self.told(folder) == "metrics.json: it is of another network than lies there"
        (folder / "metrics.json").write_bytes(metrics)
        for name in ("network.json", "network.safetensors"):
            (folder / name).write_bytes((other / name).read_bytes())
        assert self.told(folder) == "metrics.json: it is of another network than lies there"

    @pytest.mark.parametrize(
        "change",
        [{"validation_accuracy": "0.5"}, {"test_accuracy": [1]}, {"core_seconds": None}, {"more": 1.0}, None],
    )
    def test_metrics_that_are_no_numbers(self, folder: Path, change: dict[str, object] | None) -> None:
        metrics = json.loads((folder / "metrics.json").read_text())
        changed = {"fingerprint": metrics["fingerprint"]} if change is None else {**metrics, **change}
        (folder / "metrics.json").write_text(json.dumps(changed))
        told = "metrics.json: it must hold the numbers validation_accuracy, test_accuracy, core_seconds"
        assert self.told(folder) == told

    @pytest.mark.parametrize("content", ["[]", "3", "{}", "null"])
    def test_metrics_of_nothing(self, folder: Path, content: str) -> None:
        (folder / "metrics.json").write_text(content)
        assert self.told(folder) == "metrics.json: it is of another network than lies there"


def test_plan_counts_epochs(configuration: Configuration) -> None:
    assert stages.plan(configuration) == {
        "dense training": 3,
        "pruning": 2,
        "search": 3 * 4 * 1,
        "fine-tuning": 3 * 4,
        "finalists": 3 * 2 * 2,
        "final evaluation": 2 * 2 * 2,
    }
    before = changed(configuration, "search", when="before")
    assert stages.plan(before)["pruning"] == 2 * 2, "the row of the default activations, and that of the found ones"


def test_plan_of_protocol_staged_with_all_rows(configuration: Configuration) -> None:
    staged = changed(configuration, "search", protocol="staged", chains=2)
    assert stages.plan(changed(staged, "final", ablations=("stage 1", "stage 2"))) == {
        "dense training": 3,
        "pruning": 2,
        "search": 2 * 4 * 1,
        "fine-tuning": 2 * 3 * 4,
        "finalists": (2 + 3 + 3) * 2 * 2,
        "final evaluation": 4 * 2 * 2,
    }


def test_a_finalist_without_another_is_not_trained(configuration: Configuration) -> None:
    assert stages.plan(changed(configuration, "final", finalists=1))["finalists"] == 0
    assert stages.plan(changed(configuration, "tune", trials=1))["finalists"] == 0
    assert stages.plan(changed(configuration, "final", finalists=2, seeds=5, epochs=7))["finalists"] == 2 * 5 * 7


def test_the_longest_run_is_planned_at_once(configuration: Configuration) -> None:
    most = 10**6
    longest = changed(configuration, "search", steps=most, epochs=most, chains=10**4, protocol="staged")
    longest = changed(longest, "tune", trials=most)
    start = time.process_time()
    assert stages.plan(longest)["search"] == 10**4 * most * most
    assert time.process_time() - start < 1


def test_a_network_that_is_there_takes_no_epochs(configuration: Configuration) -> None:
    dense = stages.plan(changed(configuration, "model", weights="w.pt"))
    assert (dense["dense training"], dense["pruning"]) == (0, 2)
    pruned = stages.plan(changed(configuration, "model", weights="w.pt", pruned=True))
    assert (pruned["dense training"], pruned["pruning"]) == (0, 0)


class TestGiven:
    @pytest.fixture
    def specification(self, configuration: Configuration, dataset: Dataset, splits: Splits) -> Specification:
        return stages.specify(configuration, dataset, splits)

    @pytest.fixture
    def weights(self, dense: Result) -> dict[str, torch.Tensor]:
        """The dense network's, under the names of the module as its author wrote it."""
        return {name: tensor for name, tensor in dense.network.state.items() if name.startswith("fc")}

    def given(
        self, configuration: Configuration, specification: Specification, splits: Splits, file: Path, pruned: bool
    ) -> Result:
        section = changed(configuration, "model", weights=str(file), pruned=pruned)
        result = stages.given(section, specification, splits)
        assert result is not None
        return result

    def test_without_a_file_there_is_none(
        self, configuration: Configuration, specification: Specification, splits: Splits
    ) -> None:
        assert stages.given(configuration, specification, splits) is None

    def test_a_dense_network_is_as_it_was(
        self,
        configuration: Configuration,
        specification: Specification,
        splits: Splits,
        dense: Result,
        weights: dict[str, torch.Tensor],
        tmp_path: Path,
    ) -> None:
        torch.save(weights, tmp_path / "dense.pt")
        result = self.given(configuration, specification, splits, tmp_path / "dense.pt", pruned=False)
        assert result.network.fingerprint == dense.network.fingerprint
        assert result.validation_accuracy == dense.validation_accuracy
        assert (result.core_seconds, result.test_accuracy) == (0, None)

    def test_the_zeros_of_a_pruned_network_are_its_mask(
        self,
        configuration: Configuration,
        specification: Specification,
        splits: Splits,
        weights: dict[str, torch.Tensor],
        tmp_path: Path,
        device: torch.device,
    ) -> None:
        zeroed = {
            name: torch.where(tensor.abs() < tensor.abs().median(), 0, tensor) for name, tensor in weights.items()
        }
        torch.save(zeroed, tmp_path / "pruned.pt")
        result = self.given(configuration, specification, splits, tmp_path / "pruned.pt", pruned=True)
        assert result.network.sparsity == pytest.approx(0.5, abs=0.01)
        for name, mask in result.network.masks.items():
            assert torch.equal(mask, zeroed[name] != 0)
        found = stages.search(result.network, configuration, splits, configuration.pruning.hyperparameters, device)
        assert all((found.network.state[name][~mask] == 0).all() for name, mask in result.network.masks.items())

    def test_masks_of_torchs_pruning_in_a_network_called_dense_are_refused(
        self,
        configuration: Configuration,
        specification: Specification,
        splits: Splits,
        weights: dict[str, torch.Tensor],
        tmp_path: Path,
    ) -> None:
        masked = {**weights, "fc1.weight_orig": weights["fc1.weight"], "fc1.weight_mask": weights["fc1.weight"] > 0}
        del masked["fc1.weight"]
        torch.save(masked, tmp_path / "w.pt")
        with pytest.raises(ConfigurationError, match=r"w\.pt: is a pruned network; model\.pruned=true keeps it so"):
            self.given(configuration, specification, splits, tmp_path / "w.pt", pruned=False)
        assert self.given(configuration, specification, splits, tmp_path / "w.pt", pruned=True).network.masks


def test_images_are_normalised_as_told(configuration: Configuration, dataset: Dataset, splits: Splits) -> None:
    told = changed(configuration, "data", mean=(0.5,), deviation=(2.0,))
    specification = stages.specify(told, dataset, splits)
    assert (specification.mean, specification.deviation) == ((0.5,), (2.0,))
    assert stages.specify(configuration, dataset, splits).mean == splits.train.statistics()[0]


def test_an_exclusion_replaces_the_architectures_own(
    configuration: Configuration, dataset: Dataset, splits: Splits
) -> None:
    gated = changed(configuration, "model", name="efficientnet_b0")
    assert stages.specify(gated, dataset, splits).exclude == ("*.activation", "*.scale_activation")
    for patterns in ((), ("features.0.*",)):
        told = changed(gated, "model", exclude=patterns)
        assert stages.specify(told, dataset, splits).exclude == patterns


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("model", {"name": "resnet50"}, "model.name=resnet50: allowed: lenet5"),
        ("search", {"operators": ("relu", "tan")}, "search.operators=tan: unknown operator; allowed: relu"),
        ("search", {"operators": ("relu", "relu")}, "search.operators=relu: stands twice"),
        ("search", {"granularity": "group", "groups": 101}, "search.groups=101: site act2 has 100 channels; allowed:"),
        ("data", {"mean": (0.1, 0.2), "deviation": (1.0, 1.0)}, "data.mean=[0.1, 0.2]: the images have 1 channels"),
        ("model", {"exclude": ("act3",)}, "model.exclude=act3: matches nothing; the sites are act1, act2"),
        ("run", {"device": "cuda"}, "run.device=cuda: torch finds no GPU on this machine"),
    ],
)
def test_pieces_that_do_not_fit_are_refused(
    configuration: Configuration, dataset: Dataset, section: str, values: dict[str, object], message: str
) -> None:
    splits = stages.folds(configuration, dataset).search()
    with pytest.raises(ConfigurationError) as caught:
        stages.check(changed(configuration, section, **values), dataset, splits)
    assert str(caught.value).startswith(message)


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has 0.9 MB left."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=900_000))


def batched(configuration: Configuration, section: str, batch_size: int) -> Configuration:
    hyperparameters = getattr(configuration, section).hyperparameters.model_copy(update={"batch_size": batch_size})
    return changed(configuration, section, hyperparameters=hyperparameters)


@pytest.mark.usefixtures("scarce")
@pytest.mark.parametrize("section", ["dense", "pruning"])
def test_a_batch_that_memory_cannot_hold_is_refused_with_both_sizes(
    configuration: Configuration, dataset: Dataset, section: str
) -> None:
    splits = stages.folds(configuration, dataset).search()
    assert len(splits.train) == 96
    with pytest.raises(ConfigurationError) as caught:
        stages.check(batched(configuration, section, 10**9), dataset, splits)
    assert str(caught.value) == (
        f"{section}.hyperparameters.batch_size=1000000000: a step of training with 96 images of 1x8x8 takes 1.0 MB, "
        "and 0.9 MB of memory are free"
    )
    stages.check(batched(configuration, section, 32), dataset, splits)


@pytest.mark.parametrize(("batch_size", "fits"), [(1, False), (2, True), (1000, True)])
def test_a_batch_of_one_image_is_refused_where_it_has_no_statistics(
    configuration: Configuration,
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batch_size: int,
    fits: bool,
) -> None:
    (tmp_path / "normalised_of_a_user.py").write_text(
        "from torch import nn\ndef network():\n    return nn.Sequential(\n"
        "        nn.Flatten(), nn.Linear(64, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 10))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = changed(batched(configuration, "pruning", batch_size), "model", name="normalised_of_a_user:network")
    splits = stages.folds(run, dataset).search()
    if fits:
        assert stages.check(run, dataset, splits).sites
        return
    with pytest.raises(ConfigurationError) as caught:
        stages.check(run, dataset, splits)
    assert str(caught.value) == (
        "pruning.hyperparameters.batch_size=1: 96 and 128 training images leave a batch of a single one, on which "
        "this network fails, as batch normalisation does"
    )


@pytest.mark.parametrize(
    ("section", "values", "told"),
    [
        ("model", {"name": "resnet50"}, "model.name=resnet50: allowed: lenet5"),
        ("search", {"operators": ("relu", "side_effect_of_a_user:f", "tan")}, "search.operators=tan: unknown operator"),
        ("tune", {"resources": ResourcesSection(cpu=1000)}, "tune.resources.cpu=1000: this process may use"),
    ],
)
def test_what_needs_no_images_is_refused_before_any_is_read_or_code_runs(
    configuration: Configuration,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    section: str,
    values: dict[str, object],
    told: str,
) -> None:
    (tmp_path / "side_effect_of_a_user.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = changed(changed(configuration, "data", source="side_effect_of_a_user:images"), section, **values)
    with pytest.raises(ConfigurationError) as caught:
        stages.load(run)
    assert str(caught.value).startswith(told)


def test_more_threads_than_cores_are_refused(configuration: Configuration, dataset: Dataset) -> None:
    resources = configuration.tune.resources.model_copy(update={"cpu": 4096})
    splits = stages.folds(configuration, dataset).search()
    with pytest.raises(ConfigurationError, match=r"tune\.resources\.cpu=4096: this process may use"):
        stages.check(changed(configuration, "tune", resources=resources), dataset, splits)


def test_the_whole_pipeline_repeats_bit_for_bit_in_another_process(
    configuration: Configuration, pruned: Result, splits: Splits, device: torch.device
) -> None:
    found = stages.search(pruned.network, configuration, splits, configuration.pruning.hyperparameters, device)
    code = """
import json, sys, torch
torch.set_num_threads(1)
from safs_ray import config, stages
def fingerprint(seed):
    values = json.loads(sys.argv[1])
    values["run"]["seed"] = seed
    run = config.validate(values)
    data, cpu = stages.load(run), torch.device("cpu")
    splits = stages.folds(run, data).search()
    dense = stages.train_dense(run, data, splits, cpu)
    pruned = stages.prune(dense.network, run, splits, cpu)
    return stages.search(pruned.network, run, splits, run.pruning.hyperparameters, cpu).network.fingerprint
print(fingerprint(0), fingerprint(1))
"""
    run = subprocess.run(
        [sys.executable, "-c", code, json.dumps(configuration.model_dump(mode="json"))],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    same, other = run.stdout.split()
    assert same == found.network.fingerprint != other
