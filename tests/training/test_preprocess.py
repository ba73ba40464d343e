import json
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir

from roomrec.errors import ConfigurationError, DatasetError, SourceError
from roomrec.sequences.dataset import ProcessedDataset
from training.preprocess import run
from training.preprocessing.folder import unfinished_folder

ROOT = Path(__file__).parents[2]
DAY_1, DAY_2, DAY_3 = 1_767_225_600_000, 1_767_312_000_000, 1_767_398_400_000
SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000


def event(event_id, event_type, at_ms, **columns):
    return {"event_id": event_id, "event_type": event_type, "occurred_at_ms": at_ms} | columns


# three evenings: mia sells scarves on the first two, tom cups on the third; ann comes every evening, bob on the last
EVENTS = [
    event("01", "room_start", DAY_1, room_id="r1", streamer_id="mia", context={"category": "wear", "title": "Silk"}),
    event("02", "product_listed", DAY_1 + 50 * SECOND, room_id="r1", product_id="silk", amount_cents=900, stock=2),
    event("03", "product_listed", DAY_1 + 70 * SECOND, room_id="r1", product_id="wool"),
    event("04", "enter", DAY_1 + 2 * MINUTE, user_id="ann", room_id="r1", streamer_id="mia"),
    event("05", "watch", DAY_1 + 3 * MINUTE, user_id="ann", room_id="r1", streamer_id="mia", watch_time_ms=50_000),
    event("06", "order", DAY_1 + 4 * MINUTE, user_id="ann", room_id="r1", streamer_id="mia", product_id="silk"),
    event("07", "stock_changed", DAY_1 + 4 * MINUTE, product_id="silk", stock=0),
    event("08", "room_end", DAY_1 + HOUR, room_id="r1"),
    event("09", "stock_changed", DAY_2 - HOUR, product_id="silk", stock=5),
    event("10", "room_start", DAY_2, room_id="r2", streamer_id="mia"),
    event("11", "product_listed", DAY_2, room_id="r2", product_id="silk"),
    event("12", "enter", DAY_2 + MINUTE, user_id="ann", room_id="r2", streamer_id="mia"),
    event("13", "watch", DAY_2 + 2 * MINUTE, user_id="ann", room_id="r2", streamer_id="mia", watch_time_ms=900),
    event("14", "follow", DAY_2 + 3 * MINUTE, user_id="ann", streamer_id="mia"),
    event("15", "room_end", DAY_2 + HOUR, room_id="r2"),
    event("16", "room_start", DAY_3, room_id="r3", streamer_id="tom"),
    event("17", "product_listed", DAY_3, room_id="r3", product_id="cup"),
    event("18", "enter", DAY_3 + MINUTE, user_id="bob", room_id="r3", streamer_id="tom"),
    event("19", "product_click", DAY_3 + 2 * MINUTE, user_id="ann", room_id="r3", streamer_id="tom", product_id="cup"),
]
NOISE = [
    event("06", "order", DAY_1 + 9 * MINUTE, received_at_ms=DAY_3, user_id="ann", product_id="wool"),
    event("20", "order", DAY_3, user_id="ann"),
    event("21", "dance", DAY_3, user_id="ann"),
]
SPLITTING = ["splitting.validation_from=2026-01-02", "splitting.test_from=2026-01-03"]


def write(path, events=EVENTS, noise=NOISE):
    path.mkdir(parents=True, exist_ok=True)
    # noise first and newest first: order of arrival must not matter
    lines = [json.dumps(each) for each in [*noise, *reversed(events)]]
    (path / "log.ndjson").write_text("\n".join([*lines, "nonsense"]) + "\n")
    return path


def preprocess(tmp_path, *overrides, name="out"):
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("preprocess", [f"output_dir={tmp_path}", f"name={name}", *overrides])
    return run(cfg)


def live(tmp_path, *overrides, name="out", **log):
    write(tmp_path / "log", **log)
    summary = preprocess(tmp_path, f"source.path={tmp_path / 'log'}", *SPLITTING, *overrides, name=name)
    return summary, ProcessedDataset.open(tmp_path / name)


