"""What every event log promises. Subclass, and say how to open one."""

from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from serving.state.event_log import EventLog


def event(event_id: str, event_type: str = "enter", **columns: Any) -> dict[str, Any]:
    return {"event_id": event_id, "event_type": event_type, "occurred_at_ms": 5, "received_at_ms": 6} | columns


class EventLogContract:
    """Each ``open_log`` of one folder is another process's view of the same log."""

    @abstractmethod
    def open_log(self, folder: Path) -> EventLog:
        """Open the log in a folder."""

    @pytest.fixture
    def log(self, tmp_path: Path) -> Any:
        log = self.open_log(tmp_path)
        yield log
        log.close()

    def test_the_first_note_under_a_name_stays_for_every_process(self, log: EventLog, tmp_path: Path) -> None:
        assert log.note("key") is None
        assert log.note("key", "one") == "one"
        other = self.open_log(tmp_path)
        assert other.note("key", "two") == other.note("key") == log.note("key") == "one"
        assert other.note("other") is None
        other.close()
        assert log.last_seq() == 0

    def test_new_events_are_accepted_in_order(self, log: EventLog) -> None:
        assert log.append([event("b"), event("a")]).statuses == ["accepted", "accepted"]
        assert [entry.event["event_id"] for entry in log.read(after=0, limit=10)] == ["b", "a"]

    def test_an_event_comes_back_as_it_went_in(self, log: EventLog) -> None:
        went_in = event("a", user_id="u\u00fc", context={"title": "\u4e1d \x00"}, propensity=0.25, stock=-(2**63))
        log.append([went_in])
        assert log.read(after=0, limit=1)[0].event == went_in

    def test_the_same_id_twice_is_one_event_and_the_first_counts(self, log: EventLog) -> None:
        assert log.append([event("a", stock=1), event("a", stock=2)]).statuses == ["accepted", "duplicate"]
        assert log.append([event("a", stock=3)]).statuses == ["duplicate"]
        assert [entry.event["stock"] for entry in log.read(after=0, limit=10)] == [1]

    def test_ids_that_look_alike_are_different(self, log: EventLog) -> None:
        assert log.append([event("a"), event("A"), event("a "), event("a\x00")]).statuses == ["accepted"] * 4

    def test_reading_goes_on_where_it_stopped(self, log: EventLog) -> None:
        log.append([event(name) for name in "abcde"])
        first = log.read(after=0, limit=2)
        rest = log.read(after=first[-1].seq, limit=10)
        assert [entry.event["event_id"] for entry in first + rest] == list("abcde")
        assert log.read(after=rest[-1].seq, limit=10) == []

    def test_places_grow_and_the_last_is_known(self, log: EventLog) -> None:
        assert log.last_seq() == 0
        log.append([event("a"), event("b")])
        seqs = [entry.seq for entry in log.read(after=0, limit=10)]
        assert seqs == sorted(set(seqs))
        assert log.last_seq() == seqs[-1]

    def test_nothing_leaves_a_log_by_itself(self, log: EventLog) -> None:
        log.append([event("a")])
        log.erase_user("nobody")
        assert log.trimmed_seq() == 0

    def test_a_bad_event_stores_nothing(self, log: EventLog) -> None:
        for bad in (event("b", stock=2**63), event("b", user_id="\ud800")):
            with pytest.raises(ValueError):
                log.append([event("a"), bad])
        assert log.read(after=0, limit=10) == []
        assert log.append([event("a")]).statuses == ["accepted"]

    def test_another_process_sees_what_was_appended(self, log: EventLog, tmp_path: Path) -> None:
        other = self.open_log(tmp_path)
        log.append([event("a")])
        assert [entry.event["event_id"] for entry in other.read(after=0, limit=10)] == ["a"]
        assert other.append([event("a"), event("b")]).statuses == ["duplicate", "accepted"]
        assert log.last_seq() == other.last_seq()
        other.close()

    def test_it_is_all_there_after_opening_again(self, tmp_path: Path) -> None:
        first = self.open_log(tmp_path)
        first.append([event("a")])
        first.close()
        again = self.open_log(tmp_path)
        assert [entry.event["event_id"] for entry in again.read(after=0, limit=10)] == ["a"]
        again.close()

    def test_writers_at_the_same_time_lose_and_double_nothing(self, tmp_path: Path) -> None:
        def write(writer: int) -> list[str]:
            log = self.open_log(tmp_path)
            results: list[str] = []
            for place in range(20):
                results += log.append([event(f"{place}"), event(f"{writer}")]).statuses
            log.close()
            return results

        with ThreadPoolExecutor(4) as pool:
            results = [status for part in pool.map(write, range(100, 104)) for status in part]
        assert results.count("accepted") == 24
        log = self.open_log(tmp_path)
        assert len(log.read(after=0, limit=1_000)) == 24
        log.close()

    def test_appending_says_where_events_are(self, log: EventLog) -> None:
        first = log.append([event("a"), event("b")])
        assert [entry.event["event_id"] for entry in first.entries] == ["a", "b"]
        assert first.previous_seq == 0
        second = log.append([event("b"), event("c"), event("c")])
        assert second.statuses == ["duplicate", "accepted", "duplicate"]
        assert second.entries == log.read(after=first.entries[-1].seq, limit=10)
        assert second.previous_seq == first.entries[-1].seq
        assert log.append([event("c")]) == (["duplicate"], [], second.entries[-1].seq)

    def test_what_was_appended_is_what_is_read(self, log: EventLog) -> None:
        full = event("a", user_id="u", stock=2**63 - 1, propensity=0.1, context={"title": "\U0001f600 \x00", "a": ""})
        assert log.append([full]).entries == log.read(after=0, limit=10)

    def test_erasing_removes_one_viewer_and_no_place_is_used_twice(self, log: EventLog) -> None:
        log.append([event("a", user_id="u1"), event("b", user_id="u2"), event("c", user_id="u1")])
        last = log.last_seq()
        assert log.erase_user("u1") == 2
        assert log.erase_user("u1") == 0
        assert [entry.event["event_id"] for entry in log.read(after=0, limit=10)] == ["b"]
        assert log.last_seq() == last
        log.append([event("d")])
        assert log.last_seq() > last
