"""The arithmetic of a bench: from measured cells, some rounds of each, to rows and ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from deploy.bench.measured import Measured
from deploy.bench.targets import HEALTH, PREDICT_INTENT, RECOMMEND, TRITON


@dataclass(frozen=True)
class Cell:
    """What is measured once a round."""

    target: str
    in_flight: int
    """0 where calls come at a rate instead."""
    products: int
    """Of the server's collection; 0 where it does not matter."""


@dataclass(frozen=True)
class Row:
    """A cell over all rounds: medians, and how far apart the rounds are."""

    target: str
    in_flight: int
    products: int
    rps: float
    p50_ms: float
    p99_ms: float
    spread: float
    """(largest - smallest) / median of the rounds' rps."""
    failed: int
    """Calls that were not answered, of all rounds."""
    wrong: int
    """Of the calls that were looked at beside the load, those without a full answer."""


Rounds = Mapping[Cell, Sequence[Measured]]


def rows(rounds: Rounds, wrong: Mapping[Cell, int]) -> list[Row]:
    """Returns a row a cell, in the order of the cells."""
    return [
        Row(
            target=cell.target,
            in_flight=cell.in_flight,
            products=cell.products,
            rps=round(median(each.rps for each in measured), 1),
            p50_ms=round(median(each.p50_ms for each in measured), 3),
            p99_ms=round(median(each.p99_ms for each in measured), 3),
            spread=round(spread([each.rps for each in measured]), 3),
            failed=sum(each.n_failed for each in measured),
            wrong=wrong.get(cell, 0),
        )
        for cell, measured in rounds.items()
    ]


def spread(values: Sequence[float]) -> float:
    """Returns (largest - smallest) / median; 0 where the median is 0."""
    middle = median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def ratios(rounds: Rounds, *, products: int) -> dict[str, dict[str, float]]:
    """Returns each ratio over the rounds, as `summary` does; none where a cell is missing.

    A round measures its cells right after one another, so that noise of the machine meets both
    sides of a ratio. The server is that of `products`.
    """

    def of(target: str, in_flight: int) -> Sequence[Measured]:
        return rounds.get(Cell(target, in_flight, _size(target, products)), ())

    def rps(over: Sequence[Measured], under: Sequence[Measured]) -> list[float]:
        return [one.rps / other.rps for one, other in zip(over, under, strict=False)]

    def best(target: str) -> list[Measured]:
        cells = [
            measured
            for cell, measured in rounds.items()
            if (cell.target, cell.products) == (target, _size(target, products))
        ]
        return [max(each, key=lambda found: found.rps) for each in zip(*cells, strict=False)]

    found = {
        "predict_intent_vs_triton_at_64": rps(of(PREDICT_INTENT, 64), of(TRITON, 64)),
        "predict_intent_vs_triton_at_peak": rps(best(PREDICT_INTENT), best(TRITON)),
        "predict_intent_added_p50_ms_at_1": [
            call.p50_ms - model.p50_ms
            for call, model in zip(of(PREDICT_INTENT, 1), of(TRITON, 1), strict=False)
        ],
        "recommend_vs_predict_intent_at_64": rps(of(RECOMMEND, 64), of(PREDICT_INTENT, 64)),
        "recommend_vs_predict_intent_at_peak": rps(best(RECOMMEND), best(PREDICT_INTENT)),
    }
    return {name: summary(values) for name, values in found.items() if values}


def parts(rounds: Rounds, *, products: int) -> dict[str, dict[str, float]]:
    """Returns what one call at a time consists of, in ms, by the differences of medians.

    So it is seen from outside, where the client and the way to it count, too.
    """

    def p50_ms(target: str) -> list[float]:
        cell = Cell(target, 1, _size(target, products))
        return [each.p50_ms for each in rounds.get(cell, ())]

    found = {
        "a call of no content": p50_ms(HEALTH),
        "the model, asked directly": p50_ms(TRITON),
        "what PredictIntent adds to both": [
            call - model - nothing
            for call, model, nothing in zip(
                p50_ms(PREDICT_INTENT), p50_ms(TRITON), p50_ms(HEALTH), strict=False
            )
        ],
        "what Recommend adds to PredictIntent": [
            page - call
            for page, call in zip(p50_ms(RECOMMEND), p50_ms(PREDICT_INTENT), strict=False)
        ],
    }
    return {name: summary(values) for name, values in found.items() if values}


def summary(values: Sequence[float]) -> dict[str, float]:
    """Returns the median of what the rounds say, and the smallest and the largest."""
    return {
        "median": round(median(values), 3),
        "smallest": round(min(values), 3),
        "largest": round(max(values), 3),
    }


def peak(rounds: Rounds, target: str, products: int) -> float:
    """Returns the best median rate of a target over all numbers in flight."""
    return max(
        median(each.rps for each in measured)
        for cell, measured in rounds.items()
        if (cell.target, cell.products) == (target, _size(target, products))
    )


def _size(target: str, products: int) -> int:
    return 0 if target in (TRITON, HEALTH) else products
