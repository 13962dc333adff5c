"""Arrays in a file and tables of numbers: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from safs_ray.config import ConfigurationError, DataSection
from safs_ray.data import Dataset
from safs_ray.sources import load

ROWS: dict[str, list[Any]] = {"width": [1.0, 2.0, 3.0, 4.0], "height": [5, 6, 7, 8], "label": [0, 1, 0, 1]}


def written(folder: Path, train: dict[str, list[Any]], test: dict[str, list[Any]] | None = None) -> Path:
    for name, columns in (("train", train), ("test", test or train)):
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return folder


def loaded(folder: Path, **keys: Any) -> Dataset:
    return load(DataSection(source=f"table:{folder}", **keys))


def refusal(folder: Path, **keys: Any) -> str:
    with pytest.raises(ConfigurationError) as refused:
        loaded(folder, **keys)
    assert "\n" not in str(refused.value)
    return str(refused.value).removeprefix(f"data.source=table:{folder}: ")


def test_a_table_has_a_feature_for_every_column_but_the_label(tmp_path: Path) -> None:
    found = loaded(written(tmp_path, ROWS))
    assert found.pool.inputs.tolist() == [[1, 5], [2, 6], [3, 7], [4, 8]]
    assert found.pool.inputs.dtype == torch.float32
    assert found.pool.labels.tolist() == [0, 1, 0, 1]
    assert (found.outputs, found.shape) == (2, (2,))
    assert found.pool.statistics() == ((2.5, 6.5), (pytest.approx(1.25**0.5), pytest.approx(1.25**0.5)))


def test_a_table_as_csv_with_classes_as_texts(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}.csv").write_text("kind,a,b\ndog,1,2\ncat,3,4.5\ndog,5,6\n")
    found = loaded(tmp_path, label_column="kind")
    assert found.pool.inputs.tolist() == [[1, 2], [3, 4.5], [5, 6]]
    assert (found.pool.labels.tolist(), found.names) == ([1, 0, 1], ("cat", "dog"))


def test_columns_in_which_pandas_numbers_the_rows_are_no_features(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows that were sorted by class and then shuffled keep numbers that tell the class."""
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "label": [0, 0, 1, 1]}).sample(frac=1, random_state=0)
    for write in (
        lambda path: frame.to_parquet(path.with_suffix(".parquet")),
        lambda path: frame.to_csv(path.with_suffix(".csv")),
        lambda path: frame.rename_axis("Unnamed: 0").to_csv(path.with_suffix(".csv")),
    ):
        folder = tmp_path / str(len(caplog.messages))
        folder.mkdir()
        for part in ("train", "test"):
            write(folder / part)
        found = loaded(folder)
        assert found.pool.inputs.flatten().tolist() == frame["a"].tolist()
        assert len(caplog.messages) == int(folder.name) + 1
    told = ["__index_level_0__", "the column without a name", "Unnamed: 0"]
    assert [each.partition("not used: ")[2] for each in caplog.messages] == [
        f"{name}, which numbers the rows" for name in told
    ]


def test_columns_with_a_name_are_features_though_pandas_had_them_as_its_index(tmp_path: Path) -> None:
    frame = pd.DataFrame({"age": [0.5, 1.5, 2.5], "b": [1.0, 2.0, 3.0], "Unnamed: 1": [7, 8, 9], "label": [0, 1, 0]})
    for index in (["age"], ["age", "b"], ["label"]):
        for part in ("train", "test"):
            frame.set_index(index).to_parquet(tmp_path / f"{part}.parquet")
        found = loaded(tmp_path)
        assert (found.shape, found.pool.labels.tolist()) == ((3,), [0, 1, 0])
        assert sorted(found.pool.inputs[0].tolist()) == [0.5, 1.0, 7.0]


def test_classes_of_a_table_may_be_categories_of_pandas(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0], "label": pd.Categorical(["dog", "cat"])})
    for part in ("train", "test"):
        frame.to_parquet(tmp_path / f"{part}.parquet")
    found = loaded(tmp_path)
    assert (found.pool.labels.tolist(), found.names) == ([1, 0], ("cat", "dog"))


