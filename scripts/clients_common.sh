# What run_clients.sh, stop_clients.sh and run_loadtest.sh share; they source it, it is no program of its own.
# shellcheck shell=bash

HUB_URL=${HUB_URL:-http://127.0.0.1:8080}
LOG_DIR=${LOG_DIR:-logs}
TOPIC=events.critical
# How the tools are let in. A token in FANFARE_TOKEN they find by themselves; none is ever an argument, which others see.
ACCESS=()
[[ -z ${TOKEN_FILE:-} ]] || ACCESS+=(--token-file "$TOKEN_FILE")
[[ -z ${CA_FILE:-} ]] || ACCESS+=(--ca "$CA_FILE")
# The subscribers' process, what it says, and the file it writes once all its streams are open.
PID_FILE=$LOG_DIR/clients.pid
OUTPUT_FILE=$LOG_DIR/clients.out
READY_FILE=$LOG_DIR/clients.ready

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Fails unless $2, which is $1, is a number above 0.
require_count() {
    [[ $2 =~ ^[1-9][0-9]{0,8}$ ]] || fail "$1 must be a number from 1 to 999999999, not '$2'"
}

# Sets FANFARE to the program: as given, or on the PATH, or as built beside these scripts.
find_fanfare() {
    local root candidate
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    for candidate in "${FANFARE:-fanfare}" "$root/target/release/fanfare" "$root/target/debug/fanfare"; do
        if command -v "$candidate" >/dev/null; then
            FANFARE=$candidate
            return
        fi
        [[ -z ${FANFARE:-} ]] || fail "FANFARE=$FANFARE is no program"
    done
    fail "there is no fanfare on the PATH: build it with 'cargo build --release', or set FANFARE to its path"
}

# Whether process $1 is one of our subscribers; a pid file may be old, and its number somebody else's by now.
is_subscriber() {
    [[ $(ps -o args= -p "$1" 2>/dev/null) == *"fanfare subscribe "*"--ready-file $READY_FILE"* ]]
}
