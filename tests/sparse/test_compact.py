from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MethodType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from safs_ray.config import Configuration, PruningSection
from safs_ray.data import Splits
from safs_ray.losses import CROSS_ENTROPY, Targets
from safs_ray.network import Network
from safs_ray.optimizers import Fromage
from safs_ray.pruning.rules import FixedMasks
from safs_ray.pruning.structure import select
from safs_ray.sparse.compact import CompactCohort, compact, cut, without_remains
from safs_ray.sparse.dense import DenseCohort
from safs_ray.sparse.execution import executable
from safs_ray.training import Context, Trainer, Training
from tests.engine.drawn import Drawn
from tests.engine.networks import exact, images_of, network_of

CPU = torch.device("cpu")


def without_channels(network: Network, share: float = 0.5) -> Network:
    section = PruningSection(macs=share)
    scores = {name: weight.abs() for name, weight in network.prunable().items()}
    return network.masked(select(scores, 1 - share, section, {}, network))


def convolutional(channels: int = 3) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), decay=st.sampled_from([0.0, 0.1]))
def test_compact_cohort_trains_as_the_masked_dense_network_does(seed: int, decay: float) -> None:
    """In double precision. What no longer counts stays as it was."""
    network = network_of(lambda: Drawn(seed), size=Drawn(seed).size, sparsity=0, seed=seed)
    network = without_channels(network)
    network = replace(network, state={n: t.double() if t.is_floating_point() else t for n, t in network.state.items()})
    smaller = compact(network)
    assert smaller is not None
    dense = DenseCohort(network, network.build().double(), CPU)
    small = CompactCohort(network, smaller._replace(module=smaller.module.double()), CPU)
    rule = FixedMasks(dense.prunable, network.masks, 3)
    images, targets = images_of(network, 6, seed), Targets(torch.arange(6) % network.specification.outputs)
    for step in range(3):
        losses = [each.train().learn(images, targets, CROSS_ENTROPY) for each in (dense, small)]
        torch.testing.assert_close(*losses, rtol=1e-8, atol=1e-8)
        rule.before_step()
        for each in (dense, small):
            torch.optim.SGD([*each.weights, *each.scales], lr=0.01 * (step + 1), weight_decay=decay).step()
        rule.after_step(torch.optim.SGD(list(dense.weights)))
    expected, found = dense.state(0), small.state(0)
    assert found.keys() == expected.keys() == network.state.keys()
    for name, tensor in found.items():
        gone = torch.ones(tensor.shape, dtype=torch.bool)
        gone[index_of(smaller.kept.get(name))] = False
        torch.testing.assert_close(tensor[~gone], expected[name][~gone], rtol=1e-8, atol=1e-8)
        assert torch.equal(tensor[gone], network.state[name][gone])
    torch.testing.assert_close(dense.eval()(images), small.eval()(images), rtol=1e-8, atol=1e-8)


def index_of(kept: tuple[torch.Tensor, ...] | None) -> object:
    if kept is None:
        return ...
    return (kept[0][:, None], kept[1]) if len(kept) > 1 else kept


def test_compact_cohort_goes_on_from_a_state_that_it_gave() -> None:
    network = without_channels(network_of(convolutional, sparsity=0))
    smaller, again = compact(network), compact(network)
    assert smaller is not None
    assert again is not None
    one, other = CompactCohort(network, smaller, CPU), CompactCohort(network, again, CPU)
    for parameter in one.weights:
        parameter.data.add_(0.25)
    other.load(0, one.state(0))
    state = other.state(0)
    assert all(torch.equal(tensor, state[name]) for name, tensor in one.state(0).items())
    assert not torch.equal(state["0.weight"], network.state["0.weight"])


def test_compact_leaves_out_what_is_pruned_whole_alone() -> None:
    network = network_of(convolutional, sparsity=0)
    sparse = without_channels(network)
    smaller = compact(sparse)
    assert smaller is not None
    assert smaller.share <= 0.5
    assert compact(network) is None, "nothing goes"
    assert compact(replace(network, masks={})) is None
    assert compact(network_of(convolutional, sparsity=0.5)) is None, "single weights"
    mask = sparse.masks["3.weight"].clone()
    mask[tuple(mask.nonzero()[0])] = False
    assert compact(sparse.masked({**sparse.masks, "3.weight": mask})) is None, "channels and a single weight"


