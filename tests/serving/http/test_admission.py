"""Who is let in is decided by how long they would wait."""

from collections.abc import Callable

import pytest

from serving.http.admission import AdmissionQueue


class Clock:
    """A clock that work moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def work_for(self, seconds: float) -> Callable[[], None]:
        def work() -> None:
            self.now += seconds

        return work


def test_work_is_done_in_order_of_arrival() -> None:
    queue, done = AdmissionQueue(max_wait_s=1), list[str]()
    assert queue.admit(lambda: done.append("first"))
    assert queue.admit(lambda: done.append("second"))
    while queue:
        queue.work()
    assert done == ["first", "second"]


def test_it_learns_how_long_work_takes_and_lets_in_what_passes_in_time() -> None:
    clock = Clock()
    queue = AdmissionQueue(max_wait_s=0.1, clock=clock)
    for _ in range(300):
        queue.admit(clock.work_for(0.01))
        queue.work()
    admitted = sum(queue.admit(clock.work_for(0.01)) for _ in range(50))
    assert admitted == 11  # ten before it take the 0.1 s that the last one may wait
    assert queue.is_pressed
    for _ in range(5):
        queue.work()
    assert not queue.is_pressed
    assert queue.admit(clock.work_for(0.01))


def test_what_is_done_between_two_pieces_counts_for_those_that_wait() -> None:
    clock = Clock()
    queue = AdmissionQueue(max_wait_s=0.1, clock=clock)
    for _ in range(300):  # something waits always, and other work takes nine tenths of the time
        queue.admit(clock.work_for(0.001))
        queue.admit(clock.work_for(0.001))
        clock.now += 0.009
        queue.work()
        clock.now += 0.009
        queue.work()
    assert sum(queue.admit(clock.work_for(0.001)) for _ in range(50)) <= 12


def test_one_long_pause_does_not_shut_the_door() -> None:
    clock = Clock()
    queue = AdmissionQueue(max_wait_s=0.05, clock=clock)
    for _ in range(300):
        queue.admit(clock.work_for(0.001))
        queue.work()
    queue.admit(clock.work_for(5.0))
    queue.work()
    assert sum(queue.admit(clock.work_for(0.001)) for _ in range(20)) == 20


def test_work_that_fails_is_counted_and_leaves_the_rest() -> None:
    queue = AdmissionQueue(max_wait_s=1)

    def fail() -> None:
        raise ValueError("no")

    queue.admit(fail)
    queue.admit(lambda: None)
    with pytest.raises(ValueError, match="no"):
        queue.work()
    assert len(queue) == 1


def test_the_load_is_the_mean_number_in_the_system() -> None:
    clock = Clock()
    queue = AdmissionQueue(max_wait_s=10, clock=clock)
    for _ in range(3):
        queue.admit(clock.work_for(1.0))
    while queue:
        queue.work()
    clock.now += 3.0
    assert queue.take_ongoing() == 1.0  # stays of 1, 2 and 3 s in 6 s
    clock.now += 2.0
    assert queue.take_ongoing(waited_beside_s=5.0) == 2.5


def test_a_wait_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="max_wait_s must be above 0, received 0"):
        AdmissionQueue(max_wait_s=0)
