"""The trial as Ray Tune sees it: a thin shell around a chain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ray import tune

from safs_ray import stages
from safs_ray.config import validate
from safs_ray.data import Array, Dataset
from safs_ray.network import Frozen, Network
from safs_ray.search.chain import Chain, Course
from safs_ray.tune import space
from safs_ray.tune.board import BoardClient

CHECKPOINT = "chain.pt"


class Trial(tune.Trainable):
    """One step is one evaluation, or a stretch of the fine-tuning once the evaluations are done.

    The arguments of :meth:`setup` beyond the config come through Ray's object store: numpy arrays, which all
    trials of a node share without a copy.
    """

    def setup(  # type: ignore[override]
        self,
        config: dict[str, Any],
        *,
        arrays: dict[str, Array],
        network: Frozen,
        configuration: dict[str, Any],
        course: Course,
        board: str,
    ) -> None:
        self._configuration = validate(configuration)
        torch.set_num_threads(self._configuration.tune.resources.cpu)
        self._device = stages.choose_device(self._configuration)
        self._splits = stages.folds(self._configuration, Dataset.from_arrays(arrays)).search()
        self._network = Network.from_arrays(network)
        self._course = course
        self._board = BoardClient(board)
        self._chain = self._new_chain(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in the same process."""
        self._chain = self._new_chain(new_config)
        return True

    def step(self) -> dict[str, Any]:
        evaluation = self._chain.step()
        return {
            "best_accuracy": evaluation.best_accuracy,
            "validation_accuracy": evaluation.validation_accuracy,
            "cost": evaluation.cost,
            "accepted": int(evaluation.accepted),
            "repeated": int(evaluation.repeated),
            "diverged": int(evaluation.diverged),
            "fine_tuning": int(evaluation.phase == "fine-tuning"),
            "phase": evaluation.phase,
            "assignment": ",".join(evaluation.assignment),
            "best_assignment": ",".join(self._chain.best),
            "name": self._chain.trial,
            "done": self._chain.finished,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        torch.save(self._chain.state_dict(), Path(checkpoint_dir) / CHECKPOINT)

    def load_checkpoint(self, checkpoint: dict[str, Any] | str | None) -> None:
        self._chain.load_state_dict(torch.load(Path(str(checkpoint)) / CHECKPOINT, weights_only=True))

    def _new_chain(self, config: dict[str, Any]) -> Chain:
        default = self._configuration.pruning.hyperparameters
        return Chain(
            self._network,
            self._splits,
            space.hyperparameters(config, default),
            self._configuration,
            self._device,
            self._board,
            self._course,
            space.trial_name(config, default),
        )
