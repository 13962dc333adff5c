"""A module whose sites are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

import torch
from torch import nn

from safs_ray.activations.scaled import ActivationInPlace, ChannelGroups, ChannelGroupsInPlace, ScaledActivation
from safs_ray.operators import Operator, lookup


@dataclass(frozen=True)
class SitedNetwork:
    """A module whose sites are known.

    Attributes:
        module: computes what the original did, without dropout; each site is a submodule of its own, by the site's
            name.
        sites: names of the sites in the order of execution.
        defaults: name of the operator that the network itself applies at each site.
        excluded: names of the activations that were told to be no sites and stay as they are.
        learned: by name of an internal parameter in the module's state, that in the original's state of what the
            network itself has learned there, the slopes of PReLU.
        in_place: the sites that must work in place.
        left: activations that are no operators, or gates, in words; they stay as they are.
        untraced: why the module is the original's own code rather than its graph; None where it is the graph.
    """

    module: nn.Module
    sites: tuple[str, ...]
    defaults: tuple[str, ...]
    excluded: tuple[str, ...]
    learned: Mapping[str, str] = field(default_factory=dict)
    in_place: Set[str] = frozenset()
    left: tuple[str, ...] = ()
    untraced: str | None = None

    def install(self, operators: Sequence[Operator]) -> nn.Module:
        """Put one operator at each site, scales at 1; returns the module, changed in place."""
        for site, operator in zip(self.sites, operators, strict=True):
            self._put(site, (ActivationInPlace if site in self.in_place else ScaledActivation)(operator))
        return self.module

    def install_defaults(self, original: nn.Module) -> nn.Module:
        """Put the network's own operators at the sites, with what the original has learned; returns the module."""
        module = self.install([lookup(name) for name in self.defaults])
        with torch.no_grad():
            for name, learned in self.learned.items():
                parameter = module.get_parameter(name)
                parameter.copy_(original.get_parameter(learned).reshape(parameter.shape))
        return module

    def grouped(self, groups: int) -> SitedNetwork:
        """The same module, changed in place, with so many sites ``SITE.0``, ``SITE.1``, … for each of its sites."""
        for site in self.sites:
            self._put(site, ChannelGroupsInPlace() if site in self.in_place else ChannelGroups())
        return replace(
            self,
            sites=tuple(f"{site}.{group}" for site in self.sites for group in range(groups)),
            defaults=tuple(operator for operator in self.defaults for _ in range(groups)),
            in_place=frozenset(),
        )

    def _put(self, site: str, activation: nn.Module) -> None:
        parent, _, name = site.rpartition(".")
        self.module.get_submodule(parent).add_module(name, activation)


def any_matches(patterns: Sequence[str], name: str) -> bool:
    """Whether a name matches one of the patterns, as of :mod:`fnmatch`."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
