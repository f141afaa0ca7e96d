#!/bin/sh
# Teaches the serving release what happened since, publishes it, and lets it answer a few visitors.
#
# Every step may refuse: then the ones behind it do not run, nothing changes for anybody, and the
# exit status is not 0. Killed, it may be run again at any time. It reads
#   SHOPINTENT_RELEASES     the releases root, as the server does
#   SHOPINTENT_STATE_PATH   the state folder of the server, which has its event log
#   SHOPINTENT_EVENT_LOG    the event log, where the server has been given another folder
# and
#   REFRESH_FOLDER          where to work; default: "refresh" beside the releases
#   REFRESH_REPLAY          a prepared dataset of older events: the one that the first release was
#                           trained on, until an update of it serves; then leave it out
#   REFRESH_PERCENT         of the visitors that the canary answers; default: 5
#   REFRESH_RELEASE         the id of the new release; default: by the time of day
set -eu

releases=${SHOPINTENT_RELEASES:?is not set: name the releases root}
log=${SHOPINTENT_EVENT_LOG:-${SHOPINTENT_STATE_PATH:?is not set: name the state folder}/event-log}
folder=${REFRESH_FOLDER:-$releases/../refresh}
release=${REFRESH_RELEASE:-r$(date -u +%Y%m%d-%H%M%S)}

mkdir -p "$folder"
# Prepared anew each time, so that whoever was deleted from the log is in no training set either.
shopintent-trainer prepare "$log" --mapping events --out "$folder/prepared"
# The log has grown since a refresh that was killed, so that none is gone on with.
shopintent-trainer update --releases "$releases" --data "$folder/prepared" --out "$folder/run" \
  --restart ${REFRESH_REPLAY:+--replay "$REFRESH_REPLAY"}
shopintent-trainer evaluate "$folder/run"
shopintent-trainer publish "$folder/run" --to "$releases" --release "$release" --no-promote
if [ "${SHOPINTENT_INDEX:-edge}" = qdrant ]; then
  SHOPINTENT_RELEASE=$release shopintent-server load-index
fi
shopintent-server releases canary "$release" --percent "${REFRESH_PERCENT:-5}" \
  --why "scheduled refresh"
# Servers roll a bad canary back by themselves. Promote a good one, when you have looked:
echo "shopintent-server releases promote $release --why '...'"
