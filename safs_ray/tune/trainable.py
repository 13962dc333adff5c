"""The trial as Ray Tune sees it: a thin shell around a chain."""

from __future__ import annotations

from typing import Any

from ray import tune

from safs_ray import stages
from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Hyperparameters, validate
from safs_ray.data import Arrays, Dataset
from safs_ray.experiment.progress import news_of
from safs_ray.network import Frozen, Network
from safs_ray.search.chain import Chain
from safs_ray.search.course import Course
from safs_ray.training import Context
from safs_ray.tune.board import BoardClient
from safs_ray.tune.proposals import START, TRIAL


class Trial(tune.Trainable):
    """One step is one evaluation, or a stretch of the fine-tuning once the evaluations are done.

    The arguments of :meth:`setup` beyond the config come through Ray's object store: numpy arrays, which all
    trials of a node share without a copy.
    """

    def setup(  # type: ignore[override]
        self,
        config: dict[str, Any],
        *,
        arrays: Arrays,
        network: Frozen,
        configuration: dict[str, Any],
        course: Course,
        board: str,
        checkpoints: Checkpoints,
    ) -> None:
        chosen = validate(configuration)
        splits = stages.folds(chosen, Dataset.from_arrays(arrays)).search()
        device = stages.set_up(chosen)
        self._context = Context(chosen, splits, device, checkpoints=checkpoints)
        self._network = Network.from_arrays(network)
        self._course = course
        self._board = board
        self._chain = self._new_chain(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in the same process."""
        self._chain.give_up()
        self._chain.forget()
        self._chain = self._new_chain(new_config)
        return True

    def step(self) -> dict[str, Any]:
        recorded = self._chain.replaying
        evaluation = self._chain.step()
        return {
            **news_of(evaluation),
            "fine_tuning": int(evaluation.phase == "fine-tuning"),
            "best_assignment": ",".join(self._chain.best),
            "recorded": "before" if recorded else "now",
            "done": self._chain.finished,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, int]:  # noqa: ARG002
        """Where the chain is: how it came there is on the board."""
        return {"iteration": self._chain.iteration}

    def load_checkpoint(self, checkpoint: dict[str, int] | None) -> None:
        while self._chain.iteration < (checkpoint or {})["iteration"]:
            self._chain.step()

    def cleanup(self) -> None:
        """Called by Ray when the trial ends."""
        self._chain.give_up()

    def _new_chain(self, config: dict[str, Any]) -> Chain:
        start = config.get(START)
        return Chain(
            self._network,
            self._context,
            Hyperparameters(**config["hyperparameters"]),
            BoardClient(self._board, config[TRIAL]),
            self._course,
            config[TRIAL],
            tuple(start.split(",")) if start else None,
        )
