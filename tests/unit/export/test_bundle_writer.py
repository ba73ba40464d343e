"""What a bundle holds besides the encoders."""

from roomrec.export.bundle_writer import popularity
from roomrec.sequences.dataset import ProcessedDataset
from tests.worlds import write_shop


def test_popularity_counts_the_train_split_highest_first(tmp_path):
    # the last two of each user are held out
    users = [[0, 0, 2, 1, 1], [2, 1, 0], [0, 2, 1, 1]]
    dataset = ProcessedDataset.open(write_shop(tmp_path / "shop", users, num_products=4))
    assert popularity(dataset).to_pylist() == [
        {"kind": "product", "id": "p0", "count": 3},
        {"kind": "product", "id": "p2", "count": 3},
    ]


def test_a_live_log_has_popular_streamers_and_categories(live_dataset):
    counts = popularity(ProcessedDataset.open(live_dataset))
    kinds = counts["kind"].to_pylist()
    assert kinds == ["streamer"] * 6 + ["category"] * 2
    # 200 viewers, two rooms an evening, four evenings in train, half of them like either category
    assert counts["count"].to_pylist()[-2:] == [800, 800]
    assert sum(counts["count"].to_pylist()[:6]) == 1600
