"""The history serving builds from events equals, element by element, the one training is given."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from roomrec.events.schema import EVENT_TYPE_CODES, VIEWER_EVENT_TYPES
from roomrec.events.validation import validate_event
from roomrec.features.spec import HISTORY_INPUTS
from roomrec.features.vocabulary import Vocabulary
from roomrec.sequences.history import History, ViewerEvents, build_history, history_inputs
from serving.state.lmdb_state_store import LmdbStateStore
from serving.state.records import UserRecord, unpack_user, user_history
from serving.state.sqlite_event_log import SqliteEventLog

START_MS = 1_700_000_000_000
USERS = ("u1", "u2", "u3")
VOCABULARY = Vocabulary({"streamer": ["mia", "tom"], "product": ["silk", "wool"]})
HISTORY_LIMIT = 12

event_ids = st.sampled_from(["a", "b", "B", "a\x00", "\u00e9", "\uffff", "\U0001f600", *(f"e{n}" for n in range(30))])
posted_events = st.fixed_dictionaries(
    {
        "event_id": event_ids,
        "event_type": st.sampled_from(VIEWER_EVENT_TYPES),
        # few instants, so that many are equal; some lie after the arrival, as a fast clock makes them
        "occurred_at_ms": st.integers(-40, 12).map(lambda seconds: START_MS + seconds * 1_000),
        "user_id": st.sampled_from(USERS),
        "streamer_id": st.sampled_from(["mia", "tom", "nobody"]),
        "room_id": st.sampled_from(["r1", "r2"]),
        "product_id": st.sampled_from(["silk", "wool", "new"]),
        "watch_time_ms": st.integers(0, 10**9),
    },
    optional={},
)


@settings(max_examples=60, deadline=None)
@given(arrivals=st.lists(posted_events, max_size=60), max_length=st.integers(1, HISTORY_LIMIT), data=st.data())
def test_serving_and_training_see_the_same_history(
    arrivals: list[dict[str, Any]], max_length: int, data: st.DataObject
) -> None:
    repeated = data.draw(st.lists(st.sampled_from(arrivals), max_size=10)) if arrivals else []
    accepted = []
    for place, fields in enumerate(arrivals + repeated):
        event = validate_event(fields, received_at_ms=START_MS + place // 3)
        assert isinstance(event, dict)
        accepted.append(event)

    offline = build_offline(accepted)
    for number, (user_id, online) in enumerate(build_online(accepted, data).items()):
        rows = np.flatnonzero(offline.user == number)
        start, stop = (rows[0], rows[-1] + 1) if len(rows) else (0, 0)
        count = len(online.event_type)
        assert count == min(stop - start, HISTORY_LIMIT), user_id
        for name in ("occurred_at_ms", "event_type", "streamer_index", "product_index", "watch_time_bucket"):
            np.testing.assert_array_equal(getattr(online, name), getattr(offline, name)[stop - count : stop], name)
        given_to_training = history_inputs(offline, start=start, stop=stop, max_length=max_length)
        given_online = history_inputs(online, start=0, stop=count, max_length=max_length)
        for name in HISTORY_INPUTS:
            assert given_online[name].dtype == given_to_training[name].dtype
            np.testing.assert_array_equal(given_online[name], given_to_training[name], name)


def build_offline(accepted: list[dict[str, Any]]) -> History:
    """What preprocessing does: the whole table at once, duplicates and all."""
    ranks = {event_id: rank for rank, event_id in enumerate(sorted({event["event_id"] for event in accepted}))}
    watch = [-1 if event["watch_time_ms"] is None else event["watch_time_ms"] for event in accepted]

    def column(values: list[int]) -> np.ndarray:
        return np.array(values, dtype=np.int64)

    return build_history(
        ViewerEvents(
            user=column([USERS.index(event["user_id"]) for event in accepted]),
            event_id=column([ranks[event["event_id"]] for event in accepted]),
            event_type=column([EVENT_TYPE_CODES[event["event_type"]] for event in accepted]),
            occurred_at_ms=column([event["occurred_at_ms"] for event in accepted]),
            received_at_ms=column([event["received_at_ms"] for event in accepted]),
            streamer_index=VOCABULARY.encode("streamer", [event["streamer_id"] for event in accepted]),
            product_index=VOCABULARY.encode("product", [event["product_id"] for event in accepted]),
            watch_time_ms=column(watch),
        )
    )


def build_online(accepted: list[dict[str, Any]], data: st.DataObject) -> dict[str, History]:
    """What serving does: event after event as they arrive, in posts of any size, from the state."""
    size = data.draw(st.integers(1, 20))  # drawing may end the example, so it comes before anything is open
    with tempfile.TemporaryDirectory() as folder:
        log = SqliteEventLog(Path(folder) / "events.sqlite")
        store = LmdbStateStore(Path(folder) / "state", log, history_limit=HISTORY_LIMIT, map_bytes=1 << 24)
        for place in range(0, len(accepted), size):
            log.append([{k: v for k, v in event.items() if v is not None} for event in accepted[place : place + size]])
            store.catch_up()
        packed = {user_id: store.read_user(user_id)[1] for user_id in USERS}
        store.close()
        log.close()
    return {
        user_id: user_history(UserRecord(user_id) if user is None else unpack_user(user), VOCABULARY)
        for user_id, user in packed.items()
    }