@pytest.mark.parametrize(
    ("train", "test", "told"),
    [
        ("1,u\n2,v\n3,", "1,u", "train has no label in row 2; allowed: u, v"),
        ("1,u\n2,v", "1,u\n2,", "test has no label in row 1; allowed: u, v"),
        ("1,u\n2,1", "1,1\n2,2", "test has label=2 in row 1; allowed: 1, u"),
    ],
)
def test_labels_of_a_table_that_are_no_class(tmp_path: Path, train: str, test: str, told: str) -> None:
    for name, rows in (("train", train), ("test", test)):
        (tmp_path / f"{name}.csv").write_text(f"a,label\n{rows}\n")
    assert refusal(tmp_path) == told


def test_a_table_of_several_values_and_labels(tmp_path: Path) -> None:
    written(tmp_path, ROWS)
    values = loaded(tmp_path, task="regression", label_column="width, height")
    assert values.pool.labels.tolist() == [[1, 5], [2, 6], [3, 7], [4, 8]]
    assert (values.pool.labels.dtype, values.outputs, values.pool.inputs.tolist()) == (
        torch.float32, 2, [[0], [1], [0], [1]]
    )  # fmt: skip
    labels = loaded(written(tmp_path, {**ROWS, "other": [True, True, False, False]}), task="multilabel",
                    label_column="label,other")  # fmt: skip
    assert labels.pool.labels.tolist() == [[0, 1], [1, 1], [0, 0], [1, 0]]


@pytest.mark.parametrize(
    ("columns", "keys", "told"),
    [
        ({"a": [1, 2], "label": [0, 1], "target": [0, 1]}, {}, "label and target: one of them may tell the other"),
        ({"a": [1, 2], "b": [0, 1]}, {"label_column": "b,b", "task": "regression"}, "names a column twice"),
        ({"a": [1, 2], "b": [0, 1]}, {}, "train has the columns a, b, none called label or target; data.label_column"),
        ({"a": ["x", "y"], "label": [0, 1]}, {}, "train's column a holds string, must hold numbers"),
        ({"a": [1, None], "label": [0, 1]}, {}, "train's column a has no number in row 1 and 0 others"),
        ({"a": [1.0, float("nan")], "label": [0, 1]}, {}, "train's column a has no number in row 1 and 0 others"),
        ({"a": [1.0, 1e300], "label": [0, 1]}, {}, "train's column a holds infinity or what float32 cannot hold"),
        (
            {"a": [1, 2], "label": [0.5, 1]},
            {},
            "must be classes, whole numbers from 0, holds 0.5; data.task=reg",
        ),
        (
            {"a": [1, 2], "label": [1, 2]},
            {},
            "must be 0, 1, …, one for each class; these are 1 to 2: subtract 1",
        ),
        ({"label": [1, 0]}, {}, "train has no columns beside label"),
        ({"a": [1, 2], "label": [0, 2]}, {"task": "multilabel"}, "must be 0 and 1 of shape (N, labels), hold 2"),
        (
            {"a": [1, 2], "label": [0, 1]},
            {"label_column": "c"},
            "_column=c: train has the columns a, label, not c",
        ),
        ({"a": [1, 2], "label": [0, 1]}, {"label_column": "a,label"}, "classification has one column of labels"),
        ({"a": [1, 2], "label": [0, 1]}, {"layout": "NHWC"}, "data.layout=NHWC: is for images that your own"),
    ],
)
def test_a_table_that_cannot_be_used(
    columns: dict[str, list[Any]], keys: dict[str, Any], told: str, tmp_path: Path
) -> None:
    assert told in refusal(written(tmp_path, columns), **keys)


