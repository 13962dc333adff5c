from __future__ import annotations

from pathlib import Path

import pytest

from safs_ray.config import CONFIGURATION, Configuration, ConfigurationError, Hyperparameters, dump, validate
from safs_ray.search.course import Sweep, joint
from safs_ray.search.records import JOURNALS
from safs_ray.stages import Result
from safs_ray.storage import Folder
from safs_ray.tune.journal import Journal
from safs_ray.tune.warm_start import EARLIER, as_earlier, check_earlier, earlier_trials, take_over


@pytest.fixture
def earlier(tmp_path: Path, configuration: Configuration, dense: Result, pruned: Result) -> Folder:
    """A run with two networks, some evaluations and a trial that has ended."""
    folder = Folder.at(tmp_path / "earlier")
    folder.write(CONFIGURATION, dump(configuration).encode())
    dense.save(folder / "networks" / "dense")
    pruned.save(folder / "networks" / "pruned")
    (folder / "evaluations").write("part-00000.parquet", b"evaluations")
    journal = Journal(folder / JOURNALS, Sweep.SAFS)
    journal.end(journal.propose(Hyperparameters(learning_rate=0.02)), "finished", 6, 0.75)
    journal.propose(Hyperparameters(learning_rate=0.03))
    return folder


def starting(configuration: Configuration, earlier: object, **changes: object) -> Configuration:
    values = configuration.model_dump(mode="json")
    values["tune"]["warm_start"] = str(earlier)
    for path, value in changes.items():
        section, key = path.split("__")
        values[section][key] = value
    return validate(values)


def test_networks_evaluations_and_trials_are_copied(
    tmp_path: Path, configuration: Configuration, earlier: Folder, pruned: Result
) -> None:
    run = Folder.at(tmp_path / "run")
    take_over(starting(configuration, earlier, search__steps=9, tune__trials=5), run)
    found = Result.load(run / "networks" / "pruned")
    assert found is not None
    assert found.network.fingerprint == pruned.network.fingerprint
    assert (run / EARLIER / "evaluations").read("part-00000.parquet") == b"evaluations"
    assert earlier_trials(run, joint(configuration)) == [(Hyperparameters(learning_rate=0.02), 0.75)]
    earlier.delete()
    take_over(starting(configuration, earlier), run)  # a run that was begun needs the other no more


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run__seed": 3}, "has run.seed=0, this run 3: what it has trained is something else"),
        ({"pruning__sparsity": 0.5}, "has pruning.sparsity=0.9, this run 0.5: "),
        ({"search__when": "before"}, "has search.when='after', this run 'before': "),
        ({"run__precision": "bf16"}, "has run.precision='auto', this run 'bf16': "),
        ({"final__folds": 1}, "has final.folds=2, this run 1: "),
    ],
)
def test_a_run_of_another_network_is_refused(
    tmp_path: Path, configuration: Configuration, earlier: Folder, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        check_earlier(starting(configuration, earlier, **changes), Folder.at(tmp_path / "run"))
    assert f"tune.warm_start={earlier}" in str(refused.value)
    assert message in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_run_is_refused(tmp_path: Path, configuration: Configuration) -> None:
    with pytest.raises(ConfigurationError, match=r"holds no config\.yaml"):
        check_earlier(starting(configuration, tmp_path), Folder.at(tmp_path / "run"))


def test_damage_in_the_earlier_run_is_its_own(tmp_path: Path, configuration: Configuration, earlier: Folder) -> None:
    (earlier / "networks" / "dense").write("network.json", b"{")
    with pytest.raises(ConfigurationError, match=rf"^tune\.warm_start={earlier}: .*network\.json is not what was"):
        take_over(starting(configuration, earlier), Folder.at(tmp_path / "run"))


def test_without_it_nothing_is_copied(tmp_path: Path, configuration: Configuration) -> None:
    take_over(configuration, Folder.at(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    assert earlier_trials(Folder.at(tmp_path / "run"), joint(configuration)) == []


def test_as_earlier_takes_what_the_earlier_run_had_found(
    tmp_path: Path, configuration: Configuration, earlier: Folder
) -> None:
    """0.37 and float32 here, 0.46 and dense bf16 there."""
    values = configuration.model_dump(mode="json")
    del values["pruning"]["sparsity"]
    asked = validate({**values, "pruning": {**values["pruning"], "latency": 0.5}})

    def found(macs: float, precision: str) -> Configuration:
        pruning = asked.pruning.model_copy(update={"macs": macs, "sparsity": 1 - macs})
        return asked.model_copy(
            update={"pruning": pruning, "run": asked.run.model_copy(update={"precision": precision})}
        )

    earlier.write(CONFIGURATION, dump(found(0.46, "dense bf16")).encode())
    here = as_earlier(starting(asked, earlier), starting(found(0.37, "auto"), earlier))
    assert (here.pruning.macs, here.pruning.sparsity, here.run.precision) == (0.46, 0.54, "dense bf16")
    check_earlier(here, Folder.at(tmp_path / "run"))
    other = starting(asked, earlier, pruning__latency=0.7, pruning__sparsity=0.3, run__precision="float32")
    told = as_earlier(other, starting(found(0.37, "float32"), earlier))
    assert (told.pruning.macs, told.run.precision) == (0.37, "float32")
    assert as_earlier(asked, asked) is asked
