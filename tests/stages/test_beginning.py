from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn.utils import prune

from safs_ray import models, stages
from safs_ray.accuracy import accuracy
from safs_ray.config import Configuration, ConfigurationError
from safs_ray.data import Splits
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.randomness import derive
from safs_ray.stages import Result
from safs_ray.storage import Folder
from safs_ray.training import Context
from tests.stages.altered import changed


def test_dense_network_learns(dense: Result) -> None:
    assert dense.validation_accuracy > 0.3
    assert dense.network.sparsity == 0
    assert dense.core_seconds > 0
    assert dense.test_accuracy is None


def test_initial_weights_are_pruned_when_dense_training_has_no_epochs(
    configuration: Configuration, specification: Specification, splits: Splits, device: torch.device
) -> None:
    untrained = changed(configuration, "dense", epochs=0)
    result = stages.train_dense(specification, Context(untrained, splits))
    initial = Network.initial(result.network.specification, derive(0, "dense"))
    assert result.network.fingerprint == initial.fingerprint
    assert result.validation_accuracy == accuracy(initial, splits.validation, device, Configuration())
    assert result.core_seconds == 0
    synflow = changed(untrained, "pruning", score="synflow", allocation="global", epochs=0)
    pruned = stages.prune(result.network, Context(synflow, splits)).network
    assert pruned.sparsity == pytest.approx(0.9, abs=0.01)
    for name, mask in pruned.masks.items():
        assert torch.equal(pruned.state[name], initial.state[name] * mask)


class TestGiven:
    @pytest.fixture
    def weights(self, dense: Result) -> dict[str, torch.Tensor]:
        """The dense network's, under the names of the module as its author wrote it."""
        return {name: tensor for name, tensor in dense.network.state.items() if name.startswith("fc")}

    def given(self, specification: Specification, context: Context, file: Path, pruned: bool) -> Result:
        section = changed(context.configuration, "model", weights=str(file), pruned=pruned)
        result = stages.from_file(specification, replace(context, configuration=section))
        assert result is not None
        return result

    def test_without_a_file_there_is_none(self, specification: Specification, context: Context) -> None:
        assert stages.from_file(specification, context) is None

    def test_a_dense_network_is_as_it_was(
        self,
        specification: Specification,
        context: Context,
        dense: Result,
        weights: dict[str, torch.Tensor],
        tmp_path: Path,
    ) -> None:
        torch.save(weights, tmp_path / "dense.pt")
        result = self.given(specification, context, tmp_path / "dense.pt", pruned=False)
        assert result.network.fingerprint == dense.network.fingerprint
        assert result.validation_accuracy == dense.validation_accuracy
        assert (result.core_seconds, result.test_accuracy) == (0, None)

    def test_the_zeros_of_a_pruned_network_are_its_mask(
        self,
        specification: Specification,
        context: Context,
        weights: dict[str, torch.Tensor],
        tmp_path: Path,
    ) -> None:
        zeroed = {
            name: torch.where(tensor.abs() < tensor.abs().median(), 0, tensor) for name, tensor in weights.items()
        }
        torch.save(zeroed, tmp_path / "pruned.pt")
        result = self.given(specification, context, tmp_path / "pruned.pt", pruned=True)
        assert result.network.sparsity == pytest.approx(0.5, abs=0.01)
        for name, mask in result.network.masks.items():
            assert torch.equal(mask, zeroed[name] != 0)
        found = stages.search(result.network, context, context.configuration.pruning.hyperparameters)
        assert all((found.network.state[name][~mask] == 0).all() for name, mask in result.network.masks.items())

    @pytest.mark.parametrize("pruned", [True, False])
    def test_the_zeros_that_a_multiplication_has_left_are_saved_without_a_sign(
        self,
        specification: Specification,
        context: Context,
        weights: dict[str, torch.Tensor],
        tmp_path: Path,
        pruned: bool,
    ) -> None:
        module = models.build(specification, 0)
        module.load_state_dict(weights)
        for layer in (module.fc1, module.fc2, module.fc3):
            assert isinstance(layer, nn.Linear)
            prune.l1_unstructured(layer, "weight", 0.8)
            prune.remove(layer, "weight")  # type: ignore[no-untyped-call]
        zeros = {name: tensor == 0 for name, tensor in module.state_dict().items()}
        assert torch.signbit(module.state_dict()["fc1.weight"][zeros["fc1.weight"]]).any(), "half of them are -0.0"
        torch.save(module.state_dict(), tmp_path / "w.pt")
        network = self.given(specification, context, tmp_path / "w.pt", pruned=pruned).network
        network.save(Folder.at(tmp_path))
        saved = safetensors.torch.load_file(tmp_path / "network.safetensors")
        for name, places in zeros.items():
            assert not saved[name][places].view(torch.int32).any(), "all bits of +0.0 are 0"
            assert torch.equal(saved[name], module.state_dict()[name])
        if pruned:
            assert all(torch.equal(mask, ~zeros[name]) for name, mask in network.masks.items())

    def test_masks_of_torchs_pruning_in_a_network_called_dense_are_refused(
        self,
        specification: Specification,
        context: Context,
        weights: dict[str, torch.Tensor],
        tmp_path: Path,
    ) -> None:
        masked = {**weights, "fc1.weight_orig": weights["fc1.weight"], "fc1.weight_mask": weights["fc1.weight"] > 0}
        del masked["fc1.weight"]
        torch.save(masked, tmp_path / "w.pt")
        with pytest.raises(ConfigurationError, match=r"w\.pt: is a pruned network; model\.pruned=true keeps it so"):
            self.given(specification, context, tmp_path / "w.pt", pruned=False)
        assert self.given(specification, context, tmp_path / "w.pt", pruned=True).network.masks
