"""Network: the one value that every stage takes and returns."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, fx, nn

from safs_ray.activations import SitedNetwork, find_sites, input_shapes
from safs_ray.config import counted, refusal
from safs_ray.data import Array, as_tensors
from safs_ray.models import Specification, build, origin
from safs_ray.models.names import tensors_by_name
from safs_ray.operators import lookup
from safs_ray.pruning.coupling import Coupling, coupling_of
from safs_ray.pruning.flow import Survey, survey
from safs_ray.pruning.heads import Heads, heads_of
from safs_ray.pruning.masks import count_kept, prunable_weights, unsigned_zeros
from safs_ray.storage import Folder
from safs_ray.tensorfile import packed

Frozen = tuple[dict[str, Any], dict[str, Array]]

TENSORS, DESCRIPTION = "network.safetensors", "network.json"
"""The files of a network."""

MASK = "mask:"
"""Prefix of a mask's name in a file, before the name of its weight."""


@dataclass(frozen=True)
class Network:
    """A specification, weights, masks, and the operator and scales of every site. Never changed in place.

    Attributes:
        sites: names of the sites in the order of execution.
        assignment: the operator of every site, in the order of ``sites``.
        state: the module's state dict: weights, buffers, and each site's ``SITE.alpha``, ``SITE.beta`` and
            ``SITE.internal.NAME``.
        masks: bool tensors by name of their weight, True where kept; empty for a dense network.
        groups: how many sites the channels of each activation are divided into; see :meth:`grouped`.

    Examples:
        >>> network = Network.initial(Specification("mlp", (1, 8, 8), 10, mean=(0.5,), deviation=(0.5,)), seed=0)
        >>> network.sites, network.assignment
        (('act1', 'act2'), ('relu', 'relu'))
        >>> {name: tuple(weight.shape) for name, weight in network.prunable().items()}
        {'fc1.weight': (300, 64), 'fc2.weight': (100, 300), 'fc3.weight': (10, 100)}
        >>> network.assign(["swish", "tanh"]).activations()["act2"]
        {'operator': 'tanh', 'alpha': 1.0, 'beta': 1.0}
        >>> sparse = network.masked({name: weight > weight.median() for name, weight in network.prunable().items()})
        >>> sparse.sparsity, sparse.nonzero_weights, sparse.prunable_count
        (0.5, 25100, 50200)
        >>> sparse.save(Folder.at("mine"))
        >>> Network.load(Folder.at("mine")).fingerprint == sparse.fingerprint
        True
    """

    specification: Specification
    sites: tuple[str, ...]
    assignment: tuple[str, ...]
    state: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    groups: int = 1

    @classmethod
    def initial(cls, specification: Specification, seed: int) -> Network:
        """A dense network with initial weights drawn from the seed and its own activations.

        Raises:
            ConfigurationError: no such architecture, images that it cannot take, or no site found.
        """
        return cls.of(specification, build(specification, seed))

    @classmethod
    def of(cls, specification: Specification, module: nn.Module) -> Network:
        """A dense network with the weights and the activations of a module that the specification builds.

        Raises:
            ConfigurationError: no site found.
        """
        sited = _sited(specification)
        installed = sited.install_defaults(module)
        own = {name: _copied(tensor) for tensor, names in tensors_by_name(module) for name in names}
        state = {name: own.get(name, tensor) for name, tensor in state_of(installed).items()}
        return cls(specification, sited.sites, sited.defaults, state, {})

    def build(self) -> nn.Module:
        """A new module with this state, on the CPU, in training mode; it computes outputs (N, outputs)."""
        sited = _sited(self.specification)
        if self.groups > 1:
            sited = sited.grouped(self.groups)
        module = sited.install([lookup(name) for name in self.assignment])
        load_state(module, self.state)
        return module

    def after(self, module: nn.Module) -> Network:
        """This network with the state of a module that :meth:`build` made, copied to the CPU."""
        return replace(self, state=state_of(module))

    def assign(self, assignment: Sequence[str]) -> Network:
        """These weights with an operator at every site, scales at 1.

        Internal parameters are as they begin, but where the operator stays: there they are what was learned.
        """
        scales: dict[str, Tensor] = {}
        for site, operator, before in zip(self.sites, assignment, self.assignment, strict=True):
            scales |= _initial_scales(site, operator)
            if operator == before:
                scales |= {name: self.state[name] for name in scales if name.startswith(f"{site}.internal.")}
        return replace(self, assignment=tuple(assignment), state={**self._weights(), **scales})

    def grouped(self, groups: int) -> Network:
        """This network with the channels of each activation in contiguous blocks, each a site of its own.

        The sites of an activation ``act`` are ``act.0`` to ``act.{groups - 1}`` and begin with its operator and
        scales, so that it computes the same, up to how torch rounds the last bit of operators such as swish.
        Channels are dimension 1 of (N, C, H, W) and of (N, features).

        Raises:
            ConfigurationError: naming ``search.groups``, for an activation of fewer channels or of other inputs.
        """
        if self.groups > 1:
            raise ValueError(f"the network is in {self.groups} groups already")
        for site, shape in input_shapes(self.build(), self.sites, self.specification.example()).items():
            if len(shape) not in (2, 4):
                takes = f"site {site} takes {tuple(shape)}; allowed where sites take (N, C, H, W) or (N, features)"
                raise refusal("search.groups", groups, takes)
            if shape[1] < groups:
                has = f"site {site} has {counted(shape[1], 'channel')}"
                raise refusal("search.groups", groups, f"{has}; allowed: at most so many")
        for site, operator in zip(self.sites, self.assignment, strict=True):
            if lookup(operator).channels is not None:
                raise refusal(
                    "search.groups", groups, f"site {site} has a slope for each channel; leave it out of groups"
                )
        scales = {
            f"{site}.{group}{name.removeprefix(site)}": tensor
            for site in self.sites
            for name, tensor in self.state.items()
            if name.startswith(f"{site}.")
            for group in range(groups)
        }
        return replace(
            self,
            sites=tuple(f"{site}.{group}" for site in self.sites for group in range(groups)),
            assignment=tuple(operator for operator in self.assignment for _ in range(groups)),
            state={**self._weights(), **scales},
            groups=groups,
        )

    @property
    def sited(self) -> SitedNetwork:
        """The module that it is built from, and what was found in it; not to be changed."""
        return _template(self.specification)

    def prunable(self) -> dict[str, Tensor]:
        """The weights of convolutions and linear layers, by name."""
        return {name: self.state[name] for name in prunable_weights(self.sited.module)}

    def with_every_name(self) -> Network:
        """This network with each tied tensor, and its mask, under all of its names, as its layers know them."""
        tied = {name: names[0] for _, names in tensors_by_name(self.sited.module) for name in names[1:]}
        state = {name: self.state[first] for name, first in tied.items()}
        masks = {name: self.masks[first] for name, first in tied.items() if first in self.masks}
        return replace(self, state={**self.state, **state}, masks={**self.masks, **masks})

    def masked(self, masks: Mapping[str, Tensor]) -> Network:
        """This network with masks, its weights zero where they are False."""
        zeroed = {name: torch.where(mask, self.state[name], 0) for name, mask in masks.items()}
        return replace(self, state={**self.state, **zeroed}, masks=dict(masks))

    @property
    def nonzero_weights(self) -> int:
        """How many prunable weights the masks keep; all of them in a dense network."""
        return count_kept(self.masks) if self.masks else self.prunable_count

    @cached_property
    def prunable_count(self) -> int:
        """How many weights can be pruned."""
        return sum(tensor.numel() for tensor in (self.masks or self.prunable()).values())

    @property
    def sparsity(self) -> float:
        """Fraction of the prunable weights that are zero."""
        return 1 - self.nonzero_weights / self.prunable_count

    @property
    def lacks_statistics(self) -> bool:
        """Whether it has buffers, such as the running statistics of batch normalisation, all as they are initially."""
        buffers = {name: each for name, each in self.sited.module.named_buffers() if name in self.state}
        if any(each.any() for name, each in buffers.items() if name.endswith("num_batches_tracked")):
            return False  # a function may return a network that was trained
        return bool(buffers) and all(torch.equal(self.state[name], each) for name, each in buffers.items())

    @property
    def dtype(self) -> torch.dtype:
        """Of its weights: float32, or float64 where it serves to check."""
        return next(tensor.dtype for tensor in self.state.values() if tensor.is_floating_point())

    @cached_property
    def survey(self) -> Survey:
        """What the masks leave of every layer, and how many outputs can still be reached."""
        return survey(self.build(), self.masks, self.specification.example(), self.sites)

    @cached_property
    def coupling(self) -> Coupling:
        """Which of its channels can only go together.

        Raises:
            ConfigurationError: torch.fx cannot trace it, so that nobody knows.
        """
        return self._read("filters")[0]

    @cached_property
    def heads(self) -> Heads:
        """Its attentions, as far as they compute what attention of some heads computes.

        Raises:
            ConfigurationError: torch.fx cannot trace it, so that nobody knows.
        """
        return self._read("heads")[1]

    def _read(self, structure: str) -> tuple[Coupling, Heads]:
        """What its graph says, or a refusal of a structure that needs one."""
        if self.sited.untraced:
            reason = f"needs a network that torch.fx can trace: {self.sited.untraced}"
            raise refusal("pruning.structure", structure, f"{reason}; allowed: unstructured, N:M, blocks:BxC")
        sloped = tuple(name if lookup(name).channels is not None else "relu" for name in self.assignment)
        return _read_once(self.specification, origin(self.specification.model), self.groups, sloped)

    def activations(self) -> dict[str, dict[str, Any]]:
        """Operator, alpha and beta by site."""
        return {
            site: {
                "operator": operator,
                "alpha": self.state[f"{site}.alpha"].item(),
                "beta": self.state[f"{site}.beta"].item(),
            }
            for site, operator in zip(self.sites, self.assignment, strict=True)
        }

    @cached_property
    def fingerprint(self) -> str:
        """64 hexadecimal digits that differ for networks that differ in anything but the signs of pruned zeros."""
        return self._digest(self._tensors())

    def to_arrays(self) -> Frozen:
        """The network as JSON values and numpy arrays, which Ray's object store shares without a copy."""
        return self._description(), {name: tensor.numpy() for name, tensor in self._tensors().items()}

    @classmethod
    def from_arrays(cls, frozen: Frozen) -> Network:
        """The inverse of :meth:`to_arrays`; the tensors are views, read-only where the arrays are."""
        description, arrays = frozen
        return cls._assembled(description, as_tensors(arrays))

    def save(self, folder: Folder) -> None:
        """Write network.safetensors and, last, network.json, whose fingerprint is that of both.

        Raises:
            ValueError: the first does not give its tensors back; nothing was written.
        """
        folder.write(TENSORS, packed(self.to_arrays()[1]))
        folder.write_json(DESCRIPTION, {**self._description(), "fingerprint": self.fingerprint})

    @classmethod
    def load(cls, folder: Folder) -> Network:
        """The network that :meth:`save` wrote.

        Raises:
            FileNotFoundError: one of its files is missing.
            DamagedError: one of its files is not what was written.
        """
        content, description = folder.read(TENSORS), folder.read_json(DESCRIPTION)
        try:
            tensors = safetensors.torch.load(content)
        except Exception as error:  # whatever a damaged file makes the reader stumble over
            raise folder.damaged(TENSORS, f"it is no safetensors file ({error})") from None
        try:
            network, written = cls._assembled(description, tensors), description["fingerprint"]
            fingerprint = network._digest(tensors)  # of these bits, signs of pruned zeros too: +0.0 is what was written
        except Exception as error:  # as above: what is missing, or of another type
            raise folder.damaged(DESCRIPTION, f"it describes no network ({type(error).__name__}: {error})") from None
        if fingerprint != written:
            raise folder.damaged(DESCRIPTION, f"it has the fingerprint {written}, with {TENSORS} it is {fingerprint}")
        return network

    def _description(self) -> dict[str, Any]:
        """All that is not a tensor, as JSON values."""
        return {
            "specification": self.specification.as_json(),
            "sites": list(self.sites),
            "assignment": list(self.assignment),
            "groups": self.groups,
        }

    @classmethod
    def _assembled(cls, description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Network:
        """The network of a description and named tensors, masks among them."""
        return cls(
            Specification.from_json(description["specification"]),
            tuple(description["sites"]),
            tuple(description["assignment"]),
            {name: tensor for name, tensor in tensors.items() if not name.startswith(MASK)},
            {name.removeprefix(MASK): tensor for name, tensor in tensors.items() if name.startswith(MASK)},
            description["groups"],
        )

    def _weights(self) -> dict[str, Tensor]:
        """The state without scales and internal parameters."""
        activations = tuple(f"{site}." for site in self.sites)
        return {name: tensor for name, tensor in self.state.items() if not name.startswith(activations)}

    def _digest(self, tensors: Mapping[str, Tensor]) -> str:
        rest = repr((self.groups, self.sites, self.assignment))
        described = f"({self.specification.signature}, {rest.removeprefix('(')}"
        digest = hashlib.sha256(described.encode())
        for name, array in sorted((name, tensor.numpy()) for name, tensor in tensors.items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def _tensors(self) -> dict[str, Tensor]:
        """State and masks. The zeros that were pruned are +0.0, in whatever file the network came."""
        pruned = {
            name: torch.where(mask, self.state[name], unsigned_zeros(self.state[name]))
            for name, mask in self.masks.items()
        }
        return {**self.state, **pruned, **{f"{MASK}{name}": mask for name, mask in self.masks.items()}}


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """A copy of a module's state on the CPU; a tensor that has several names is there once, under the first."""
    return {names[0]: _copied(tensor) for tensor, names in tensors_by_name(module)}


def _copied(tensor: Tensor) -> Tensor:
    return unsigned_zeros(tensor.detach().cpu().clone())


def load_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a module a state that :func:`state_of` gave."""
    own = module.state_dict()  # with the versions of its layers, which some want to see again
    own.update({name: state[names[0]] for _, names in tensors_by_name(module) for name in names})
    module.load_state_dict(own)


def _sited(specification: Specification) -> SitedNetwork:
    """A new module with weights of no meaning, its sites empty."""
    template = _template(specification)
    return replace(template, module=copy.deepcopy(template.module))


def _template(specification: Specification) -> SitedNetwork:
    """The same, not to be changed: sites are found once in a process."""
    return _found_once(specification, origin(specification.model))


def forget_modules() -> None:
    """Free what is kept to build the networks of a specification faster: about as much memory as a dense network."""
    _found_once.cache_clear()
    _read_once.cache_clear()


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def _read_once(
    specification: Specification, _made_by: object, groups: int, assignment: tuple[str, ...]
) -> tuple[Coupling, Heads]:
    """The channels and heads of a network with operators of which only those with a slope for each channel matter."""
    sited = _sited(specification)
    module = (sited.grouped(groups) if groups > 1 else sited).install([lookup(name) for name in assignment])
    assert isinstance(module, fx.GraphModule)
    return coupling_of(module, specification.example()), heads_of(module, specification.example())


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def _found_once(specification: Specification, _made_by: object) -> SitedNetwork:
    return find_sites(build(specification, seed=0), specification.example(), specification.exclude)


def _initial_scales(site: str, operator: str) -> dict[str, Tensor]:
    internal = {f"{site}.internal.{name}": value for name, value in lookup(operator).start().items()}
    return {f"{site}.alpha": torch.tensor(1.0), f"{site}.beta": torch.tensor(1.0), **internal}
