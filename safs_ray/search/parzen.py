"""Proposals of HyperOpt as a function of what was evaluated: nothing is kept between two of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hyperopt import rand, tpe
from hyperopt.base import JOB_STATE_DONE, STATUS_OK, Domain, Trials, trials_from_docs

Values = Mapping[str, Any]
"""Values by HyperOpt's labels, a choice as its index; labels of branches that are not taken are left out."""


def propose(domain: Domain, evaluated: Iterable[tuple[Values, float]], seed: int, gamma: float) -> dict[str, Any]:
    """The values that the tree-structured Parzen estimator (Bergstra et al. 2011) would try next.

    Args:
        evaluated: values and their costs.
        gamma: the estimator takes gamma times the root of the number of evaluations for the good ones.
    """
    documents = [_document(domain, number, *pair) for number, pair in enumerate(evaluated)]
    trials = trials_from_docs(documents)
    [proposal] = tpe.suggest(
        [len(documents)], domain, trials, seed=seed % 2**32, n_startup_jobs=1, gamma=gamma, verbose=False
    )
    return _values(proposal)


def draw(domain: Domain, seed: int) -> dict[str, Any]:
    """Values drawn from the space itself."""
    [proposal] = rand.suggest([0], domain, Trials(), seed=seed % 2**32)
    return _values(proposal)


def _values(proposal: Mapping[str, Any]) -> dict[str, Any]:
    return {label: values[0] for label, values in proposal["misc"]["vals"].items() if values}


def _document(domain: Domain, number: int, values: Values, cost: float) -> dict[str, Any]:
    """An evaluation in HyperOpt's terms."""
    return {
        "tid": number,
        "state": JOB_STATE_DONE,
        "result": {"status": STATUS_OK, "loss": cost},
        "misc": {
            "tid": number,
            "cmd": domain.cmd,
            "workdir": None,
            "idxs": {label: [number] if label in values else [] for label in domain.params},
            "vals": {label: [values[label]] if label in values else [] for label in domain.params},
        },
        "spec": None,
        "exp_key": None,
        "owner": None,
        "version": 0,
        "book_time": None,
        "refresh_time": None,
    }
