"""Tables split over two processes = the plain model on both processes' batches together, step for step."""

import json
from pathlib import Path

import pytest

from tests import worlds
from tests.processes import run_jobs


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return worlds.markov_chain_world(tmp_path_factory.mktemp("shop") / "dataset", num_products=40)


def compare(dataset: Path, folder: Path, *cases: tuple[str, str, str]) -> None:
    out = {case: folder / "-".join(case) for case in cases}
    run_jobs(
        *(
            {
                "num_processes": 2,
                "call": "tests.sharded_jobs:compare_with_plain",
                "with": {
                    "dataset": str(dataset),
                    "out": str(out[case]),
                    "model": case[0],
                    "sharding": case[1],
                    "optimizer": case[2],
                    "num_steps": 4,
                },
            }
            for case in cases
        )
    )
    for case in cases:
        found = json.loads(out[case].read_text())
        for ours, theirs in found["losses"]:
            assert ours == pytest.approx(theirs, rel=1e-5), case
        assert found["num_tables"] >= 1
        assert max(found["distance"].values()) < 1e-5, case
        assert found["losses"][-1] != found["losses"][0]


@pytest.mark.slow
def test_split_by_rows_equals_the_plain_model(dataset, tmp_path):
    compare(dataset, tmp_path, ("two_tower", "row_wise", "rowwise_adagrad"))


@pytest.mark.slow
def test_every_split_and_every_optimizer_equals_the_plain_model(dataset, tmp_path):
    compare(
        dataset,
        tmp_path,
        ("two_tower", "table_wise", "rowwise_adagrad"),
        ("two_tower", "row_wise", "sgd"),
        ("two_tower", "row_wise", "adagrad"),
        # A sequence model looks a table up twice in a step, so Adagrad, which updates once for each, is another one.
        ("sasrec", "row_wise", "sgd"),
        ("sasrec", "table_wise", "sgd"),
    )
