"""Equal content, equal fingerprint."""

import json
from pathlib import Path

import pytest

from roomrec.sequences.fingerprint import dataset_fingerprint


def write(folder: Path, *, item: bytes = b"items", name: str = "shop", users: int = 3) -> Path:
    for file, content in (
        ("vocabulary.parquet", b"ids"),
        ("items.parquet", item),
        ("availability.parquet", b""),
        ("sequences/part-0", bytes(5_000_000)),
        ("rejected/part-0", name.encode()),
    ):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    (folder / "summary.json").write_text(json.dumps({"name": name, "source": {"path": name}, "users": users}))
    return folder


def test_where_a_dataset_lies_and_what_it_is_called_do_not_matter(tmp_path):
    one, other = write(tmp_path / "one"), write(tmp_path / "two", name="store")
    assert dataset_fingerprint(one) == dataset_fingerprint(other)
    assert len(dataset_fingerprint(one)) == 64


@pytest.mark.parametrize("change", [{"item": b"items, more of them"}, {"item": b"itemz"}, {"users": 4}])
def test_other_content_has_another_fingerprint(tmp_path, change):
    assert dataset_fingerprint(write(tmp_path / "one")) != dataset_fingerprint(write(tmp_path / "two", **change))


def test_a_file_less_is_another_dataset(tmp_path):
    folder = write(tmp_path / "one")
    before = dataset_fingerprint(folder)
    (folder / "availability.parquet").unlink()
    assert dataset_fingerprint(folder) != before


def test_the_first_and_the_last_byte_of_a_large_file_count(tmp_path):
    folder = write(tmp_path / "one")
    fingerprints = {dataset_fingerprint(folder)}
    for place in (0, 4_999_999):
        content = bytearray(5_000_000)
        content[place] = 1
        (folder / "sequences/part-0").write_bytes(content)
        fingerprints.add(dataset_fingerprint(folder))
    assert len(fingerprints) == 3
