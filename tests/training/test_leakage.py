"""The future must not leak into the past: a clean log passes, and every kind of leak that is put in is caught."""

import json
import random

import numpy as np
import pyarrow as pa
import pytest

from roomrec.errors import DatasetError
from roomrec.events.schema import EVENT_TYPE_CODES
from roomrec.sequences.histories import Histories
from tests.runs import config_of
from training import preprocess
from training.preprocessing import histories, leakage, listings, pipeline
from training.preprocessing.staging import STAGED_SCHEMA

DAY_1 = 1_767_225_600_000  # 2026-01-01
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def evenings(seed: int = 0) -> list[dict]:
    """Three evenings of eight rooms, which list products over half an hour; ten viewers enter, watch and order."""
    rng = random.Random(seed)
    events: list[dict] = []

    def add(event_type: str, at_ms: int, **columns: object) -> None:
        number = f"{len(events):05d}"
        events.append({"event_id": number, "event_type": event_type, "occurred_at_ms": at_ms} | columns)

    for day in range(3):
        for host in range(8):
            room, start = f"r{day}{host}", DAY_1 + day * DAY + host * 20 * MINUTE
            said = {"category": rng.choice(["wear", "tools"]), "title": f"show {rng.randrange(9)}"}
            seen = {"room_id": room, "streamer_id": f"s{host}"}
            add("room_start", start, **seen, context=said)
            for place in range(6):
                product = f"p{rng.randrange(20)}"
                price = {
                    "amount_cents": rng.randrange(500, 9000),
                    "context": {"category": rng.choice(["wear", "tools"])},
                }
                add("product_listed", start + place * 5 * MINUTE, room_id=room, product_id=product, **price)
                add("stock_changed", start + rng.randrange(60) * MINUTE, product_id=product, stock=rng.choice([0, 5]))
            for _ in range(12):
                viewer = {"user_id": f"u{rng.randrange(10)}"} | seen
                at_ms = start + rng.randrange(1, 50) * MINUTE
                watched = rng.choice([1_000, 30_000])
                add("enter", at_ms, **viewer)
                add("watch", at_ms + watched, **viewer, watch_time_ms=watched)
                if rng.random() < 0.3:
                    add("order", at_ms + watched, **viewer, product_id=f"p{rng.randrange(20)}")
            add("room_end", start + HOUR, **seen)
    return events


def run(tmp_path, *, name="out", events=None, **settings):
    log = tmp_path / "log.ndjson"
    log.write_text("\n".join(json.dumps(event) for event in events or evenings()))
    # an instant in the middle of an evening, when rooms are live and some are not an hour old
    split = {"splitting.validation_from": "2026-01-02T01:30", "splitting.test_from": "2026-01-03T01:30"}
    return preprocess.run(
        config_of("preprocess", output_dir=tmp_path, name=name, **{"source.path": log}, **(settings or split))
    )


def test_a_clean_log_passes_and_the_summary_says_what_was_compared(tmp_path):
    found = run(tmp_path)["leakage"]
    assert found["as_of_ms"] == DAY_1 + DAY + 90 * MINUTE
    assert found["past_events"] > 300
    assert found["future_events_altered"] > 300
    compared = found["compared"]
    assert compared["vocabulary"] is True
    assert min(compared["history_events"], compared["labels"], compared["availability_intervals"]) > 50
    # the eight rooms of the first evening and those of the second that had started by half past one, and products
    assert compared["items"] > 12 + 10
    assert compared["labels"] < compared["history_events"]
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["leakage"] == found


def test_a_room_that_knows_what_it_will_sell_is_caught(tmp_path, monkeypatch):
    monkeypatch.setattr(listings, "ROOM_LISTING_WINDOW_MS", DAY)
    with pytest.raises(DatasetError, match=r"the future leaks into items: when everything from 2026-01-02T01:30:00"):
        run(tmp_path)
    assert not (tmp_path / "out").exists()
    assert run(tmp_path, name="knowingly", check_leakage="false", splitting="leave_one_out")["leakage"] is None


def test_facts_that_a_product_gets_later_are_caught(tmp_path, monkeypatch):
    read = listings._read_facts

    def last_listing_counts(events, room, rooms, facts, openings):
        backwards = pa.array(np.arange(len(events))[::-1])
        read(events.take(backwards), room[::-1], rooms, facts, openings)

    monkeypatch.setattr(listings, "_read_facts", last_listing_counts)
    with pytest.raises(DatasetError, match="the future leaks into items"):
        run(tmp_path)


def leaky(change):
    """Make histories that a change has spoiled."""
    build = histories.HistoryBuilder.build
    return lambda self, events: change(build(self, events))


