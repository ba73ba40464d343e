"""Gowalla as LightGCN splits it: check-ins without order or times, a tenth of each user's held out."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from roomrec.errors import SourceError
from roomrec.events.sources.s3rec_text import S3RecText
from roomrec.events.sources.source import SourceBatch, existing

_WHAT = "the folder with train.txt and test.txt (or .gz) of the LightGCN repository's data/gowalla"


class Gowalla:
    """``train.txt`` trains and ``test.txt`` is held out; other logs in this layout (Yelp2018, Amazon-Book) fit, too.

    Args:
        path: The folder.
        name: Default name of the processed dataset.
    """

    expects = _WHAT
    ordered = False
    filter_seen = True

    def __init__(self, *, path: str, name: str = "gowalla") -> None:
        folder = existing(path, what=_WHAT)
        train, test = (_either(folder, f"{part}.txt") for part in ("train", "test"))
        self.name = name
        self._text = S3RecText(path=str(train), test_path=str(test))

    def read(self) -> Iterator[SourceBatch]:
        """Read both files."""
        return self._text.read()

    def products(self) -> pa.Table:
        """Return nothing: places are known by their ids only."""
        return self._text.products()

    def notes(self) -> dict[str, int]:
        """Return nothing: no decision was taken on what the files say."""
        return {}


def _either(folder: Path, name: str) -> Path:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.exists():
            return file
    raise SourceError(f"{folder} holds neither {name} nor {name}.gz; expected {_WHAT}")
