"""Blends of scorers: several opinions made comparable for each query, weighed as the validation split says."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from omegaconf import DictConfig

from roomrec.errors import ConfigurationError
from roomrec.sequences.dataset import ProcessedDataset
from roomrec.sequences.queries import Queries, select_queries
from training.evaluation.blend_fitting import Examples, learn_weights, search_weights
from training.evaluation.candidates import Candidates
from training.evaluation.ranking import ChunkScores, Scorer, best_first

Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]


class Blend(Protocol):
    """Turns what P scorers say of C candidates into one score each."""

    def features(self, scores: Float32Array, num_events: int) -> Float32Array:
        """Return what is weighed, ``[F, C]``, of scores ``[P, C]`` for a history of so many events."""
        ...

    def fit(self, examples: Examples) -> Float32Array:
        """Return the weights ``[F]`` that order the examples best."""
        ...


class Weighted:
    """Each scorer has one weight; they sum to one and are searched on a grid for the best NDCG.

    Args:
        k: Depth of the NDCG.
    """

    def __init__(self, *, k: int = 10) -> None:
        self._k = k

    def features(self, scores: Float32Array, num_events: int) -> Float32Array:
        """Return how each scorer stands to its own mean."""
        return compress(standardize(scores))

    def fit(self, examples: Examples) -> Float32Array:
        """Search the grid."""
        return search_weights(examples, k=self._k)


class Learned:
    """Softmax regression: which candidate is chosen, from each scorer's opinion and how much was known of the viewer.

    Args:
        regularization: L2 of the weights, for each query.
    """

    def __init__(self, *, regularization: float = 1e-3) -> None:
        self._regularization = regularization

    def features(self, scores: Float32Array, num_events: int) -> Float32Array:
        """Return each scorer's opinion straight, compressed, and compressed times the log of the history's length."""
        straight = standardize(scores)
        bent = compress(straight)
        return np.concatenate([straight, bent, bent * np.float32(np.log1p(num_events))])

    def fit(self, examples: Examples) -> Float32Array:
        """Minimise the cross-entropy."""
        return learn_weights(examples, regularization=self._regularization)


class Hybrid:
    """A blend of scorers, fitted on queries whose targets may be looked at: those of the validation split.

    Each kind of candidate, rooms and products, has weights of its own.

    Args:
        dataset: Where the queries come from.
        queries: To fit on.
        parts: The scorers, of this dataset.
        blend: How to weigh them.
        num_best: Candidates that a fit looks at: the best so many of each scorer, as many of the others drawn at
            random, which stand for all others, and the targets.
        name: What tables call it.

    Example::

        fitted_on = dataset.queries("validation", max_queries=2_000)
        hybrid = Hybrid(dataset, fitted_on, parts=[model, item_knn], blend=Learned(), name="hybrid_learned")
        rank_queries(dataset, dataset.queries("test"), hybrid, num_shown=0)
    """

    def __init__(
        self,
        dataset: ProcessedDataset,
        queries: Queries,
        *,
        parts: Sequence[Scorer],
        blend: Blend,
        num_best: int = 50,
        name: str = "hybrid",
    ) -> None:
        self.name = name
        self.parts = list(parts)
        self.blend = blend
        self._offsets = dataset.histories.offsets
        self.weights: Mapping[int, Float32Array] = {
            kind: blend.fit(examples) for kind, examples in self._examples(dataset, queries, num_best=num_best).items()
        }

    def prepare(self, queries: Queries) -> "_Blended":
        """Prepare every scorer.

        Raises:
            ConfigurationError: If nothing of this kind was asked in the queries it was fitted on.
        """
        kind = int(queries.kind[0])
        if kind not in self.weights:
            raise ConfigurationError(
                f"{self.name} was fitted on a validation split without queries of kind {kind}: leave blends out"
            )
        return _Blended(self, self._opinions(queries), self.num_events(queries), self.weights[kind])

    def num_events(self, queries: Queries) -> Int64Array:
        """Return how many events each history holds."""
        lengths: Int64Array = queries.stop - self._offsets[queries.row]
        return lengths

    def _opinions(self, queries: Queries) -> list[ChunkScores]:
        return [part.prepare(queries) for part in self.parts]

    def _examples(self, dataset: ProcessedDataset, queries: Queries, *, num_best: int) -> dict[int, Examples]:
        candidates = Candidates(dataset, queries)
        found: dict[int, list[tuple[Float32Array, npt.NDArray[np.bool_], Float32Array]]] = {}
        for group in candidates.groups:
            for chunk in candidates.chunks(group, max_numbers=1 << 22):
                asked = select_queries(queries, chunk)
                opinions, lengths = self._opinions(asked), self.num_events(asked)
                shared = group.shared
                matrices = None if shared is None else [opinion.matrix(shared) for opinion in opinions]
                for place, query in enumerate(chunk):
                    items = candidates.of(query) if shared is None else shared
                    if matrices is None:
                        scores = np.stack([opinion.row(place, items) for opinion in opinions])
                    else:
                        scores = np.stack([matrix[place] for matrix in matrices])
                    features = self.blend.features(scores, int(lengths[place]))
                    is_target = np.isin(items, candidates.targets(query))
                    excluded = np.zeros(len(items), dtype=bool)
                    if dataset.filter_seen and shared is not None:
                        excluded[np.searchsorted(items, candidates.seen(query))] = True
                    kept, stands_for = _interesting(scores, is_target, excluded, num_best, seed=int(query))
                    rows = found.setdefault(int(queries.kind[query]), [])
                    rows.append((features[:, kept].T, is_target[kept], stands_for))
        return {kind: Examples.of(rows) for kind, rows in found.items()}


class _Blended:
    def __init__(
        self, hybrid: Hybrid, opinions: list[ChunkScores], num_events: Int64Array, weights: Float32Array
    ) -> None:
        self._hybrid = hybrid
        self._opinions = opinions
        self._num_events = num_events
        self._weights = weights

    def matrix(self, candidates: Int64Array) -> Float32Array:
        matrices = [opinion.matrix(candidates) for opinion in self._opinions]
        return np.stack(
            [
                self._blended(np.stack([matrix[place] for matrix in matrices]), place)
                for place in range(len(self._num_events))
            ]
        )

    def row(self, place: int, candidates: Int64Array) -> Float32Array:
        return self._blended(np.stack([opinion.row(place, candidates) for opinion in self._opinions]), place)

    def _blended(self, scores: Float32Array, place: int) -> Float32Array:
        blended: Float32Array = self._weights @ self._hybrid.blend.features(scores, int(self._num_events[place]))
        return blended


def make_hybrids(
    config: DictConfig, dataset: ProcessedDataset, *, model: Scorer, baselines: Sequence[Scorer]
) -> list[Hybrid]:
    """Fit the blends of a config on the validation split.

    Args:
        config: ``parts``, names of baselines; ``max_queries`` to fit on; ``k``.
        dataset: Where the queries come from.
        model: A part of every blend.
        baselines: The parts to choose from.

    Raises:
        ConfigurationError: If a part is not among the baselines.
    """
    by_name = {scorer.name: scorer for scorer in baselines}
    if unknown := [name for name in config.parts if name not in by_name]:
        raise ConfigurationError(
            f"hybrid.parts holds {', '.join(unknown)}: choose of the baselines that are there, {', '.join(by_name)}"
        )
    if not config.parts:
        return []
    fitted_on = dataset.queries("validation", max_queries=config.max_queries)
    parts = [model, *(by_name[name] for name in config.parts)]
    blends: dict[str, Blend] = {"hybrid_weighted": Weighted(k=config.k), "hybrid_learned": Learned()}
    return [Hybrid(dataset, fitted_on, parts=parts, blend=blend, name=name) for name, blend in blends.items()]


def standardize(scores: Float32Array) -> Float32Array:
    """Return how many standard deviations each score lies above its row's mean; zeros where a row is all alike.

    Example:
        >>> standardize(np.array([[1.0, 3.0], [5.0, 5.0]], dtype=np.float32))
        array([[-1.,  1.],
               [ 0.,  0.]], dtype=float32)
    """
    centred = scores - scores.mean(axis=1, keepdims=True)
    spread = scores.std(axis=1, keepdims=True)
    return np.asarray(centred / np.where(spread > 1e-12, spread, 1), dtype=np.float32)


def compress(values: Float32Array) -> Float32Array:
    """Return the logarithm of one plus each size, with its sign: most scores of a neighbourhood are zero, a few huge.

    Example:
        >>> compress(np.array([0.0, -1.7182818, 6.389056], dtype=np.float32)).round(3)
        array([ 0., -1.,  2.], dtype=float32)
    """
    return np.asarray(np.sign(values) * np.log1p(np.abs(values)), dtype=np.float32)


def _interesting(
    scores: Float32Array,
    is_target: npt.NDArray[np.bool_],
    excluded: npt.NDArray[np.bool_],
    num_best: int,
    *,
    seed: int,
) -> tuple[Int64Array, Float32Array]:
    """Places of what any scorer puts among its best, of as many others, and of the targets; how many each stands for.

    Without the others a fit would see targets that nobody puts high beside nothing but what somebody does, and learn
    that high scores are bad.
    """
    best = np.zeros(len(is_target), dtype=bool)
    for row in scores:
        best[best_first(np.where(excluded, -np.inf, row), num_best)] = True
    best &= ~is_target
    others = np.flatnonzero(~best & ~is_target & ~excluded)
    drawn = np.random.default_rng(seed).choice(others, size=min(num_best, len(others)), replace=False)
    kept = np.concatenate([np.flatnonzero(best), drawn, np.flatnonzero(is_target)])
    stands_for = np.ones(len(kept), dtype=np.float32)
    first = np.count_nonzero(best)
    stands_for[first : first + len(drawn)] = len(others) / max(len(drawn), 1)
    return kept, stands_for