def test_a_history_that_shows_the_next_event_is_caught(tmp_path, monkeypatch):
    peek = leaky(lambda flat: flat._replace(watch_time_bucket=np.append(flat.watch_time_bucket[1:], np.int8(0))))
    monkeypatch.setattr(histories.HistoryBuilder, "build", peek)
    with pytest.raises(DatasetError, match="the future leaks into history events"):
        run(tmp_path)


def test_a_label_that_waits_longer_than_its_window_is_caught(tmp_path, monkeypatch):
    def liked_later(flat: Histories) -> Histories:
        user = np.repeat(np.arange(len(flat.user_index)), np.diff(flat.offsets))
        last = {int(each): int(flat.streamer_index[user == each][-1]) for each in user}
        return flat._replace(target=flat.target & (flat.streamer_index == [last[each] for each in user.tolist()]))

    monkeypatch.setattr(histories.HistoryBuilder, "build", leaky(liked_later))
    with pytest.raises(DatasetError, match="the future leaks into labels"):
        run(tmp_path)


def test_a_vocabulary_that_knows_the_future_is_caught(tmp_path, monkeypatch):
    make = pipeline.make_vocabulary
    monkeypatch.setattr(pipeline, "make_vocabulary", lambda *args, **known: make(*args, **known | {"before_ms": None}))
    with pytest.raises(DatasetError, match="the future leaks into vocabulary"):
        run(tmp_path)


def test_availability_that_hears_of_later_stock_is_caught(tmp_path, monkeypatch):
    make = listings.product_intervals

    def sold_out_at_once(shown, stocks, **rooms):
        return make(shown, stocks._replace(at_ms=stocks.at_ms - 45 * MINUTE), **rooms)

    monkeypatch.setattr(listings, "product_intervals", sold_out_at_once)
    with pytest.raises(DatasetError, match="the future leaks into availability intervals"):
        run(tmp_path)


def test_a_split_that_trains_on_what_came_later_is_caught(tmp_path, monkeypatch):
    swapped = leaky(lambda flat: flat._replace(split=np.where(flat.split == 1, 0, flat.split).astype(np.int8)))
    monkeypatch.setattr(histories.HistoryBuilder, "build", swapped)
    with pytest.raises(DatasetError, match=r"is in split 0, by its time it belongs to 1: this is a fault"):
        run(tmp_path)
    backwards = leaky(lambda flat: flat._replace(split=flat.split[::-1].copy()))
    monkeypatch.setattr(histories.HistoryBuilder, "build", backwards)
    with pytest.raises(DatasetError, match=r"the split of event .* lies before that of the same user's event"):
        run(tmp_path, splitting="leave_one_out")


def test_leave_one_out_is_checked_in_the_middle_of_the_log(tmp_path):
    found = run(tmp_path, splitting="leave_one_out")["leakage"]
    assert found["compared"]["vocabulary"] is False
    assert found["compared"]["history_events"] > 100


def test_what_a_user_had_before_may_be_asked_when_the_end_of_his_history_moves(tmp_path):
    # Repeats are no targets of training but may be held out, and with another future another event is held out.
    rng = random.Random(0)
    lines = [f"{user} {' '.join(str(rng.randrange(1, 6)) for _ in range(8))}" for user in range(1, 201)]
    (tmp_path / "log.txt").write_text("\n".join(lines) + "\n")
    settings = {"source": "s3rec_text", "source.path": tmp_path / "log.txt"}
    found = preprocess.run(config_of("preprocess", output_dir=tmp_path, name="out", **settings))["leakage"]
    assert 100 < found["compared"]["labels"] < found["compared"]["history_events"]


def test_only_the_future_is_shuffled():
    count = 400
    columns = {name: [None] * count for name in STAGED_SCHEMA.names}
    columns |= {
        "row": list(range(count)),
        "event_id": [f"e{number}" for number in range(count)],
        "event_type": [EVENT_TYPE_CODES["watch"]] * count,
        "occurred_at_ms": [number * 1_000 for number in range(count)],
        "user_id": [f"u{number % 7}" for number in range(count)],
        "room_id": [f"r{number}" for number in range(count)],
        "streamer_id": [f"s{number}" for number in range(count)],
        "watch_time_ms": [number % 5 * 1_000 for number in range(count)],
    }
    events = pa.table(columns, schema=STAGED_SCHEMA)
    other = leakage.shuffle_future(events, 200_000, seed=1)
    assert other.slice(0, 200).equals(events.slice(0, 200))
    late = other.slice(200).to_pylist()
    assert 100 < len(late) < 170
    assert all(row["occurred_at_ms"] >= 200_000 for row in late)
    # a room keeps its streamer, and no report speaks of what was before the instant
    assert all(row["room_id"][1:] == row["streamer_id"][1:] for row in late)
    assert all(row["occurred_at_ms"] - row["watch_time_ms"] >= 200_000 for row in late)
    assert sum(row["room_id"] != f"r{row['row']}" for row in late) > 90
    assert any(row["user_id"].endswith("~") for row in late)
