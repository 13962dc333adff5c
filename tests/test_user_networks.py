"""Networks as people write them, through sites, pruning, training, sparse execution and files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import safs_ray
from safs_ray import export
from safs_ray.config import Configuration, ConfigurationError, Hyperparameters, PruningSection, RunSection
from safs_ray.data import Splits
from safs_ray.engine.module import inference_module
from safs_ray.models import ARCHITECTURES, Architecture, Specification
from safs_ray.network import Network
from safs_ray.operators import lookup
from safs_ray.pruning.allocation import layer
from safs_ray.pruning.masks import unprunable_weights
from safs_ray.pruning.structure import select
from safs_ray.sparse.dense import DenseCohort
from safs_ray.sparse.execution import executable
from safs_ray.sparse.module import SparseCohort
from safs_ray.storage import Folder
from safs_ray.training import Context, Trainer, Training

CPU = torch.device("cpu")


class Conv3x3(nn.Conv2d):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False)


class SmallNorm(nn.BatchNorm2d):
    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3)


class Doubling(nn.Conv2d):
    """A convolution whose code is its own."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def convolutional(conv: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(conv(), SmallNorm(6), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 10))


class Tied(nn.Module):
    """Two layers of one weight, with biases of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(F.relu(self.second(F.relu(self.first(x.flatten(1))))))
        return logits


class TiedToEmbedding(nn.Module):
    """The last layer has the weight of the embedding, which comes before it and cannot be pruned by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.hidden = nn.Embedding(10, 8), nn.Linear(64, 8)
        self.act, self.head = nn.ReLU(), nn.Linear(8, 10, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        rows = self.embedding((x[:, 0].mean(2) > 0).long()) + x[:, 0]
        logits: Tensor = self.head(self.act(self.hidden(rows.flatten(1))))
        return logits


class TiedToTransposed(nn.Module):
    """A convolution has the weight of a transposed one before it, which is not pruned by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.ConvTranspose2d(1, 3, 3, padding=1), nn.Conv2d(3, 1, 3, padding=1)
        self.down.weight = self.up.weight
        self.act, self.head = nn.ReLU(), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.down(self.act(self.up(x))).flatten(1))
        return logits


class Registered(nn.Module):
    """Layers of one weight, of which the first that runs was registered last; and one that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.second, self.unused, self.first = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64)
        self.second.weight = self.unused.weight = self.first.weight
        self.act, self.head = nn.ReLU(), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.second(self.act(self.first(x.flatten(1)))))
        return logits


class SharedStatistics(nn.Module):
    """Two normalisations with scales of their own and running statistics in common."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second, self.other = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        for name in ("running_mean", "running_var"):
            self.other.register_buffer(name, self.norm.get_buffer(name))
        self.act, self.head = nn.ReLU(), nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.act(self.other(self.second(self.act(self.norm(self.first(x)))))).flatten(1))
        return logits


class WeightOfParent(nn.Module):
    """A layer's weight that is a buffer of the network, too, which torch.fx cannot trace."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.act, self.head = nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)
        self.register_buffer("kept", self.layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 1e9:
            x = 2 * x
        logits: Tensor = self.head(self.act(self.layer(x.flatten(1))))
        return logits


class Transformer(nn.Module):
    """Rows of the image as words."""

    def __init__(self, norm_first: bool = False, activation: str = "gelu") -> None:
        super().__init__()
        block = nn.TransformerEncoderLayer(8, 2, 16, 0.1, activation, batch_first=True, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(x[:, 0]).mean(1))
        return logits


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(2, 8)
        self.lstm, self.head, self.act = nn.LSTM(8, 12, batch_first=True), nn.Linear(12, 10), nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        start = torch.zeros(1, len(x), 12), torch.zeros(1, len(x), 12)
        rows = self.embedding((x[:, 0].mean(2) > 0).long()) + x[:, 0]
        logits: Tensor = self.head(self.act(self.lstm(rows, start)[0][:, -1]))
        return logits


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Network]:
    """The network of a module that a function makes, masked where a sparsity is given."""

    def make(function: Callable[[], nn.Module], sparsity: float | None = None) -> Network:
        monkeypatch.setitem(ARCHITECTURES, "mine", Architecture(lambda _: function()))
        network = Network.initial(Specification("mine", (1, 8, 8), 10, (0.5,), (0.25,)), seed=0)
        if sparsity is None:
            return network
        scores = {name: weight.abs() for name, weight in network.prunable().items()}
        return network.masked(layer(scores, sparsity))

    return make


