#!/usr/bin/env bash
# A load test of conversations: finds Redis and the hub by itself, says what it found, and runs `fanfare load` there.
#
#   scripts/run-loadtest.sh                                      wherever they are found
#   scripts/run-loadtest.sh -c 20 -t 100 --duration 2m           all flags of `fanfare load` are passed on
#   scripts/run-loadtest.sh -c 100 -t 200 -d 20 --duration 5m --repeat     five minutes of it: conversations begin anew
#   scripts/run-loadtest.sh -r localhost:6379 -s http://localhost:8080
#
# Each of the two is looked for in this order:
#   1. the flags -r and -s
#   2. the environment: REDIS_URL, or REDIS_HOST and REDIS_PORT; HUB_URL
#   3. this machine: port REDIS_PORT (6379) and port HUB_PORT (8080)
#   4. the cluster of kubectl, if there is one: REDIS_SERVICE (redis-system/redis:6379), HUB_SERVICE
#      (sse-system/sse-adapter:80), each through a port-forward that ends with this script
# Without a Redis, and if the hub that was found has none while nobody named one, tokens are published at the hub.
# Behind TLS (https://…) a hub is not asked what it has: without a Redis that is named, tokens are published at the hub.
# Further environment: FANFARE (the program), FANFARE_TOKEN or TOKEN_FILE (a token, and a file that holds one, for a hub
# that asks who comes), CA_FILE (the authority that signed its certificate, in PEM). The exit code is that of `fanfare load`, or 1 if there is no hub.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
named_hub=${HUB_URL:-}
# shellcheck source=scripts/clients_common.sh
source "$here/clients_common.sh"

# How long kubectl may take for one answer, in seconds.
KUBECTL_TIMEOUT=10
forwards=()
redis='' hub='' found=''

main() {
    find_fanfare
    read_flags "$@"
    local endpoints=()
    if [[ -z $has_hub && ($mode != producer || -z $has_outlet) ]]; then
        find_hub || fail "there is no hub at 127.0.0.1:${HUB_PORT:-8080}, and none in a cluster of kubectl: start one with \
'fanfare serve', set HUB_URL, or name it with -s"
        endpoints+=(--sse "$hub")
        say "hub: $hub ($found)"
    fi
    if [[ $mode != consumer && -z $has_outlet ]]; then
        if find_redis; then
            endpoints+=(--redis "$redis")
            # A URL may hold a password.
            say "Redis: $(sed 's,//[^/]*@,//***@,' <<<"$redis") ($found)"
        else
            say "Redis: $found; publishing at the hub"
        fi
    fi
    endpoints+=("${ACCESS[@]+"${ACCESS[@]}"}")
    if [[ ${#forwards[@]} -eq 0 ]]; then
        exec "$FANFARE" load "${endpoints[@]+"${endpoints[@]}"}" "$@"
    fi
    run_beside_forwards "${endpoints[@]}" "$@"
}

say() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

# Sets mode, and whether the flags name a hub and where to publish. A value may stand in the next word, behind `=`, or
# right behind the letter.
read_flags() {
    mode=both has_hub='' has_outlet=''
    local word previous=''
    for word in "$@"; do
        case $previous in
        -m | -mode | --mode) mode=$word ;;
        esac
        case $word in
        -m=* | -mode=* | --mode=*) mode=${word#*=} ;;
        -m | -mode | --mode) ;;
        -mproducer | -mconsumer | -mboth) mode=${word#-m} ;;
        -s | -s?* | --sse | --sse=*) has_hub=yes ;;
        -r | -r?* | --redis | --redis=* | -publish-url | -publish-url=* | --publish-url | --publish-url=*) has_outlet=yes ;;
        -h | --help) exec "$FANFARE" load --help ;;
        esac
        previous=$word
    done
}

