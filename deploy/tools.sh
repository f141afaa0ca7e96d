#!/bin/sh
# Installs what some tests and benches drive, where it is missing: a real Redis, and h2load.
#
# Without them those tests are skipped and say so; so a machine that cannot install them is told,
# and no error.
set -u

missing=
command -v redis-server >/dev/null || missing="$missing redis-server"
command -v h2load >/dev/null || missing="$missing nghttp2-client"
[ -n "$missing" ] || exit 0

as_root=
[ "$(id -u)" = 0 ] || as_root="sudo -n"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # Words on purpose.
if command -v apt-get >/dev/null && $as_root apt-get update -qq &&
  $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null; then
  echo "installed:$missing"
else
  echo "not installed:$missing; tests that need them are skipped (apt-get install$missing)" >&2
fi
