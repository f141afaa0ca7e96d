"""Asks what a visitor means to do next: `python predict_intent.py localhost:50051 VISITOR`."""

from __future__ import annotations

import sys

from shopintent.client import ShopIntentClient


def main(target: str, visitor: str = "") -> None:
    with ShopIntentClient(target, insecure=True) as client:
        answer = client.predict_intent(visitor)
    for action in answer.next_actions:
        print(f"next action {action.action:<18} {action.probability:6.1%}")
    for purchase in answer.purchases:
        hours = purchase.horizon.ToTimedelta().total_seconds() / 3600
        print(f"purchase within {hours:6.1f} h       {purchase.probability:6.1%}")
    # A release does not predict everything: what it does not predict is unset.
    if answer.HasField("visit_purchase_probability"):
        print(f"purchase in this visit         {answer.visit_purchase_probability:6.1%}")
    if answer.HasField("expected_time_to_purchase"):
        print(f"if there is one, after {answer.expected_time_to_purchase.ToTimedelta()}")
    if answer.HasField("expected_quantity"):
        print(f"if there is one, of {answer.expected_quantity:.1f} units")
    print(f"answered by release {answer.model.release_id}")


if __name__ == "__main__":
    main(*sys.argv[1:])
