"""A network that runs its own code, in which the calls of activations are redirected to its sites."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from safs_ray.activations.applications import Application
from safs_ray.activations.calls import Calls, Place
from safs_ray.activations.sited import SitedNetwork, any_matches
from safs_ray.activations.tracing import names_of, unused

log = logging.getLogger("safs_ray")


class InTurn(nn.Module):
    """Stands for a module that is applied several times: applies its children, one after the other."""

    turn = 0

    def forward(self, x: Tensor) -> Tensor:
        children = list(self.children())
        child = children[min(self.turn, len(children) - 1)]
        self.turn += 1
        output: Tensor = child(x)
        return output


class InterceptedNetwork(nn.Module):
    """A base that a network's class is given: its sites are applied where the network calls functions."""

    _sites_of_calls: Mapping[Place, str]
    _known: set[Place]

    def forward(self, *inputs: Any, **named: Any) -> Any:
        for child in self.modules():
            if isinstance(child, InTurn):
                child.turn = 0
        with _Interception(self):
            return super().forward(*inputs, **named)


class _Interception(Calls):
    network: InterceptedNetwork

    def activation(
        self,
        place: Place,
        value: Tensor,
        in_place: bool,
        function: Any,
        arguments: tuple[Any, ...],
        named: Mapping[str, Any],
    ) -> Any:
        site = self.network._sites_of_calls.get(place)
        if site is not None:
            return self.network.get_submodule(site)(value)
        if place not in self.network._known:
            self.network._known.add(place)
            where = place.path or "the network"
            later = "is applied in %s now and was not when the sites were found: it stays as it is"
            log.warning(f"%s {later}", place.function, where)
        return super().activation(place, value, in_place, function, arguments, named)


def intercept(module: nn.Module, applications: Sequence[Application], exclude: Sequence[str]) -> SitedNetwork:
    """The module with an empty submodule at every site, changed in place.

    A module that is applied once is itself replaced. One that is applied more often, or has several names, makes room
    for ``NAME.1``, ``NAME.2``, …; a function's site lies beside what calls it, under the function's name.

    Args:
        applications: all that the module applies.
    """
    builder = _Builder(module, exclude)
    for application in applications:
        if application.operator is not None:
            builder.add(application, applications)
    module.__class__ = type(type(module).__name__, (InterceptedNetwork, type(module)), {})
    module._sites_of_calls = builder.calls  # type: ignore[assignment]
    module._known = {application.place for application in applications}  # type: ignore[assignment]
    sites, excluded = builder.sites, tuple(builder.excluded)
    return SitedNetwork(module, tuple(sites), tuple(sites.values()), excluded, builder.learned, builder.in_place)


class _Builder:
    """Makes room for sites in a module.

    Attributes:
        sites: operators by site.
        calls: sites by the call of a function that they stand for.
    """

    def __init__(self, module: nn.Module, exclude: Sequence[str]) -> None:
        self.module, self._exclude = module, exclude
        self._taken = names_of(module)
        self._paths: dict[nn.Module, list[str]] = {}
        for path, child in module.named_modules(remove_duplicate=False):
            self._paths.setdefault(child, []).append(path)
        self.sites: dict[str, str] = {}
        self.calls: dict[Place, str] = {}
        self.learned: dict[str, str] = {}
        self.in_place: set[str] = set()
        self.excluded: list[str] = []

    def add(self, application: Application, applications: Sequence[Application]) -> None:
        """Make room for one application among all that were found."""
        site = self._of_module(application, applications) if application.of_module else self._of_function(application)
        if any_matches(self._exclude, site):
            self.excluded.append(site)
            return
        operator = str(application.operator)
        self.sites[site] = operator
        if application.in_place:
            self.in_place.add(site)
        if operator.startswith("prelu"):
            self.learned[f"{site}.internal.slope"] = f"{application.place.path}.weight"
        if not application.of_module:
            self.calls[application.place] = site
        parent, _, name = site.rpartition(".")
        self.module.get_submodule(parent).add_module(name, nn.Identity())

    def _of_function(self, application: Application) -> str:
        path, function, _ = application.place
        return unused(f"{path}.{function}" if path else function, self._taken.union(self.sites, self.excluded))

    def _of_module(self, application: Application, applications: Sequence[Application]) -> str:
        path = application.place.path
        times = sum(each.of_module and each.place.path == path for each in applications)
        child = self.module.get_submodule(path)
        if isinstance(child, InTurn):
            return f"{path}.{application.place.turn + 1}"
        names = self._paths[child]
        if times == 1 and len(names) == 1:
            return path
        turns = InTurn()
        for number in range(times):
            turns.add_module(str(number + 1), child)  # what is excluded stays
        for name in names:
            self.module.set_submodule(name, turns)
        return f"{path}.{application.place.turn + 1}"
