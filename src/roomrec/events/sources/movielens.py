"""MovieLens: ratings with times become ``product_click`` events, genres and titles become facts of products."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from roomrec.errors import SourceError
from roomrec.events.sources.delimited import integers, read_delimited, unreadable
from roomrec.events.sources.source import PRODUCT_SCHEMA, SourceBatch, batch, existing

_WHAT = (
    "a MovieLens folder: ratings as ml-1m_events.tsv(.gz), ratings.csv or ratings.dat, "
    "and movies.csv or movies.dat (https://grouplens.org/datasets/movielens)"
)
_RATING_FILES = ("ml-1m_events.tsv.gz", "ml-1m_events.tsv", "ratings.csv", "ratings.dat")
_COLUMNS = {
    "user": ("user", "userId"),
    "movie": ("movie", "movieId"),
    "timestamp": ("timestamp",),
    "timestamp_exact": ("timestamp_exact",),
}
_LINES_AT_ONCE = 262_144


class MovieLens:
    """Who rated a movie chose it, whatever the rating, as the published results of this log count it.

    A movie's category is the first genre it is filed under.

    Args:
        path: The folder.
        exact_times_only: Leave out ratings whose time is interpolated (``timestamp_exact`` 0), for splits by time.
        name: Default name of the processed dataset.
    """

    expects = _WHAT
    ordered = True
    filter_seen = True

    def __init__(self, *, path: str, exact_times_only: bool = False, name: str = "movielens") -> None:
        self._folder = existing(path, what=_WHAT)
        self.name = name
        self._exact_times_only = exact_times_only
        found = [self._folder / name for name in _RATING_FILES if (self._folder / name).exists()]
        if not found:
            raise SourceError(f"{self._folder} holds none of {', '.join(_RATING_FILES)}; expected {_WHAT}")
        self._ratings = found[0]

    def read(self) -> Iterator[SourceBatch]:
        """Read the ratings in the order of the file, which decides between equal times.

        Raises:
            SourceError: If a column is missing.
        """
        first = 0
        pieces = (
            _double_colons(self._ratings, ("user", "movie", "rating", "timestamp"))
            if self._ratings.suffix == ".dat"
            else read_delimited(self._ratings, _COLUMNS, optional=["timestamp_exact"], what=_WHAT)
        )
        for rows in pieces:
            numbered = pa.array([f"ml-{row:010d}" for row in range(first, first + len(rows))])
            first += len(rows)
            good, rejected = unreadable(rows, {"occurred_at_ms": rows["timestamp"]})
            if self._exact_times_only and "timestamp_exact" in rows.column_names:
                good = pc.and_(good, pc.fill_null(pc.not_equal(rows["timestamp_exact"], "0"), True))
            kept = rows.filter(good)
            events = batch(
                num_events=len(kept),
                event_id=numbered.filter(good if isinstance(good, pa.Array) else good.combine_chunks()),
                event_type="product_click",
                occurred_at_ms=pc.multiply(integers(kept["timestamp"]), 1000),
                user_id=kept["user"],
                product_id=kept["movie"],
            )
            yield events._replace(rejected=rejected)

    def products(self) -> pa.Table:
        """Return the movies with title, first genre, and all genres as attributes.

        Raises:
            SourceError: If there is neither movies.csv nor movies.dat.
        """
        if (self._folder / "movies.csv").exists():
            columns = {"movie": ("movieId",), "title": ("title",), "genres": ("genres",)}
            movies = pa.concat_tables(read_delimited(self._folder / "movies.csv", columns, what=_WHAT))
        else:
            movies = pa.concat_tables(_double_colons(self._folder / "movies.dat", ("movie", "title", "genres")))
        genre = pc.list_element(pc.split_pattern(movies["genres"], "|"), 0)
        price = pa.nulls(len(movies), pa.int64())
        return pa.table([movies["movie"], genre, movies["title"], price, movies["genres"]], schema=PRODUCT_SCHEMA)

    def notes(self) -> dict[str, int]:
        """Return nothing: no decision was taken on what the files say."""
        return {}


def _double_colons(file: Path, names: tuple[str, ...]) -> Iterator[pa.Table]:
    """Read a file of cells separated by ``::``, in the Latin-1 of the older MovieLens files."""
    existing(file, what=_WHAT)
    rows: list[list[str]] = []
    with file.open(encoding="latin-1") as lines:
        for number, line in enumerate(lines, start=1):
            cells = line.rstrip("\r\n").split("::")
            if len(cells) != len(names):
                raise SourceError(f"{file}, line {number} has {len(cells)} cells; expected {'::'.join(names)}")
            rows.append(cells)
            if len(rows) == _LINES_AT_ONCE:
                yield _text(rows, names)
                rows = []
    if rows:
        yield _text(rows, names)


def _text(rows: list[list[str]], names: tuple[str, ...]) -> pa.Table:
    columns = zip(*rows, strict=True)
    return pa.table({name: pa.array(cells, pa.string()) for name, cells in zip(names, columns, strict=True)})
