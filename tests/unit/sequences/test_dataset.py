"""Reading a processed dataset."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from roomrec.errors import DatasetError
from roomrec.features.as_of import ROOM_KIND
from roomrec.sequences.dataset import ProcessedDataset
from tests.worlds import DAY_START_MS, HOUR_MS, write_shop


def test_a_shop_gives_one_query_per_held_out_event(tmp_path):
    dataset = ProcessedDataset.open(write_shop(tmp_path / "shop", [[0, 1, 2], [2, 1, 0, 2]], num_products=3))
    assert dataset.histories.offsets.tolist() == [0, 3, 7]
    assert dataset.items.kind.tolist() == [0, 0, 2, 2, 2]
    test = dataset.queries("test")
    assert test.row.tolist() == [0, 1]
    assert test.stop.tolist() == [2, 6]
    assert test.targets.tolist() == [4, 4]
    validation = dataset.queries("validation")
    assert validation.stop.tolist() == [1, 5]
    assert validation.targets.tolist() == [3, 2]
    assert dataset.queries("train").targets.tolist() == [2, 4, 3]


def test_a_log_without_order_gives_one_query_per_user(tmp_path):
    path = write_shop(tmp_path / "shop", [[0, 1, 2], [2, 1, 0, 2]], num_products=3)
    summary = json.loads((path / "summary.json").read_text()) | {"ordered": False}
    (path / "summary.json").write_text(json.dumps(summary))
    test = ProcessedDataset.open(path).queries("train")
    assert test.row.tolist() == [0, 1]
    assert test.stop.tolist() == [0, 3]
    assert test.target_offsets.tolist() == [0, 1, 3]
    assert test.targets.tolist() == [2, 4, 3]


def test_a_live_log_knows_rooms_and_hours(live_dataset):
    dataset = ProcessedDataset.open(live_dataset)
    assert dataset.knows_availability
    assert set(dataset.items.kind[2:]) == {ROOM_KIND}
    seven = dataset.availability.available_at(DAY_START_MS + 19 * HOUR_MS, kind=ROOM_KIND)
    assert seven.tolist() == [2, 3, 4]
    test = dataset.queries("test")
    assert len(test.row) == 400
    assert dataset.availability.is_available(test.targets, test.at_ms).all()


def test_a_dataset_from_before_there_were_attributes_has_none(tmp_path):
    path = write_shop(tmp_path / "shop", [[0, 1, 2]], num_products=3)
    summary = json.loads((path / "summary.json").read_text())
    for name in ("num_attributes", "max_attributes"):
        del summary["feature_spec"][name]
    (path / "summary.json").write_text(json.dumps(summary))
    rows = pq.read_table(path / "items.parquet").drop_columns(["attributes", "attribute_indices"])
    pq.write_table(rows, path / "items.parquet")
    dataset = ProcessedDataset.open(path)
    assert dataset.spec.num_attributes == 0
    assert dataset.items.attributes.tolist() == [[0] * 8] * 5


def test_what_is_wrong_is_said(tmp_path, markov_dataset):
    with pytest.raises(DatasetError, match=r"training\.preprocess"):
        ProcessedDataset.open(tmp_path / "nowhere")
    (tmp_path / "half").mkdir()
    with pytest.raises(DatasetError, match="did not finish"):
        ProcessedDataset.open(tmp_path / "half")
    copy = shutil.copytree(markov_dataset, tmp_path / "copy")
    summary = json.loads((copy / "summary.json").read_text())
    (copy / "summary.json").write_text(json.dumps(summary | {"vocabulary_fingerprint": "0"}))
    with pytest.raises(DatasetError, match=r"vocabulary\.parquet"):
        ProcessedDataset.open(copy)
    (copy / "summary.json").write_text(json.dumps(summary))
    (copy / "sequences" / "split.npy").unlink()
    with pytest.raises(DatasetError, match=r"sequences has no split\.npy"):
        ProcessedDataset.open(copy)
