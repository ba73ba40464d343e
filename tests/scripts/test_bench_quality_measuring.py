"""Measurements of the quality table, on a small world: who stands in it, and what is kept."""

import json
import shutil

import pytest

from scripts.bench_quality.measuring import Measuring
from scripts.bench_quality.runs import Asked
from scripts.bench_quality.table import DataSet
from tests.runs import write_run


@pytest.fixture
def measuring(tmp_path, live_dataset):
    shutil.copytree(live_dataset, tmp_path / "processed" / "live")
    write_run(tmp_path, "beauty_sasrec-seed0", tmp_path / "processed" / "live")
    data = DataSet(
        name="live",
        title="A live world",
        needs=None,
        make=[],
        experiments=["beauty_sasrec"],
        asked_on="live",
        metrics=["ndcg@10"],
        goals={},
        also={},
        hybrid=["popularity", "item_knn"],
        truth=None,
        published={},
        better=[],
    )
    told: list[str] = []
    return Measuring(data, work=tmp_path, split="test", tell=told.append), told


def test_models_stand_beside_blends_and_what_is_measured_is_kept(measuring, tmp_path):
    measured, told = measuring
    asked = Asked("beauty_sasrec", 0, [], "live", "wanted", "code")
    rows = measured.run(asked)
    assert [row["scorer"] for row in rows if row["segment"] == "all"] == ["model", "hybrid_weighted", "hybrid_learned"]
    assert {"ndcg@10", "hr@10"} <= rows[0].keys()
    told.clear()
    assert measured.run(asked) == rows
    assert told == []
    (kept,) = (tmp_path / "measured" / "live").iterdir()
    assert json.loads(kept.read_text())["rows"] == rows
    measured.run(asked._replace(wanted="another"))
    assert "asks model" in told
