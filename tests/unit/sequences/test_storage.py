"""Histories on disk."""

import numpy as np
import pytest

from roomrec.errors import DatasetError
from roomrec.sequences.storage import EVENT_COLUMNS, HistoriesWriter, map_columns


def columns(*values: int) -> dict[str, np.ndarray]:
    return {name: np.array(values) for name in EVENT_COLUMNS}


@pytest.fixture
def folder(tmp_path):
    with HistoriesWriter(tmp_path / "sequences") as writer:
        writer.append(user_index=np.array([2, 5]), lengths=np.array([2, 1]), columns=columns(1, 0, 1))
        writer.append(user_index=np.array([], dtype=np.int64), lengths=np.array([], dtype=np.int64), columns=columns())
        writer.append(user_index=np.array([7]), lengths=np.array([1]), columns=columns(1))
    return tmp_path / "sequences"


def test_parts_become_one_column_that_is_mapped(folder):
    read = map_columns(folder)
    assert read["user_index"].tolist() == [2, 5, 7]
    assert read["offsets"].tolist() == [0, 2, 3, 4]
    assert read["split"].tolist() == [1, 0, 1, 1]
    assert read["target"].tolist() == [True, False, True, True]
    for name, values in read.items():
        assert isinstance(values.base, np.memmap), name
        assert not values.flags.writeable, name


def test_anybody_can_read_a_column(folder):
    assert np.load(folder / "item_index.npy").tolist() == [1, 0, 1, 1]
    assert np.load(folder / "item_index.npy").dtype == np.int32


def test_what_does_not_fit_is_refused(tmp_path):
    with HistoriesWriter(tmp_path / "sequences") as writer:
        with pytest.raises(ValueError, match="column occurred_at_ms has 3 values for 2 events"):
            writer.append(user_index=np.array([2]), lengths=np.array([2]), columns=columns(1, 0, 1))
        with pytest.raises(ValueError, match=r"columns are \['split'\], expected"):
            writer.append(user_index=np.array([2]), lengths=np.array([2]), columns={"split": np.array([1, 2])})


def test_damage_is_said(folder):
    np.save(folder / "split.npy", np.zeros(3, dtype=np.int8))
    with pytest.raises(DatasetError, match="split and event_type differ in length"):
        map_columns(folder)
    np.save(folder / "split.npy", np.zeros(4, dtype=np.int64))
    with pytest.raises(DatasetError, match=r"split.npy holds int64 \(4,\), expected int8"):
        map_columns(folder)
    (folder / "split.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DatasetError, match=r"split.npy is damaged"):
        map_columns(folder)
    np.save(folder / "offsets.npy", np.array([0, 2, 3, 5]))
    np.save(folder / "split.npy", np.zeros(4, dtype=np.int8))
    with pytest.raises(DatasetError, match="its offsets do not fit"):
        map_columns(folder)
