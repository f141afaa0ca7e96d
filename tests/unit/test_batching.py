"""Coalescing: what is asked at once travels together, and nobody pays for a neighbor."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from shopintent.server.errors import Overloaded
from shopintent.server.inference import batching
from shopintent.server.inference.batching import Batcher, BatchRefused, Limits, Send

LONG_S = 60.0


class FakeModel:
    """Answers a number with its double once `open`; `bad` numbers spoil the batch they are in."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.timeouts: list[float] = []
        self.open = asyncio.Event()
        self.bad: set[int] = set()
        self.broken: Exception | None = None
        self.cancelled = 0

    async def __call__(self, numbers: Sequence[int], timeout_s: float) -> list[int | Exception]:
        self.batches.append(list(numbers))
        self.timeouts.append(timeout_s)
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.broken is not None:
            raise self.broken
        if self.bad.intersection(numbers):
            raise BatchRefused(ValueError(f"{numbers} is bad"))
        return [2 * number if number >= 0 else ValueError("negative") for number in numbers]


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


def make_batcher(
    model: Send[int, int], *, size_of: Callable[[int], int] = lambda _: 1, **options: int
) -> Batcher[int, int]:
    defaults = {"rows": 4, "volume": 1000, "padding": 1000, "waiting": 100}
    return Batcher(model, Limits(**{**defaults, **options}), size_of=size_of)


def ask_all(batcher: Batcher[int, int], numbers: Sequence[int]) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(batcher.ask(each, timeout_s=LONG_S)) for each in numbers]


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody.
            await asyncio.sleep(0)


async def results(tasks: Sequence[Awaitable[int]]) -> list[Any]:
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_lone_question_leaves_at_once(model: FakeModel) -> None:
    model.open.set()
    assert await make_batcher(model).ask(3, timeout_s=LONG_S) == 6
    assert model.batches == [[3]]


async def test_what_is_asked_in_one_turn_of_the_loop_travels_together(model: FakeModel) -> None:
    model.open.set()
    assert await results(ask_all(make_batcher(model), [1, 2, 3])) == [2, 4, 6]
    assert model.batches == [[1, 2, 3]]


async def test_what_is_asked_meanwhile_gathers_and_the_longest_waiting_leave_first(
    model: FakeModel,
) -> None:
    batcher = make_batcher(model)
    first = ask_all(batcher, [1])
    await until(lambda: model.batches)
    others = ask_all(batcher, range(2, 8))
    await asyncio.sleep(0)
    assert model.batches == [[1]]
    model.open.set()
    assert await results([*first, *others]) == [2, 4, 6, 8, 10, 12, 14]
    assert model.batches == [[1], [2, 3, 4, 5], [6, 7]]


async def test_as_many_batches_are_on_their_way_as_allowed(model: FakeModel) -> None:
    batcher = make_batcher(model, in_flight=2)
    tasks = ask_all(batcher, range(12))
    await until(lambda: model.batches)
    await asyncio.sleep(0)
    assert [len(batch) for batch in model.batches] == [4, 4]
    model.open.set()
    assert await results(tasks) == [2 * number for number in range(12)]


async def batches_of(model: FakeModel, sizes: Sequence[int], **limits: int) -> list[list[int]]:
    """Returns the sizes of rows that travel together when all are asked while one is away."""
    batcher = make_batcher(model, size_of=lambda size: size, **limits)
    first = ask_all(batcher, [1])
    await until(lambda: model.batches)
    others = ask_all(batcher, sizes)
    await asyncio.sleep(0)
    model.open.set()
    assert await results([*first, *others]) == [2, *(2 * size for size in sizes)]
    return model.batches[1:]


async def test_a_batch_is_no_larger_than_its_volume(model: FakeModel) -> None:
    batches = await batches_of(model, [8] * 7 + [50], rows=64, volume=24)
    assert batches == [[8, 8, 8], [8, 8, 8], [8], [50]]


async def test_short_rows_travel_apart_from_long_ones_where_padding_costs_more(
    model: FakeModel,
) -> None:
    sizes = [8, 16, 8, 128, 8, 16, 128]
    assert await batches_of(model, sizes, rows=64, padding=40) == [[8, 16, 8, 8, 16], [128, 128]]


async def test_few_rows_travel_together_whatever_their_size(model: FakeModel) -> None:
    assert await batches_of(model, [8, 64, 8], rows=64, padding=112) == [[8, 64, 8]]


async def test_a_long_row_is_not_left_behind_by_short_ones_that_keep_coming(
    model: FakeModel,
) -> None:
    batcher = make_batcher(model, size_of=lambda size: size, padding=0)
    first = ask_all(batcher, [1])
    await until(lambda: model.batches)
    waiting = ask_all(batcher, [8, 8, 8, 8, 8, 128])
    await asyncio.sleep(0)
    model.open.set()
    while not waiting[-1].done():
        waiting[:0] = ask_all(batcher, [8, 8, 8, 8])
        await asyncio.sleep(0)
        assert len(model.batches) < 10
    assert [128] in model.batches[:5]
    await results([*first, *waiting])


