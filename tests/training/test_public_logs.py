"""The public logs, where somebody has them: the published counts, and that what is learned from them is worth it.

They are looked for in the folder named by ROOMREC_DATASETS, else in shared/datasets beside the checkout; a log that is
not there is skipped.
"""

import os
from pathlib import Path

import pytest

from roomrec.sequences.dataset import TEST_SPLIT, TRAIN_SPLIT, VALIDATION_SPLIT, ProcessedDataset
from tests.runs import config_of
from training import evaluate, preprocess, train

DATASETS = Path(os.environ.get("ROOMREC_DATASETS") or Path(__file__).parents[3] / "shared" / "datasets")


EPOCHS = 8
"""Of Beauty: far from the best that is possible, enough to tell that something is learned."""


def log(*parts: str) -> str:
    """Where a log lies."""
    path = DATASETS.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(parts)} is not here; ROOMREC_DATASETS names the folder of public logs")
    return str(path)


def prepare(folder: Path, source: str, path: str) -> tuple[dict, ProcessedDataset]:
    """Run the job with its defaults."""
    summary = preprocess.run(
        config_of("preprocess", source=source, **{"source.path": path, "output_dir": folder, "name": "log"})
    )
    return summary, ProcessedDataset.open(folder / "log")


def events_of(summary: dict) -> tuple[int, int, int]:
    """Read, accepted, in sequences."""
    return tuple(summary["events"][name] for name in ("read", "accepted", "in_sequences"))


def targets_of(dataset: ProcessedDataset) -> tuple[int, int, int]:
    """Labels that train, validate and test."""
    histories = dataset.histories
    return tuple(
        int((histories.target & (histories.split == split)).sum())
        for split in (TRAIN_SPLIT, VALIDATION_SPLIT, TEST_SPLIT)
    )


@pytest.mark.parametrize(
    ("parts", "users", "items", "actions"),
    [
        (("beauty", "Beauty.txt"), 22_363, 12_101, 198_502),
        (("ml1m", "ml-1m_sas_order.txt.gz"), 6_040, 3_416, 999_611),
    ],
)
def test_leave_one_out_logs(tmp_path: Path, parts: tuple[str, ...], users: int, items: int, actions: int) -> None:
    summary, dataset = prepare(tmp_path, "s3rec_text", log(*parts))
    assert (summary["users"], summary["products"], summary["sequences"]) == (users, items, users)
    assert events_of(summary) == (actions, actions, actions)
    assert targets_of(dataset) == (actions - 2 * users, users, users)
    assert dataset.filter_seen


def test_gowalla(tmp_path: Path) -> None:
    summary, dataset = prepare(tmp_path, "gowalla", log("gowalla"))
    assert (summary["users"], summary["products"]) == (29_858, 40_981)
    assert events_of(summary) == (810_128 + 217_242,) * 3
    train_labels, validation_labels, test_labels = targets_of(dataset)
    assert (train_labels + validation_labels, test_labels) == (810_128, 217_242)
    assert not dataset.ordered


def test_retailrocket(tmp_path: Path) -> None:
    summary, dataset = prepare(tmp_path, "retailrocket", log("retailrocket"))
    assert (summary["users"], summary["products"]) == (2_174, 30_113)
    assert summary["events"]["accepted_by_type"] == {
        "product_click": 75_374,
        "add_to_cart": 12_456,
        "order": 9_551 + 2_174,
    }
    assert targets_of(dataset)[2] == 2_174
    # asked for are only products that the user had not touched, in validation as in test
    histories = dataset.histories
    for split in ("validation", "test"):
        queries = dataset.queries(split)
        starts = histories.offsets[queries.row]
        for start, stop, target in zip(starts, queries.stop, queries.targets, strict=True):
            assert target not in histories.item_index[start:stop]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sasrec_learns_beauty_in_a_few_epochs(tmp_path: Path) -> None:
    prepare(tmp_path / "processed", "s3rec_text", log("beauty", "Beauty.txt"))
    train.run(config_of("train", dataset="log", data_dir=tmp_path, name="run", trainer="cpu", max_epochs=EPOCHS))
    measured = evaluate.run(config_of("evaluate", run="run", data_dir=tmp_path)).summary
    # measured: .0553 / .0298 beside popularity's .0110 / .0053
    assert measured["hr@10"] > 0.04
    assert measured["ndcg@10"] > 0.02
    assert measured["ndcg@10"] > 3 * measured["popularity_ndcg@10"]
