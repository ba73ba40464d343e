"""Measurements to means and spreads over seeds, the verdict on goals and claims, Markdown and JSON."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.bench_quality.table import DataSet

Row = dict[str, Any]


def average(rows: Sequence[Row], *, experiment: str, scorer: str) -> list[Row]:
    """Average the rows of one scorer of an experiment over its seeds.

    Args:
        rows: Of all seeds, as ``measure`` made them, with ``seed``.
        experiment: What the result is called; blends add their own name.
        scorer: Whose rows.

    Returns:
        One row for each surface and segment: ``name``, ``seeds``, and for each metric its mean and, as ``<metric> ±``,
        the standard deviation over seeds, 0 for a single one.
    """
    chosen = [row for row in rows if row["scorer"] == scorer]
    averaged = []
    for surface, segment in dict.fromkeys((row["surface"], row["segment"]) for row in chosen):
        of_seed = [row for row in chosen if (row["surface"], row["segment"]) == (surface, segment)]
        found: Row = {
            "name": experiment if scorer == "model" else f"{experiment} + {scorer}",
            "surface": surface,
            "segment": segment,
            "queries": of_seed[0]["queries"],
            "seeds": len(of_seed),
        }
        for metric in (name for name in of_seed[0] if "@" in name):
            values = [row[metric] for row in of_seed]
            found[metric] = statistics.fmean(values)
            found[f"{metric} ±"] = statistics.stdev(values) if len(values) > 1 else 0.0
        averaged.append(found)
    return averaged


def headline(data: DataSet, results: Sequence[Row]) -> Row:
    """Return what the last line says of a data set.

    Args:
        data: The row of the table.
        results: Averaged rows, the first experiment's model among them.
    """
    row = next(row for row in results if row["name"] == data.experiments[0] and row["segment"] == "all")
    found: Row = {metric: round(row[metric], 4) for metric in data.metrics}
    found["seeds"] = row["seeds"]
    found["spread"] = {metric: round(row[f"{metric} ±"], 4) for metric in data.metrics}
    aims = goals(data, results)
    if aims:
        found["goals"] = data.goals
        found["missed"] = [f"{aim['metric']} of {aim['name']}" for aim in aims if not aim["reached"]]
    if data.better:
        found["claims"] = [claim["holds"] for claim in verdicts(data, results)]
    return found


def goals(data: DataSet, results: Sequence[Row]) -> list[Row]:
    """Say of each goal what was reached: the headline's first, then those of other experiments."""
    found = []
    for name, aims in {data.experiments[0]: data.goals, **data.also}.items():
        row = next((row for row in results if row["name"] == name and row["segment"] == "all"), None)
        for metric, goal in aims.items():
            value = None if row is None else row[metric]
            reached = value is not None and value > goal
            found.append({"name": name, "metric": metric, "goal": goal, "value": value, "reached": reached})
    return found


def verdicts(data: DataSet, results: Sequence[Row]) -> list[Row]:
    """Say of each claim what both sides reached on the first metric and whether it holds; None where one is missing."""
    metric = data.metrics[0]
    surface = results[0]["surface"] if results else ""
    found = []
    for claim in data.better:
        sides = [
            next(
                (
                    row
                    for row in results
                    if (row["name"], row["segment"], row["surface"]) == (name, claim.segment, surface)
                ),
                None,
            )
            for name in (claim.better, claim.than)
        ]
        above, below = (None if side is None else side[metric] for side in sides)
        found.append(
            {
                "claim": f"{claim.better} > {claim.than} ({claim.segment})",
                "metric": metric,
                "values": [above, below],
                "queries": None if sides[0] is None else sides[0]["queries"],
                "holds": None if above is None or below is None else above > below,
            }
        )
    return found


def table(data: DataSet, results: Sequence[Row]) -> list[str]:
    """Return the Markdown table of a data set, by surface and segment; published rows stand on top of all questions."""
    lines = [f"## {data.title}", ""]
    for surface, segment in dict.fromkeys((row["surface"], row["segment"]) for row in results):
        chosen = [row for row in results if (row["surface"], row["segment"]) == (surface, segment)]
        if len({row["surface"] for row in results}) > 1 or segment != "all":
            lines += [f"{surface}, {segment}: {chosen[0]['queries']} questions", ""]
        lines += [f"| | {' | '.join(data.metrics)} | seeds |", "| --- |" + " ---: |" * (len(data.metrics) + 1)]
        if segment == "all" and surface == results[0]["surface"]:
            for name, values in data.published.items():
                lines.append(f"| *{name}, published* | {' | '.join(f'{value:.4f}' for value in values)} | |")
        for row in chosen:
            cells = [_cell(row, metric) for metric in data.metrics]
            seeds = row["seeds"] if row["seeds"] else ""
            lines.append(f"| {row['name']} | {' | '.join(cells)} | {seeds} |")
        lines.append("")
    for aim in goals(data, results):
        value = "not measured" if aim["value"] is None else f"{aim['value']:.4f}"
        verdict = "reached" if aim["reached"] else "missed"
        lines.append(f"- Goal of {aim['name']}: {aim['metric']} above {aim['goal']:.4f}: {value}, {verdict}.")
    for claim in verdicts(data, results):
        said = {True: "holds", False: "does not hold", None: "was not measured"}[claim["holds"]]
        values = " against ".join("-" if value is None else f"{value:.4f}" for value in claim["values"])
        lines.append(f"- {claim['claim']}, {claim['metric']}: {values}, {said}.")
    return [*lines, ""]


def write(
    folder: Path,
    measured: Mapping[str, tuple[DataSet, list[Row]]],
    *,
    summary: Mapping[str, Any],
    environment: Mapping[str, Any],
    commands: Sequence[str],
) -> None:
    """Write ``report.md`` and ``report.json``.

    Args:
        folder: Where to.
        measured: Data set and averaged rows by name.
        summary: What the last line says.
        environment: Machine, versions, seeds.
        commands: What regenerates this.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["# Quality", "", "Full ranking, no sampled negatives; mean ± standard deviation over seeds.", ""]
    lines += [f"    {command}" for command in commands] + [""]
    for data, results in measured.values():
        lines += table(data, results)
    for name, said in summary.items():
        if "skipped" in said:
            lines += [f"{name} was skipped: {said['skipped']}", ""]
    lines += ["## Stands on", ""]
    lines += [f"- {key}: {value}" for key, value in environment.items()]
    (folder / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    everything = {
        "summary": summary,
        "environment": environment,
        "commands": commands,
        "rows": {name: results for name, (_, results) in measured.items()},
        "goals": {name: goals(data, results) for name, (data, results) in measured.items()},
        "claims": {name: verdicts(data, results) for name, (data, results) in measured.items()},
        "published": {name: data.published for name, (data, _) in measured.items()},
    }
    (folder / "report.json").write_text(json.dumps(everything, indent=2) + "\n", encoding="utf-8")


def _cell(row: Row, metric: str) -> str:
    if row["seeds"] and row["seeds"] > 1:
        return f"{row[metric]:.4f} ± {row[f'{metric} ±']:.4f}"
    return f"{row[metric]:.4f}"
