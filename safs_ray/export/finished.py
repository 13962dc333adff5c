"""A finished run, read from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from safs_ray import config, stages
from safs_ray.config import CONFIGURATION, RESULTS, Configuration, ConfigurationError, refusal
from safs_ray.data import Splits
from safs_ray.experiment import Row
from safs_ray.sources.images import one_line
from safs_ray.stages import Result, read_classes
from safs_ray.storage import Folder


@dataclass(frozen=True)
class FinishedRun:
    """What a run folder says.

    Attributes:
        text: config.yaml as it stands.
        results: what results.json holds.
        best: the network to deploy, with its accuracies.
        classes: their names, by label; empty where they have none.
    """

    folder: Folder
    configuration: Configuration
    text: str
    results: Mapping[str, Any]
    best: Result
    classes: tuple[str, ...] = ()

    @classmethod
    def read(cls, location: str) -> FinishedRun:
        """The run in a folder or at a URI.

        Raises:
            ConfigurationError: there is no run, it is not finished, or a file of it is damaged.
        """
        try:
            return cls._read(Folder.at(location), location)
        except ConfigurationError:
            raise
        except Exception as error:  # whatever a missing or damaged file makes the readers stumble over
            raise refusal("run", location, f"cannot be read ({type(error).__name__}: {one_line(error)})") from None

    def splits(self) -> Splits:
        """The images of the fold of the final evaluation that the best network is from.

        Raises:
            ConfigurationError: they cannot be read.
        """
        (row,) = (each for each in self.results["rows"] if each["name"] == Row.SAFS)
        accuracies = row["validation_accuracy"]["values"]
        folds = stages.folds(self.configuration, stages.load(self.configuration))
        return folds.final(accuracies.index(max(accuracies)))

    @classmethod
    def _read(cls, folder: Folder, location: str) -> FinishedRun:
        if not folder.exists(CONFIGURATION):
            raise refusal("run", location, f"holds no {CONFIGURATION}; allowed: the folder of a finished run")
        best = Result.load(folder / "networks" / "best") if folder.exists(RESULTS) else None
        if best is None:
            go_on = f"python -m safs_ray.tune --resume {location}"
            raise refusal("run", location, f"is not finished; {go_on}")
        text = folder.read(CONFIGURATION).decode()
        configuration = config.validate(config.parse(text, f"{folder}/{CONFIGURATION}"))
        return cls(folder, configuration, text, folder.read_json(RESULTS), best, read_classes(folder))
