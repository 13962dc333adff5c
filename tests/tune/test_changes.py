from __future__ import annotations

import time
from pathlib import Path
from typing import cast

import pytest

from safs_ray import config
from safs_ray.config import CONFIGURATION, RESULTS, Configuration, ConfigurationError, Hyperparameters, dump
from safs_ray.search.course import Sweep
from safs_ray.search.records import JOURNALS
from safs_ray.storage import Folder
from safs_ray.tune.changes import changed, differences, note, pending, read_begun
from safs_ray.tune.journal import Ending, Journal
from safs_ray.tune.spending import spending


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["tune.trials=5"],
        ["tune.scheduler=none", "tune.resources.cpu=2"],
        ["run.address=auto", "tune.max_concurrent=4"],
        ["final.ablations=[stage 1]"],
    ],
)
def test_a_run_may_go_further_and_elsewhere(configuration: Configuration, words: list[str]) -> None:
    after = changed(configuration.model_dump(mode="json"), words)
    assert set(differences(configuration, after)) == {word.partition("=")[0] for word in words}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("run.seed=1", "run.seed=1: the run was begun with 0, and results of both would mix; "),
        ("data.limit=100", "data.limit=100: the run was begun with 160, and "),
        ("pruning.sparsity=0.95", "pruning.sparsity=0.95: the run was begun with 0.9, and "),
        ("search.operators=[relu, elu]", 'search.operators=["relu", "elu"]: the run was begun with '),
        ("tune.trials=2", "tune.trials=2: the run was begun with 3; allowed: more"),
        ("tune.max_t=5", "tune.max_t=5: trials had 6 steps; allowed: more"),
        ("tune.trial=9", "tune.trial=9: unknown key; did you mean trials?"),
        ("tune.trials", "override=tune.trials: must be key.path=value"),
    ],
)
def test_what_would_mix_or_lose_results_is_refused(configuration: Configuration, word: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        changed(configuration.model_dump(mode="json"), [word])
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_a_run_may_have_a_longer_budget_and_no_shorter_one(configuration: Configuration) -> None:
    begun = config.overridden(configuration.model_dump(mode="json"), ["run.budget=20m"])
    assert changed(begun, ["run.budget=1h"]).run.budget == "1h"
    assert changed(begun, ["run.budget=null"]).run.budget is None
    told = r"^run.budget=600s: the run was begun with 20m; allowed: more$"
    with pytest.raises(ConfigurationError, match=told):
        changed(begun, ["run.budget=600s"])
    with pytest.raises(ConfigurationError, match=r"^run.budget=20m: the run was begun with null; allowed: more$"):
        changed(configuration.model_dump(mode="json"), ["run.budget=20m"])


def test_a_longer_budget_lets_a_run_go_on_with_what_was_left_out(configuration: Configuration, tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    begun = config.validate(config.overridden(configuration.model_dump(mode="json"), ["run.budget=20m"]))
    folder.write(CONFIGURATION, dump(begun).encode())
    journal = Journal(folder / JOURNALS, Sweep.SAFS)
    for ending in ("finished", "cut"):
        journal.end(journal.propose(Hyperparameters()), cast(Ending, ending), 3, 0.5)
    with spending(begun, folder, time.monotonic() - 100) as budget:
        budget.leave_out("SAFS")
    note(changed(read_begun(folder), ["run.budget=1h"]), folder)
    assert [entry.ended for entry in Journal(folder / JOURNALS, Sweep.SAFS).entries] == ["finished", None]
    with spending(begun, folder, time.monotonic()) as budget:
        assert budget.left_out == []
        assert budget.spent >= 100


def test_longer_trials_are_no_loss(configuration: Configuration) -> None:
    short = changed(configuration.model_dump(mode="json"), ["tune.max_t=6"])
    assert changed({**short.model_dump(mode="json")}, ["tune.max_t=null"]).iterations == 6


@pytest.mark.parametrize(
    ("change", "opened"), [("tune.trials=9", True), ("tune.max_concurrent=2", False), ("tune.trials=3", False)]
)
def test_only_what_may_lead_to_another_winner_reopens_a_run(
    configuration: Configuration, tmp_path: Path, change: str, opened: bool
) -> None:
    folder = Folder.at(tmp_path)
    begun = "# Python 3\n" + dump(configuration)
    folder.write(CONFIGURATION, begun.encode())
    chosen = Hyperparameters()
    for sweep in (Sweep.OPERATORS, Sweep.SAFS):
        journal = Journal(folder / JOURNALS, sweep)
        journal.end(journal.propose(chosen), "finished", 3, 0.5)
    folder.write_json(RESULTS, {})
    changing = changed(read_begun(folder), [change])
    assert folder.read(CONFIGURATION).decode() == begun
    note(changing, folder)
    assert folder.exists(RESULTS) != opened
    for sweep in (Sweep.OPERATORS, Sweep.SAFS):
        assert Journal(folder / JOURNALS, sweep).entries[0].accuracy == 0.5
    key, value = change.split("=")
    told = f"# Python 3\n# resumed with {key}: {value}, was "
    assert folder.read(CONFIGURATION).decode().startswith(told) == (value != "3")
    assert not pending(changing, folder)
    note(changing, folder)
    assert folder.read(CONFIGURATION).decode().count("# resumed") == (value != "3"), "once is enough"
