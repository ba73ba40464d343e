"""A scorer that knows other histories than those of the questions: of the same users, made of fewer events."""

import numpy as np

from roomrec.errors import DatasetError
from roomrec.ids import OOV_INDEX
from roomrec.sequences.dataset import ProcessedDataset
from roomrec.sequences.queries import Queries
from training.evaluation.ranking import ChunkScores, Scorer


class Translated:
    """Asks a scorer of one dataset the questions of another, made of the same log with the same vocabulary.

    Candidates, and what counts as seen, stay those of the dataset that asks, so two models that know different
    behaviours are compared on the same questions.

    Args:
        scorer: Fitted on ``knows``.
        asked_on: The dataset of the questions.
        knows: The dataset whose histories the scorer sees.

    Raises:
        DatasetError: If indices mean different things in the two datasets.
    """

    def __init__(self, scorer: Scorer, *, asked_on: ProcessedDataset, knows: ProcessedDataset) -> None:
        if asked_on.vocabulary_fingerprint != knows.vocabulary_fingerprint:
            raise DatasetError("the two datasets have different vocabularies: preprocess both from the same log")
        if len(asked_on.items.kind) != len(knows.items.kind):
            raise DatasetError("the two datasets have different items: preprocess both from the same log")
        self.name = scorer.name
        self._scorer = scorer
        self._users = asked_on.histories.user_index
        self._histories = knows.histories
        known = int(max(self._users.max(initial=0), knows.histories.user_index.max(initial=0))) + 1
        self._row_of = np.full(known, -1, dtype=np.int64)
        self._row_of[knows.histories.user_index] = np.arange(len(knows.histories.user_index))
        self._row_of[: OOV_INDEX + 1] = -1

    def prepare(self, queries: Queries) -> ChunkScores:
        """Find each user's history as the scorer knows it, up to the moment of the question.

        Raises:
            DatasetError: If a user of the questions cannot be told, or is not there.
        """
        row = self._row_of[self._users[queries.row]]
        if np.any(row < 0):
            raise DatasetError("a user of the questions is unknown to the vocabulary, or has no history in both")
        offsets, at_ms = self._histories.offsets, self._histories.occurred_at_ms
        stop = np.array(
            [
                offsets[one] + np.searchsorted(at_ms[offsets[one] : offsets[one + 1]], when)
                for one, when in zip(row, queries.at_ms, strict=True)
            ],
            dtype=np.int64,
        )
        return self._scorer.prepare(queries._replace(row=row, stop=stop))
