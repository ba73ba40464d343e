"""Whether one bundle is worse than another."""

from dataclasses import replace
from typing import Any

import pytest

from roomrec.bundle import Manifest
from roomrec.bundle.comparison import compare_metrics
from roomrec.events.schema import EVENT_TYPE_CODES
from roomrec.features.spec import FeatureSpec

MEASURED = {"dataset_fingerprint": "d1", "split": "test", "surface": "room_feed", "queries": 100}


def manifest(metrics: dict[str, Any]) -> Manifest:
    return replace(PLAIN, metrics=metrics)


PLAIN = Manifest(
    model_kind="tiny",
    created_at="2026-01-31T10:15:00+00:00",
    feature_spec=FeatureSpec(num_users=2, num_streamers=2, num_products=2, num_categories=0),
    vocabulary_fingerprint="f",
    max_sequence_length=20,
    embedding_dim=8,
    files={},
    training_config={},
    metrics={},
    code_revision="unknown",
    event_type_codes=dict(EVENT_TYPE_CODES),
)


@pytest.mark.parametrize(
    ("new", "worse", "said"),
    [
        (0.5, False, "ndcg@10 is 0.5, the champion's 0.5"),
        (0.6, False, "ndcg@10 is 0.6, the champion's 0.5"),
        (0.495, False, "ndcg@10 is 0.495, the champion's 0.5: 1.0% lower, allowed are 2.0%"),
        (0.45, True, "ndcg@10 is 0.45, the champion's 0.5: 10.0% lower, allowed are 2.0%"),
        (0, True, "ndcg@10 is 0, the champion's 0.5: 100.0% lower, allowed are 2.0%"),
    ],
)
def test_a_small_drop_is_allowed_a_greater_is_worse(new: float, worse: bool, said: str) -> None:
    candidate, champion = (manifest(MEASURED | {"ndcg@10": value}) for value in (new, 0.5))
    assert compare_metrics(candidate, champion, metric="ndcg@10", max_drop=0.02) == (worse, said)


@pytest.mark.parametrize("key", ["dataset_fingerprint", "split", "surface", "queries"])
def test_measured_on_something_else_is_not_compared(key: str) -> None:
    champion = manifest(MEASURED | {"ndcg@10": 0.5})
    other = manifest(MEASURED | {"ndcg@10": 0.1, key: "other"})
    silent = manifest({name: value for name, value in MEASURED.items() if name != key} | {"ndcg@10": 0.1})
    for candidate, said in ((other, f"with another {key}"), (silent, f"does not say {key}")):
        found = compare_metrics(candidate, champion, metric="ndcg@10", max_drop=0.02)
        assert not found.worse
        assert said in found.text


@pytest.mark.parametrize("value", [None, "0.5", True, float("nan"), float("inf")])
def test_without_a_number_nothing_is_compared(value: Any) -> None:
    known, unknown = manifest(MEASURED | {"ndcg@10": 0.5}), manifest(MEASURED | {"ndcg@10": value})
    for candidate, champion, who in ((unknown, known, "candidate"), (known, unknown, "champion")):
        found = compare_metrics(candidate, champion, metric="ndcg@10", max_drop=0.02)
        assert found == (False, f"not compared: the manifest of the {who} holds no ndcg@10")
