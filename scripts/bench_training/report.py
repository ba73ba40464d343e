"""The report: everything as JSON, the tables as Markdown."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.bench_training.comparison import still_improving

_SPEED = (
    ("sequences/s", "sequences_per_s", "{:.0f}"),
    ("sequences/CPU s", "sequences_per_cpu_s", "{:.0f}"),
    ("rows/s", "rows_per_s", "{:.0f}"),
    ("tokens/s", "tokens_per_s", "{:.0f}"),
    ("s a pass", "seconds_per_pass", "{:.0f}"),
    ("padding", "padding_share", "{:.0%}"),
    ("peak MB", "peak_memory_mb", "{:.0f}"),
    ("spread", "spread", "{:.0%}"),
)

_MEANING = """\
- *sequences/s*: user sequences as the peers count them, one a user with its newest `length` events. RoomRec cuts a long
  history into several windows, so that every event is a target; its windows count by their targets. *rows/s* is what
  each library calls a sequence: a user, or a window.
- *tokens/s*: events predicted from an earlier one. RePlay also predicts a short history's first event from padding,
  which is not counted. *s a pass*: seconds for as many as all training events have. *padding*: share of the places
  given to the encoder at which no loss is taken.
- *CPU s*: of the process, all threads; steadier than the clock where others use the machine.
- *peak MB*: high-water mark of resident memory of the training process, libraries and preparation included.
- *spread*: between the fastest and the slowest segment. Rates are medians over segments.
- Evaluation is on nobody's clock. All are scored by one scorer: all items ranked, the user's earlier items removed.
"""


def write(found: dict[str, Any], machine: dict[str, Any], folder: Path) -> None:
    """Write ``report.json`` and ``report.md`` of a comparison.

    Args:
        found: By data set what was measured, and under ``comparison`` what follows.
        machine: What it ran on and how it was asked.
        folder: Made if need be.
    """
    lines = ["# Training beside two peers", "", *_machine(machine), _MEANING, *_revisions(found)]
    for data, parts in found.items():
        lines += [f"## {data}", "", "```json", json.dumps(parts["comparison"], indent=2), "```", ""]
        for loss, contenders in parts["speed"].items():
            lines += [f"### Speed and memory, {loss}", ""]
            rows = [
                [name, *(_cell(pattern, _with_spread(kept).get(key)) for _, key, pattern in _SPEED)]
                for name, kept in contenders.items()
            ]
            lines += [*_table(["", *(title for title, _, _ in _SPEED)], rows), ""]
        if parts["quality"]:
            lines += ["### Quality over time, softmax", "", *_quality(parts["quality"]), ""]
        lines += ["### Configured", ""]
        for name, described in _described(parts).items():
            lines += [f"- **{name}**: {described['described']}; {described['versions']}"]
        lines += [""]
    _write(folder, "report", {"machine": machine, "data": found}, lines)


def of_several_revisions(found: dict[str, Any]) -> str | None:
    """Return a warning where RoomRec's figures were not all measured with the same code, else None.

    Args:
        found: As ``write`` takes it.
    """
    measured = _by_revision(found)
    if len(measured) < 2:
        return None
    names = {name for figures in measured.values() for _, name in figures}
    return (
        f"RoomRec's figures were measured with {len(measured)} revisions of its code ({', '.join(measured)}): "
        f"--again {','.join(sorted(names))} measures them anew"
    )


def write_alone(found: dict[str, Any], machine: dict[str, Any], folder: Path) -> None:
    """Write ``growth.json``, ``growth.md`` and the same for ``profile``, as far as measured."""
    if "growth" in found:
        lines = ["# How seconds of an epoch grow", "", *_machine(machine)]
        for loss, axes in found["growth"].items():
            for axis, points in axes.items():
                titles = [axis, "events", "items", "length", "s an epoch", "tokens/s", "peak MB"]
                keys = ("value", "events", "items", "length", "seconds_per_epoch", "tokens_per_s", "peak_memory_mb")
                rows = [
                    [_cell("{:.4g}" if key == "seconds_per_epoch" else "{:.0f}", p[key]) for key in keys]
                    for p in points
                ]
                lines += [f"## {axis}, {loss}", "", *_table(titles, rows), ""]
        _write(folder, "growth", {"machine": machine, "growth": found["growth"]}, lines)
    if "profile" in found:
        lines = ["# Where the time of an epoch goes", "", *_machine(machine)]
        for name, profile in found["profile"].items():
            shares = {key: value for key, value in profile.items() if not isinstance(value, str)}
            lines += [f"## {name}", "", "```json", json.dumps(shares, indent=2), "```", ""]
            for part in ("torch_profiler", "cprofile"):
                lines += [f"### {part}", "", "```", profile[part], "```", ""]
        _write(folder, "profile", {"machine": machine, "profile": found["profile"]}, lines)


def _write(folder: Path, name: str, everything: dict[str, Any], lines: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(everything, indent=2) + "\n")
    (folder / f"{name}.md").write_text("\n".join(lines) + "\n")


def _machine(machine: dict[str, Any]) -> list[str]:
    return [f"- {name}: {value}" for name, value in machine.items()] + [""]


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(titles) + " |",
        "| " + " | ".join("---" for _ in titles) + " |",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def _by_revision(found: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Figures of RoomRec (what, contender) by the revision they were measured with."""
    measured: dict[str, list[tuple[str, str]]] = {}
    for data, parts in found.items():
        everywhere = [(f"speed {loss}", contenders) for loss, contenders in parts["speed"].items()]
        for what, contenders in [*everywhere, ("quality", parts["quality"])]:
            for name, kept in contenders.items():
                if "roomrec" in kept["versions"]:
                    revision = kept["versions"]["roomrec"] or "unknown"
                    measured.setdefault(revision, []).append((f"{data} {what}", name))
    return measured


