"""When a model is not asked any more."""

from serving.deployments.breaker import Breaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_opens_above_the_borne_failures_and_closes_later() -> None:
    clock = Clock()
    breaker = Breaker(most_failures=2, retry_s=30.0, clock=clock)
    assert [breaker.record(failed=True) for _ in range(3)] == [False, False, True]
    assert breaker.is_open()
    clock.now = 29.9
    assert breaker.is_open()
    clock.now = 30.0
    assert not breaker.is_open()


def test_only_the_newest_hundred_requests_count() -> None:
    breaker = Breaker(most_failures=1, retry_s=30.0)
    for _ in range(5):
        assert not breaker.record(failed=True)
        assert not any(breaker.record(failed=False) for _ in range(99))
    assert not breaker.record(failed=True)
    assert breaker.record(failed=True)


def test_on_probation_one_failure_opens_it_and_a_hundred_successes_end_it() -> None:
    clock = Clock()
    breaker = Breaker(most_failures=1, retry_s=1.0, clock=clock)
    breaker.record(failed=True)
    assert breaker.record(failed=True)
    clock.now = 1.0
    assert not breaker.is_open()
    assert breaker.record(failed=True)
    clock.now = 2.0
    assert not breaker.is_open()
    for _ in range(101):
        assert not breaker.record(failed=False)
    assert not breaker.record(failed=True)
    assert breaker.record(failed=True)


def test_none_may_be_borne() -> None:
    assert Breaker(most_failures=0, retry_s=1.0).record(failed=True)
