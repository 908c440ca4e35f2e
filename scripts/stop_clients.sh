#!/usr/bin/env bash
# Ends the subscribers that scripts/run_clients.sh started, those and no others, and waits until they have ended.
#
# Environment: LOG_DIR (logs), as it was given to run_clients.sh.
set -euo pipefail
# shellcheck source=scripts/clients_common.sh
source "$(dirname "${BASH_SOURCE[0]}")/clients_common.sh"

STOP_TIMEOUT=10

[[ -f $PID_FILE ]] || fail "no clients were started here: there is no $PID_FILE (is LOG_DIR the one they were started with?)"
pid=$(<"$PID_FILE")
[[ $pid =~ ^[1-9][0-9]*$ ]] || fail "$PID_FILE holds no process number: '$pid'"
if ! is_subscriber "$pid"; then
    rm -f "$PID_FILE"
    echo "the clients had ended already"
    exit 0
fi
# They write their last lines when they are interrupted.
kill -INT "$pid"
deadline=$((SECONDS + STOP_TIMEOUT))
while is_subscriber "$pid"; do
    ((SECONDS < deadline)) || fail "process $pid does not end within $STOP_TIMEOUT s: end it with 'kill -KILL $pid'"
    sleep 0.05
done
rm -f "$PID_FILE" "$READY_FILE"
echo "the clients have ended"