def trained(network: Network, splits: Splits, execution: Any = "dense", epochs: int = 2) -> Network:
    chosen = Hyperparameters(learning_rate=1e-2, batch_size=32)
    context = Context(Configuration(run=RunSection(execution=execution)), splits)
    return Trainer([network], Training(context, chosen, epochs, 0)).run().current()


def logits(network: Network, images: Tensor, execution: Any = "dense") -> Tensor:
    with torch.inference_mode():
        found: Tensor = executable(network, execution, CPU).eval()(images)
    return found


class TestSubclassesOfLayers:
    def test_what_only_sets_them_up_is_pruned_and_executed_sparsely(
        self, made: Callable[..., Network], splits: Splits
    ) -> None:
        network = made(lambda: convolutional(lambda: Conv3x3(1, 6)), 0.9)
        assert list(network.masks) == ["0.weight", "5.weight"]
        assert network.prunable_count == 54 + 240
        assert network.sites == ("2",)
        assert isinstance(executable(network, "sparse", CPU).cohort, SparseCohort)
        images = splits.validation.inputs
        torch.testing.assert_close(logits(network, images, "sparse"), logits(network, images))

    def test_code_of_their_own_runs(self, made: Callable[..., Network]) -> None:
        network = made(lambda: convolutional(lambda: Doubling(1, 6, 3, padding=1)), 0.9)
        assert list(network.masks) == ["0.weight", "5.weight"]
        assert isinstance(executable(network, "auto", CPU).cohort, DenseCohort)
        module, images = network.build().eval(), torch.rand(3, 1, 8, 8)
        once = F.conv2d(images, network.state["0.weight"], network.state["0.bias"], padding=1)
        with torch.no_grad():
            assert torch.equal(module.get_submodule("0")(images), 2 * once)

    @pytest.mark.parametrize("kind", ["forward", "pre"])
    def test_hooks_are_kept(self, made: Callable[..., Network], splits: Splits, kind: str) -> None:
        def hooked() -> nn.Module:
            module = convolutional(lambda: Conv3x3(1, 6))
            if kind == "forward":
                module[0].register_forward_hook(lambda _, __, output: output * 3)
            else:
                module[0].register_forward_pre_hook(lambda _, inputs: (inputs[0] * 3,))
            return module

        images = splits.validation.inputs
        plain = made(lambda: convolutional(lambda: Conv3x3(1, 6)), 0.9)
        tripled = plain.state | {"0.weight": 3 * plain.state["0.weight"]}
        expected = logits(replace(plain, state=tripled), images)
        network = made(hooked, 0.9)
        assert isinstance(executable(network, "auto", CPU).cohort, DenseCohort)
        torch.testing.assert_close(logits(network, images), expected)

    def test_hooks_of_the_whole_network_are_kept(self, made: Callable[..., Network], splits: Splits) -> None:
        def hooked() -> nn.Module:
            module = convolutional(lambda: Conv3x3(1, 6))
            module.register_forward_hook(lambda _, __, output: output * 3)
            return module

        images = splits.validation.inputs
        plain = logits(made(lambda: convolutional(lambda: Conv3x3(1, 6)), 0.9), images)
        network = made(hooked, 0.9)
        assert network.sited.untraced == "the network has hooks"
        torch.testing.assert_close(logits(network, images), 3 * plain)


