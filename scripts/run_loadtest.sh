#!/usr/bin/env bash
# The whole load test: starts the subscribers, publishes, waits until everything has arrived, and prints the report.
#
#   scripts/run_loadtest.sh [CLIENTS [EVENTS]]       50 and 50 if not given
#
# Environment: CLIENTS, EVENTS, RATE (events a second; all at once if not given), HUB_URL (http://127.0.0.1:8080),
# FANFARE_TOKEN or TOKEN_FILE, CA_FILE (as run_clients.sh takes them), REDIS_URL, or REDIS_HOST and REDIS_PORT (publishes via Redis, else via the hub), LOG_DIR (logs), FANFARE (the
# program), CONNECT_TIMEOUT (30) and DELIVERY_TIMEOUT (30), in seconds.
# Ends with 0 even if deliveries were dropped: the report says how many.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source=scripts/clients_common.sh
source "$here/clients_common.sh"

[[ $# -le 2 ]] || fail "usage: $0 [CLIENTS [EVENTS]]"
clients=${1:-${CLIENTS:-50}}
events=${2:-${EVENTS:-50}}
delivery_timeout=${DELIVERY_TIMEOUT:-30}
require_count "the number of clients" "$clients"
require_count "the number of events" "$events"
require_count DELIVERY_TIMEOUT "$delivery_timeout"
find_fanfare
export FANFARE HUB_URL LOG_DIR

redis_url=${REDIS_URL:-}
if [[ -z $redis_url && -n ${REDIS_HOST:-} ]]; then
    redis_url=redis://$REDIS_HOST:${REDIS_PORT:-6379}
fi
outlet=(--url "$HUB_URL" --topic "$TOPIC" "${ACCESS[@]+"${ACCESS[@]}"}")
if [[ -n $redis_url ]]; then
    outlet=(--redis "$redis_url" --channel "$TOPIC")
fi
pace=()
if [[ -n ${RATE:-} ]]; then
    pace=(--rate "$RATE")
fi

"$here/run_clients.sh" "$clients"
trap '[[ ! -f $PID_FILE ]] || "$here/stop_clients.sh" >/dev/null' EXIT
# Otherwise bash would leave without the trap above.
trap 'exit 130' INT
trap 'exit 143' TERM

"$FANFARE" publish --type LOAD_TEST --source run_loadtest --count "$events" "${pace[@]+"${pace[@]}"}" "${outlet[@]}"

expected=$((clients * events))
count_deliveries() { find "$LOG_DIR" -name 'client-*.log' -exec cat {} + | wc -l; }
deadline=$((SECONDS + delivery_timeout))
while received=$(count_deliveries) && ((received < expected)); do
    if ((deadline <= SECONDS)); then
        echo "${0##*/}: only $((received)) of $expected deliveries within $delivery_timeout s" >&2
        break
    fi
    sleep 0.1
done
"$here/stop_clients.sh"
"$FANFARE" report "$LOG_DIR" --clients "$clients" --events "$events"
