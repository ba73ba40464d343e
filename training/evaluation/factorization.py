"""Matrix factorization as scorers: ALS and BPR of the ``implicit`` library."""

import numpy as np
import numpy.typing as npt
from implicit.cpu.als import AlternatingLeastSquares
from implicit.cpu.bpr import BayesianPersonalizedRanking
from threadpoolctl import threadpool_limits

from roomrec.sequences.dataset import ProcessedDataset
from roomrec.sequences.queries import Queries
from training.evaluation.interactions import Interactions

Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]


class Als:
    """Alternating least squares on the train split; a query's history is folded in when it is asked.

    Args:
        dataset: Where the histories come from.
        embedding_dim: Size of the factors.
        regularization: L2 of the factors.
        confidence: How much more an event counts than none.
        num_iterations: Over all users and items.
        half_life: What was last had before so many others counts half; None counts all alike.
        seed: Of the first factors.
        name: What tables call it.

    Reference:
        Hu, Koren & Volinsky 2008.
    """

    def __init__(
        self,
        dataset: ProcessedDataset,
        *,
        embedding_dim: int = 64,
        regularization: float = 0.05,
        confidence: float = 10.0,
        num_iterations: int = 15,
        half_life: float | None = None,
        seed: int = 0,
        name: str = "als",
    ) -> None:
        self.name = name
        self._half_life = half_life
        self._confidence = confidence
        self._interactions = Interactions(dataset)
        # implicit has threads of its own, and warns when BLAS brings some, too.
        with threadpool_limits(1, "blas"):
            self._model = AlternatingLeastSquares(
                factors=embedding_dim,
                regularization=regularization,
                alpha=1.0,
                iterations=num_iterations,
                random_state=seed,
            )
            self._model.fit(self._interactions.train * np.float32(confidence), show_progress=False)

    def prepare(self, queries: Queries) -> "FactorScores":
        """Solve for the factors of each history."""
        history = self._interactions.of(queries, half_life=self._half_life) * np.float32(self._confidence)
        users = self._model.recalculate_user(np.arange(len(queries.row)), history)
        return FactorScores(self._interactions, users, self._model.item_factors)


class Bpr:
    """Bayesian personalized ranking on the train split.

    It knows a user by its index alone, so what was seen since training changes nothing, and a user without events in
    the train split gets the popular ones. One thread, so that a seed gives the same factors twice.

    Args:
        dataset: Where the histories come from.
        embedding_dim: Size of the factors.
        learning_rate: Of stochastic gradient descent.
        regularization: L2 of the factors.
        num_iterations: Over all events.
        seed: Of the first factors and of the negatives.
        name: What tables call it.

    Reference:
        Rendle et al. 2009.
    """

    def __init__(
        self,
        dataset: ProcessedDataset,
        *,
        embedding_dim: int = 64,
        learning_rate: float = 0.05,
        regularization: float = 0.01,
        num_iterations: int = 100,
        seed: int = 0,
        name: str = "bpr",
    ) -> None:
        self.name = name
        self._interactions = Interactions(dataset)
        self._model = BayesianPersonalizedRanking(
            factors=embedding_dim,
            learning_rate=learning_rate,
            regularization=regularization,
            iterations=num_iterations,
            num_threads=1,
            random_state=seed,
        )
        self._model.fit(self._interactions.train, show_progress=False)

    def prepare(self, queries: Queries) -> "FactorScores":
        """Look up the factors of each user."""
        return FactorScores(self._interactions, self._model.user_factors[queries.row], self._model.item_factors)


class FactorScores:
    """Dot products of the factors of b queries and of entities; ties broken by popularity.

    Args:
        interactions: Entities and popularity.
        users: ``[b, D]``.
        entities: ``[E, D]``.
    """

    def __init__(self, interactions: Interactions, users: Float32Array, entities: Float32Array) -> None:
        self._interactions = interactions
        self._users = users
        self._entities = entities

    def matrix(self, candidates: Int64Array) -> Float32Array:
        """Score the same candidates for each query, ``[b, C]``."""
        return self._users @ self._vectors(candidates).T + self._interactions.tie_break[candidates]

    def row(self, place: int, candidates: Int64Array) -> Float32Array:
        """Score candidates for one query, ``[C]``."""
        scores: Float32Array = self._vectors(candidates) @ self._users[place] + self._interactions.tie_break[candidates]
        return scores

    def _vectors(self, candidates: Int64Array) -> Float32Array:
        vectors: Float32Array = self._entities[self._interactions.entity[candidates]]
        return vectors
