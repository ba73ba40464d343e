"""Replicas are as many as what they say there is to do asks for."""

from typing import Any, NamedTuple

import pytest

from serving.deployments.autoscaling import ONGOING_REQUESTS, replicas_for, scale_by_ongoing_requests


class Config:
    """As far as the policy looks."""

    def get_target_ongoing_requests(self) -> float:
        return 2.0


class Context(NamedTuple):
    """As far as the policy looks."""

    aggregated_metrics: Any
    target_num_replicas: int = 3
    config: Any = Config()


@pytest.mark.parametrize(("ongoing", "replicas"), [(0.0, 1), (0.1, 1), (2.0, 1), (2.1, 2), (40.0, 20)])
def test_how_many_share_the_work(ongoing: float, replicas: int) -> None:
    assert replicas_for(ongoing, target_ongoing_requests=2.0) == replicas


def test_what_all_replicas_say_is_added_up() -> None:
    assert scale_by_ongoing_requests(Context({ONGOING_REQUESTS: {"a": 1.5, "b": 3.5}})) == (3, {})


@pytest.mark.parametrize("metrics", [None, {}, {ONGOING_REQUESTS: {}}])
def test_while_nobody_has_said_anything_it_stays_as_it_is(metrics: Any) -> None:
    assert scale_by_ongoing_requests(Context(metrics)) == (3, {})
