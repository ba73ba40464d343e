"""The simulator's truth as a scorer, and what it needs."""

import numpy as np
import pytest

from roomrec.errors import DatasetError
from roomrec.metrics import ndcg
from roomrec.sequences.dataset import ProcessedDataset
from tests.runs import config_of
from training import preprocess, simulate
from training.evaluation.popularity import Popularity
from training.evaluation.ranking import rank_queries
from training.evaluation.segments import is_cold
from training.evaluation.truth import Truth


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    settings = {"world": "tiny", "output_dir": folder / "events", "truth_dir": folder / "truth"}
    simulate.run(config_of("simulate", **settings, **{"world.num_viewers": 80, "world.new_streamer_rate": 0.3}))
    preprocess.run(
        config_of("preprocess", source="native", name="log", output_dir=folder, **{"source.path": folder / "events"})
    )
    return folder, ProcessedDataset.open(folder / "log")


def test_nobody_ranks_better_than_the_truth(world):
    folder, dataset = world
    queries = dataset.queries("test")
    truth, popular = (
        ndcg(rank_queries(dataset, queries, scorer, num_shown=0).ranks, queries.target_offsets, k=10).mean()
        for scorer in (Truth(dataset, folder / "truth"), Popularity(dataset))
    )
    assert truth > popular + 0.05


def test_a_viewer_nobody_knows_gets_what_viewers_like_on_average(world):
    folder, dataset = world
    truth = Truth(dataset, folder / "truth")
    queries = dataset.queries("test")
    items, at_ms = queries.targets[:3], int(queries.at_ms[0])
    names = [truth._item_ids[item] for item in items]
    theirs = [truth._world.true_utility(one, names, at_ms) for one in truth._world.viewer_ids(at_ms)[:64]]
    assert truth.utility(1, at_ms, items) == pytest.approx(np.mean(theirs, axis=0), abs=1e-5)


def test_a_room_is_cold_if_nobody_chose_its_streamer_before(world):
    _, dataset = world
    queries = dataset.queries("test")
    cold = is_cold(dataset, queries)
    chosen = dataset.histories.target & (dataset.histories.split == 0)
    before = set(dataset.histories.item_index[chosen].tolist())
    streamers = {int(dataset.items.popularity_index[item]) for item in before}
    assert cold.any()
    assert not cold.all()
    expected = [int(dataset.items.popularity_index[target]) not in streamers for target in queries.targets]
    unknown = dataset.items.popularity_index[queries.targets] == 0
    assert (cold | unknown).tolist() == (np.array(expected) | unknown).tolist()


def test_a_folder_without_truth_is_named(world, tmp_path):
    with pytest.raises(DatasetError, match=r"world\.json does not exist: simulate with"):
        Truth(world[1], tmp_path)
