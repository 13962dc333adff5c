"""The one place where a training is made: by the loop of the package, or by the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from safs_ray.accuracy import accuracy
from safs_ray.config import ConfigurationError, refusal
from safs_ray.network import Network
from safs_ray.training.context import Context
from safs_ray.training.loop import LoopTrainer
from safs_ray.training.trainer import Trainer
from safs_ray.training.training import Training


def begin(networks: Sequence[Network], training: Training) -> Trainer | LoopTrainer:
    """A training that has not begun, or goes on from its checkpoint.

    Raises:
        AloneError: several networks that can only be trained one at a time.
    """
    return LoopTrainer(networks, training) if training.context.configuration.task.loop else Trainer(networks, training)


def measure(network: Network, context: Context, test: bool = False) -> float:
    """How good a network is as it comes: on the validation images, or with ``test`` on those of the test.

    Raises:
        ConfigurationError: the user's loop gives no score of it.
    """
    configuration, splits = context.configuration, context.splits
    if not configuration.task.loop:
        examples = splits.test if test else splits.validation
        return accuracy(network, examples, context.device, configuration)
    training = Training(context, configuration.pruning.hyperparameters, epochs=0, seed=context.seed)
    return LoopTrainer([network], training, test).run().measured


class TrainingResult(NamedTuple):
    """What one training, or several, made.

    Attributes:
        accuracy: on the validation images, in [0, 1].
        core_seconds_before: CPU time that was spent on it before an interruption, in another process.
    """

    network: Network
    accuracy: float
    core_seconds_before: float


def train(network: Network, training: Training, blamed: str | None) -> TrainingResult:
    """Run a training to its end; the network after its best epoch, and that epoch's validation accuracy.

    Args:
        blamed: the key to refuse when the training diverges before it has a result; without one, the network as
            it was is the result.

    Raises:
        ConfigurationError: the training diverged before it had a result.
    """
    trainer = begin([network], training).run()
    standing = trainer.standing
    if standing.diverged and not standing.best_epoch and blamed:
        raise diverging(training, blamed)
    reached = standing.best_accuracy if standing.best_epoch else measure(standing.best, training.context)
    return TrainingResult(standing.best, reached, trainer.core_seconds_before)


def diverging(training: Training, blamed: str) -> ConfigurationError:
    """The error of a training that came to nothing."""
    if loop := training.context.configuration.task.loop:
        no_score = training.context.configuration.no_score
        return refusal("task.loop", loop, f"its score is {no_score} with {blamed} as it is")
    when = "before its masks are complete" if training.changes_masks else "in its first epoch"
    rate = training.hyperparameters.learning_rate
    return refusal(blamed, rate, f"the training diverges {when}; take a smaller one")
