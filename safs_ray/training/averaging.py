"""The mean of a network's weights over several epochs (SWA, Izmailov et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.optim.swa_utils import update_bn

from safs_ray.accuracy import evaluation_batch
from safs_ray.data import batch_count
from safs_ray.network import Network
from safs_ray.training.context import Context


class Mean:
    """The mean of states of one network, added one by one.

    Attributes:
        count: of the states that were added.
    """

    def __init__(self, states: Iterable[Mapping[str, Tensor]] = ()) -> None:
        self.count = 0
        self._sums: dict[str, Tensor] = {}
        for state in states:
            self.add(state)

    def add(self, state: Mapping[str, Tensor]) -> None:
        """Take one more state, of the same masks."""
        self.count += 1
        for name, tensor in state.items():
            self._sums[name] = self._sums.get(name, 0) + tensor.double()

    def of(self, network: Network, context: Context) -> Network:
        """A network with the mean in place of its state; at least one was added.

        The running statistics of its batch normalisation are taken anew from the training images: those of single
        epochs are not those of the mean.
        """
        state = {name: (self._sums[name] / self.count).to(tensor.dtype) for name, tensor in network.state.items()}
        return _recalibrated(replace(network, state=state), context)

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""
        return {"count": self.count, "sums": dict(self._sums)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count, self._sums = state["count"], dict(state["sums"])


def _recalibrated(network: Network, context: Context) -> Network:
    device, images = context.device, context.splits.train.inputs
    module = network.build().to(device)
    parts = images.tensor_split(batch_count(len(images), evaluation_batch(images)))
    update_bn((network.specification.normalised(part.to(device)) for part in parts), module)
    return network.after(module)