# Sets hub and found.
find_hub() {
    if [[ -n $named_hub ]]; then
        hub=$named_hub found="from HUB_URL"
    elif [[ $(ask_hub 127.0.0.1 "${HUB_PORT:-8080}") == *'"sources"'* ]]; then
        hub=http://127.0.0.1:${HUB_PORT:-8080} found="on this machine"
    elif forward "${HUB_SERVICE:-sse-system/sse-adapter:80}"; then
        hub=http://127.0.0.1:$forwarded found="kubectl, ${HUB_SERVICE:-sse-system/sse-adapter:80}"
    else
        return 1
    fi
}

# Sets redis and found; found says why not if there is none.
find_redis() {
    local port=${REDIS_PORT:-6379}
    if [[ -n ${REDIS_URL:-} ]]; then
        redis=$REDIS_URL found="from REDIS_URL"
    elif [[ -n ${REDIS_HOST:-} ]]; then
        redis=$REDIS_HOST:$port found="from REDIS_HOST"
    elif [[ $hub == https://* ]]; then
        found="none is named, and the hub is behind TLS"
        return 1
    elif hub_is_alone; then
        found="the hub at $hub has none"
        return 1
    elif [[ $(ask 127.0.0.1 "$port" $'PING\r\n') == [+-]* ]]; then
        redis=127.0.0.1:$port found="on this machine"
    elif forward "${REDIS_SERVICE:-redis-system/redis:6379}"; then
        redis=127.0.0.1:$forwarded found="kubectl, ${REDIS_SERVICE:-redis-system/redis:6379}"
    else
        found="none at 127.0.0.1:$port, and none in a cluster of kubectl"
        return 1
    fi
}

# Whether the hub that was found says that its events come from no broker.
hub_is_alone() {
    [[ $hub =~ ^http://([^/:]+):([0-9]+)/?$ ]] || return 1
    [[ $(ask_hub "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}") == *'"sources":{}'* ]]
}

# What the hub at host $1 and port $2 says of its sources.
ask_hub() {
    ask "$1" "$2" $'GET /ready HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n'
}

# Sends $3 to host $1 and port $2, and prints what is answered within two seconds; nothing if nobody listens.
ask() {
    local line
    # The redirection's own complaint is silenced, too.
    { exec 3<>"/dev/tcp/$1/$2"; } 2>/dev/null || return 0
    printf '%s' "$3" >&3
    while IFS= read -r -t 2 line <&3 || [[ -n $line ]]; do
        printf '%s\n' "$line"
        # Redis leaves the connection open: its answer is one line.
        [[ $line != [+-]* ]] || break
        line=''
    done
    exec 3>&-
}

# Forwards a port of this machine to namespace/service:port, and sets forwarded to its number.
forward() {
    local namespace=${1%%/*} service=${1#*/} output
    command -v kubectl >/dev/null || return 1
    kubectl get --request-timeout="${KUBECTL_TIMEOUT}s" -n "$namespace" "svc/${service%:*}" >/dev/null 2>&1 || return 1
    # In a session of its own: Ctrl+C is for the load test, which needs the port until its end.
    exec 4< <(exec setsid kubectl port-forward -n "$namespace" "svc/${service%:*}" ":${service##*:}" 2>&1)
    forwards+=($!)
    while read -r -t "$KUBECTL_TIMEOUT" output <&4; do
        if [[ $output =~ ^Forwarding\ from\ 127\.0\.0\.1:([0-9]+) ]]; then
            forwarded=${BASH_REMATCH[1]}
            # It says a line for each connection, and must not wait for a reader.
            cat <&4 >/dev/null &
            return
        fi
        say "kubectl: $output"
    done
    return 1
}

# Runs the load test, and ends the port-forwards when it has ended.
run_beside_forwards() {
    trap 'kill "${forwards[@]}" 2>/dev/null || true' EXIT
    "$FANFARE" load "$@" &
    local child=$! code
    # The report comes all the same.
    trap 'kill -TERM "$child" 2>/dev/null || true' INT TERM
    while true; do
        code=0
        wait "$child" || code=$?
        kill -0 "$child" 2>/dev/null || break
    done
    exit "$code"
}

main "$@"