class TestTiedWeights:
    def test_one_tensor_has_one_mask_and_one_place_in_the_file(
        self, made: Callable[..., Network], tmp_path: Path
    ) -> None:
        network = made(Tied, 0.9)
        assert list(network.masks) == ["first.weight", "head.weight"]
        assert network.prunable_count == 64 * 64 + 640
        assert "second.weight" not in network.state
        module = network.build()
        assert module.get_parameter("second.weight") is module.get_parameter("first.weight")
        network.save(Folder.at(tmp_path))
        assert Network.load(Folder.at(tmp_path)).fingerprint == network.fingerprint

    def test_it_stays_one_while_it_is_trained(self, made: Callable[..., Network], splits: Splits) -> None:
        network = made(Tied, 0.9)
        assert isinstance(executable(network, "auto", CPU).cohort, DenseCohort)
        after = trained(network, splits, "auto")
        assert not torch.equal(after.state["first.weight"], network.state["first.weight"])
        assert (after.state["first.weight"][~network.masks["first.weight"]] == 0).all()
        module = after.build().eval()
        assert module.get_parameter("second.weight") is module.get_parameter("first.weight")
        with torch.no_grad():
            images = after.specification.normalised(splits.validation.inputs)
            torch.testing.assert_close(module(images), logits(after, splits.validation.inputs))

    @pytest.mark.parametrize(
        ("function", "names"),
        [
            (TiedToEmbedding, ["hidden.weight", "embedding.weight"]),
            (TiedToTransposed, ["up.weight", "head.weight"]),
        ],
    )
    def test_a_layer_that_is_tied_to_something_else_before_it_is_pruned_with_it(
        self, made: Callable[..., Network], splits: Splits, tmp_path: Path, function: Any, names: list[str]
    ) -> None:
        network = made(function, 0.5)
        assert list(network.prunable()) == list(network.masks) == names
        after = trained(network, splits, "auto")
        for name, mask in network.masks.items():
            assert (after.state[name][~mask] == 0).all()
            assert not torch.equal(after.state[name], network.state[name])
        images = splits.validation.inputs
        with torch.no_grad():
            torch.testing.assert_close(
                after.build().eval()(after.specification.normalised(images)), logits(after, images)
            )
        torch.testing.assert_close(inference_module(after)(images), logits(after, images))
        for format in ("onnx", "torch"):
            assert export.write(after, format, Folder.at(tmp_path)).difference < 1e-5

    def test_it_comes_from_the_users_module_whatever_was_registered_first(self, made: Callable[..., Network]) -> None:
        module = Registered()
        network = Network.of(made(Registered).specification, module)
        assert torch.equal(network.state["first.weight"], module.first.weight)
        images = torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8)
        with torch.no_grad():
            expected = module.eval()(network.specification.normalised(images))
        torch.testing.assert_close(logits(network, images), expected)

    @pytest.mark.parametrize("function", [SharedStatistics, WeightOfParent])
    def test_what_is_shared_otherwise_computes_the_same_everywhere(
        self, made: Callable[..., Network], splits: Splits, function: Any
    ) -> None:
        network = trained(made(function, 0.5), splits, "auto")
        images = splits.validation.inputs
        with torch.no_grad():
            expected = network.build().eval()(network.specification.normalised(images))
        for found in (logits(network, images, "auto"), inference_module(network)(images)):
            torch.testing.assert_close(found, expected)

    def test_channels_stay_that_a_tied_layer_reads(self, made: Callable[..., Network]) -> None:
        for function in (TiedToEmbedding, TiedToTransposed):
            network = made(function)
            magnitudes = {name: weight.abs() for name, weight in network.prunable().items()}
            section = PruningSection(structure="filters", sparsity=0.9)
            assert all(mask.all() for mask in select(magnitudes, 0.9, section, {}, network).values())

    def test_it_is_written_once_and_read_by_every_format(self, made: Callable[..., Network], tmp_path: Path) -> None:
        network, images = made(Tied, 0.9), torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8)
        torch.testing.assert_close(inference_module(network)(images), logits(network, images))
        for format in ("safetensors", "onnx", "torch", "c"):
            assert export.write(network, format, Folder.at(tmp_path)).difference < 1e-5

    def test_networks_that_were_saved_with_both_names_can_be_read(self, made: Callable[..., Network]) -> None:
        network = made(Tied, 0.9)
        both = {**network.state, "second.weight": network.state["first.weight"]}
        older = replace(network, state=both)
        for mine, theirs in zip(older.build().parameters(), network.build().parameters(), strict=True):
            assert torch.equal(mine, theirs)


class Categories(nn.Module):
    """The first row of the image are categories from 0 on, by whose numbers embeddings are chosen."""

    def __init__(self) -> None:
        super().__init__()
        self.categories, self.act, self.head = nn.Embedding(3, 8), nn.ReLU(), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.act(self.categories(x[:, 0, 0].long()) + x[:, 0]).flatten(1))
        return logits


