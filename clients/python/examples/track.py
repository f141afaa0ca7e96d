"""Tracks a view and a cart: `python track.py localhost:50051 VISITOR PRODUCT`."""

from __future__ import annotations

import sys

from shopintent.client import InvalidRequestError, ShopIntentClient, events


def main(target: str, visitor: str, product_id: str) -> None:
    with ShopIntentClient(target, insecure=True) as client:
        try:
            visit = [events.view_product(product_id), events.add_to_cart(product_id)]
            answer = client.track_events(visitor, visit)
        except InvalidRequestError as error:
            for violation in error.violations:
                print(f"{violation.field}: {violation.description}", file=sys.stderr)
            raise SystemExit(1) from error
    print(f"recorded {answer.recorded_count} events")
    for unknown in answer.unknown_product_ids:
        print(f"the catalog does not know product {unknown}")


if __name__ == "__main__":
    main(*sys.argv[1:])
