"""However many have long work, everybody else waits for one piece of it."""

import asyncio

from serving.deployments.turns import Turns


def test_one_piece_between_two_looks_at_everything_else() -> None:
    async def run() -> int:
        turns, done, most = Turns(), 0, 0

        async def work() -> None:
            nonlocal done
            for _ in range(5):
                await turns.take()
                done += 1

        workers = [asyncio.create_task(work()) for _ in range(20)]
        while not all(worker.done() for worker in workers):
            before = done
            await asyncio.sleep(0)
            most = max(most, done - before)
        assert done == 100
        return most

    assert asyncio.run(run()) == 1


def test_who_gave_up_is_passed_over() -> None:
    async def run() -> list[str]:
        turns, said = Turns(), list[str]()

        async def work(name: str) -> None:
            await turns.take()
            said.append(name)

        first, second, third = (asyncio.create_task(work(name)) for name in ("first", "second", "third"))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(first, second, third, return_exceptions=True)
        assert len(turns) == 0
        await work("later")
        return said

    assert asyncio.run(run()) == ["first", "third", "later"]


def test_the_wait_is_foretold_by_what_turns_have_taken() -> None:
    class Clock:
        now = 10.0

        def __call__(self) -> float:
            return self.now

    clock = Clock()

    async def run() -> tuple[float, float]:
        turns = Turns(clock=clock)

        async def work() -> None:
            for _ in range(100):
                await turns.take()
                clock.now += 0.02

        workers = [asyncio.create_task(work()) for _ in range(3)]
        await asyncio.gather(*workers)
        waited_s = turns.take_waited_s()
        assert turns.take_waited_s() == 0.0
        ahead = [asyncio.create_task(turns.take()) for _ in range(10)]
        await asyncio.sleep(0)
        foretold_s = turns.foretold_s
        await asyncio.gather(*ahead)
        return foretold_s, waited_s

    foretold_s, waited_s = asyncio.run(run())
    assert 0.17 < foretold_s < 0.21  # ten turns, or nine that are still to come, of 0.02 s
    assert 11 < waited_s < 13  # 300 turns, each after two of the others
