"""How networks are trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from safs_ray.checkpoints import Checkpoint
from safs_ray.config import Execution, Hyperparameters, refusal
from safs_ray.losses import CROSS_ENTROPY, CrossEntropy, Loss
from safs_ray.network import Network
from safs_ray.pruning.rules import FixedMasks, MakeRule
from safs_ray.references import is_reference
from safs_ray.training.context import Context


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes:
        epochs: length of the whole training, which the schedule spans.
        seed: seed of the batches and the augmentation.
        learn_scales: whether alpha and beta are learned (stage 2) or stay as they are (stage 1).
        mask_rule: what becomes of the network's masks while it trains.
        loss: what its outputs are told by the targets.
        average: fraction of the epochs, the last ones, over which the mean of its weights is taken.
    """

    context: Context
    hyperparameters: Hyperparameters
    epochs: int
    seed: int
    learn_scales: bool = False
    mask_rule: MakeRule = FixedMasks
    loss: Loss = CROSS_ENTROPY
    average: float = 0.0

    @property
    def averaged(self) -> int:
        """How many epochs, the last ones, the mean is over; 0 where it would be one."""
        count = round(self.average * self.epochs)
        return count if count > 1 else 0

    @property
    def changes_masks(self) -> bool:
        """Whether the network's masks change while it trains."""
        return self.mask_rule is not FixedMasks

    def precision(self, network: Network) -> torch.dtype:
        """What layers compute in while a network trains."""
        asked = self.context.configuration.run.precision
        if asked == "auto":
            cuda = self.context.device.type == "cuda"
            has_it = cuda and torch.cuda.is_bf16_supported(including_emulation=False)
            asked = "bf16" if has_it else "float32"
        dense = not network.masks and not self.changes_masks
        return torch.bfloat16 if asked == "bf16" or (asked == "dense bf16" and dense) else torch.float32

    def memory_format(self, network: Network) -> torch.memory_format:
        """How a batch of images (N, C, H, W) lies in memory; convolutions follow it.

        A user's own network may view what is channels_last as what it is not, so it gets that only when told to.
        """
        asked = self.context.configuration.run.memory_format
        own = is_reference(network.specification.model) or len(network.specification.shape) != 3
        faster = self.context.device.type == "cuda" or self.precision(network) is torch.bfloat16
        last = asked == "channels_last" or (asked == "auto" and faster and not own)
        return torch.channels_last if last else torch.contiguous_format

    def execution(self, network: Network) -> Execution:
        """How a network is executed while it trains: with all weights in bf16."""
        exact = self.precision(network) is torch.float32
        return self.context.configuration.run.execution if exact else "dense"

    def checkpoint(self, networks: Sequence[Network]) -> Checkpoint:
        """Where the state of this training of networks is kept."""
        return Checkpoint(self.context.checkpoints, lambda: self._key(networks))

    def _key(self, networks: Sequence[Network]) -> str:
        """Equal for trainings in one run that train the same networks in the same way.

        The device may change when a run goes on, and with it how the optimizer's state is laid out.
        """
        chosen, device = self.hyperparameters.model_dump(), self.context.device.type
        fingerprints = [network.fingerprint for network in networks]
        return digest(fingerprints, chosen, self.epochs, self.seed, self.learn_scales, device)


def sparse_training(
    context: Context,
    hyperparameters: Hyperparameters,
    epochs: int,
    seed: int,
    learn_scales: bool = False,
    mask_rule: MakeRule = FixedMasks,
) -> Training:
    """The training of a sparse network, of one that becomes sparse, or of a candidate: all rows of a table share it.

    Raises:
        ConfigurationError: it shall learn from a teacher, and there is none.
    """
    section = context.configuration.training
    share = section.distillation.share
    if share and context.splits.train.taught is None:
        raise refusal("training.distillation.share", share, "the images have no logits of a teacher; see stages.teach")
    loss = CrossEntropy(section.label_smoothing, share, section.distillation.temperature)
    return Training(context, hyperparameters, epochs, seed, learn_scales, mask_rule, loss, section.average)


def digest(*values: object) -> str:
    """Equal for equal plain values: 32 hexadecimal digits."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]
