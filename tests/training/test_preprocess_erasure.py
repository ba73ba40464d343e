"""Users who were erased are not learned from: left out by preprocessing, and asked for again before training."""

import json

import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir

from roomrec.errors import ConfigurationError, DatasetError, EventError
from roomrec.events.erasure import mark_erased
from roomrec.sequences.fingerprint import dataset_fingerprint
from tests.training.test_preprocess import DAY_3, EVENTS, NOISE, ROOT, SPLITTING, preprocess, write
from training.opening import open_dataset


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def make(tmp_path, *overrides, name="out", **log):
    write(tmp_path / "log", **log)
    return preprocess(tmp_path, f"source.path={tmp_path / 'log'}", *SPLITTING, *overrides, name=name)


def words(folder):
    """Every string a dataset holds, as text and in Parquet."""
    found = ""
    for file in folder.rglob("*"):
        if file.suffix == ".parquet":
            found += json.dumps(pq.read_table(file).to_pylist())
        elif file.is_file():
            found += file.read_bytes().decode("latin-1")
    return found


def erase(folder, user_id, at_ms):
    mark_erased(folder / "erased_users.ndjson", user_id, at_ms=at_ms)
    return folder / "erased_users.ndjson"


def cats(events):
    """What ann did, done by cat as well."""
    return [
        each | {"event_id": f"c{each['event_id']}", "user_id": "cat"} for each in events if each.get("user_id") == "ann"
    ]


def test_an_erased_user_is_in_no_file_and_the_dataset_is_that_of_a_log_without_them(tmp_path):
    both, noise = [*EVENTS, *cats(EVENTS)], [*NOISE, *cats(NOISE)]
    summary = make(tmp_path, events=both, noise=noise)
    assert summary["erased_users"] == {
        "list": "data/serving/erased_users.ndjson",
        "users": 0,
        "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    }
    assert summary["events_of_erased_users"] == 0
    assert '"cat"' in words(tmp_path / "out")
    erased = erase(tmp_path, "cat", DAY_3 + 10**9)
    summary = make(tmp_path, f"erased_users={erased}", events=both, noise=noise, name="erased")
    assert summary["events_of_erased_users"] == 10
    assert summary["erased_users"]["users"] == 1
    assert '"cat"' not in words(tmp_path / "erased")
    assert '"ann"' in words(tmp_path / "erased")
    without = make(tmp_path, name="without")
    assert summary["events"] | {"read": 0} == without["events"] | {"read": 0}
    assert (summary["events"]["read"], without["events"]["read"]) == (33, 23)


def test_rejected_events_without_an_instant_go_too(tmp_path):
    broken = {"event_id": "x", "event_type": "enter", "user_id": "cat", "room_id": "r1"}
    erased = erase(tmp_path, "cat", 5)
    summary = make(tmp_path, f"erased_users={erased}", noise=[broken])
    assert summary["events_of_erased_users"] == 1
    assert '"cat"' not in words(tmp_path / "out")


def test_who_comes_back_after_the_erasure_is_somebody_new(tmp_path):
    erased = erase(tmp_path, "ann", DAY_3 - 1)  # all but her last evening
    summary = make(tmp_path, f"erased_users={erased}")
    assert summary["events_of_erased_users"] == 6
    assert summary["events"]["in_sequences"] == 3  # bob's enter, her click, and an order of hers received that evening


def test_the_endpoints_own_list_is_found(tmp_path):
    erase(tmp_path / "data" / "serving", "ann", DAY_3 - 1)
    assert make(tmp_path)["events_of_erased_users"] == 6


def test_training_refuses_a_dataset_made_before_an_erasure(tmp_path):
    make(tmp_path)
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("train", ["dataset=out", f"data_dir={tmp_path}"])
    assert open_dataset(cfg).spec.num_users == 3
    fingerprint = dataset_fingerprint(tmp_path / "out")
    erase(tmp_path / "data" / "serving", "ann", DAY_3 - 1)
    with pytest.raises(
        DatasetError, match=r"0 were on it then, 1 are now.* preprocess the log again with overwrite=true"
    ):
        open_dataset(cfg)
    make(tmp_path, "overwrite=true")
    assert open_dataset(cfg).summary["events_of_erased_users"] == 6
    assert dataset_fingerprint(tmp_path / "out") != fingerprint
    erase(tmp_path / "data" / "serving", "bob", DAY_3 + 10**9)
    with pytest.raises(DatasetError, match="1 were on it then, 2 are now"):
        open_dataset(cfg)


@pytest.mark.parametrize(("user_id", "at_ms"), [("bob", DAY_3 - 5), ("ann", DAY_3 - 4)])
def test_training_refuses_a_dataset_whatever_the_clock_of_a_later_erasure_said(tmp_path, user_id, at_ms):
    erase(tmp_path / "data" / "serving", "cat", DAY_3)
    erase(tmp_path / "data" / "serving", "ann", DAY_3 - 10)
    make(tmp_path)
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("train", ["dataset=out", f"data_dir={tmp_path}"])
    open_dataset(cfg)
    erase(tmp_path / "data" / "serving", user_id, at_ms)
    with pytest.raises(DatasetError, match="2 were on it then"):
        open_dataset(cfg)


def test_public_logs_have_no_users_of_the_endpoint(tmp_path):
    erase(tmp_path / "data" / "serving", "1", 10**15)
    (tmp_path / "log.txt").write_text("".join(f"{user} {item}\n" for user in (1, 2) for item in range(1, 6)))
    summary = preprocess(
        tmp_path, "source=s3rec_text", f"source.path={tmp_path / 'log.txt'}", "splitting=leave_one_out"
    )
    assert summary["erased_users"] is None
    assert summary["events_of_erased_users"] == 0


def test_a_list_that_is_missing_or_damaged_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match=r"erased_users: .*none does not exist"):
        make(tmp_path, f"erased_users={tmp_path / 'none'}")
    (tmp_path / "data" / "serving").mkdir(parents=True)
    (tmp_path / "data" / "serving" / "erased_users.ndjson").write_text("nonsense\n")
    with pytest.raises(EventError, match="list of erased users"):
        make(tmp_path)
