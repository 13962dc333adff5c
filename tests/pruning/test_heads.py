"""Heads: found where a graph attends as attention does, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from safs_ray.pruning.attend import HEADS_FIRST, PARTS_FIRST, Attend, FewerHeads
from safs_ray.pruning.heads import Heads, heads_of

TOKENS = torch.zeros(2, 3, 8)


class Attending(nn.Module):
    """Tokens (N, 3, 8) to as many, by four heads of two channels, however they are computed."""

    def __init__(self, attend: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.before, self.projection, self.run = nn.Linear(8, 8), nn.Linear(8, 8), attend
        self.scale = nn.Parameter(torch.ones(()))
        for name, layer in (layers or {"all": nn.Linear(8, 24)}).items():
            self.add_module(name, layer)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.run(self, self.before(tokens))


def parted(tokens: Tensor) -> list[Tensor]:
    query, key, value = tokens.chunk(3, 2)
    return [each.view(-1, 3, 4, 2).transpose(1, 2) for each in (query, key, value)]


def joined(heads: Tensor) -> Tensor:
    return heads.transpose(1, 2).reshape(-1, 3, 8)


def by_softmax(net: Any, x: Tensor) -> Tensor:
    query, key, value = parted(net.all(x))
    return net.projection(joined((query @ key.mT / 2**0.5).softmax(-1) @ value))  # type: ignore[no-any-return]


def by_function(net: Any, x: Tensor) -> Tensor:
    n, tokens, _ = x.shape
    query, key, value = net.all(x).view(n, tokens, 3, 4, 2).permute(2, 0, 3, 1, 4)
    attended = F.scaled_dot_product_attention(query, key, value)
    return net.projection(attended.transpose(1, 2).reshape(n, tokens, 8))  # type: ignore[no-any-return]


def heads_first(net: Any, x: Tensor) -> Tensor:
    query, key, value = net.all(x).view(-1, 3, 4, 3, 2).permute(3, 0, 2, 1, 4).unbind(0)
    return net.projection(joined(F.scaled_dot_product_attention(query, key, value)))  # type: ignore[no-any-return]


def apart(net: Any, x: Tensor) -> Tensor:
    value, query, key = (layer(x).view(-1, 3, 4, 2).transpose(1, 2) for layer in (net.v, net.q, net.k))
    return net.projection(joined(F.scaled_dot_product_attention(query, key, value)))  # type: ignore[no-any-return]


def found(attend: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> Heads:
    return heads_of(fx.symbolic_trace(Attending(attend, **layers)), TOKENS)


@pytest.mark.parametrize(
    ("attend", "order", "rows"),
    [
        (by_softmax, PARTS_FIRST, [0, 0, 1, 1, 2, 2, 3, 3] * 3),
        (by_function, PARTS_FIRST, [0, 0, 1, 1, 2, 2, 3, 3] * 3),
        (heads_first, HEADS_FIRST, [0] * 6 + [1] * 6 + [2] * 6 + [3] * 6),
    ],
)
def test_heads_of_one_layer_that_computes_all(attend: Any, order: str, rows: list[int]) -> None:
    (attention,) = found(attend).attentions
    assert attention.order == order
    assert {name: heads.tolist() for name, heads in attention.rows.items()} == {"all.weight": rows}
    assert attention.projection == "projection.weight"
    assert attention.columns.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert (attention.heads, attention.width) == (4, 2)
    assert attention.places == {"all.weight": 3, "projection.weight": 3}


def test_heads_of_three_layers_are_told_apart_whatever_their_order() -> None:
    (attention,) = found(apart, v=nn.Linear(8, 8), q=nn.Linear(8, 8), k=nn.Linear(8, 8)).attentions
    assert list(attention.rows) == ["q.weight", "k.weight", "v.weight"]
    assert {tuple(heads.tolist()) for heads in attention.rows.values()} == {(0, 0, 1, 1, 2, 2, 3, 3)}


def test_heads_are_sets_of_channels_that_go_together() -> None:
    coupling = found(by_softmax).coupling
    assert coupling.outputs["all.weight"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4] * 3
    assert coupling.inputs["projection.weight"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert coupling.outputs["projection.weight"].tolist() == coupling.inputs["all.weight"].tolist() == [0] * 8
    assert [layer.tolist() for layer in coupling.layers] == [[1, 2, 3, 4]]
    like = {
        "all.weight": torch.zeros(24, 8),
        "projection.weight": torch.zeros(8, 8),
        "before.weight": torch.zeros(8, 8),
    }
    assert coupling.multiply_adds_between(torch.tensor([1, 1, 0, 0, 0]).bool(), like) == 3 * (6 * 8 + 8 * 2)
    masks = coupling.masks(torch.tensor([True, False, True, True, True]), like)
    assert masks["all.weight"].any(1).tolist() == [False, False, True, True, True, True, True, True] * 3
    assert masks["projection.weight"].any(0).tolist() == [False] * 2 + [True] * 6
    assert masks["before.weight"].all()


def is_causal(net: Any, x: Tensor) -> Tensor:
    query, key, value = parted(net.all(x))
    return net.projection(joined(F.scaled_dot_product_attention(query, key, value, is_causal=True)))  # type: ignore[no-any-return]


def scales_otherwise(net: Any, x: Tensor) -> Tensor:
    query, key, value = parted(net.all(x))
    return net.projection(joined((query @ key.mT).softmax(-1) @ value))  # type: ignore[no-any-return]


def adds_a_bias(net: Any, x: Tensor) -> Tensor:
    query, key, value = parted(net.all(x))
    return net.projection(joined((query @ key.mT / 2**0.5 + net.scale * torch.eye(3)).softmax(-1) @ value))  # type: ignore[no-any-return]


def mixes_heads(net: Any, x: Tensor) -> Tensor:
    query, key, value = parted(net.all(x))
    scores = (query @ key.mT / 2**0.5).softmax(-1)
    return net.projection(joined((scores + scores.flip(1)) @ value))  # type: ignore[no-any-return]


def reads_the_values_elsewhere(net: Any, x: Tensor) -> Tensor:
    all_ = net.all(x)
    query, key, value = parted(all_)
    return net.projection(joined(F.scaled_dot_product_attention(query, key, value))) + all_[:, :, -8:]  # type: ignore[no-any-return]


def applies_a_layer_twice(net: Any, x: Tensor) -> Tensor:
    return by_softmax(net, net.projection(x))


def attends_along_channels(net: Any, x: Tensor) -> Tensor:
    query, key, value = parted(net.all(x))
    return net.projection(joined(((query.mT @ key / 3**0.5).softmax(-1) @ value.mT).mT))  # type: ignore[no-any-return]


def normalises_queries(net: Any, x: Tensor) -> Tensor:
    query, key, value = parted(net.all(x))
    return net.projection(joined(F.scaled_dot_product_attention(net.norm(query), key, value)))  # type: ignore[no-any-return]


def scales_in_place(net: Any, x: Tensor) -> Tensor:
    query, key, value = parted(net.all(x).mul_(3.0))
    return net.projection(joined(F.scaled_dot_product_attention(query, key, value)))  # type: ignore[no-any-return]


def scales_queries_in_place(net: Any, x: Tensor) -> Tensor:
    query, key, value = parted(net.all(x))
    query *= 3.0
    return net.projection(joined(F.scaled_dot_product_attention(query, key, value)))  # type: ignore[no-any-return]


def clamps_the_scores(net: Any, x: Tensor) -> Tensor:
    query, key, value = parted(net.all(x))
    return net.projection(joined((query @ key.mT / 2**0.5).clamp(-50, 50).softmax(-1) @ value))  # type: ignore[no-any-return]


def divides_by_its_width(net: Any, x: Tensor) -> Tensor:
    computed = net.all(x)
    query, key, value = parted(computed)
    attended = joined(F.scaled_dot_product_attention(query, key, value))
    return net.projection(attended) / computed.shape[-1]  # type: ignore[no-any-return]


def views_by_its_sizes(net: Any, x: Tensor) -> Tensor:
    query, key, value = parted(net.all(x))
    n, heads, tokens, width = query.shape
    attended = joined(F.scaled_dot_product_attention(query, key, value))
    return net.projection(attended).reshape(n, tokens, heads * width)  # type: ignore[no-any-return]


def asserts_its_width(net: Any, x: Tensor) -> Tensor:
    query, key, value = parted(net.all(x))
    attended = joined(F.scaled_dot_product_attention(query, key, value))
    torch._assert(attended.shape[-1] == 8, "eight")
    return net.projection(attended)  # type: ignore[no-any-return]


def scales_by_the_batch(net: Any, x: Tensor) -> Tensor:
    query, key, value = parted(net.all(x))
    return net.projection(joined((query @ key.mT / query.shape[0] ** 0.5).softmax(-1) @ value))  # type: ignore[no-any-return]


def reads_a_weight_of_it(net: Any, x: Tensor) -> Tensor:
    return by_softmax(net, x) * net.all.weight.mean()


def applies_a_projection_to_the_tokens(net: Any, x: Tensor) -> Tensor:
    return by_softmax(net, x) + F.linear(x, net.projection.weight)


def is_a_classifier(net: Any, x: Tensor) -> Tensor:
    return net.projection(net.all(x).softmax(-1)[:, :, :8])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "attend",
    [
        is_causal, scales_otherwise, adds_a_bias, mixes_heads, reads_the_values_elsewhere, applies_a_layer_twice,
        attends_along_channels, is_a_classifier, scales_in_place, scales_queries_in_place, clamps_the_scores,
        divides_by_its_width, views_by_its_sizes, asserts_its_width, scales_by_the_batch, reads_a_weight_of_it,
        applies_a_projection_to_the_tokens,
    ],
)  # fmt: skip
def test_heads_of_another_kind_of_attention_stay(attend: Any) -> None:
    assert found(attend).attentions == ()
    assert found(attend).coupling.layers == ()


def test_heads_behind_a_normalisation_of_queries_stay() -> None:
    assert found(normalises_queries, all=nn.Linear(8, 24), norm=nn.LayerNorm(2)).attentions == ()


class Buffered(nn.Identity):
    """An identity only as long as its buffer is 1."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale  # type: ignore[no-any-return]