async def test_a_batch_has_the_time_of_the_row_that_has_most(model: FakeModel) -> None:
    batcher = make_batcher(model)
    tasks = [asyncio.create_task(batcher.ask(1, timeout_s=each)) for each in (5.0, 50.0, 20.0)]
    await until(lambda: model.batches)
    assert 45 < model.timeouts[0] <= 50
    model.open.set()
    await results(tasks)


async def test_every_row_keeps_its_own_deadline(model: FakeModel) -> None:
    batcher = make_batcher(model)
    patient = asyncio.create_task(batcher.ask(1, timeout_s=LONG_S))
    hasty = asyncio.create_task(batcher.ask(2, timeout_s=0.01))
    waiting = asyncio.create_task(batcher.ask(3, timeout_s=LONG_S))
    with pytest.raises(TimeoutError):
        await hasty
    assert not patient.done()
    model.open.set()
    assert await results([patient, waiting]) == [2, 6]


async def test_a_row_whose_time_is_over_before_it_leaves_is_not_sent(model: FakeModel) -> None:
    batcher = make_batcher(model)
    first = ask_all(batcher, [1])
    await until(lambda: model.batches)
    with pytest.raises(TimeoutError):
        await batcher.ask(2, timeout_s=0.01)
    model.open.set()
    assert await results([*first, *ask_all(batcher, [3])]) == [2, 6]
    assert model.batches == [[1], [3]]


async def test_a_cancelled_row_frees_its_place(model: FakeModel) -> None:
    batcher = make_batcher(model, waiting=2)
    first = ask_all(batcher, [1])
    await until(lambda: model.batches)
    waiting = ask_all(batcher, [2, 3])
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await batcher.ask(4, timeout_s=LONG_S)
    waiting[0].cancel()
    await results(waiting[:1])
    last = ask_all(batcher, [5])
    model.open.set()
    assert await results([*first, waiting[1], *last]) == [2, 6, 10]
    assert model.batches == [[1], [3, 5]]


async def test_a_batch_that_nobody_waits_for_is_not_cancelled_and_the_next_one_leaves(
    model: FakeModel,
) -> None:
    batcher = make_batcher(model)
    given_up = ask_all(batcher, [1, 2])
    await until(lambda: model.batches)
    kept = ask_all(batcher, [3])
    given_up[0].cancel()
    await results(given_up[:1])
    assert len(model.batches) == 1
    given_up[1].cancel()
    await results(given_up)
    await until(lambda: len(model.batches) == 2)
    assert model.cancelled == 0
    model.open.set()
    assert await results(kept) == [6]


@pytest.mark.parametrize("bad", [{0}, {7}, {3}, {2, 5}, set(range(8))])
async def test_a_bad_row_fails_alone(model: FakeModel, bad: set[int]) -> None:
    model.open.set()
    model.bad = bad
    answers = await results(ask_all(make_batcher(model, rows=8), range(8)))
    assert {n for n, answer in enumerate(answers) if isinstance(answer, ValueError)} == bad
    assert all(answers[n] == 2 * n for n in set(range(8)) - bad)
    assert model.batches[0] == list(range(8))


async def test_an_exception_in_place_of_an_answer_is_for_its_row_alone(model: FakeModel) -> None:
    model.open.set()
    answers = await results(ask_all(make_batcher(model), [1, -1, 2]))
    assert [type(answer) for answer in answers] == [int, ValueError, int]
    assert len(model.batches) == 1


async def test_what_fails_the_whole_batch_fails_every_row_without_another_try(
    model: FakeModel,
) -> None:
    model.open.set()
    model.broken = RuntimeError("down")
    batcher = make_batcher(model)
    assert {type(each) for each in await results(ask_all(batcher, [1, 2, 3]))} == {RuntimeError}
    assert len(model.batches) == 1
    model.broken = None
    assert await batcher.ask(1, timeout_s=LONG_S) == 2


async def test_who_has_less_time_than_the_wait_is_refused_at_once(model: FakeModel) -> None:
    async def slow(numbers: Sequence[int], timeout_s: float) -> list[int | Exception]:
        await asyncio.sleep(0.05)
        return await model(numbers, timeout_s)

    model.open.set()
    batcher = make_batcher(slow)
    for _ in range(10):
        assert batcher.expected_wait_s() == 0
        await batcher.ask(1, timeout_s=LONG_S)
    busy = ask_all(batcher, range(9))
    await until(lambda: len(model.batches) > 10 or batcher.expected_wait_s() > 0)
    assert batcher.expected_wait_s() > 0.05
    with pytest.raises(Overloaded):
        await batcher.ask(9, timeout_s=0.02)
    patient = ask_all(batcher, [10])
    assert await results([*busy, *patient]) == [2 * number for number in [*range(9), 10]]
    # Idle again, it takes whoever comes, and so learns whether it has become faster.
    assert await batcher.ask(1, timeout_s=0.1) == 2


async def test_the_answers_of_a_large_batch_let_others_have_their_turn(model: FakeModel) -> None:
    model.open.set()
    n_rows = 4 * batching.HANDED_OUT_AT_ONCE
    tasks = ask_all(make_batcher(model, rows=n_rows), range(n_rows))
    done_by_turn = []
    async with asyncio.timeout(10):
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            done_by_turn.append(sum(task.done() for task in tasks))
    steps = [after - before for before, after in pairwise(done_by_turn)]
    assert max(steps) <= batching.HANDED_OUT_AT_ONCE