def histories(dataset):
    """One tuple a user: index, and a column each."""
    flat = dataset.histories
    names = ("event_type", "streamer_index", "product_index", "item_index", "room_item_index", "target", "split")
    bounds = zip(flat.offsets[:-1], flat.offsets[1:], strict=True)
    return sorted(
        (int(user), *(getattr(flat, name)[start:stop].tolist() for name in names))
        for user, (start, stop) in zip(flat.user_index, bounds, strict=True)
    )


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_a_small_live_log_by_hand(tmp_path):
    summary, dataset = live(tmp_path)
    assert summary["events"]["rejected_by_reason"] == {
        "malformed_json": 1,
        "missing:product_id": 1,
        "unknown_event_type": 1,
    }
    assert (summary["events"]["read"], summary["events"]["accepted"], summary["events"]["duplicates"]) == (23, 20, 1)
    # day one trains, so tom, bob and the cup are unknown; cold products follow the known, rooms follow by start
    vocabulary = dataset.vocabulary
    assert {name: vocabulary.ids(name).to_pylist() for name in ("user", "streamer", "product", "category")} == {
        "user": ["ann"],
        "streamer": ["mia"],
        "product": ["silk", "wool"],
        "category": ["wear"],
    }
    assert dataset.item_rows["product_id"].to_pylist() == [None, None, "silk", "wool", "cup", None, None, None]
    assert dataset.item_rows["room_id"].to_pylist()[5:] == ["r1", "r2", "r3"]
    assert dataset.items.kind.tolist() == [0, 0, 2, 2, 2, 1, 1, 1]
    assert dataset.items.streamer.tolist() == [0, 0, 0, 0, 0, 2, 2, 1]
    assert dataset.items.product[:, :2].tolist() == [[0, 0], [0, 0], [2, 0], [3, 0], [1, 0], [2, 0], [2, 0], [1, 0]]
    assert dataset.items.category.tolist() == [0, 0, 0, 0, 0, 2, 0, 0]
    # ann: enter r1, watch, order, enter r2, watch (too short), follow, click; bob: enter r3
    assert histories(dataset) == [
        (1, [2], [1], [0], [7], [7], [True], [2]),
        (
            2,
            [2, 4, 12, 2, 4, 8, 10],
            [2, 2, 2, 2, 2, 2, 1],
            [0, 0, 2, 0, 0, 0, 1],
            [5, 5, 2, 6, 6, 0, 4],
            [5, 5, 5, 6, 6, 0, 7],
            [True, False, True, False, False, False, True],
            [0, 0, 0, 1, 1, 1, 2],
        ),
    ]


def test_the_timeline_by_hand(tmp_path):
    _, _ = live(tmp_path)
    rows = pq.read_table(tmp_path / "out" / "availability.parquet").to_pylist()
    last = DAY_3 + 2 * MINUTE + 1  # r3 has no room_end: it is live until its last event
    assert [tuple(row.values()) for row in rows] == [
        (5, 5, DAY_1, DAY_1 + HOUR),
        (2, 5, DAY_1 + 50 * SECOND, DAY_1 + 4 * MINUTE),
        (3, 5, DAY_1 + 70 * SECOND, DAY_1 + HOUR),
        (2, 6, DAY_2, DAY_2 + HOUR),
        (6, 6, DAY_2, DAY_2 + HOUR),
        (4, 7, DAY_3, last),
        (7, 7, DAY_3, last),
    ]


def test_what_was_rejected_is_kept_with_its_reason(tmp_path):
    live(tmp_path)
    kept = pa.concat_tables(pq.read_table(file) for file in sorted((tmp_path / "out" / "rejected").glob("*.parquet")))
    assert set(zip(kept["event_id"].to_pylist(), kept["reason"].to_pylist(), kept["raw"].to_pylist(), strict=True)) == {
        ("20", "missing:product_id", None),
        ("21", "unknown_event_type", None),
        (None, "malformed_json", "nonsense"),
    }


def test_twice_gives_the_same_bytes(tmp_path):
    log = write(tmp_path / "log")
    for folder in ("first", "second"):
        preprocess(tmp_path / folder, f"source.path={log}", "events_per_partition=4", *SPLITTING)
    first, second = (contents(tmp_path / folder) for folder in ("first", "second"))
    assert first.keys() == second.keys()
    assert [file for file in first if first[file] != second[file]] == []
    assert len([file for file in first if "sequences" in file]) == 11


def test_the_number_of_partitions_changes_nothing_but_the_files(tmp_path):
    _, whole = live(tmp_path, name="whole")
    _, parts = live(tmp_path, "events_per_partition=2", "shuffle.files_at_once=1", name="parts")
    assert histories(parts) == histories(whole)
    assert parts.item_rows.equals(whole.item_rows)
    assert (tmp_path / "parts" / "availability.parquet").read_bytes() == (
        tmp_path / "whole" / "availability.parquet"
    ).read_bytes()


