from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

import pyarrow.parquet as pq
import pytest
import ray

from safs_ray.search.course import Sweep
from safs_ray.search.evaluation import Evaluation
from safs_ray.search.records import SCHEMA, read_evaluations
from safs_ray.storage import Folder
from safs_ray.tune.board import PART_ROWS, Board, BoardClient, Claim, open_board

FIRST = Evaluation(
    sweep=Sweep.SAFS,
    trial="a",
    iteration=0,
    phase="search",
    key="k",
    assignment=("relu", "tanh"),
    hyperparameters="{}",
    epochs=1,
    seed=2**62,
    validation_accuracy=0.1,
    best_accuracy=0.3,
    cost=0.9,
    accepted=True,
    diverged=False,
    repeated=False,
    core_seconds=1.5,
)

NOWHERE = "/nowhere"


def test_what_is_recorded_is_on_storage_at_once(tmp_path: Path) -> None:
    board = Board(str(tmp_path), NOWHERE)
    board.record(FIRST)
    assert read_evaluations(Folder.at(tmp_path)) == [FIRST]
    assert pq.read_schema(tmp_path / "part-00000.parquet").names == SCHEMA.names


def test_the_best_of_a_sweep_so_far(tmp_path: Path) -> None:
    earlier = Board(str(tmp_path / "earlier"), NOWHERE)
    earlier.record(replace(FIRST, assignment=("srs",), cost=0.5))
    board = Board(str(tmp_path / "run"), str(tmp_path / "earlier"))
    assert (board.best(Sweep.SAFS), board.best(Sweep.OPERATORS)) == (None, None), "another run's may not fit this one"
    board.record(replace(FIRST, iteration=1, assignment=("elu",), cost=0.1, diverged=True))
    board.record(replace(FIRST, iteration=2, assignment=("swish",), cost=0.1, phase="fine-tuning"))
    board.record(replace(FIRST, iteration=3, assignment=("mish",), cost=0.1, sweep=Sweep.OPERATORS))
    assert (board.best(Sweep.SAFS), board.best(Sweep.OPERATORS)) == (None, ("mish",))
    board.record(replace(FIRST, iteration=4, assignment=("tanh",), cost=0.4))
    board.record(replace(FIRST, iteration=5, assignment=("gelu",), cost=0.4))
    assert board.best(Sweep.SAFS) == ("tanh",), "the earlier of two that are equal"


def test_parts_are_filled_and_then_left_alone(tmp_path: Path) -> None:
    board = Board(str(tmp_path), NOWHERE)
    evaluations = [replace(FIRST, iteration=index, key=str(index)) for index in range(PART_ROWS + 3)]
    for evaluation in evaluations:
        board.record(evaluation)
    rows = [pq.read_metadata(path).num_rows for path in sorted(tmp_path.glob("*.parquet"))]
    assert rows == [PART_ROWS, 3]
    assert board.evaluations() == read_evaluations(Folder.at(tmp_path)) == evaluations


def test_a_new_board_knows_what_the_old_one_knew(tmp_path: Path) -> None:
    Board(str(tmp_path), NOWHERE).record(FIRST)
    board = Board(str(tmp_path), NOWHERE)
    assert board.recall("k", "b") == FIRST
    second = replace(FIRST, iteration=1, key="l")
    board.record(second)
    board.record(second)
    assert read_evaluations(Folder.at(tmp_path)) == [FIRST, second]


@pytest.mark.usefixtures("cluster")
def test_the_actor_serves_any_process_and_comes_back_with_its_records(tmp_path: Path) -> None:
    actor = open_board("board", str(tmp_path), NOWHERE)
    client = BoardClient("board")
    client.record(FIRST)
    assert client.recall("k") == FIRST
    ray.kill(actor, no_restart=False)
    assert client.recall("k") == FIRST


def test_a_damaged_part_is_set_aside_and_the_others_stay(tmp_path: Path) -> None:
    board = Board(str(tmp_path), NOWHERE)
    evaluations = [replace(FIRST, iteration=index, key=str(index)) for index in range(2 * PART_ROWS + 3)]
    for evaluation in evaluations:
        board.record(evaluation)
    part = tmp_path / "part-00001.parquet"
    part.write_bytes(part.read_bytes()[:-20])
    kept = evaluations[:PART_ROWS] + evaluations[2 * PART_ROWS :]
    assert read_evaluations(Folder.at(tmp_path)) == kept
    board = Board(str(tmp_path), NOWHERE)
    assert board.evaluations() == kept
    (told,) = board.damage()
    assert told.startswith(f"warning: {tmp_path}/part-00001.parquet is damaged (")
    assert part.with_suffix(".parquet.damaged").exists()
    for evaluation in evaluations:
        board.record(evaluation)
    assert read_evaluations(Folder.at(tmp_path)) == board.evaluations()
    assert set(board.evaluations()) == set(evaluations)


def test_a_record_that_could_not_be_written_is_not_kept(tmp_path: Path) -> None:
    board = Board(str(tmp_path / "board"), NOWHERE)
    (tmp_path / "board").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="board"):
        board.record(FIRST)
    assert board.evaluations() == []
    (tmp_path / "board").unlink()
    board.record(FIRST)
    assert read_evaluations(Folder.at(tmp_path / "board")) == [FIRST]