@pytest.mark.parametrize("norm", [Buffered, lambda: nn.BatchNorm1d(3, affine=False, eps=1e-12)])
def test_heads_behind_a_module_that_may_change_stay(norm: Callable[[], nn.Module]) -> None:
    def attend(net: Any, x: Tensor) -> Tensor:
        query, key, value = parted(net.norm(net.all(x)))
        return net.projection(joined(F.scaled_dot_product_attention(query, key, value)))  # type: ignore[no-any-return]

    assert found(attend, all=nn.Linear(8, 24), norm=norm()).attentions == ()
    assert found(attend, all=nn.Linear(8, 24), norm=nn.Identity()).attentions


@pytest.mark.parametrize("tied", ["weight", "bias"])
def test_heads_of_layers_that_share_a_tensor_stay(tied: str) -> None:
    def twice(net: Any, x: Tensor) -> Tensor:
        return apart(net, net.other(x))

    layers = {name: nn.Linear(8, 8) for name in ("v", "q", "k", "other")}
    assert found(twice, **layers).attentions
    setattr(layers["other"], tied, getattr(layers["v"], tied))
    assert found(twice, **layers).attentions == ()


def test_heads_of_shared_queries_and_keys_stay() -> None:
    layers = {name: nn.Linear(8, 8) for name in ("v", "q", "k")}
    layers["k"].weight = layers["q"].weight
    assert found(apart, **layers).attentions == ()


