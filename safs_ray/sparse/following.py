"""A network whose masks change while it trains: all of its weights, computed with the nonzeros of the moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from safs_ray.config import Costs
from safs_ray.losses import Loss, Targets
from safs_ray.network import Network
from safs_ray.pruning.masks import count_kept
from safs_ray.sparse import plan
from safs_ray.sparse.cohort import Cohort
from safs_ray.sparse.dense import DenseCohort
from safs_ray.sparse.graph import Step
from safs_ray.sparse.planned import Planned, cohort_of

FEWER = 0.8
"""The plan is made anew when so small a part of its weights is left: a zero in it costs little, a plan takes time."""


class FollowingCohort(Cohort):
    """Computes what the dense network computes, and leaves out what a mask has dropped where that is faster.

    The parameters are those of the dense network, so that rules, optimizers and checkpoints know no difference. A
    step reads the nonzeros out of them and writes their gradients back; those of dropped weights are 0. Running
    statistics of channels that no output can see stay as they are.

    Args:
        network: as it begins.
        module: what it builds.
        steps: that it does, on a CPU.
        costs: by which zeros are left out or computed with.
    """

    def __init__(self, network: Network, module: nn.Module, steps: tuple[Step, ...], costs: Costs) -> None:
        super().__init__()
        self._network, self._module, self._steps, self._costs = network, module, steps, costs
        self._dense = DenseCohort(network, module, torch.device("cpu"))
        self._followed: Mapping[str, Tensor] = {}
        self._nonzeros: Planned | None = None
        self._places: Mapping[str, Mapping[str, Tensor]] = {}
        self._reads_dropped = self._frozen = False
        self._gradients_are_dense = True

    def follow(self, masks: Mapping[str, Tensor], reads_dropped: bool) -> None:
        self._reads_dropped = reads_dropped
        if masks is not self._followed and self._is_outdated(masks):
            self.plan(masks)
        self._followed = masks

    def plan(self, masks: Mapping[str, Tensor]) -> None:
        self.planned, self._nonzeros = masks, None
        network = replace(self._network, masks=dict(masks), state=self._module.state_dict())
        if not plan.promises_gain(self._steps, network, self._costs):
            return
        made = plan.of_steps(self._steps, network, self._costs)
        if made.gain(self._costs) > 1:
            self._nonzeros = cohort_of(made, network, self._module).train(self.training)
            self._places = {owner: slot.places(owner) for owner, slot in made.slots.items()}
            self._gradients_are_dense = True
            if self._frozen:
                self._nonzeros.freeze_scales()

    def _is_outdated(self, masks: Mapping[str, Tensor]) -> bool:
        """Whether other masks want another plan: they keep far less, or what the plan has left out."""
        if not self.planned or count_kept(masks) <= FEWER * count_kept(self.planned):
            return True
        return self._nonzeros is not None and any(bool((masks[name] & ~self.planned[name]).any()) for name in masks)

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = (self._dense if self._nonzeros is None else self._loaded(self._nonzeros))(images)
        return outputs

    def learn(self, images: Tensor, targets: Targets, loss: Loss, precision: torch.dtype = torch.float32) -> Tensor:
        if self._nonzeros is None or self._reads_dropped:
            self._gradients_are_dense = True
            return self._dense.learn(images, targets, loss, precision)
        if self._gradients_are_dense:  # else they are 0 already wherever the plan has no weight
            self._dense.zero_grad()
            self._gradients_are_dense = False
        losses = self._loaded(self._nonzeros).learn(images, targets, loss, precision)
        self._take_gradients(self._nonzeros)
        return losses

    def _loaded(self, nonzeros: Planned) -> Planned:
        """What computes with the nonzeros, with their values of now."""
        nonzeros.load(0, self._module.state_dict())
        return nonzeros

    def _take_gradients(self, nonzeros: Planned) -> None:
        """Let the parameters have the gradients that were found, and 0 where a weight is left out."""
        values, scales = nonzeros.gradients()
        for owner, found in values.items():
            places = self._places[owner]
            for (name, own), part in zip(
                places.items(), torch.split(found, [len(own) for own in places.values()]), strict=True
            ):
                parameter = self._module.get_parameter(name)
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad.view(-1)[own] = part
        for name, gradient in scales.items():
            self._module.get_parameter(name).grad = gradient

    @property
    def weights(self) -> Sequence[nn.Parameter]:
        return self._dense.weights

    @property
    def scales(self) -> Sequence[nn.Parameter]:
        return self._dense.scales

    @property
    def prunable(self) -> Mapping[str, Tensor]:
        return self._dense.prunable

    def freeze_scales(self) -> None:
        self._frozen = True
        self._dense.freeze_scales()

    def state(self, number: int) -> dict[str, Tensor]:
        return self._dense.state(number)

    def load(self, number: int, state: Mapping[str, Tensor]) -> None:
        self._dense.load(number, state)
