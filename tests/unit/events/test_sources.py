import gzip

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from roomrec.errors import EventError, SourceError
from roomrec.events.sources.gowalla import Gowalla
from roomrec.events.sources.kuailive import KuaiLive
from roomrec.events.sources.movielens import MovieLens
from roomrec.events.sources.native import Native
from roomrec.events.sources.retailrocket import RetailRocket
from roomrec.events.sources.s3rec_text import S3RecText
from roomrec.events.validation import validate_table


def rows(source, *columns, held_out=False):
    """The valid events of a source, a tuple each, and the reasons of the rejected ones."""
    found, reasons = [], []
    for piece in source.read():
        accepted, rejected = validate_table(piece.events)
        reasons += piece.rejected["reason"].to_pylist() + rejected["reason"].to_pylist()
        if piece.held_out == held_out:
            found += zip(*(accepted[name].to_pylist() for name in columns), strict=True)
    return found, reasons


def event_ids(source):
    return pc.unique(pa.chunked_array([c for p in source.read() for c in p.events["event_id"].chunks])).to_pylist()


def test_s3rec_text_is_oldest_first_a_second_apart(tmp_path):
    (tmp_path / "beauty.txt").write_text("1 10 11 10\n2 12\n")
    found, reasons = rows(S3RecText(path=tmp_path / "beauty.txt"), "user_id", "product_id", "occurred_at_ms")
    assert found == [("1", "10", 1000), ("1", "11", 2000), ("1", "10", 3000), ("2", "12", 1000)]
    assert reasons == []


def test_s3rec_text_reads_gz_and_has_an_id_for_each_event(tmp_path):
    with gzip.open(tmp_path / "log.txt.gz", "wt") as file:
        file.write("1 10 10\n")
    assert event_ids(S3RecText(path=tmp_path / "log.txt.gz")) == ["1-000000", "1-000001"]


def test_s3rec_text_without_items_is_refused(tmp_path):
    (tmp_path / "log.txt").write_text("\n")
    with pytest.raises(SourceError, match="no line `user item item"):
        list(S3RecText(path=tmp_path / "log.txt").read())


def test_gowalla_holds_out_what_the_publisher_did(tmp_path):
    (tmp_path / "train.txt").write_text("0 5 6\n1 7\n")
    (tmp_path / "test.txt").write_text("0 8\n1\n")
    source = Gowalla(path=tmp_path)
    assert rows(source, "user_id", "product_id")[0] == [("0", "5"), ("0", "6"), ("1", "7")]
    assert rows(source, "user_id", "product_id", "occurred_at_ms", held_out=True)[0] == [("0", "8", 3000)]
    assert not source.ordered


def test_gowalla_says_which_file_is_missing(tmp_path):
    (tmp_path / "train.txt").write_text("0 5\n")
    with pytest.raises(SourceError, match=r"neither test\.txt nor test\.txt\.gz"):
        Gowalla(path=tmp_path)


def test_movielens_reads_times_titles_and_genres(tmp_path):
    (tmp_path / "ml-1m_events.tsv").write_text(
        "user\tmovie\trating\ttimestamp\ttimestamp_exact\n1\t20\t4\t100\t1\n1\t21\t1\t101\t0\n1\t22\t1\tnoon\t1\n"
    )
    (tmp_path / "movies.dat").write_bytes("20::Amélie (2001)::Comedy|Romance\n".encode("latin-1"))
    source = MovieLens(path=tmp_path)
    found, reasons = rows(source, "user_id", "product_id", "occurred_at_ms")
    assert found == [("1", "20", 100_000), ("1", "21", 101_000)]
    assert reasons == ["not_a_number:occurred_at_ms"]
    assert source.products().to_pylist() == [
        {
            "product_id": "20",
            "category": "Comedy",
            "title": "Amélie (2001)",
            "price_cents": None,
            "attributes": "Comedy|Romance",
        }
    ]
    exact = MovieLens(path=tmp_path, exact_times_only=True)
    assert rows(exact, "product_id")[0] == [("20",)]


def test_movielens_reads_the_original_file(tmp_path):
    (tmp_path / "ratings.dat").write_text("1::20::4::100\n")
    assert rows(MovieLens(path=tmp_path), "user_id", "product_id", "occurred_at_ms")[0] == [("1", "20", 100_000)]