def test_numbers_that_a_network_takes_for_indices_go_through_pruning_and_every_format(
    made: Callable[..., Network], tmp_path: Path
) -> None:
    network = made(Categories, 0.5)
    floats = replace(network.specification, kind="float32", mean=(0.0,), deviation=(1.0,))
    network = replace(network, specification=floats)
    assert network.survey.reached == 10
    for format in ("safetensors", "onnx", "torch"):
        assert export.write(network, format, Folder.at(tmp_path)).difference < 1e-5


class Mixed(nn.Module):
    """Of three columns of a table the second are categories."""

    def __init__(self) -> None:
        super().__init__()
        self.categories, self.hidden = nn.Embedding(4, 6), nn.Linear(8, 12)
        self.of_category, self.act, self.head = nn.Tanh(), nn.ReLU(), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        own = self.of_category(self.categories(x[:, 1].long()))
        logits: Tensor = self.head(self.act(self.hidden(torch.cat([own, x[:, ::2]], 1))))
        return logits


class TestCategoriesOfATable:
    rows = torch.cat([torch.randn(160, 1), torch.arange(160)[:, None] % 4, torch.randn(160, 1)], 1)
    labels = torch.arange(160) % 4 // 2
    short = (
        "pruning.recipe=one-shot-global", "pruning.epochs=1", "dense.epochs=20", "search.steps=1", "search.epochs=1",
        "finetune.epochs=1", "finetune.epochs_per_step=1", "tune.trials=1", "tune.grace_period=1", "final.folds=1",
        "final.epochs=20", "dense.hyperparameters.batch_size=8", "pruning.hyperparameters.batch_size=8",
        "dense.hyperparameters.learning_rate=1e-2", "pruning.hyperparameters.learning_rate=1e-2",
    )  # fmt: skip

    def sparsified(self, *settings: str) -> safs_ray.Sparsified:
        train, test = slice(0, 120), slice(120, None)
        return safs_ray.sparsify(
            Mixed(),
            (self.rows[train], self.labels[train]),
            (self.rows[test], self.labels[test]),
            sparsity=0.5,
            settings=(*self.short, *settings),
        )

    def test_a_column_that_is_not_normalised_is_learned_from(self) -> None:
        found = self.sparsified("data.mean=[0,0,0]", "data.deviation=[1,1,1]")
        assert found.network.sites == ("of_category", "act")
        assert (found.module(self.rows).argmax(1) == self.labels).float().mean() > 0.9

    def test_one_that_would_be_normalised_and_has_no_bounds_is_told_of(self, caplog: pytest.LogCaptureFixture) -> None:
        class Bounded(Mixed):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(torch.cat([x[:, :1], x[:, 1:2].clamp(0, 3), x[:, 2:]], 1))

        train, test = slice(0, 120), slice(120, None)
        parts = (self.rows[train], self.labels[train]), (self.rows[test], self.labels[test])
        safs_ray.sparsify(Bounded(), *parts, sparsity=0.5, settings=(*self.short, "dense.epochs=1", "final.epochs=1"))
        told = [record.getMessage() for record in caplog.records if "makes whole numbers" in record.getMessage()]
        assert len(told) == 1
        assert "of feature 1: data.mean and data.deviation change it" in told[0]

    def test_outputs_that_categories_alone_reach_are_not_counted_as_cut_off(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(ARCHITECTURES, "mine", Architecture(lambda _: Mixed()))
        network = Network.initial(Specification("mine", (3,), 2, (0.0,) * 3, (1.0,) * 3, kind="float32"), seed=0)
        masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in network.prunable().items()}
        assert network.masked(masks).survey.reached == 2
        masks["hidden.weight"][:, 6:] = False
        assert network.masked(masks).survey.reached is None

    def test_one_that_would_be_normalised_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match=r"takes feature 1 for indices, as it fails below 0"):
            self.sparsified()
        with pytest.raises(ConfigurationError, match=r"takes feature 1 for indices"):
            self.sparsified("data.mean=[0,1.5,0]", "data.deviation=[1,1,1]")


