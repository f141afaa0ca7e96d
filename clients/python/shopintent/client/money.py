"""Exact amounts to google.type.Money and back; prices are never floats."""

from __future__ import annotations

from decimal import Decimal

from google.type.money_pb2 import Money

NANOS_PER_UNIT = 1_000_000_000


def from_decimal(amount: Decimal | int | str, currency_code: str) -> Money:
    """Returns the amount in a currency ("EUR"); raises ValueError below a nano of a unit."""
    nanos = Decimal(amount) * NANOS_PER_UNIT
    if nanos != nanos.to_integral_value():
        raise ValueError(f"{amount} has more than nine decimals: round it first")
    sign = -1 if nanos < 0 else 1
    units, rest = divmod(abs(int(nanos)), NANOS_PER_UNIT)
    return Money(units=sign * units, nanos=sign * rest, currency_code=currency_code)


def to_decimal(money: Money) -> Decimal:
    """Returns the exact amount."""
    return Decimal(money.units) + Decimal(money.nanos) / NANOS_PER_UNIT