def test_one_trial_trains_what_several_want(tmp_path: Path) -> None:
    board = Board(str(tmp_path), NOWHERE)
    claim = board.recall("k", "a")
    assert isinstance(claim, Claim)
    assert claim.asker == "a"
    assert board.recall("k", "b") == claim, "b has to wait"
    again = board.recall("k", "a")
    assert isinstance(again, Claim)
    assert again.asker == "a", "a was begun again after its worker had died"
    board.record(FIRST)
    assert board.recall("k", "b") == FIRST


def test_a_claim_ends_when_who_has_it_must_have_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board(str(tmp_path), NOWHERE)
    now = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now)
    claim = board.recall("l", "a")
    now += 100
    assert board.recall("l", "b") == claim, "nobody knows yet how long an evaluation takes"
    board.record(replace(FIRST, iteration=1, key="l"))
    board.recall("m", "a")
    now += 299
    assert board.recall("m", "b").asker == "a"  # type: ignore[union-attr]
    now += 2
    assert board.recall("m", "b").asker == "b", "one has taken 100 s, so a must have died"  # type: ignore[union-attr]


def test_who_does_not_train_after_all_lets_another(tmp_path: Path) -> None:
    board = Board(str(tmp_path), NOWHERE)
    board.recall("k", "a")
    board.release("k", "b")
    assert board.recall("k", "b").asker == "a"  # type: ignore[union-attr]
    board.release("k", "a")
    assert board.recall("k", "b").asker == "b"  # type: ignore[union-attr]


@pytest.mark.usefixtures("cluster")
def test_who_waits_gets_what_the_other_has_trained(tmp_path: Path) -> None:
    board = open_board("waiting", str(tmp_path), NOWHERE)
    first, second = BoardClient("waiting", "a"), BoardClient("waiting", "b")
    assert first.recall("k") is None
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(second.recall, "k")
        time.sleep(0.5)
        assert not waiting.done()
        first.record(FIRST)
        assert waiting.result(timeout=60) == FIRST
    assert ray.get(board.evaluations.remote()) == [FIRST]


def test_what_comes_while_others_are_written_is_written_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board(str(tmp_path), NOWHERE)
    begun, go_on, writes = Event(), Event(), []
    write = Folder.write

    def slow(folder: Folder, name: str, content: bytes) -> None:
        writes.append(name)
        begun.set()
        go_on.wait(60)
        write(folder, name, content)

    monkeypatch.setattr(Folder, "write", slow)
    evaluations = [replace(FIRST, iteration=index, key=str(index)) for index in range(21)]
    with ThreadPoolExecutor(21) as pool:
        first = pool.submit(board.record, evaluations[0])
        begun.wait(60)
        others = [pool.submit(board.record, evaluation) for evaluation in evaluations[1:]]
        while len(board._waiting) < 21:
            time.sleep(0.01)
        go_on.set()
        for done in (first, *others):
            done.result()
    assert len(writes) == 2
    assert read_evaluations(Folder.at(tmp_path)) == board.evaluations()
    assert set(board.evaluations()) == set(evaluations)


def test_many_at_a_time_fill_parts(tmp_path: Path) -> None:
    board = Board(str(tmp_path), NOWHERE)
    evaluations = [replace(FIRST, iteration=index, key=str(index)) for index in range(3 * PART_ROWS)]
    with ThreadPoolExecutor(32) as pool:
        for done in [pool.submit(board.record, evaluation) for evaluation in [*evaluations, *evaluations]]:
            done.result()
    kept = read_evaluations(Folder.at(tmp_path))
    assert kept == board.evaluations()
    assert sorted(kept, key=lambda evaluation: evaluation.iteration) == evaluations
    assert [pq.read_metadata(path).num_rows for path in sorted(tmp_path.glob("*.parquet"))] == 3 * [PART_ROWS]


def test_of_records_that_wait_for_a_disk_none_is_lost_and_none_is_told_wrongly(tmp_path: Path) -> None:
    board = Board(str(tmp_path / "board"), NOWHERE)
    (tmp_path / "board").write_text("a file where the folder should be")
    evaluations = [replace(FIRST, iteration=index, key=str(index)) for index in range(20)]
    with ThreadPoolExecutor(20) as pool:
        failed = [pool.submit(board.record, evaluation).exception() for evaluation in evaluations]
    assert all(isinstance(error, OSError) for error in failed)
    (tmp_path / "board").unlink()
    board.record(evaluations[3])
    assert read_evaluations(Folder.at(tmp_path / "board")) == board.evaluations() == [evaluations[3]]


def test_an_earlier_run_is_served_from_but_not_counted(tmp_path: Path) -> None:
    Board(str(tmp_path / "one"), NOWHERE).record(FIRST)
    board = Board(str(tmp_path / "two"), str(tmp_path / "one"))
    assert board.recall("k", "b") == FIRST
    assert board.evaluations() == []
    assert board.steps(Sweep.SAFS, "a") == {}
