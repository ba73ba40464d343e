"""The door between ids and indices."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from roomrec.errors import VocabularyError
from roomrec.features import vocabulary as vocabulary_module
from roomrec.features.vocabulary import VOCABULARY_SCHEMA, Vocabulary, fingerprint_of_file


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary({"user": ["ann"], "product": ["silk", "wool", "棉"]})


def test_indices_start_after_pad_and_oov(vocabulary):
    assert vocabulary.encode("product", ["silk", "棉", None, "flax", ""]).tolist() == [2, 4, 0, 1, 1]
    assert vocabulary.index("product", "wool") == 3
    assert vocabulary.index("product", None) == 0
    assert vocabulary.size("product") == 5
    assert vocabulary.size("streamer") == 2


def test_arrow_and_python_encode_alike(vocabulary):
    names = ["wool", None, "flax", "silk", "棉"]
    whole = vocabulary.encode_array("product", pa.array(names))
    chunked = vocabulary.encode_array("product", pa.chunked_array([pa.array(names[:2]), pa.array(names[2:])]))
    assert whole.tolist() == chunked.tolist() == [3, 0, 1, 2, 4]


def test_decode_is_the_way_back(vocabulary):
    assert vocabulary.decode("product", 4) == "棉"
    for index in (0, 1, 5):
        with pytest.raises(VocabularyError, match=f"product index {index}"):
            vocabulary.decode("product", index)


def test_a_table_brings_it_back(vocabulary):
    again = Vocabulary.from_table(vocabulary.to_table())
    assert again.fingerprint() == vocabulary.fingerprint()
    assert again.encode("product", ["wool"]).tolist() == [3]


def test_fingerprints_tell_orders_and_namespaces_apart():
    prints = {
        Vocabulary(ids).fingerprint()
        for ids in (
            {},
            {"user": ["a", "b"]},
            {"user": ["b", "a"]},
            {"product": ["a", "b"]},
            {"user": ["a"], "product": ["b"]},
            {"user": ["ab"]},
        )
    }
    assert len(prints) == 6


@pytest.mark.parametrize("names", [["a", "a"], [""], [None]])
def test_ids_must_be_distinct_and_real(names):
    with pytest.raises(VocabularyError, match="streamer"):
        Vocabulary({"streamer": names})


def test_unknown_namespaces_and_gaps_are_refused(vocabulary):
    with pytest.raises(VocabularyError, match="room"):
        Vocabulary({"room": ["r1"]})
    table = vocabulary.to_table()
    with pytest.raises(VocabularyError, match="product"):
        Vocabulary.from_table(table.slice(0, 3).take([0, 2]))


def test_a_vocabulary_without_attributes_keeps_the_fingerprint_it_had_before_there_were_any(vocabulary):
    # bundles and datasets written before state this very number
    expected = "8e70046bb6256fec4ec94b4a5bb87f110f5ce5f2710a75d07ed06114421ab394"
    assert vocabulary.fingerprint() == expected
    table = vocabulary.to_table()
    assert set(table["namespace"].to_pylist()) == {"user", "product"}
    assert Vocabulary.from_table(table).size("attribute") == 2
    assert (
        Vocabulary({"user": ["ann"], "product": ["silk", "wool", "棉"], "attribute": ["soft"]}).fingerprint()
        != expected
    )


@pytest.mark.parametrize(
    "ids",
    [{}, {"user": ["a", "b", "c"], "product": ["x"]}, {"category": ["wear"], "attribute": ["soft", "new"]}],
)
@pytest.mark.parametrize("ids_at_once", [1, 2, 1000])
def test_the_fingerprint_of_a_file_is_that_of_its_vocabulary(tmp_path, monkeypatch, ids, ids_at_once):
    monkeypatch.setattr(vocabulary_module, "_IDS_AT_ONCE", ids_at_once)
    held = Vocabulary(ids)
    pq.write_table(held.to_table(), tmp_path / "vocabulary.parquet")
    assert fingerprint_of_file(tmp_path / "vocabulary.parquet") == held.fingerprint()


def test_a_file_out_of_order_or_of_something_else_is_refused(tmp_path):
    rows = {"namespace": ["product", "user"], "id": ["x", "a"], "index": [2, 2]}
    pq.write_table(pa.table(rows, schema=VOCABULARY_SCHEMA), tmp_path / "vocabulary.parquet")
    with pytest.raises(VocabularyError, match="'user' is unknown or out of order"):
        fingerprint_of_file(tmp_path / "vocabulary.parquet")
    pq.write_table(pa.table({"id": ["x"]}), tmp_path / "vocabulary.parquet")
    with pytest.raises(VocabularyError, match=r"has columns \['id'\], expected those of a vocabulary"):
        fingerprint_of_file(tmp_path / "vocabulary.parquet")