def test_order_of_arrival_changes_nothing(tmp_path):
    _, backward = live(tmp_path, name="backward")
    _, forward = live(tmp_path, name="forward", events=EVENTS[::-1])
    assert histories(forward) == histories(backward)
    assert forward.item_rows.equals(backward.item_rows)


def test_the_vocabulary_may_know_everything(tmp_path):
    summary, dataset = live(tmp_path, "vocabulary.from=all")
    assert dataset.vocabulary.ids("streamer").to_pylist() == ["mia", "tom"]
    assert (summary["products_outside_vocabulary"], summary["vocabulary_from"]) == (0, "all")


def test_a_finished_dataset_is_not_overwritten_unless_asked(tmp_path):
    live(tmp_path)
    before = contents(tmp_path / "out")
    with pytest.raises(DatasetError, match="overwrite=true"):
        live(tmp_path)
    live(tmp_path, "overwrite=true")
    assert contents(tmp_path / "out").keys() == before.keys()
    assert {path.name for path in tmp_path.iterdir()} == {"log", "out"}


def test_an_error_leaves_nothing_behind(tmp_path):
    with pytest.raises(ConfigurationError, match="must lie in this order"):
        live(tmp_path, "splitting.test_from=2027-01-01")
    assert {path.name for path in tmp_path.iterdir()} == {"log"}


def test_a_log_of_nothing_valid_says_why(tmp_path):
    with pytest.raises(DatasetError, match=r"no valid event: malformed_json \(1\)"):
        live(tmp_path, events=[], noise=[])


def test_a_log_without_viewers_says_so(tmp_path):
    with pytest.raises(DatasetError, match="1 valid events, but none of a viewer"):
        live(tmp_path, events=EVENTS[:1], noise=[])


