"""Measures baselines, runs and blends on one data set's questions; what is measured is kept."""

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from roomrec.sequences.dataset import ProcessedDataset
from scripts.bench_quality.fingerprints import (
    MEASURING_CODE,
    code_fingerprint,
    composed,
    files_fingerprint,
    fingerprint,
)
from scripts.bench_quality.runs import Asked
from scripts.bench_quality.table import DataSet
from training.configuration import CONFIGS
from training.evaluation.baselines import make_baselines
from training.evaluation.candidates import Candidates
from training.evaluation.encoder_scorer import EncoderScorer
from training.evaluation.hybrid import make_hybrids
from training.evaluation.ranking import Scorer, rank_queries
from training.evaluation.report import measure
from training.evaluation.trained_run import open_run
from training.evaluation.translated import Translated
from training.evaluation.truth import Truth

Row = dict[str, Any]


class Measuring:
    """All scorers of a data set, asked the same questions.

    Args:
        data: The row of the table.
        work: Where datasets and runs lie, and where measurements are kept.
        split: ``test``, or ``validation`` while choosing.
        tell: Told what is being measured.
    """

    def __init__(self, data: DataSet, *, work: Path, split: str, tell: Callable[[str], None]) -> None:
        self._data = data
        self._work = work
        self._split = split
        self._tell = tell
        self._folder = work / "processed" / data.asked_on
        self._dataset = ProcessedDataset.open(self._folder)
        self._code = code_fingerprint(MEASURING_CODE)
        self._fitted: dict[str, Scorer] = {}

    def baselines(self) -> list[Row]:
        """Measure every baseline, and the truth where it is known."""
        config = composed("evaluate", ["baselines=all", "run=none"])["baselines"]
        names = list(config)
        if self._data.truth:
            names.append("truth")
            config["truth"] = files_fingerprint(self._work / "truth" / self._data.truth)
        rows: list[Row] = []
        for name in names:
            rows += self._kept(name, [config.get(name)], lambda name=name: self._one(name))
        return rows

    def run(self, asked: Asked) -> list[Row]:
        """Measure a finished run, and its blends with baselines, fitted on the validation split."""
        blended = self._data.hybrid if asked.dataset == self._data.asked_on else []
        settings = composed("evaluate", ["baselines=all", "run=none"])
        described = [
            asked.wanted,
            asked.code,
            blended,
            {name: settings["baselines"][name] for name in blended},
            settings["hybrid"],
        ]
        return self._kept(asked.name, described, lambda: self._measure(self._scorers_of(asked, blended)))

    @cached_property
    def _questions(self) -> tuple[Any, Candidates]:
        queries = self._dataset.queries(self._split)
        return queries, Candidates(self._dataset, queries)

    def _one(self, name: str) -> list[Row]:
        scorer = self._baseline(name)
        return [] if scorer is None else self._measure([scorer])

    def _baseline(self, name: str) -> Scorer | None:
        """Fit a baseline once; None if it makes no sense here."""
        if name not in self._fitted:
            self._tell(f"fits {name}")
            if name == "truth":
                self._fitted[name] = Truth(self._dataset, self._work / "truth" / str(self._data.truth))
            else:
                with initialize_config_dir(str(CONFIGS), version_base="1.3"):
                    config = compose("evaluate", overrides=["baselines=all", "run=none"])
                made = make_baselines({name: config.baselines[name]}, self._dataset)
                if not made:
                    return None
                self._fitted[name] = made[0]
        return self._fitted[name]

    def _scorers_of(self, asked: Asked, blended: Sequence[str]) -> list[Scorer]:
        trained = open_run(self._work / "runs" / asked.name, data_dir=self._work)
        encoders = EncoderScorer(
            trained.dataset,
            user_encoder=trained.model.user_encoder,
            item_encoder=trained.model.item_encoder,
            max_sequence_length=trained.max_sequence_length,
        )
        if asked.dataset != self._data.asked_on:
            return [Translated(encoders, asked_on=self._dataset, knows=trained.dataset)]
        baselines = [scorer for scorer in map(self._baseline, blended) if scorer is not None]
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            config = compose("evaluate", overrides=["run=none"]).hybrid
        config.parts = [scorer.name for scorer in baselines]
        return [encoders, *make_hybrids(config, self._dataset, model=encoders, baselines=baselines)]

    def _measure(self, scorers: Sequence[Scorer]) -> list[Row]:
        queries, candidates = self._questions
        rankings = {}
        for scorer in scorers:
            self._tell(f"asks {scorer.name}")
            rankings[scorer.name] = rank_queries(
                self._dataset, queries, scorer, num_shown=max(self._data.ks), candidates=candidates
            )
        return measure(self._dataset, queries, candidates, rankings, ks=self._data.ks)

    def _kept(self, name: str, described: Any, compute: Callable[[], list[Row]]) -> list[Row]:
        """Return what was measured before, if nothing that matters has changed; else measure and keep it."""
        file = self._work / "measured" / self._data.name / f"{name}-{self._split}.json"
        wanted = fingerprint(described, self._data.ks, self._code, self._dataset_fingerprint)
        if file.exists():
            kept = json.loads(file.read_text())
            if kept["wanted"] == wanted:
                rows: list[Row] = kept["rows"]
                return rows
        rows = compute()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"wanted": wanted, "rows": rows}))
        return rows

    @cached_property
    def _dataset_fingerprint(self) -> str:
        from roomrec.sequences.fingerprint import dataset_fingerprint

        return dataset_fingerprint(self._folder)
