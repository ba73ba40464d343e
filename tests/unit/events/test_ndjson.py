import pyarrow as pa

from roomrec.events.ndjson import read_ndjson, write_ndjson
from roomrec.events.schema import EVENT_SCHEMA
from roomrec.events.validation import validate_table

LINES = b"""\
{"event_id": "a", "event_type": "follow", "occurred_at_ms": 5, "user_id": "u", "streamer_id": "mia"}

{"event_id": "b", "event_type": "order", "occurred_at_ms": "noon", "user_id": "u"}
not json
[1, 2]
{"event_id": "c", "event_type": "stock_changed", "occurred_at_ms": 6, "received_at_ms": 9, "product_id": "p", \
"stock": 0, "context": {"region": "eu"}, "mood": 3}
"""


def test_good_lines_are_read_and_bad_ones_kept_with_a_reason(tmp_path):
    file = tmp_path / "events.ndjson"
    file.write_bytes(LINES)
    (piece,) = read_ndjson(file)
    assert piece.events["event_id"].to_pylist() == ["a", "c"]
    assert piece.events["received_at_ms"].to_pylist() == [5, 9]
    assert piece.events["context"].to_pylist() == [None, [("region", "eu")]]
    assert piece.rejected["reason"].to_pylist() == ["not_a_number:occurred_at_ms", "malformed_json", "malformed_json"]
    assert piece.rejected["event_id"].to_pylist() == ["b", None, None]
    assert piece.rejected["raw"].to_pylist()[1:] == ["not json", "[1, 2]"]


def test_a_line_that_is_not_unicode_is_kept_as_far_as_it_can_be_read(tmp_path):
    file = tmp_path / "events.ndjson"
    file.write_bytes(b'{"event_id": "\xff"}\n')
    (piece,) = read_ndjson(file)
    assert piece.rejected["reason"].to_pylist() == ["malformed_json"]
    assert piece.rejected["raw"].to_pylist() == ['{"event_id": "\ufffd"}']


def test_pieces_are_no_longer_than_asked(tmp_path):
    file = tmp_path / "events.ndjson"
    file.write_bytes(b"{}\n" * 5)
    assert [len(piece.events) for piece in read_ndjson(file, batch_rows=2)] == [2, 2, 1]


def test_what_is_written_is_read_again(tmp_path):
    (tmp_path / "in.ndjson").write_bytes(LINES)
    (piece,) = read_ndjson(tmp_path / "in.ndjson")
    events, _ = validate_table(piece.events)
    for name in ("out.ndjson", "out.ndjson.gz"):
        assert write_ndjson([events, EVENT_SCHEMA.empty_table()], tmp_path / name) == 2
        (again,) = read_ndjson(tmp_path / name)
        assert validate_table(again.events)[0].to_pylist() == events.to_pylist()


def test_the_same_events_make_the_same_compressed_bytes(tmp_path):
    (tmp_path / "in.ndjson").write_bytes(LINES)
    events, _ = validate_table(pa.concat_tables(piece.events for piece in read_ndjson(tmp_path / "in.ndjson")))
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_ndjson([events], tmp_path / folder / "events.ndjson.gz")
    first, second = ((tmp_path / folder / "events.ndjson.gz").read_bytes() for folder in ("one", "two"))
    assert first == second