def _revisions(found: dict[str, Any]) -> list[str]:
    measured = _by_revision(found)
    if not measured:
        return []
    warning = of_several_revisions(found)
    lines = [
        f"- `{revision}`: {', '.join(f'{what} ({name})' for what, name in figures)}"
        for revision, figures in measured.items()
    ]
    return [
        "## RoomRec's code",
        "",
        *([f"**{warning}.**", ""] if warning else []),
        "Revision of each figure; `+changes`: and changes that were not committed.",
        "",
        *lines,
        "",
    ]


def _cell(pattern: str, value: Any) -> str:
    return "" if value is None else pattern.format(value)


def _with_spread(kept: dict[str, Any]) -> dict[str, Any]:
    rates = [segment["targets"] / segment["seconds"] for segment in kept["segments"]]
    return kept | {"spread": max(rates) / min(rates) - 1.0}


def _quality(runs: dict[str, Any]) -> list[str]:
    titles = [
        "",
        "trained s",
        "finished",
        "best after s",
        "on the curve",
        "validation NDCG@10",
        "test NDCG@10",
        "test HR@10",
    ]
    rows = []
    for name, run in runs.items():
        seconds, _, best = max(run["curve"], key=lambda point: point[2], default=(None, None, None))
        quality = run["quality"]
        rows.append(
            [
                name,
                _cell("{:.0f}", run["clock"]),
                "by itself" if run["ended_itself"] else "time was up",
                _cell("{:.0f}", seconds),
                _cell("{:.4f}", best),
                *(_cell("{:.4f}", quality.get(key)) for key in ("validation_ndcg@10", "test_ndcg@10", "test_hr@10")),
            ]
        )
    curves = [
        f"- {name}: " + ", ".join(f"{seconds:.0f} s {value:.4f}" for seconds, _, value in run["curve"])
        for name, run in runs.items()
    ]
    cut_off = [
        f"- **{name} was still improving when its {run['minutes']:g} minutes were over**: its best is the best so far, "
        f"and so is the time to it."
        for name, run in runs.items()
        if still_improving(run)
    ]
    return [*_table(titles, rows), "", *([*cut_off, ""] if cut_off else []), *curves]


def _described(parts: dict[str, Any]) -> dict[str, Any]:
    everywhere = [*parts["speed"].items(), ("quality", parts["quality"])]
    return {f"{name}, {where}": kept for where, contenders in everywhere for name, kept in contenders.items()}
