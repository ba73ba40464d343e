"""One scorer asked another's questions: the same users and moments, other histories."""

import numpy as np
import pytest

from roomrec.errors import DatasetError
from roomrec.events.schema import EVENT_TYPE_CODES
from roomrec.sequences.dataset import ProcessedDataset
from tests.runs import config_of
from tests.worlds import write_shop
from training import preprocess
from training.evaluation.translated import Translated

EVENTS = """visitorid,event,itemid,timestamp
1,view,10,1000
1,transaction,11,2000
1,view,12,3000
2,view,10,1000
2,transaction,10,2000
2,addtocart,12,3000
"""


class Asked:
    """Remembers what it was asked."""

    name = "asked"

    def prepare(self, queries):
        self.queries = queries
        return self


@pytest.fixture
def both(tmp_path) -> tuple[ProcessedDataset, ProcessedDataset]:
    """A shop's log with all behaviours, and with purchases alone; a purchase of each user is held out."""
    log = tmp_path / "log"
    log.mkdir()
    (log / "events.csv").write_text(EVENTS)
    (log / "test_buy.tsv").write_text("user\titem\n1\t12\n2\t11\n")
    settings = {"source": "retailrocket", "source.path": log, "output_dir": tmp_path, "splitting.validation_share": 0}
    preprocess.run(config_of("preprocess", name="all", **settings))
    preprocess.run(config_of("preprocess", name="purchases", **settings, **{"histories.event_types": "[order]"}))
    return ProcessedDataset.open(tmp_path / "all"), ProcessedDataset.open(tmp_path / "purchases")


def test_purchases_alone_keep_items_vocabulary_and_questions(both):
    everything, purchases = both
    assert set(purchases.histories.event_type.tolist()) == {EVENT_TYPE_CODES["order"]}
    assert len(everything.histories.event_type) == 8
    assert len(purchases.histories.event_type) == 4
    assert purchases.vocabulary_fingerprint == everything.vocabulary_fingerprint
    assert purchases.items.kind.tolist() == everything.items.kind.tolist()
    assert sorted(purchases.queries("test").targets) == sorted(everything.queries("test").targets)


def test_only_what_is_new_is_learned_where_only_that_is_asked(both, tmp_path):
    histories = both[0].histories
    train = histories.split == 0
    # six events to learn from; user 2 buys the 10 that he has looked at
    assert train.sum() == 6
    assert (histories.target & train).sum() == 5
    settings = {"source": "retailrocket", "source.path": tmp_path / "log", "output_dir": tmp_path, "name": "every"}
    summary = preprocess.run(
        config_of("preprocess", **settings, **{"splitting.validation_share": 0, "labels.only_new": "false"})
    )
    assert summary["splits"]["train"]["targets"] == 6
    assert summary["splits"]["test"]["targets"] == 2


def test_the_scorer_sees_its_own_histories_up_to_the_moment(both):
    everything, purchases = both
    queries = everything.queries("test")
    asked = Asked()
    Translated(asked, asked_on=everything, knows=purchases).prepare(queries)
    lengths = asked.queries.stop - purchases.histories.offsets[asked.queries.row]
    assert lengths.tolist() == [1, 1]  # the purchase before, not the one that is asked for
    users = [dataset.histories.user_index for dataset in (everything, purchases)]
    assert users[1][asked.queries.row].tolist() == users[0][queries.row].tolist()
    assert asked.queries.targets.tolist() == queries.targets.tolist()


def test_datasets_that_mean_different_things_are_refused(both, tmp_path):
    other = ProcessedDataset.open(write_shop(tmp_path / "other", [[0, 1, 2]], num_products=3))
    with pytest.raises(DatasetError, match="different vocabularies"):
        Translated(Asked(), asked_on=both[0], knows=other)
    cut = ProcessedDataset.open(tmp_path / "purchases")
    cut.items = cut.items._replace(kind=cut.items.kind[:-1])
    with pytest.raises(DatasetError, match="different items"):
        Translated(Asked(), asked_on=both[0], knows=cut)
    known = both[1]
    known.histories = known.histories._replace(user_index=np.array([1, 1]))
    with pytest.raises(DatasetError, match="a user of the questions is unknown to the vocabulary"):
        Translated(Asked(), asked_on=both[0], knows=known).prepare(both[0].queries("test"))