@pytest.mark.parametrize("step", ["training.preprocessing.pipeline.write_histories", "os.rename"])
def test_a_killed_run_leaves_nothing_that_looks_finished(tmp_path, step, caplog):
    write(tmp_path / "log")
    overrides = [f"output_dir={tmp_path}", "name=out", f"source.path={tmp_path / 'log'}", *SPLITTING]
    code = (
        "import os, signal, unittest.mock as mock\n"
        "from hydra import compose, initialize_config_dir\n"
        "from training.preprocess import run\n"
        "import training.preprocess, training.preprocessing.pipeline\n"
        f"with initialize_config_dir({str(ROOT / 'configs')!r}, version_base='1.3'):\n"
        f"    cfg = compose('preprocess', {overrides!r})\n"
        "killed = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"with mock.patch({step!r}, killed):\n"
        "    run(cfg)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert {path.name for path in tmp_path.iterdir()} == {"log", ".out.unfinished"}
    with pytest.raises(DatasetError, match="no processed dataset"):
        ProcessedDataset.open(tmp_path / "out")
    live(tmp_path)
    assert "an earlier run left unfinished" in caplog.text
    assert {path.name for path in tmp_path.iterdir()} == {"log", "out"}


def test_two_runs_do_not_write_one_dataset(tmp_path):
    with (
        unfinished_folder(tmp_path / "out", overwrite=False),
        pytest.raises(DatasetError, match="another run is writing"),
    ):
        live(tmp_path)


def test_a_public_text_log_is_split_leave_one_out(tmp_path):
    (tmp_path / "log.txt").write_text("1 7 8 9 7\n2 8 9 5\n3 6 7\n")
    summary = preprocess(tmp_path, "source=s3rec_text", f"source.path={tmp_path / 'log.txt'}")
    dataset = ProcessedDataset.open(tmp_path / "out")
    # 7 thrice, 8 and 9 twice, 5 and 6 once: indices 2 to 6; 5 is test only, and still an item
    assert dataset.vocabulary.ids("product").to_pylist() == ["7", "8", "9", "5", "6"]
    assert dataset.queries("validation").targets.tolist() == [4, 4]
    assert dataset.queries("test").targets.tolist() == [2, 5]
    assert (summary["filter_seen"], summary["knows_availability"], summary["vocabulary_from"]) == (True, False, "all")
    assert summary["splits"]["train"] == {"events": 5, "targets": 5, "users": 3}


def test_attributes_of_a_public_text_log_are_all_known(tmp_path):
    (tmp_path / "log.txt").write_text("1 7 8 9 7\n2 8 9 5\n3 6 7\n")
    (tmp_path / "attributes.json").write_text('{"7": [3, 1], "8": [1], "5": [4, 1, 4], "6": []}')
    paths = [f"source.path={tmp_path / 'log.txt'}", f"source.attributes_path={tmp_path / 'attributes.json'}"]
    preprocess(tmp_path, "source=s3rec_text", "features.max_attributes=2", *paths)
    dataset = ProcessedDataset.open(tmp_path / "out")
    assert dataset.vocabulary.ids("attribute").to_pylist() == ["1", "3", "4"]  # 1 of three items, the others of one
    assert (dataset.spec.num_attributes, dataset.spec.max_attributes) == (5, 2)
    # PAD, OOV, then 7, 8, 9, 5 and 6
    assert dataset.items.attributes.tolist() == [[0, 0], [0, 0], [3, 2], [2, 0], [0, 0], [4, 2], [0, 0]]
    assert dataset.item_rows["attributes"].to_pylist() == [None, None, "3|1", "1", None, "4|1|4", ""]


def test_attributes_first_heard_of_after_training_are_unknown(tmp_path):
    said = {
        "01": {"category": "wear", "title": "Silk", "attributes": "outlet"},
        "02": {"attributes": "soft|brand:northwind"},
        "10": {"attributes": "outlet|brand:tom"},
        "11": {"attributes": "hard"},  # not the first listing
        "17": {"attributes": "soft|hard"},
    }
    events = [each | ({"context": said[each["event_id"]]} if each["event_id"] in said else {}) for each in EVENTS]
    _, dataset = live(tmp_path, events=events)
    assert dataset.vocabulary.ids("attribute").to_pylist() == ["brand:northwind", "outlet", "soft"]
    # silk and wool, the cold cup, then the rooms r1, r2 and r3
    assert dataset.items.attributes[2:, :3].tolist() == [
        [4, 2, 0],
        [0, 0, 0],
        [4, 1, 0],
        [3, 0, 0],
        [3, 1, 0],
        [0, 0, 0],
    ]
    assert dataset.item_rows["attributes"].to_pylist()[6:] == ["outlet|brand:tom", None]


def test_an_empty_split_says_what_to_do(tmp_path, caplog):
    # nobody has three targets, so leave-one-out asks nobody anything
    log = write(tmp_path / "log", [each for each in EVENTS if each["event_id"] not in ("06", "19")], noise=[])
    summary = preprocess(tmp_path, f"source.path={log}", "splitting=leave_one_out")
    assert summary["splits"]["validation"]["targets"] == summary["splits"]["test"]["targets"] == 0
    assert [record.getMessage() for record in caplog.records] == [
        f"the {split} split holds no target event: preprocess a log in which users have three targets or more each, or "
        f"with splitting=by_time"
        for split in ("validation", "test")
    ]


def test_a_log_without_order_asks_each_user_once(tmp_path):
    (tmp_path / "train.txt").write_text("0 5 6 7\n1 7\n")
    (tmp_path / "test.txt").write_text("0 8 9\n1 5\n")
    preprocess(tmp_path, "source=gowalla", f"source.path={tmp_path}", "splitting.validation_share=1")
    dataset = ProcessedDataset.open(tmp_path / "out")
    flat, queries = dataset.histories, dataset.queries("test")
    ids = dataset.vocabulary.ids("product").to_pylist()
    asked = {
        (
            tuple(sorted(ids[i - 2] for i in flat.item_index[flat.offsets[row] : stop])),
            tuple(sorted(ids[i - 2] for i in queries.targets[start:end])),
        )
        for row, stop, start, end in zip(
            queries.row, queries.stop, queries.target_offsets[:-1], queries.target_offsets[1:], strict=True
        )
    }
    assert asked == {(("5", "6", "7"), ("8", "9")), (("7",), ("5",))}
    assert len(dataset.queries("validation").row) == 2


def test_a_held_out_purchase_is_the_test(tmp_path):
    (tmp_path / "events.tsv").write_text(
        "user\titem\tbehavior\ttimestamp\n0\t1\tview\t40\n0\t3\tview\t50\n0\t3\tbuy\t60\n0\t1\tview\t70\n"
    )
    (tmp_path / "test_buy.tsv").write_text("user\titem\n0\t4\n")
    preprocess(tmp_path, "source=retailrocket", f"source.path={tmp_path}", "splitting.validation_share=1")
    dataset = ProcessedDataset.open(tmp_path / "out")
    # what is held out is of a product nobody had looked at, so validation asks before product 3 was looked at, too
    assert histories(dataset)[0][1:] == (
        [10, 10, 12, 10, 12],
        [0, 0, 0, 0, 0],
        [2, 3, 3, 2, 4],
        [2, 3, 3, 2, 4],
        [0, 0, 0, 0, 0],
        [True, True, False, False, True],
        [0, 1, 1, 1, 2],
    )


def test_settings_that_make_no_sense_are_named(tmp_path):
    log = write(tmp_path / "log")
    with pytest.raises(ConfigurationError, match=r"source\.path is not set: expected a folder of day="):
        preprocess(tmp_path)
    with pytest.raises(ConfigurationError, match=r"vocabulary\.from is 'some'"):
        preprocess(tmp_path, f"source.path={log}", "vocabulary.from=some")
    with pytest.raises(ConfigurationError, match=r"vocabulary\.from=train needs"):
        preprocess(tmp_path, f"source.path={log}", "vocabulary.from=train", "splitting=leave_one_out")
    with pytest.raises(ConfigurationError, match="splitting=given needs events set apart"):
        preprocess(tmp_path, f"source.path={log}", "splitting=given")
    with pytest.raises(ConfigurationError, match=r"shuffle\.runner is 'spark'"):
        preprocess(tmp_path, f"source.path={log}", "shuffle.runner=spark")
    with pytest.raises(ConfigurationError, match=r"labels\.target_types holds entre: choose of enter, watch"):
        preprocess(tmp_path, f"source.path={log}", "labels.target_types=[entre]")
    for key in ("events_per_partition", "shuffle.files_at_once", "features.max_products", "features.max_attributes"):
        with pytest.raises(ConfigurationError, match=f"{key} is 0: expected a whole number of at least 1"):
            preprocess(tmp_path, f"source.path={log}", f"{key}=0")
    with pytest.raises(ConfigurationError, match=r"name is '\.\./elsewhere': expected the name of a folder"):
        preprocess(tmp_path, f"source.path={log}", "name=../elsewhere")
    with pytest.raises(SourceError, match="does not exist"):
        preprocess(tmp_path, "source=kuailive", f"source.path={tmp_path / 'nothing'}")
    assert {path.name for path in tmp_path.iterdir()} == {"log"}


def test_what_is_held_out_is_never_trained_on_by_mistake(tmp_path):
    (tmp_path / "train.txt").write_text("0 5 6 7\n")
    (tmp_path / "test.txt").write_text("0 8\n")
    with pytest.raises(ConfigurationError, match="splitting=leave_one_out would train on the 1 events"):
        preprocess(tmp_path, "source=gowalla", f"source.path={tmp_path}", "splitting=leave_one_out")


def test_a_live_log_without_products(tmp_path):
    (tmp_path / "room.csv").write_text(
        "live_id,streamer_id,start_timestamp,end_timestamp,live_content_category\n"
        f"1,9,{DAY_1},{DAY_1 + HOUR},shop\n2,8,{DAY_2},{DAY_2 + HOUR},talk\n3,9,{DAY_3},,shop\n"
    )
    clicks = [(5, 1, 9, DAY_1 + MINUTE), (5, 2, 8, DAY_2 + MINUTE), (5, 3, 9, DAY_3 + MINUTE)]
    rows = "".join(f"{user},{room},{streamer},{at_ms},4000\n" for user, room, streamer, at_ms in clicks)
    (tmp_path / "click.csv").write_text("user_id,live_id,author_id,timestamp,watch_live_time\n" + rows)
    settings = ["source=kuailive", f"source.path={tmp_path}", "source.behaviours=[click]", *SPLITTING]
    summary = preprocess(tmp_path, *settings)
    dataset = ProcessedDataset.open(tmp_path / "out")
    assert dataset.spec.num_products == 0
    assert dataset.items.kind.tolist() == [0, 0, 1, 1, 1]
    assert dataset.queries("test").targets.tolist() == [4]
    assert dataset.availability.available_at(DAY_3 + MINUTE, kind=1).tolist() == [4]
    assert summary["source_notes"] == {"rooms_without_end": 1, "rooms_whose_end_was_moved": 0}
