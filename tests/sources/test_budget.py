"""What is taken of a budget never exceeds its limit, and can be taken again once released."""

import threading

from tar_gateway.sources.budget import Budget


def test_as_much_is_taken_as_there_is():
    budget = Budget(10)
    assert [budget.take(6), budget.take(6), budget.take(4), budget.take(1)] == [
        True,
        False,
        True,
        False,
    ]
    assert budget.used == 10


def test_what_was_released_can_be_taken_again():
    budget = Budget(10)
    assert budget.take(10)
    budget.release(4)
    assert not budget.take(5)
    assert budget.take(4)


def test_many_threads_never_take_more_than_the_limit():
    budget = Budget(3)
    start = threading.Barrier(8)
    seen: list[int] = []

    def work() -> None:
        start.wait()
        for _ in range(500):
            if budget.take(1):
                seen.append(budget.used)
                budget.release(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(seen) <= 3
    assert budget.used == 0