def test_execution_auto_leaves_out_channels_where_few_zeros_are_left() -> None:
    network = without_channels(network_of(convolutional, size=16, sparsity=0))
    assert isinstance(executable(network, "auto", CPU).cohort, CompactCohort)
    assert type(executable(network, "dense", CPU).cohort) is DenseCohort
    images = images_of(network)
    logits = [executable(network, execution, CPU).eval()(images) for execution in ("auto", "dense")]
    torch.testing.assert_close(*logits)


def test_trainer_of_a_compact_network_goes_on_bit_for_bit(splits: Splits, configuration: Configuration) -> None:
    network = without_channels(network_of(lambda: convolutional(1), channels=1, sparsity=0))
    training = Training(Context(configuration, splits), configuration.pruning.hyperparameters, epochs=3, seed=0)
    whole, broken, resumed = (Trainer([network], training) for _ in range(3))
    assert isinstance(whole._cohort, CompactCohort)
    whole.run()
    broken.run_epoch()
    resumed.load_state_dict(broken.state_dict())
    resumed.run()
    assert resumed.current().fingerprint == whole.current().fingerprint
    assert whole.current().sparsity == network.sparsity


class Forward(nn.Module):
    """Layers a and b of eight channels, last of four outputs, others, and a forward pass."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], last: int = 8, **layers: nn.Module) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.last, self.scale, self.run = nn.Linear(last, 4), nn.Parameter(torch.ones(())), forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def head(x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


def adds_in_place(net: Any, x: Tensor) -> Tensor:
    y = F.relu(net.a(x))
    z = net.b(y)
    z.add_(y)
    return net.last(head(z))  # type: ignore[no-any-return]


def clamps_in_place(net: Any, x: Tensor) -> Tensor:
    z = net.b(F.relu(net.a(x)))
    z[:].mul_(2).clamp_(min=0)
    return net.last(head(z))  # type: ignore[no-any-return]


def views_by_the_size_of_another(net: Any, x: Tensor) -> Tensor:
    y = F.relu(net.a(x))
    z = net.b(y).view(y.size(0), y.size(1), -1).softmax(2)
    return net.last(z.mean(2))  # type: ignore[no-any-return]


def views_as_another(net: Any, x: Tensor) -> Tensor:
    y = F.relu(net.a(x))
    z = net.wide(F.relu(net.narrow(y.flatten(1)))).view(y.shape)
    return net.last(head(net.b(z)))  # type: ignore[no-any-return]


def attends_over_channels(net: Any, x: Tensor) -> Tensor:
    y = F.relu(net.a(x))
    n, c, _, _ = y.shape
    z = net.b(y).view(n, c, -1)
    return net.last((torch.softmax(z @ z.transpose(1, 2), -1) @ z).mean(2))  # type: ignore[no-any-return]


def reads_a_weight(net: Any, x: Tensor) -> Tensor:
    return net.last(head(net.b(F.relu(net.a(x))))) * net.b.bias.sum()  # type: ignore[no-any-return]


def reads_statistics(net: Any, x: Tensor) -> Tensor:
    return net.last(head(F.relu(net.norm(net.b(F.relu(net.a(x))))))) * net.norm.running_var.mean()  # type: ignore[no-any-return]


def doubles_the_batch(net: Any, x: Tensor) -> Tensor:
    y = F.relu(net.b(F.relu(net.a(torch.cat([x, x.flip(3)], 0)))))
    one, two = net.last(head(y)).chunk(2, 0)
    return one + two  # type: ignore[no-any-return]


def views_a_scalar(net: Any, x: Tensor) -> Tensor:
    return net.last(head(net.b(F.relu(net.a(x))) * net.scale.view(1, 1, 1, 1)))  # type: ignore[no-any-return]


def names_its_sizes(net: Any, x: Tensor) -> Tensor:
    y = F.relu(net.a(x)).view(-1, 8, 8, 8)
    return net.last(torch.reshape(F.max_pool2d(net.b(y), 8), (x.shape[0], 8)))  # type: ignore[no-any-return]


def shifts_a_patched_layer(net: Any, x: Tensor) -> Tensor:
    return net.last(head(net.shifted(F.relu(net.a(x)))))  # type: ignore[no-any-return]


def shifted() -> nn.Conv2d:
    layer = nn.Conv2d(8, 8, 1)
    layer.forward = MethodType(lambda own, x: x.roll(1, 1) + nn.Conv2d.forward(own, x), layer)  # type: ignore[method-assign]
    return layer


@pytest.mark.parametrize(
    ("forward", "layers"),
    [
        (adds_in_place, {}), (clamps_in_place, {}), (views_by_the_size_of_another, {}),
        (views_as_another, {"narrow": lambda: nn.Linear(512, 16), "wide": lambda: nn.Linear(16, 512)}),
        (attends_over_channels, {}), (reads_a_weight, {}), (reads_statistics, {"norm": lambda: nn.BatchNorm2d(8)}),
        (doubles_the_batch, {}), (views_a_scalar, {}), (names_its_sizes, {}),
        (shifts_a_patched_layer, {"shifted": shifted}),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)  # fmt: skip
def test_cut_networks_compute_the_same_whatever_their_code_does(
    forward: Callable[[Any, Tensor], Tensor], layers: dict[str, Callable[[], nn.Module]]
) -> None:
    def made() -> nn.Module:
        return Forward(forward, **{name: make() for name, make in layers.items()})

    network = network_of(made, sparsity=0)
    section = PruningSection(structure="filters", sparsity=0.5)
    scores = {name: weight.abs() for name, weight in network.prunable().items()}
    pruned = network.masked(select(scores, 0.5, section, {}, network))
    images = images_of(network)
    given = pruned.specification.normalised(images).double()
    with torch.no_grad():
        torch.testing.assert_close(cut(pruned).module.double()(given), exact(pruned, images), rtol=1e-9, atol=1e-9)


def test_cut_counts_the_multiply_adds_of_layers_that_stay_too() -> None:
    def twice(net: Any, x: Tensor) -> Tensor:
        y = F.relu(net.a(x))
        return net.last(head(net.b(net.up(net.same(F.relu(net.same(y)))))))  # type: ignore[no-any-return]

    network = network_of(
        lambda: Forward(twice, same=nn.Conv2d(8, 8, 3, padding=1), up=nn.ConvTranspose2d(8, 8, 2, stride=2)), sparsity=0
    )
    assert network.coupling.fixed == 2 * 64 * 8 * 8 * 9 + 64 * 8 * 8 * 4
    pruned = network.masked(
        {name: torch.ones_like(weight).bool() for name, weight in network.prunable().items()}
        | {"last.weight": (torch.arange(8) % 2 == 0).expand(4, 8).clone()}
    )
    of_b = 256 * 8 * 8 * 9
    whole = 64 * 8 * 3 * 9 + network.coupling.fixed + of_b + 8 * 4
    assert cut(pruned).share == pytest.approx((whole - of_b / 2 - 16) / whole)


def test_compact_network_is_trained_alike_by_an_optimizer_that_takes_norms_of_whole_tensors() -> None:
    """Fromage scales a step by the norm of a tensor, in which what is left of channels that are gone would count."""
    network = without_remains(without_channels(network_of(convolutional, sparsity=0)))
    smaller = compact(network)
    assert smaller is not None
    losses = []
    for each in (DenseCohort(network, network.build(), CPU), CompactCohort(network, smaller, CPU)):
        rule = FixedMasks(each.prunable, network.masks if each.prunable else {}, 3)
        optimizer = Fromage(list(each.weights), lr=0.05)
        images, targets = images_of(network, 6), Targets(torch.arange(6))
        for _ in range(3):
            loss = each.train().learn(images, targets, CROSS_ENTROPY)
            rule.before_step()
            optimizer.step()
            rule.after_step(optimizer)
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_without_remains_clears_what_is_left_of_channels_that_are_gone() -> None:
    network = without_channels(network_of(convolutional, sparsity=0))
    cleared = without_remains(network)
    gone = ~network.masks["0.weight"].flatten(1).any(1)
    assert gone.any()
    for name in ("0.bias", "1.weight", "1.bias"):
        assert (cleared.state[name] == 0).tolist() == gone.tolist()
    images = images_of(network)
    torch.testing.assert_close(exact(cleared, images), exact(network, images))


class Transformer(nn.Module):
    """Images (N, 1, 8, 8) to logits, with one attention of each way to write it."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.last = nn.Conv2d(1, 8, 4, stride=4), nn.Linear(8, 10)
        self.torch = nn.MultiheadAttention(8, 4, batch_first=True)
        self.all, self.first_out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.query, self.key, self.value, self.second_out = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.patches(x)).flatten(2).transpose(1, 2)
        x = x + self.torch(x, x, x, need_weights=False)[0]
        n, tokens, _ = x.shape
        query, key, value = self.all(x).reshape(n, tokens, 3, 4, 2).permute(2, 0, 3, 1, 4).unbind(0)
        attended = ((query * 2**-0.5) @ key.transpose(-2, -1)).softmax(dim=-1) @ value
        x = x + self.first_out(attended.transpose(1, 2).reshape(n, tokens, 8))
        query, key, value = (
            layer(x).view(n, tokens, 2, 4).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        x = x + self.second_out(attended.transpose(1, 2).flatten(2))
        return self.last(x.mean(1))  # type: ignore[no-any-return]


def without_heads(network: Network, sparsity: float = 0.5) -> Network:
    section = PruningSection(structure="heads", sparsity=sparsity)
    scores = {name: weight.abs() for name, weight in network.prunable().items()}
    return without_remains(network.masked(select(scores, sparsity, section, {}, network)))


def test_cut_leaves_heads_out_and_computes_the_same() -> None:
    network = without_heads(network_of(Transformer, channels=1, sparsity=0))
    module, kept, sizes, share = cut(network)
    assert sizes == {"torch": (24, 12), "all": (24, 12), "query": (8, 4), "key": (8, 4), "value": (8, 4)}
    assert kept["all.weight"][0].tolist() == [row + part for part in (0, 8, 16) for row in kept["first_out.weight"][1]]
    whole = 4 * (8 * 16 + 3 * (24 * 8 + 8 * 8)) + 8 * 10
    assert share == pytest.approx((whole - 4 * 3 * 8 * 16) / whole)
    images = images_of(network)
    given = network.specification.normalised(images).double()
    with torch.no_grad():
        torch.testing.assert_close(module.double()(given), exact(network, images), rtol=1e-9, atol=1e-9)
    assert compact(network) is not None


def test_trainer_without_heads_trains_as_with_their_zeros(splits: Splits, configuration: Configuration) -> None:
    network = without_heads(network_of(Transformer, channels=1, sparsity=0))
    training = Training(Context(configuration, splits), configuration.pruning.hyperparameters, epochs=1, seed=0)
    dense = configuration.model_copy(update={"run": configuration.run.model_copy(update={"execution": "dense"})})
    small, whole = (
        Trainer([network], replace(training, context=Context(each, splits))) for each in (configuration, dense)
    )
    assert isinstance(small._cohort, CompactCohort)
    assert type(whole._cohort) is DenseCohort
    for trainer in (small, whole):
        trainer.run()
    for name, tensor in whole.current().state.items():
        torch.testing.assert_close(small.current().state[name], tensor, rtol=1e-3, atol=1e-4)


def test_trainer_without_heads_goes_on_bit_for_bit(splits: Splits, configuration: Configuration) -> None:
    network = without_heads(network_of(Transformer, channels=1, sparsity=0))
    training = Training(Context(configuration, splits), configuration.pruning.hyperparameters, epochs=2, seed=0)
    whole, broken, resumed = (Trainer([network], training) for _ in range(3))
    whole.run()
    broken.run_epoch()
    resumed.load_state_dict(broken.state_dict())
    assert resumed.run().current().fingerprint == whole.current().fingerprint


def reshapes_at_the_end(net: Any, x: Tensor) -> Tensor:
    n, tokens, channels = x.shape
    query, key, value = (part.view(n, tokens, 4, 2).transpose(1, 2) for part in (net.q(x), net.k(x), net.v(x)))
    attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    return net.o(attended.reshape(n, tokens, channels))  # type: ignore[no-any-return]


def doubles_what_it_reads(net: Any, x: Tensor) -> Tensor:
    doubled = x.mul_(2)
    n = doubled.shape[0]
    query, key, value = (layer(x).view(n, 4, 4, 2).transpose(1, 2) for layer in (net.q, net.k, net.v))
    return net.o(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(n, 4, 8))  # type: ignore[no-any-return]


def attends_in_windows(net: Any, x: Tensor) -> Tensor:
    windows = x.reshape(-1, 2, 8)
    query, key, value = (layer(windows).view(-1, 2, 4, 2).transpose(1, 2) for layer in (net.q, net.k, net.v))
    attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(-1, 2, 8)
    return net.o(attended).view(-1, 4, 8)  # type: ignore[no-any-return]


def looks_at_sizes_in_vain(net: Any, x: Tensor) -> Tensor:
    query, key, value = (layer(x).view(-1, 4, 4, 2).transpose(1, 2) for layer in (net.q, net.k, net.v))
    _, _heads, _tokens, _width = query.shape
    attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    _n, _t, _c = attended.shape
    return net.o(attended)  # type: ignore[no-any-return]


def asks_one_token(net: Any, x: Tensor) -> Tensor:
    query = net.q(x[:, :1]).view(-1, 1, 4, 2).transpose(1, 2)
    key, value = (layer(x).view(-1, 4, 4, 2).transpose(1, 2) for layer in (net.k, net.v))
    return net.o(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def has_tokens_first(net: Any, x: Tensor) -> Tensor:
    x = x.transpose(0, 1)
    return net.torch(x, x, x)[0].transpose(0, 1)  # type: ignore[no-any-return]


class Attending(nn.Module):
    """Images (N, 1, 8, 8) to logits, by four tokens and an attention of 4 heads of 2 channels."""

    def __init__(self, attend: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.patches, self.last, self.attend = nn.Conv2d(1, 8, 4, stride=4), nn.Linear(8, 10), attend
        if attend is has_tokens_first:
            self.torch = nn.MultiheadAttention(8, 4)
        else:
            self.q, self.k, self.v, self.o = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        tokens = F.relu(self.patches(x)).flatten(2).transpose(1, 2)
        return self.last(self.attend(self, tokens).mean(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("attend", "multiply_adds"),
    [
        (reshapes_at_the_end, 4 * 4 * 64), (doubles_what_it_reads, 4 * 4 * 64), (attends_in_windows, 4 * 4 * 64),
        (looks_at_sizes_in_vain, 4 * 4 * 64), (asks_one_token, (1 + 4 + 4 + 1) * 64), (has_tokens_first, 4 * 4 * 64),
    ],
)  # fmt: skip
def test_cut_leaves_heads_out_however_the_attention_is_written(
    attend: Callable[[Any, Tensor], Tensor], multiply_adds: int
) -> None:
    network = without_heads(network_of(lambda: Attending(attend), channels=1, sparsity=0))
    assert len(network.heads.attentions) == 1
    smaller = cut(network)
    others = 4 * 8 * 16 + 8 * 10
    assert smaller.share == pytest.approx((others + multiply_adds / 2) / (others + multiply_adds))
    images = images_of(network)
    given = network.specification.normalised(images).double()
    with torch.no_grad():
        torch.testing.assert_close(smaller.module.double()(given), exact(network, images), rtol=1e-9, atol=1e-9)