class TestTransformers:
    @pytest.mark.parametrize("activation", ["gelu", "relu"])
    @pytest.mark.parametrize("norm_first", [False, True])
    def test_feed_forward_activations_are_sites_in_evaluation_too(
        self, made: Callable[..., Network], norm_first: bool, activation: str
    ) -> None:
        network = made(lambda: Transformer(norm_first, activation))
        assert network.sites == (f"encoder.layers.0.{activation}", f"encoder.layers.1.{activation}")
        assert network.assignment == (activation,) * 2
        images = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
        own = logits(network, images)
        for operator in ("tanh", "cos"):
            other = network.assign([operator] * 2)
            module = other.build().train()
            with torch.no_grad():
                training = module(other.specification.normalised(images))
            torch.testing.assert_close(logits(other, images), training)
            assert (logits(other, images) - own).abs().max() > 0.01

    def test_the_four_projections_are_pruned(self, made: Callable[..., Network], splits: Splits) -> None:
        network = made(Transformer, 0.9)
        block = ("self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight")
        assert list(network.masks) == [f"encoder.layers.{index}.{name}" for index in (0, 1) for name in block] + [
            "head.weight"
        ]
        assert network.prunable_count == 2 * (3 * 64 + 64 + 2 * 128) + 80
        assert unprunable_weights(network.build()) == {}
        after = trained(network, splits)
        for name, mask in network.masks.items():
            assert (after.state[name][~mask] == 0).all(), name
            assert (after.state[name][mask] != network.state[name][mask]).any(), name
        assert after.survey.reached == network.masks["head.weight"].any(1).sum() < 10
        assert network.masked({}).survey.reached == 10


class TestRecurrent:
    def test_its_matrices_are_pruned_and_its_embedding_is_told_of(
        self, made: Callable[..., Network], splits: Splits
    ) -> None:
        network = made(Recurrent, 0.9)
        assert list(network.masks) == ["lstm.weight_ih_l0", "lstm.weight_hh_l0", "head.weight"]
        assert list(unprunable_weights(network.build())) == ["embedding.weight"]
        after = trained(network, splits)
        assert (after.state["lstm.weight_hh_l0"][~network.masks["lstm.weight_hh_l0"]] == 0).all()
        assert network.sites == ("act",)
        assert network.survey.reached == network.masks["head.weight"].any(1).sum() < 10


class TestOwnActivations:
    def test_slopes_go_on_from_what_was_learned(self, made: Callable[..., Network], splits: Splits) -> None:
        def module() -> nn.Module:
            return nn.Sequential(
                nn.Flatten(), nn.Linear(64, 8), nn.PReLU(8), nn.Linear(8, 8), nn.LeakyReLU(0.2), nn.Linear(8, 10)
            )

        network = made(module)
        assert network.assignment == ("prelu(8)", "leaky_relu(0.2)")
        after = trained(network, splits)
        slopes = after.state["2.internal.slope"]
        assert not torch.equal(slopes, torch.full((8,), 0.25))
        assert torch.equal(after.assign(after.assignment).state["2.internal.slope"], slopes)
        other = after.assign(["relu", "relu"])
        assert "2.internal.slope" not in other.state
        assert torch.equal(other.assign(after.assignment).state["2.internal.slope"], torch.full((8,), 0.25))
        pruned = after.masked(layer({name: each.abs() for name, each in after.prunable().items()}, 0.5))
        assert isinstance(executable(pruned, "auto", CPU).cohort, DenseCohort)
        leaky = pruned.assign(["prelu", "leaky_relu(0.2)"])
        images = splits.validation.inputs
        torch.testing.assert_close(logits(leaky, images, "sparse"), logits(leaky, images))
        assert lookup("leaky_relu(0.2)").formula == "z for z > 0, else 0.2 z"


class Versioned(nn.Linear):
    """A layer that wants to see the version that its weights were saved by, as torchvision's MNASNet does."""

    _version = 2

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *others: Any) -> None:
        assert local_metadata.get("version") == 2
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *others)


def test_layers_that_want_to_see_their_version_see_it(made: Callable[..., Network]) -> None:
    network = made(lambda: nn.Sequential(nn.Flatten(), Versioned(64, 8), nn.ReLU(), nn.Linear(8, 10)))
    assert torch.equal(network.build().get_parameter("1.weight"), network.state["1.weight"])