def test_movielens_says_what_to_download(tmp_path):
    with pytest.raises(SourceError, match=r"grouplens\.org"):
        MovieLens(path=tmp_path)


def test_retailrocket_reads_behaviours_and_held_out_purchases(tmp_path):
    (tmp_path / "events.tsv").write_text(
        "user\titem\tbehavior\ttimestamp\n0\t3\tview\t50\n0\t1\tcart\t60\n0\t1\tbuy\t70\n0\t9\tsing\t80\n"
    )
    (tmp_path / "test_buy.tsv").write_text("user\titem\n0\t4\n")
    source = RetailRocket(path=tmp_path)
    assert (source.filter_seen, RetailRocket(path=tmp_path, held_out=False).filter_seen) == (True, False)
    found, reasons = rows(source, "event_type", "product_id", "occurred_at_ms")
    assert found == [("product_click", "3", 50_000), ("add_to_cart", "1", 60_000), ("order", "1", 70_000)]
    assert reasons == ["unknown_event_type"]
    assert rows(source, "event_type", "product_id", "occurred_at_ms", held_out=True)[0] == [("order", "4", 81_000)]


def test_retailrocket_reads_the_original_columns_in_milliseconds(tmp_path):
    (tmp_path / "events.csv").write_text(
        "timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,addtocart,355908,\n"
    )
    found, _ = rows(RetailRocket(path=tmp_path, held_out=False), "event_type", "user_id", "occurred_at_ms")
    assert found == [("add_to_cart", "257597", 1433221332117)]


def test_a_missing_column_is_named_with_what_was_found(tmp_path):
    (tmp_path / "events.tsv").write_text("user\tthing\tbehavior\ttimestamp\n0\t3\tview\t50\n")
    with pytest.raises(SourceError, match=r"no column item or itemid; found \['user', 'thing'"):
        list(RetailRocket(path=tmp_path, held_out=False).read())


def kuailive(folder, streamer="streamer_id"):
    head = f"user_id,live_id,{streamer},timestamp"
    (folder / "click.csv").write_text(f"{head},watch_live_time\n1,100,9,5000,2000\n1,101,9,90000,1\n1,102,8,7000,\n")
    (folder / "comment.csv").write_text(f"{head}\n1,100,9,6000\n")
    (folder / "like.csv").write_text(f"{head}\n1,100,9,6500\n")
    (folder / "gift.csv").write_text(f"{head},gift_price\n1,100,9,6600,10\n1,100,9,6700,ten\n")
    (folder / "negative.csv").write_text("user_id,live_id,timestamp\n2,100,4000\n")
    (folder / "room.csv").write_text(
        f"p_date,live_id,{streamer},live_type,start_timestamp,end_timestamp,live_content_category,live_name_id\n"
        "20250525,100,9,1,1000,80000,shop,0\n20250525,101,9,1,2000,50000,,1\n20250525,102,8,1,3000,,talk,2\n"
    )


@pytest.mark.parametrize("streamer", ["streamer_id", "author_id"])
def test_kuailive_becomes_a_live_log(tmp_path, streamer):
    kuailive(tmp_path, streamer)
    source = KuaiLive(path=tmp_path)
    found, reasons = rows(source, "event_type", "room_id", "occurred_at_ms", "watch_time_ms", "amount_cents")
    assert found == [
        ("enter", "100", 5000, None, None),
        ("enter", "101", 90000, None, None),
        ("enter", "102", 7000, None, None),
        ("watch", "100", 7000, 2000, None),
        ("watch", "101", 90001, 1, None),
        ("comment", "100", 6000, None, None),
        ("like", "100", 6500, None, None),
        ("gift", "100", 6600, None, 10),
        ("impression", "100", 4000, None, None),
        ("room_start", "100", 1000, None, None),
        ("room_start", "101", 2000, None, None),
        ("room_start", "102", 3000, None, None),
        ("room_end", "100", 80000, None, None),
        ("room_end", "101", 90001, None, None),
    ]
    assert reasons == ["not_a_number:amount_cents"]
    assert source.notes() == {"rooms_without_end": 1, "rooms_whose_end_was_moved": 1}


