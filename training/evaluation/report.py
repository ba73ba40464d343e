"""Rankings to rows of numbers, and rows to JSON, Markdown and a table for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from rich.table import Table

from roomrec.metrics import coverage, hit_rate, ndcg, novelty, recall, reciprocal_rank
from roomrec.sequences.dataset import ProcessedDataset
from roomrec.sequences.queries import Queries, select_queries
from training.evaluation.candidates import CATALOGUE, ROOM_FEED, ROOM_PRODUCTS, Candidates
from training.evaluation.popularity import train_counts
from training.evaluation.ranking import Ranking
from training.evaluation.segments import is_cold, is_repeat

SURFACES: Final = (ROOM_FEED, CATALOGUE, ROOM_PRODUCTS)
"""In the order of tables; the first one a dataset has gives the headline numbers."""

PER_QUERY: Final = {"hr": hit_rate, "ndcg": ndcg, "mrr": reciprocal_rank, "recall": recall}
"""Metrics that are means over queries."""

Row = dict[str, Any]


def measure(
    dataset: ProcessedDataset,
    queries: Queries,
    candidates: Candidates,
    rankings: Mapping[str, Ranking],
    *,
    ks: Sequence[int],
) -> list[Row]:
    """Measure every scorer on every surface: over all queries, and over those whose target is new, repeated or cold.

    Args:
        dataset: Where the queries come from.
        queries: What was asked.
        candidates: Their candidates.
        rankings: Scorer name -> what it made of the queries.
        ks: How many are shown.

    Returns:
        One row for each surface, segment and scorer that has queries; metrics are named like ``ndcg@10``. A segment
        of all queries, as where all targets are new, would say the same again and is left out.
    """
    rows: list[Row] = []
    repeat = is_repeat(dataset, queries)
    segments = {
        "all": np.ones_like(repeat),
        "new": ~repeat,
        "repeat": repeat,
        "cold": is_cold(dataset, queries),
    }
    for surface in SURFACES:
        on_surface = np.zeros(len(queries.row), dtype=bool)
        of_kind = np.zeros(len(dataset.items.kind), dtype=bool)
        for group in candidates.groups:
            if group.surface == surface:
                on_surface[group.queries] = True
                of_kind |= dataset.items.kind == queries.kind[group.queries[0]]
        familiarity = _familiarity(dataset, of_kind)
        for segment, of_segment in segments.items():
            numbers = np.flatnonzero(on_surface & of_segment)
            if not len(numbers) or (segment != "all" and len(numbers) == np.count_nonzero(on_surface)):
                continue
            for name, ranking in rankings.items():
                num_candidates = int(np.count_nonzero(ranking.candidate_seen & of_kind))
                measured = _measure(queries, numbers, ranking, familiarity, num_candidates=num_candidates, ks=ks)
                rows.append({"surface": surface, "segment": segment, "scorer": name} | measured)
    return rows


def headline(rows: Sequence[Row], *, k: int) -> Row:
    """Return the numbers most asked for: the first surface, all queries, the model's by name, the others' by scorer."""
    surface = rows[0]["surface"]
    chosen = [row for row in rows if row["surface"] == surface and row["segment"] == "all"]
    summary: Row = {"surface": surface, "queries": chosen[0]["queries"]}
    for row in chosen:
        prefix = "" if row["scorer"] == "model" else f"{row['scorer']}_"
        summary |= {f"{prefix}{name}@{k}": row[f"{name}@{k}"] for name in PER_QUERY}
    return summary


def markdown(rows: Sequence[Row], *, title: str, ks: Sequence[int]) -> str:
    """Return the rows as Markdown, one table for each surface."""
    lines = [f"# {title}"]
    for surface in dict.fromkeys(row["surface"] for row in rows):
        chosen = [row for row in rows if row["surface"] == surface]
        names = _columns(chosen, ks)
        header = ["segment", "scorer", "queries", "candidates", *names]
        lines += ["", f"## {surface}", "", f"| {' | '.join(header)} |", "| --- | --- |" + " ---: |" * (len(header) - 2)]
        for row in chosen:
            cells = [row["segment"], row["scorer"], str(row["queries"]), f"{row['mean_candidates']:.0f}"]
            lines.append(f"| {' | '.join(cells + [_show(name, row[name]) for name in names])} |")
    return "\n".join(lines) + "\n"


def terminal_table(rows: Sequence[Row], *, surface: str, k: int) -> Table:
    """Return the rows of one surface at one k for the terminal."""
    names = [f"{name}@{k}" for name in ("hr", "ndcg", "mrr", "coverage", "novelty")]
    short = {"coverage": "cov.", "novelty": "nov."}
    chosen = [row for row in rows if row["surface"] == surface]
    table = Table(title=f"{surface}, {chosen[0]['mean_candidates']:.0f} candidates on average")
    for name in ("segment", "scorer"):
        table.add_column(name, no_wrap=True)
    for name in ("queries", *names):
        metric, at, depth = name.partition("@")
        table.add_column(short.get(metric, metric) + at + depth, justify="right", no_wrap=True)
    before = chosen[0]["segment"]
    for row in chosen:
        if row["segment"] != before:
            table.add_section()
            before = row["segment"]
        cells = [_show(name, row[name]) for name in names]
        table.add_row(row["segment"], row["scorer"], f"{row['queries']:,}", *cells)
    return table


def _familiarity(dataset: ProcessedDataset, of_kind: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is counted for each item, ``[V]``, and the counts: a product's own, for all rooms of a streamer one."""
    counted, entity = np.unique(np.where(of_kind, dataset.items.popularity_index, 0), return_inverse=True)
    counts = np.zeros(len(counted), dtype=np.int64)
    counts[entity[of_kind]] = train_counts(dataset)[of_kind]
    return entity + (counted[0] > 0), np.append(np.zeros(int(counted[0] > 0), dtype=np.int64), counts)


def _measure(
    queries: Queries,
    numbers: np.ndarray,
    ranking: Ranking,
    familiarity: tuple[np.ndarray, np.ndarray],
    *,
    num_candidates: int,
    ks: Sequence[int],
) -> Row:
    # The ranks take the place of the targets, and are cut to the segment with them.
    cut = select_queries(queries._replace(targets=ranking.ranks), numbers)
    shown = ranking.shown[numbers]
    entity, counts = familiarity
    row: Row = {
        "queries": len(numbers),
        "targets": len(cut.targets),
        "mean_candidates": float(ranking.num_candidates[numbers].mean()),
    }
    for name, metric in PER_QUERY.items():
        row |= {f"{name}@{k}": float(metric(cut.targets, cut.target_offsets, k=k).mean()) for k in ks}
    row |= {f"coverage@{k}": coverage(shown, num_candidates=num_candidates, k=k) for k in ks}
    return row | {f"novelty@{k}": novelty(entity[shown], counts=counts, k=k) for k in ks}


def _columns(rows: Sequence[Row], ks: Sequence[int]) -> list[str]:
    """Recall only where it is not the hit rate; coverage and novelty at one k."""
    several = any(row["targets"] > row["queries"] for row in rows)
    per_query = [name for name in PER_QUERY if name != "recall" or several]
    middle = 10 if 10 in ks else ks[0]
    return [f"{name}@{k}" for name in per_query for k in ks] + [f"coverage@{middle}", f"novelty@{middle}"]


def _show(name: str, value: float) -> str:
    return f"{value:.2f}" if name.startswith("novelty") else f"{value:.4f}"
