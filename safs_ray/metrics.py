"""Metrics: how good outputs are, one number from 0 to 1 that is made large everywhere."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from safs_ray.config import ConfigurationError, DataSection, refusal
from safs_ray.references import is_reference, resolve

log = logging.getLogger("safs_ray")

Values = npt.NDArray[np.float64]


class Metric(ABC):
    """A number from 0 to 1 that says how good outputs are; 0 for those that are not finite."""

    def seen(self, outputs: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002
        """What is kept of a batch: outputs (networks, N, outputs) as (networks, N, …).

        Args:
            labels: as of :class:`safs_ray.data.Examples`.
        """
        return outputs

    @abstractmethod
    def of(self, seen: Tensor, labels: Tensor) -> float:
        """The number, of what was kept of all examples of a network, (N, …)."""

    def guessing(self, labels: Tensor) -> float:
        """The number where all examples get the outputs that the most would want."""
        wanted = labels.mean(0) if labels.is_floating_point() else labels.bincount().double()
        return self.of(self.seen(wanted.expand(1, len(labels), -1), labels)[0], labels)


class Accuracy(Metric):
    """The fraction of the examples whose class has the largest output.

    Examples:
        >>> metric, labels = Accuracy(), torch.tensor([0, 1, 1])
        >>> metric.of(metric.seen(torch.tensor([[[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]]]), labels)[0], labels)
        0.6666666666666666
    """

    def seen(self, outputs: Tensor, labels: Tensor) -> Tensor:
        # The argmax of NaN is a class like any other: a broken network must not score by chance.
        return (outputs.argmax(2) == labels) & outputs.isfinite().all(2)

    def of(self, seen: Tensor, labels: Tensor) -> float:
        return int(seen.sum()) / len(labels)


class BalancedAccuracy(Accuracy):
    """The mean over the classes that are there of the fraction of their examples that are classified correctly.

    Examples:
        >>> BalancedAccuracy().of(torch.tensor([True, True, False]), torch.tensor([0, 0, 1]))
        0.5
    """

    def of(self, seen: Tensor, labels: Tensor) -> float:
        of, right = torch.bincount(labels), torch.bincount(labels[seen], minlength=int(labels.max()) + 1)
        there = of > 0
        return (right[there] / of[there].double()).mean().item()


class Determination(Metric):
    """R², the share of the targets' variance that outputs explain, a mean over the outputs; 0 where that is negative.

    Of an output whose targets are all the same it is 1 where they are met exactly, and else 0.

    Examples:
        >>> Determination().of(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[1.0], [2.0], [3.0]]))
        0.5
    """

    def of(self, seen: Tensor, labels: Tensor) -> float:
        if not seen.isfinite().all():
            return 0.0
        outputs, targets = seen.double(), labels.double()
        left = ((outputs - targets) ** 2).sum(0)
        all_of_it = ((targets - targets.mean(0)) ** 2).sum(0)
        shares = torch.where(all_of_it > 0, 1 - left / all_of_it, (left == 0).double())
        return max(0.0, shares.mean().item())


class MeanAveragePrecision(Metric):
    """The mean over the labels, of which some example has each, of the average precision.

    That is the area under precision against recall as steps, as scikit-learn's average_precision_score has it.

    Examples:
        >>> outputs = torch.tensor([[3.0, 0.0], [2.0, 1.0], [1.0, 2.0]])
        >>> MeanAveragePrecision().of(outputs, torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]))
        0.9166666666666666
    """

    def of(self, seen: Tensor, labels: Tensor) -> float:
        if not seen.isfinite().all():
            return 0.0
        columns = zip(seen.T.double().cpu().numpy(), labels.T.cpu().numpy() > 0, strict=True)
        precisions = [average_precision(outputs, true) for outputs, true in columns if true.any()]
        return float(np.mean(precisions)) if precisions else 0.0


def average_precision(outputs: Values, true: npt.NDArray[np.bool_]) -> float:
    """Of one label: the sum over its thresholds of the precision times what the recall gains; one example has it."""
    order = np.argsort(-outputs, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(outputs[order])), len(outputs) - 1)  # equal outputs have one threshold
    found = np.cumsum(true[order])[ends]
    return float((found / (ends + 1) * np.diff(found, prepend=0)).sum() / found[-1])


ROUNDING = 1e-6
"""By how much a number in float32 may be above 1 that should be 1."""

WANTED = "for these outputs; must return a number from 0 to 1, the higher the better"


@cache
def _tell_once(name: str, what: str) -> None:
    log.warning("data.metric=%s: returned what is %s, which counts as 0", name, what)


@dataclass(frozen=True)
class OwnMetric(Metric):
    """A user's function of outputs (N, outputs) and labels, as the data have them.

    What is below 0, or no number, as a correlation of constants is, counts as 0; this is told once.

    Raises:
        ConfigurationError: it fails, or returns something else than a number up to 1.
    """

    name: str
    function: Callable[[Tensor, Tensor], object]

    def of(self, seen: Tensor, labels: Tensor) -> float:
        if not seen.isfinite().all():
            return 0.0
        value = self.value(seen, labels)
        if value >= 0:
            return value
        _tell_once(self.name, "below 0" if value < 0 else "NaN")
        return 0.0

    def check(self, seen: Tensor, labels: Tensor) -> None:
        """Refuse a function that returns no number of these examples.

        Raises:
            ConfigurationError: it does.
        """
        if math.isnan(value := self.value(seen, labels)):
            raise self._refused(f"returns {value:g} {WANTED}")

    def value(self, seen: Tensor, labels: Tensor) -> float:
        """What the function returns: at most 1, or NaN."""
        try:  # of copies: what it changes in place is the run's
            value = float(self.function(seen.clone(), labels.clone()))  # type: ignore[arg-type]
        except (Exception, SystemExit) as error:  # the user's function runs, and may raise anything
            raise self._refused(f"fails ({type(error).__name__}: {error})") from None
        if value > 1 + ROUNDING or value == -math.inf:
            raise self._refused(f"returns {value:g} {WANTED}")
        return min(value, 1.0) if value > 0 else value

    def _refused(self, reason: str) -> ConfigurationError:
        return refusal("data.metric", self.name, reason)


METRICS: dict[str, Metric] = {
    "accuracy": Accuracy(),
    "balanced accuracy": BalancedAccuracy(),
    "r2": Determination(),
    "mean average precision": MeanAveragePrecision(),
}


def metric_of(section: DataSection) -> Metric:
    """The metric of a run.

    Raises:
        ConfigurationError: there is no function of its name.
    """
    name = section.chosen_metric
    return OwnMetric(name, resolve(name, "data.metric")) if is_reference(name) else METRICS[name]