def test_kuailive_knows_streamers_and_categories(tmp_path):
    kuailive(tmp_path)
    found, _ = rows(KuaiLive(path=tmp_path), "event_type", "streamer_id", "context")
    starts = [row[1:] for row in found if row[0] == "room_start"]
    assert starts == [("9", [("category", "shop")]), ("9", None), ("8", [("category", "talk")])]


def test_kuailive_needs_its_files_unless_told_otherwise(tmp_path):
    kuailive(tmp_path)
    (tmp_path / "gift.csv").unlink()
    with pytest.raises(SourceError, match=r"gift\.csv does not exist"):
        KuaiLive(path=tmp_path)
    assert rows(KuaiLive(path=tmp_path, behaviours=["click"]), "event_type")[0][0] == ("enter",)


def test_native_reads_parquet_and_ndjson_in_order_of_path(tmp_path):
    (tmp_path / "day=2026-01-02").mkdir()
    follow = {"event_type": ["follow"], "occurred_at_ms": [5], "received_at_ms": [5], "user_id": ["u"]}
    pq.write_table(
        pa.table({"event_id": ["b"], "streamer_id": ["mia"], **follow}), tmp_path / "day=2026-01-02" / "part-0.parquet"
    )
    (tmp_path / "a.ndjson").write_text('{"event_id": "a", "event_type": "dance", "occurred_at_ms": 1}\nnonsense\n')
    (tmp_path / "README.md").write_text("not a log")
    found, reasons = rows(Native(path=tmp_path), "event_id", "event_type")
    assert found == [("b", "follow")]
    assert reasons == ["malformed_json", "unknown_event_type"]


def test_native_names_the_file_and_the_column(tmp_path):
    pq.write_table(pa.table({"event_id": ["b"]}), tmp_path / "part.parquet")
    with pytest.raises(EventError, match=r"part\.parquet: column event_type is missing"):
        list(Native(path=tmp_path).read())


def test_native_without_files_says_what_it_looks_for(tmp_path):
    with pytest.raises(SourceError, match=r"holds no file ending in \.parquet"):
        list(Native(path=tmp_path).read())
    with pytest.raises(SourceError, match="does not exist"):
        Native(path=tmp_path / "nothing")


def test_an_unreadable_parquet_file_is_named(tmp_path):
    (tmp_path / "part.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(EventError, match=r"part\.parquet cannot be read"):
        list(Native(path=tmp_path).read())


def test_s3rec_text_knows_the_attributes_of_items(tmp_path):
    (tmp_path / "log.txt").write_text("1 10 11\n")
    assert S3RecText(path=tmp_path / "log.txt").products().num_rows == 0
    (tmp_path / "attributes.json").write_text('{"10": [3, 7, 3], "11": ["brand:northwind"], "12": []}')
    source = S3RecText(path=tmp_path / "log.txt", attributes_path=tmp_path / "attributes.json")
    nothing = {"category": None, "title": None, "price_cents": None}
    assert source.products().to_pylist() == [
        {"product_id": "10", **nothing, "attributes": "3|7|3"},
        {"product_id": "11", **nothing, "attributes": "brand:northwind"},
        {"product_id": "12", **nothing, "attributes": ""},
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "holds list; expected a JSON object of item"),
        ('{"10": 3}', "gives item '10' 3; expected"),
        ('{"10": [true]}', r"gives item '10' \[True\]; expected"),
        ('{"10": ["a|b"]}', r"attribute 'a\|b', and '\|' separates"),
    ],
)
def test_s3rec_text_says_what_is_wrong_with_the_attributes(tmp_path, text, message):
    (tmp_path / "log.txt").write_text("1 10 11\n")
    (tmp_path / "attributes.json").write_text(text)
    with pytest.raises(SourceError, match=message):
        S3RecText(path=tmp_path / "log.txt", attributes_path=tmp_path / "attributes.json").products()


def test_s3rec_text_names_the_setting_whose_file_is_missing(tmp_path):
    (tmp_path / "log.txt").write_text("1 10\n")
    with pytest.raises(SourceError, match=r"source\.attributes_path: .*none\.json does not exist"):
        S3RecText(path=tmp_path / "log.txt", attributes_path=tmp_path / "none.json")
