#!/usr/bin/env bash
# Starts N subscribers of events.critical over WebSocket, and returns when all of them are connected.
# Each logs what it receives to its own file of LOG_DIR; scripts/stop_clients.sh ends them.
#
#   scripts/run_clients.sh [N]       50 if not given
#
# Environment: HUB_URL (http://127.0.0.1:8080, or https://…), FANFARE_TOKEN or TOKEN_FILE (a token, and a file that holds
# one, for a hub that asks who comes), CA_FILE (the authority that signed its certificate, in PEM), LOG_DIR (logs), FANFARE (the program), CONNECT_TIMEOUT (30, seconds).
set -euo pipefail
# shellcheck source=scripts/clients_common.sh
source "$(dirname "${BASH_SOURCE[0]}")/clients_common.sh"

[[ $# -le 1 ]] || fail "usage: $0 [N]"
clients=${1:-50}
connect_timeout=${CONNECT_TIMEOUT:-30}
require_count "the number of clients" "$clients"
require_count CONNECT_TIMEOUT "$connect_timeout"
find_fanfare

mkdir -p "$LOG_DIR"
if [[ -f $PID_FILE ]] && is_subscriber "$(<"$PID_FILE")"; then
    fail "clients are running already (process $(<"$PID_FILE")): end them with scripts/stop_clients.sh"
fi
# Logs of an earlier run would be counted as this one's.
rm -f "$LOG_DIR"/client-*.log "$PID_FILE" "$READY_FILE"

nohup "$FANFARE" subscribe "$HUB_URL" --transport ws --topic "$TOPIC" --clients "$clients" \
    "${ACCESS[@]+"${ACCESS[@]}"}" \
    --log-dir "$LOG_DIR" --ready-file "$READY_FILE" </dev/null >"$OUTPUT_FILE" 2>&1 &
pid=$!
echo "$pid" >"$PID_FILE"

deadline=$((SECONDS + connect_timeout))
while [[ ! -f $READY_FILE ]]; do
    if ! kill -0 "$pid" 2>/dev/null; then
        rm -f "$PID_FILE"
        fail "the clients ended before they were connected to $HUB_URL: $(tail -n 1 "$OUTPUT_FILE")"
    fi
    if ((deadline <= SECONDS)); then
        "$(dirname "${BASH_SOURCE[0]}")/stop_clients.sh" >/dev/null
        reason=$(grep '^fanfare: ' "$OUTPUT_FILE" | tail -n 1) || reason="no reason was told"
        fail "not all clients could connect to $HUB_URL within $connect_timeout s ($reason). Is the hub running there?"
    fi
    sleep 0.05
done
echo "$clients clients are connected to $HUB_URL (process $pid, logs in $LOG_DIR)"