def test_a_table_whose_parts_differ(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith(f"there is neither {tmp_path}/train.parquet nor train.csv")
    without = {name: values for name, values in ROWS.items() if name != "height"}
    assert refusal(written(tmp_path, ROWS, without)) == "test has no column height, train has one"
    texts = {**ROWS, "label": ["a", "b", "a", "b"]}, {**ROWS, "label": ["a", "b", "c", "b"]}
    assert refusal(written(tmp_path, *texts)) == "test has label=c in row 2; allowed: a, b"
    (tmp_path / "train.parquet").write_bytes(b"nothing")
    assert refusal(tmp_path).startswith("train.parquet cannot be read (")


def arrays(**changed: Any) -> dict[str, Any]:
    inputs = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    labels = np.array([0, 1, 0, 1])
    return {"train_inputs": inputs, "train_labels": labels, "test_inputs": inputs, "test_labels": labels, **changed}


def from_npz(folder: Path, held: dict[str, Any], **keys: Any) -> Dataset:
    np.savez(folder / "data.npz", **held)
    return load(DataSection(source=f"npz:{folder}/data.npz", **keys))


def test_npz_holds_inputs_of_any_shape(tmp_path: Path) -> None:
    found = from_npz(tmp_path, arrays())
    assert (found.shape, found.outputs, found.pool.inputs.dtype) == ((2, 3), 2, torch.float32)
    assert found.pool.statistics()[0] == (10, 13)
    held = dict(zip(("x_train", "y_train", "x_test", "y_test"), arrays().values(), strict=True))
    assert from_npz(tmp_path, held).pool.inputs.equal(found.pool.inputs)
    doubles = {name: each.astype(np.float64) for name, each in arrays().items() if "inputs" in name}
    assert from_npz(tmp_path, arrays(**doubles)).pool.inputs.equal(found.pool.inputs)
    values = from_npz(tmp_path, arrays(train_labels=np.ones(4), test_labels=np.ones(4)), task="regression")
    assert values.pool.labels.tolist() == [[1]] * 4


def test_npz_holds_images_that_are_not_square(tmp_path: Path) -> None:
    images = np.zeros((4, 1, 6, 10), np.uint8)
    same = {"train_inputs": images, "test_inputs": images}
    assert from_npz(tmp_path, arrays(**same)).shape == (1, 6, 10)
    assert from_npz(tmp_path, arrays(**same), size="12x5").shape == (1, 12, 5)
    assert from_npz(tmp_path, arrays(**same), size=8).shape == (1, 8, 8)
    last = {"train_inputs": np.zeros((4, 6, 10, 3), np.uint8), "test_inputs": np.zeros((4, 6, 10, 3), np.uint8)}
    assert from_npz(tmp_path, arrays(**last), layout="NHWC").shape == (3, 6, 10)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"train_inputs": np.full((4, 2, 3), np.inf, np.float32)}, "train_inputs hold NaN, infinity or what float32"),
        ({"test_inputs": np.zeros((4, 2, 4), np.float32)}, "are of shape (N, 2, 3), test_inputs of (N, 2, 4)"),
        ({"train_inputs": np.full((4, 2), -1)}, "train_inputs of int64 are indices of an embedding, from 0; found -1"),
        (
            {"train_inputs": np.zeros((4, 2), np.int16)},
            "return train_inputs as float32, or as int64 where they",
        ),
        ({"train_inputs": np.zeros((4, 32, 32, 3), np.float32)}, "of shape (4, 32, 32, 3) seem to be (N, H, W, C)"),
        ({"train_inputs": np.zeros((4, 28, 28, 1), np.uint8)}, "of shape (4, 28, 28, 1) seem to be (N, H, W, C)"),
        ({"train_inputs": np.zeros((4, 8, 8), np.uint8)}, "if they are gray, return train_inputs[:, None]"),
        ({"train_inputs": np.zeros(4, np.float32)}, "one value for each is (N, 1)"),
        ({"train_labels": np.arange(1, 5), "test_labels": np.arange(1, 5)}, "these are 1 to 4: subtract 1"),
    ],
)
def test_npz_that_cannot_be_used(changed: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        from_npz(tmp_path, arrays(**changed))
    assert told in str(refused.value)


def test_npz_that_cannot_be_read(tmp_path: Path) -> None:
    source = DataSection(source=f"npz:{tmp_path}/data.npz")
    with pytest.raises(ConfigurationError, match=r"there is no file .*data\.npz"):
        load(source)
    np.savez(tmp_path / "data.npz", images=np.zeros(3))
    with pytest.raises(ConfigurationError, match=r"must hold train_inputs, .*; it holds images"):
        load(source)
    np.savez(tmp_path / "data.npz", **arrays(train_inputs=np.array([None] * 4)))
    with pytest.raises(ConfigurationError, match=r"data\.npz cannot be read \(Object arrays cannot be loaded"):
        load(source)
    (tmp_path / "data.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(ConfigurationError, match=r"data\.npz cannot be read \("):
        load(source)


@pytest.mark.parametrize("source", ["digits", "mnist", "imagefolder:images"])
def test_other_tasks_need_a_source_of_numbers(source: str) -> None:
    with pytest.raises(ConfigurationError, match=r"data\.task=regression: takes table:FOLDER, npz:FILE or your own"):
        load(DataSection(source=source, task="regression"))