def test_heads_are_found_before_a_view_that_does_nothing() -> None:
    def attend(net: Any, x: Tensor) -> Tensor:
        n, tokens, channels = x.shape
        query, key, value = parted(net.all(x))
        attended = joined(F.scaled_dot_product_attention(query, key, value))
        return net.projection(attended.reshape(n, tokens, channels))  # type: ignore[no-any-return]

    assert len(found(attend).attentions) == 1


def test_places_are_counted_by_layer() -> None:
    """Of windows of two tokens, of which an input of 4 has two; of one query to three keys and values."""

    def attend(net: Any, x: Tensor) -> Tensor:
        layer = net.all(torch.cat([x, x[:, :1]], 1).reshape(-1, 2, 8))
        query, key, value = layer.chunk(3, 2)
        heads = [part.view(-1, 2, 4, 2).transpose(1, 2) for part in (query, key, value)]
        return net.projection(F.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(-1, 2, 8))  # type: ignore[no-any-return]

    (windows,) = found(attend).attentions
    assert windows.places == {"all.weight": 4, "projection.weight": 4}

    def cross(net: Any, x: Tensor) -> Tensor:
        query = net.q(x[:, :1]).view(-1, 1, 4, 2).transpose(1, 2)
        key, value = (layer(x).view(-1, 3, 4, 2).transpose(1, 2) for layer in (net.k, net.v))
        return net.projection(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    (one_query,) = found(cross, q=nn.Linear(8, 8), k=nn.Linear(8, 8), v=nn.Linear(8, 8)).attentions
    assert one_query.places == {"q.weight": 1, "k.weight": 3, "v.weight": 3, "projection.weight": 1}


class Multihead(nn.Module):
    """An nn.MultiheadAttention (4 heads of 2) and how it is called."""

    def __init__(self, call: Callable[[nn.Module, Tensor], Tensor], **settings: Any) -> None:
        super().__init__()
        self.attention, self.call = nn.MultiheadAttention(8, 4, batch_first=True, **settings), call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.attention, x)


