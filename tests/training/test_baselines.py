"""Baselines on tables small enough to compute by hand."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from scipy import sparse

from roomrec.errors import ConfigurationError
from roomrec.sequences.dataset import ProcessedDataset
from tests.worlds import write_shop
from training.configuration import CONFIGS
from training.evaluation.baselines import make_baselines
from training.evaluation.content import ContentBased, item_content
from training.evaluation.ease import ByItems, ByUsers, Ease
from training.evaluation.factorization import Als, Bpr
from training.evaluation.interactions import Interactions, keep_highest
from training.evaluation.item_knn import ItemKnn, similarities
from training.evaluation.ranking import rank_queries
from training.evaluation.user_knn import UserKnn
from training.settings import mistakes_in

PAIRS = [[0, 1, 4, 4]] * 4 + [[2, 3, 4, 4]] * 4 + [[0, 5, 4, 1], [2, 5, 4, 3]]
"""0 and 1 go together, and 2 and 3; the last two events of each user are held out. Product p is item p + 2."""


def shop(path: Path, users: list[list[int]], *, num_products: int, **summary: object) -> ProcessedDataset:
    folder = write_shop(path, users, num_products=num_products, filter_seen=True)
    file = folder / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | summary))
    return ProcessedDataset.open(folder)


def scores_of(scorer, dataset: ProcessedDataset, *, query: int, split: str = "test") -> list[float]:
    """Scores of items 2, 3, ... by both ways of asking, which agree; ties broken far behind the comma."""
    queries = dataset.queries(split)
    asked = scorer.prepare(queries)
    items = np.arange(2, len(dataset.items.kind))
    row = asked.row(query, items)
    assert np.allclose(asked.matrix(items)[query], row, atol=1e-6)
    return np.round(row, 4).tolist()


def test_interactions_weigh_by_the_newest_event(tmp_path):
    # the history of the test question is all but the last: 0 (3 events back), 1, 0
    dataset = shop(tmp_path / "s", [[0, 1, 0, 2]], num_products=3)
    interactions = Interactions(dataset)
    queries = dataset.queries("test")
    assert interactions.train.toarray().tolist() == [[0, 0, 1, 1, 0]]
    assert interactions.of(queries).toarray().tolist() == [[0, 0, 1, 1, 0]]
    assert interactions.of(queries, half_life=1.0).toarray().tolist() == [[0, 0, 1, 0.5, 0]]
    unordered = Interactions(shop(tmp_path / "bag", [[0, 1, 0, 2]], num_products=3, ordered=False))
    assert unordered.of(queries, half_life=1.0).toarray().tolist() == [[0, 0, 1, 1, 0]]


def test_keep_highest_keeps_nothing_below_zero():
    matrix = sparse.csr_matrix([[3.0, 0, -1.0, 2.0], [0, 0, 0, 0], [1.0, 1.0, 4.0, 0]])
    assert keep_highest(matrix, 2).toarray().tolist()[:2] == [[3, 0, 0, 2], [0, 0, 0, 0]]
    assert sorted(keep_highest(matrix, 2).toarray()[2].tolist()) == [0, 0, 1, 4]


def test_item_similarity_by_hand():
    # user 0 has both (weight 1/sqrt 2), users 1 and 2 only the first (weight 1)
    train = sparse.csr_matrix(np.array([[1, 1], [1, 0], [1, 0]], dtype=np.float32))
    together, first, second = 2**-0.5, 2 + 2**-0.5, 2**-0.5
    cosine = together / math.sqrt(first * second)
    similarity = similarities(train, num_neighbours=2, shrink=0.0).toarray()
    assert np.allclose(similarity, [[1, cosine], [cosine, 1]])
    shrunk = similarities(train, num_neighbours=2, shrink=1.0).toarray()
    assert np.allclose(shrunk[0, 1], together / (math.sqrt(first * second) + 1))
    # each candidate (column) keeps its own best: itself
    assert np.allclose(similarities(train, num_neighbours=1, shrink=0.0).toarray(), np.eye(2))


@pytest.mark.parametrize(
    "scorer",
    [
        ItemKnn,
        UserKnn,
        Ease,
        lambda dataset: Als(dataset, embedding_dim=2),
        lambda dataset: Bpr(dataset, embedding_dim=4),
    ],
)
def test_everybody_finds_what_goes_together(tmp_path, scorer):
    dataset = shop(tmp_path / "s", PAIRS, num_products=6)
    queries = dataset.queries("test")
    ranking = rank_queries(dataset, queries, scorer(dataset), num_shown=1)
    assert ranking.ranks[-2:].tolist() == [1, 1]
    assert ranking.shown[-2:, 0].tolist() == [3, 5]


def test_user_knn_by_hand(tmp_path):
    # train: u0 {0, 1}, u1 {0, 2}, u2 {1}; u2's question has the history 1, 3
    dataset = shop(tmp_path / "s", [[0, 1, 3, 3], [0, 2, 3, 3], [1, 3, 0]], num_products=4)
    # rarity: 0 and 1 count 1/sqrt 2, 2 counts 1, 3 is not in the train split and counts 1
    similarity = 0.5 / (1.0 * math.sqrt(0.5 + 1.0))  # with u0: only 1 is shared; u2 itself does not count
    expected = [similarity, similarity, 0, 0]
    assert scores_of(UserKnn(dataset, half_life=None), dataset, query=2) == pytest.approx(expected, abs=1e-3)


def test_ease_by_hand():
    # X'X + 1 = [[3, 1], [1, 2]], inverse [[2, -1], [-1, 3]] / 5, so B = [[0, 1/3], [1/2, 0]]
    train = sparse.csr_matrix(np.array([[1, 1], [1, 0]], dtype=np.float32))
    assert np.allclose(ByItems(train, 1.0).weights, [[0, 1 / 3], [1 / 2, 0]])
    assert np.allclose(ByItems(train, 1.0).scores(train), [[1 / 2, 1 / 3], [0, 1 / 3]])
    # by users the same numbers come out of another matrix
    assert np.allclose(ByUsers(train, 1.0).scores(train), [[1 / 2, 1 / 3], [0, 1 / 3]], atol=1e-6)


def test_ease_is_cut_to_the_popular_where_both_sides_are_large(tmp_path):
    dataset = shop(tmp_path / "s", PAIRS, num_products=6)
    whole, cut = scores_of(Ease(dataset), dataset, query=8), scores_of(Ease(dataset, max_size=4), dataset, query=8)
    assert whole[5] != 0 or whole[1] > 0
    assert cut[4:] == [0, 0]  # product 4 is not in the train split, 5 is the least popular


def test_als_folds_in_what_happened_since(tmp_path):
    # the user of the last question trained with 5 only, then touched 2
    dataset = shop(tmp_path / "s", [*PAIRS, [5, 2, 3]], num_products=6)
    scores = scores_of(Als(dataset, embedding_dim=4), dataset, query=10)
    assert scores[3] > max(scores[0], scores[1])


def test_a_seed_gives_the_same_factors_twice(tmp_path):
    dataset = shop(tmp_path / "s", PAIRS, num_products=6)
    for scorer in (Als, Bpr):
        once, again = (scores_of(scorer(dataset, embedding_dim=4, seed=3), dataset, query=0) for _ in range(2))
        assert once == again


def test_content_by_hand(live_dataset):
    dataset = ProcessedDataset.open(live_dataset)
    content = item_content(dataset.items).toarray()
    # rooms are known by their category alone, two of them: a room resembles its own kind and no other
    assert content[:2].any() == False  # noqa: E712
    assert np.allclose(content[2] @ content[2:5].T, [1, 0, 1])
    queries = dataset.queries("test")
    row = ContentBased(dataset).prepare(queries).row(0, np.array([2, 3]))
    liked = int(dataset.items.category[queries.targets[0]] == dataset.items.category[3])
    assert np.round(row, 4).tolist() == pytest.approx([1 - liked, liked], abs=1e-4)


def test_all_baselines_that_make_sense_are_made(live_dataset, markov_dataset):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("evaluate", overrides=["baselines=all", "baselines.bpr.num_iterations=2"])
    names = ["popularity", "recent_popularity", "item_knn", "user_knn", "als", "bpr", "ease", "content"]
    assert [scorer.name for scorer in make_baselines(config.baselines, ProcessedDataset.open(live_dataset))] == names
    shopping = make_baselines(config.baselines, ProcessedDataset.open(markov_dataset))
    assert [scorer.name for scorer in shopping] == [
        name for name in names if name not in ("recent_popularity", "content")
    ]


@pytest.mark.parametrize(
    ("scorer", "settings", "message"),
    [
        (ItemKnn, {"num_neighbours": 0}, "num_neighbours must be at least 1, received 0"),
        (UserKnn, {"num_neighbours": 0}, "num_neighbours must be at least 1, received 0"),
        (Ease, {"regularization": 0.0}, r"regularization must be positive, received 0\.0"),
        (Ease, {"max_size": 0}, "max_size must be at least 1, received 0"),
        (ContentBased, {}, "the items of this dataset have no side features"),
    ],
)
def test_mistakes_are_named(markov_dataset, scorer, settings, message):
    with pytest.raises(ConfigurationError, match=f"baselines: {message}"), mistakes_in("baselines"):
        scorer(ProcessedDataset.open(markov_dataset), **settings)
