"""What a stage made: a network and how good it is, in memory and in a folder."""

from __future__ import annotations

import time
from dataclasses import dataclass

from safs_ray.network import Network
from safs_ray.storage import Folder
from safs_ray.training import Context, Training, measure, train

METRICS = "metrics.json"
NUMBERS = {"validation_accuracy": float, "test_accuracy": float | None, "core_seconds": float}
"""What it holds, beside the fingerprint of the network."""


@dataclass(frozen=True)
class Result:
    """What a stage made.

    Attributes:
        network: as it was after its best epoch on the validation images.
        validation_accuracy: of that network, in [0, 1].
        core_seconds: CPU time of the stage, over all its threads.
        test_accuracy: in [0, 1]; None outside the final evaluation.
    """

    network: Network
    validation_accuracy: float
    core_seconds: float
    test_accuracy: float | None = None

    def save(self, folder: Folder) -> None:
        """Write the network and then metrics.json, which says that the stage is complete, and of which network."""
        self.network.save(folder)
        folder.write_json(
            METRICS,
            {
                "validation_accuracy": self.validation_accuracy,
                "test_accuracy": self.test_accuracy,
                "core_seconds": self.core_seconds,
                "fingerprint": self.network.fingerprint,
            },
        )

    @classmethod
    def load(cls, folder: Folder) -> Result | None:
        """The result in a folder; None when the stage has not completed there.

        Raises:
            DamagedError: a file of a stage that has completed is missing or not what was written.
        """
        if not folder.exists(METRICS):
            return None
        metrics = folder.read_json(METRICS)
        try:
            network = Network.load(folder)
        except FileNotFoundError as error:
            raise folder.damaged(METRICS, f"of its network a file is missing ({error})") from None
        if not isinstance(metrics, dict) or metrics.pop("fingerprint", None) != network.fingerprint:
            raise folder.damaged(METRICS, "it is of another network than lies there")
        if metrics.keys() != NUMBERS.keys() or not all(isinstance(metrics[key], NUMBERS[key]) for key in NUMBERS):
            raise folder.damaged(METRICS, f"it must hold the numbers {', '.join(NUMBERS)}")
        return cls(network, **metrics)


def untrained(network: Network, context: Context) -> Result:
    """A network that a stage leaves as it is, which costs nothing."""
    return Result(network, measure(network, context), core_seconds=0.0)


def trained(network: Network, training: Training, blamed: str | None) -> Result:
    """Run a training to its end; ``blamed`` is the key to refuse when it diverges before it has any result."""
    start = time.process_time()
    best, score, before = train(network, training, blamed)
    return Result(best, score, before + time.process_time() - start)