def plainly(attention: nn.Module, x: Tensor) -> Tensor:
    return attention(x, x, x, need_weights=False)[0]  # type: ignore[no-any-return]


def with_its_weights(attention: nn.Module, x: Tensor) -> Tensor:
    output, weights = attention(x, x, x)
    return weights @ output  # type: ignore[no-any-return]


def reads_its_last_layer(attention: nn.Module, x: Tensor) -> Tensor:
    return attention(x, x, x, need_weights=False)[0] + attention.out_proj(x)  # type: ignore[no-any-return, operator]


def reads_its_matrices(attention: nn.Module, x: Tensor) -> Tensor:
    return attention(x, x, x)[0] * attention.in_proj_weight.mean()  # type: ignore[no-any-return, operator, union-attr]


def concatenates_what_it_gives(attention: nn.Module, x: Tensor) -> Tensor:
    return torch.cat(attention(x, x, x), 0)


def masked(attention: nn.Module, x: Tensor) -> Tensor:
    return attention(x, x, x, attn_mask=torch.eye(3).bool(), need_weights=False)[0]  # type: ignore[no-any-return]


def test_heads_of_a_multihead_attention_of_torch() -> None:
    (attention,) = heads_of(fx.symbolic_trace(Multihead(plainly)), TOKENS).attentions
    assert attention.rows["attention.in_proj_weight"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3] * 3
    assert attention.projection == "attention.out_proj.weight"
    assert attention.heads == 4
    assert attention.places == {"attention.in_proj_weight": 3, "attention.out_proj.weight": 3}


@pytest.mark.parametrize(
    ("call", "settings"),
    [
        (with_its_weights, {}), (masked, {}), (reads_its_last_layer, {}), (reads_its_matrices, {}),
        (concatenates_what_it_gives, {}), (plainly, {"add_bias_kv": True}), (plainly, {"add_zero_attn": True}),
        (plainly, {"dropout": 0.5}),
    ],
)  # fmt: skip
def test_heads_of_a_multihead_attention_that_does_more_stay(call: Any, settings: dict[str, Any]) -> None:
    assert heads_of(fx.symbolic_trace(Multihead(call, **settings)), TOKENS).attentions == ()


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_fewer_heads_compute_what_the_whole_does_with_zeros(batch_first: bool, bias: bool) -> None:
    torch.manual_seed(0)
    whole = nn.MultiheadAttention(8, 4, bias=bias, batch_first=batch_first).double()
    kept = torch.tensor([False, True, True, False])
    smaller = FewerHeads(whole, kept)
    with torch.no_grad():
        whole.out_proj.weight[:, ~kept.repeat_interleave(2)] = 0
    query, other = torch.randn(2, 3, 8).double(), torch.randn(2, 3, 8).double()
    torch.testing.assert_close(smaller(query, other, query)[0], whole(query, other, query)[0])
    assert smaller.in_proj_weight.shape == (12, 8)


def test_attend_takes_queries_keys_and_values_in_both_orders() -> None:
    torch.manual_seed(0)
    parts = [torch.randn(2, 3, 8) for _ in range(3)]
    by_head = torch.stack([part.view(2, 3, 4, 2) for part in parts], 3).flatten(2)
    expected = Attend(2, "")(*parts)
    assert torch.equal(Attend(2, PARTS_FIRST)(torch.cat(parts, 2)), expected)
    assert torch.equal(Attend(2, HEADS_FIRST)(by_head), expected)


def test_heads_are_kept_where_the_projection_reads_any_of_their_channels() -> None:
    heads = found(by_softmax)
    (attention,) = heads.attentions
    mask = torch.zeros(8, 8, dtype=torch.bool)
    assert heads.kept(attention, {}).all()
    assert heads.kept(attention, {"projection.weight": mask}).tolist() == [True, False, False, False], "one stays"
    mask[3, [2, 7]] = True
    assert heads.kept(attention, {"projection.weight": mask}).tolist() == [False, True, False, True]
