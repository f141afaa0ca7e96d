"""Rolls a release out: `python release.py localhost:50051 RELEASE`.

Reads the server's token from SHOPINTENT_RELEASE_TOKEN. Without RELEASE it lists the releases.
"""

from __future__ import annotations

import os
import sys

from shopintent.client import ReleaseNotReadyError, ShopIntentClient
from shopintent.v1.release_service_pb2 import ReleaseRole


def main(target: str, release_id: str = "") -> None:
    token = os.environ["SHOPINTENT_RELEASE_TOKEN"]
    with ShopIntentClient(target, insecure=True, release_token=token) as client:
        if not release_id:
            show(client)
            return
        try:
            client.verify_release(release_id)
            client.canary_release(release_id, 5, why="example: try it on a few")
            # Here a rollout waits and looks at the metrics; a bad canary is rolled back by itself.
            answer = client.promote_release(release_id, why="example: it does well")
        except ReleaseNotReadyError as error:
            raise SystemExit(f"{release_id} takes no traffic: {error}") from error
    routing = answer.routing
    print(f"{routing.serving_release_id} serves; {routing.previous_release_id} is kept ready")


def show(client: ShopIntentClient) -> None:
    answer = client.list_releases()
    for release in answer.releases:
        parts = [ReleaseRole.Name(role).removeprefix("RELEASE_ROLE_") for role in release.roles]
        print(f"{release.id}  {release.create_time.ToJsonString()}  {' '.join(parts) or '-'}")
    print(f"{answer.routing.change.action} by {answer.routing.change.who}")


if __name__ == "__main__":
    main(*sys.argv[1:])
