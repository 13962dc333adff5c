"""Heads of attention: which rows and columns of the layers around it belong to each of them.

A head goes physically when its queries, keys and values are no longer computed and the layer behind the attention no
longer reads it. Networks write attention in many ways. So whatever leads from linear layers to a softmax and from there
to a linear layer, by steps that move, scale and weigh alone, may be an attention, and is one if it computes, on random
numbers, what attention of so many heads computes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from safs_ray.pruning.attend import HEADS_FIRST, PARTS_FIRST, Attend
from safs_ray.pruning.candidates import Candidate, candidates
from safs_ray.pruning.coupling import Coupling, staying
from safs_ray.randomness import generator


class Attention(NamedTuple):
    """Self-attention or attention between inputs, in a graph of torch.fx.

    Attributes:
        rows: by name of each weight that computes queries, keys or values, the head of each of its outputs, from 0 on.
        projection: name of the weight that reads what the heads give.
        columns: the head of each of its inputs.
        places: by name of each of these weights, how many places of its output it is used at, for one input; of one
            that computes all three from several inputs the mean.
        computed: names of the nodes that give queries, keys and values, in this order, or all three at once.
        width: channels of a head.
        between: names of the nodes behind them up to the projection, and of the sizes that only these read, in their
            order; none of an nn.MultiheadAttention.
        attended: name of the one that gives what the projection reads.
        order: how one node that gives all three lays them out.
    """

    rows: Mapping[str, Tensor]
    projection: str
    columns: Tensor
    places: Mapping[str, float]
    computed: tuple[str, ...]
    width: int
    between: tuple[str, ...] = ()
    attended: str = ""
    order: str = ""

    @property
    def heads(self) -> int:
        return int(self.columns.max()) + 1


@dataclass(frozen=True)
class Heads:
    """The attentions of a network.

    Attributes:
        coupling: the heads as sets of channels that go together; set 0 are all channels that have no head.
    """

    attentions: tuple[Attention, ...]
    coupling: Coupling

    def kept(self, attention: Attention, masks: Mapping[str, Tensor]) -> Tensor:
        """Whether masks leave a way through each head of an attention (heads,); one stays where they leave none."""
        columns = attention.columns
        read = masks[attention.projection].any(0).cpu() if attention.projection in masks else columns >= 0
        kept = torch.zeros(attention.heads, dtype=torch.bool).index_put_((columns[read],), torch.tensor(True))
        kept[0] |= not kept.any()
        return kept


def heads_of(module: fx.GraphModule, example: Tensor) -> Heads:
    """The attentions that a network is known to have.

    Args:
        module: as torch.fx has traced it; it is left as it is.
        example: a batch that it accepts.

    Examples:
        >>> class Model(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        ...
        ...     def forward(self, tokens):
        ...         return self.attention(tokens, tokens, tokens, need_weights=False)[0]
        >>> heads_of(fx.symbolic_trace(Model()), torch.zeros(1, 3, 4)).attentions[0].columns
        tensor([0, 0, 1, 1])
    """
    found = list(candidates(module))
    attentions: tuple[Attention, ...] = ()
    if found:
        values = _values(module, example, [node for each in found for node in each.wanted])
        attentions = tuple(each for each in (_known(module, candidate, values) for candidate in found) if each)
    return Heads(attentions, _coupled(module, attentions))


def _coupled(module: fx.GraphModule, attentions: Sequence[Attention]) -> Coupling:
    outputs: dict[str, Tensor] = {}
    inputs: dict[str, Tensor] = {}
    places: dict[str, float] = {}
    sets = 1
    for attention in attentions:
        for name, heads in attention.rows.items():
            outputs[name], inputs[name] = heads + sets, staying(module.get_parameter(name).shape[1])
        name = attention.projection
        outputs[name], inputs[name] = staying(module.get_parameter(name).shape[0]), attention.columns + sets
        places |= attention.places
        sets += attention.heads
    return Coupling(outputs, inputs, normalisations={}, places=places, sets=sets)


def _values(module: fx.GraphModule, example: Tensor, nodes: Sequence[fx.Node]) -> dict[fx.Node, Any]:
    """What nodes give in float64 where every linear layer gives random numbers; none where the network fails.

    Of a number of inputs that no size is mistaken for.
    """
    draws, names, values = generator(0, "attention"), {node.name: node for node in nodes}, dict[fx.Node, Any]()
    exact = copy.deepcopy(module).eval().double()
    inputs = example[:1].expand(INPUTS, *example.shape[1:])

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if n.op == "call_module" and isinstance(exact.get_submodule(str(n.target)), nn.Linear):
                value = torch.randn(value.shape, generator=draws, dtype=torch.float64)
            if n.name in names:
                values[names[n.name]] = value.clone() if isinstance(value, Tensor) else value
            return value

    try:
        with torch.no_grad():
            Recorder(exact).run(inputs.double() if inputs.is_floating_point() else inputs)
    except Exception:  # a user's network may hold to its own types
        return {}
    return values


INPUTS = 7


def _known(module: fx.GraphModule, candidate: Candidate, values: Mapping[fx.Node, Any]) -> Attention | None:
    """The attention that a candidate is; None where it is none, or one of another kind."""
    if not values:
        return None
    if candidate.projection in candidate.sources:
        return _of_multihead(module, candidate.projection, values)
    attended = values[candidate.attended]
    scored, computed = values[candidate.scored], [values[source] for source in candidate.sources]
    if scored.dim() != 4 or any(each.dim() != 3 for each in (attended, *computed)):
        return None
    heads, channels = scored.shape[1], attended.shape[2]
    if any(each.shape[2] * len(computed) != 3 * channels for each in computed) or channels % heads:
        return None
    width = channels // heads
    for order in ("",) if len(computed) == 3 else (PARTS_FIRST, HEADS_FIRST):
        for places in permutations(range(len(computed))):
            given = Attend(width, order)(*(computed[place] for place in places))
            if given.shape == attended.shape and torch.allclose(given, attended, rtol=1e-9, atol=1e-9):
                sources = [candidate.sources[place] for place in places]
                weights = {f"{source.target}.weight": source for source in sources}
                projection = f"{candidate.projection.target}.weight"
                return Attention(
                    rows={name: _heads(heads, width, order) for name in weights},
                    projection=projection,
                    columns=_heads(heads, width),
                    places={
                        **{name: _places(values[source]) for name, source in weights.items()},
                        projection: _places(attended),
                    },
                    computed=tuple(source.name for source in sources),
                    width=width,
                    between=tuple(node.name for node in candidate.between),
                    attended=candidate.attended.name,
                    order=order,
                )
    return None


def _of_multihead(module: fx.GraphModule, node: fx.Node, values: Mapping[fx.Node, Any]) -> Attention | None:
    layer = module.get_submodule(str(node.target))
    assert isinstance(layer, nn.MultiheadAttention)
    taken = [values[each] for each in node.args if isinstance(each, fx.Node)]
    if any(each.dim() != 3 for each in taken) or len(taken) != 3:
        return None
    places = [_places(each) for each in taken]
    return Attention(
        rows={f"{node.target}.in_proj_weight": _heads(layer.num_heads, layer.head_dim, PARTS_FIRST)},
        projection=f"{node.target}.out_proj.weight",
        columns=_heads(layer.num_heads, layer.head_dim),
        places={f"{node.target}.in_proj_weight": sum(places) / 3, f"{node.target}.out_proj.weight": places[0]},
        computed=(node.name,),
        width=layer.head_dim,
    )


def _places(value: Tensor) -> float:
    """How many places a value has for one input, each of all its channels."""
    return value.numel() / value.shape[-1] / INPUTS


def _heads(count: int, width: int, order: str = "") -> Tensor:
    """The head of each channel."""
    once = torch.arange(count)
    if order == PARTS_FIRST:
        return once.repeat_interleave(width).repeat(3)
    return once.repeat_interleave(width * (3 if order == HEADS_FIRST else 1))
