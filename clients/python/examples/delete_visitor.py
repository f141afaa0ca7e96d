"""Deletes a visitor, and proves it: `python delete_visitor.py localhost:50051 VISITOR`.

Reads the server's token from SHOPINTENT_VISITOR_TOKEN.
"""

from __future__ import annotations

import os
import sys

from shopintent.client import ShopIntentClient


def main(target: str, visitor: str) -> None:
    token = os.environ["SHOPINTENT_VISITOR_TOKEN"]
    with ShopIntentClient(target, insecure=True, visitor_token=token) as client:
        receipt = client.delete_visitor(visitor)
        proof = client.verify_deletion(visitor)
    print(f"receipt {receipt.receipt_id} of {receipt.delete_time.ToJsonString()}")
    for store in receipt.stores:
        print(f"  {store.store:<10} {store.count} {store.unit} deleted")
    print("nothing is left" if proof.deleted else f"something is left: {proof.stores}")


if __name__ == "__main__":
    main(*sys.argv[1:])
