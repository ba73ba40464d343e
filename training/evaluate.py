"""Measures a trained run by full ranking: ``python -m training.evaluate run=sasrec-beauty``."""

import json
import sys
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import hydra
from omegaconf import DictConfig
from rich.console import Console

from roomrec.errors import ConfigurationError
from roomrec.sequences.dataset import SPLITS
from roomrec.sequences.fingerprint import dataset_fingerprint
from training.configuration import check_command_line, check_missing, one_sentence_errors
from training.settings import check_depths, check_whole_number, mistakes_in, require_run

NARROWEST_TABLE: Final = 100
"""Characters a table needs, also where the output goes to a file."""


class EvaluationResult(NamedTuple):
    """What an evaluation came to."""

    folder: Path
    """where the report lies: metrics.json, table.md, plot.png"""
    rows: list[dict[str, Any]]
    """one for each surface, segment and scorer"""
    summary: dict[str, Any]
    """headline numbers"""


def run(config: DictConfig) -> EvaluationResult:
    """Evaluate as configured.

    Args:
        config: ``configs/evaluate.yaml``, composed.

    Returns:
        The rows and where the report lies.

    Raises:
        ConfigurationError: If there is no such run, or ``split``, ``ks`` or ``headline_k`` makes no sense.
        DatasetError: If the dataset is missing, unfinished, or another than the run was trained on.
    """
    # Everything that imports torch waits until the settings are known to be right.
    check_missing(config)
    check_settings(config)
    run_folder = require_run(config)
    from training.evaluation.baselines import make_baselines
    from training.evaluation.candidates import Candidates
    from training.evaluation.encoder_scorer import EncoderScorer
    from training.evaluation.hybrid import make_hybrids
    from training.evaluation.plot import plot_report
    from training.evaluation.ranking import rank_queries
    from training.evaluation.report import headline, markdown, measure
    from training.evaluation.segments import is_repeat
    from training.evaluation.trained_run import choose_device, open_run

    began = time.monotonic()
    trained = open_run(run_folder, data_dir=Path(config.data_dir), dataset=config.dataset)
    dataset = trained.dataset
    queries = dataset.queries(config.split, max_queries=config.max_queries)
    candidates = Candidates(dataset, queries)
    device = choose_device(config.device)
    model = EncoderScorer(
        dataset,
        user_encoder=trained.model.user_encoder.to(device),
        item_encoder=trained.model.item_encoder.to(device),
        max_sequence_length=trained.max_sequence_length,
        device=device,
    )
    with mistakes_in("baselines"):
        baselines = make_baselines(config.get("baselines") or {}, dataset)
    with mistakes_in("hybrid"):
        hybrids = make_hybrids(config.hybrid, dataset, model=model, baselines=baselines)
    rankings = {
        scorer.name: rank_queries(dataset, queries, scorer, num_shown=max(config.ks), candidates=candidates)
        for scorer in (model, *baselines, *hybrids)
    }
    rows = measure(dataset, queries, candidates, rankings, ks=list(config.ks))

    folder = Path(config.data_dir) / "reports" / report_name(trained.folder.name, config.split)
    folder.mkdir(parents=True, exist_ok=True)
    title = f"{trained.folder.name}: {config.split} split of {dataset.summary.get('name', trained.dataset_folder.name)}"
    (folder / "table.md").write_text(markdown(rows, title=title, ks=list(config.ks)), encoding="utf-8")
    plot_report(rows, folder / "plot.png", title=title, ks=list(config.ks), k=config.headline_k)
    summary = {
        "run": trained.folder.name,
        "dataset_fingerprint": dataset_fingerprint(trained.dataset_folder),
        "split": config.split,
        **headline(rows, k=config.headline_k),
        "all_queries": len(queries.row),
        "repeat_share": round(float(is_repeat(dataset, queries).mean()), 4),
        "unavailable_targets": candidates.unavailable_targets,
        "seconds": round(time.monotonic() - began, 1),
    }
    report = {"summary": summary, "ks": list(config.ks), "code_revision": trained.code_revision, "rows": rows}
    (folder / "metrics.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return EvaluationResult(folder, rows, summary)


def report_name(run_name: str, split: str) -> str:
    """Return the folder name of a report: the run's for the test split."""
    return run_name if split == "test" else f"{run_name}-{split}"


def check_settings(config: DictConfig) -> None:
    """Refuse settings that make no sense.

    Raises:
        ConfigurationError: With the key and what was received.
    """
    if config.split not in SPLITS:
        raise ConfigurationError(f"split is {config.split!r}: choose one of {', '.join(SPLITS)}")
    check_depths(config, "ks")
    check_whole_number(config, "max_queries", at_least=1, optional=True)
    check_whole_number(config, "hybrid.max_queries", at_least=1)
    if config.headline_k not in config.ks:
        raise ConfigurationError(f"headline_k is {config.headline_k}: expected one of ks, {list(config.ks)}")


@hydra.main(version_base="1.3", config_path="../configs", config_name="evaluate")
def main(config: DictConfig) -> None:
    """Evaluate, show the tables, and end with one line of JSON."""
    with one_sentence_errors():
        result = run(config)
        from training.evaluation.report import terminal_table

        console = Console(stderr=True)
        console.width = max(console.width, NARROWEST_TABLE)
        for surface in dict.fromkeys(row["surface"] for row in result.rows):
            console.print(terminal_table(result.rows, surface=surface, k=config.headline_k))
        console.print(f"{result.folder}: metrics.json, table.md, plot.png", soft_wrap=True, highlight=False)
        sys.stdout.write(json.dumps(result.summary) + "\n")


if __name__ == "__main__":
    check_command_line("evaluate")
    main()
