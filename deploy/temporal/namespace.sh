#!/bin/sh
# Waits for the server and creates the namespace of the runs. Repeating it changes nothing.
set -eu

tries=30
until temporal operator cluster health --address "$TEMPORAL_ADDRESS"; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || exit 1
    sleep 2
done
temporal operator namespace describe --namespace "$NAMESPACE" --address "$TEMPORAL_ADDRESS" ||
    temporal operator namespace create --namespace "$NAMESPACE" --retention 72h --address "$TEMPORAL_ADDRESS"
