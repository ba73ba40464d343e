"""Rows of numbers as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot


def plot_report(rows: Sequence[dict[str, Any]], file: Path, *, title: str, ks: Sequence[int], k: int) -> None:
    """Draw, for each surface, NDCG by depth on the left and by segment on the right.

    Args:
        rows: As ``measure`` made them.
        file: Where the PNG goes.
        title: Stands above.
        ks: Depths of the left side.
        k: Depth of the right side.
    """
    surfaces = list(dict.fromkeys(row["surface"] for row in rows))
    figure, axes = pyplot.subplots(
        len(surfaces), 2, figsize=(11, 3.6 * len(surfaces)), squeeze=False, layout="constrained"
    )
    figure.suptitle(title)
    for (left, right), surface in zip(axes, surfaces, strict=True):
        chosen = [row for row in rows if row["surface"] == surface]
        segments = list(dict.fromkeys(row["segment"] for row in chosen))
        scorers = list(dict.fromkeys(row["scorer"] for row in chosen))
        for nth, scorer in enumerate(scorers):
            by_segment = {row["segment"]: row for row in chosen if row["scorer"] == scorer}
            left.plot(ks, [by_segment["all"][f"ndcg@{depth}"] for depth in ks], marker="o", label=scorer)
            places = [place + (nth - (len(scorers) - 1) / 2) * 0.8 / len(scorers) for place in range(len(segments))]
            right.bar(places, [by_segment[name][f"ndcg@{k}"] for name in segments], width=0.8 / len(scorers))
        left.set(title=surface, xlabel="k", ylabel="NDCG@k", xticks=list(ks), ylim=(0, None))
        left.legend(fontsize="small")
        right.set(title=f"{surface}, by segment", ylabel=f"NDCG@{k}")
        counts = {row["segment"]: row["queries"] for row in chosen}
        right.set_xticks(range(len(segments)), [f"{name}\n{counts[name]:,} queries" for name in segments])
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
