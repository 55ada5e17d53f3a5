#!/usr/bin/env bash
# Sends GET requests to a service of steerd with curl.
#
#   curl.sh URL [REQUESTS]
#
# Prints the status and the body of each reply. Lift `fetch` and the settings above it.
set -euo pipefail

# Seconds to connect to one address.
connect_timeout=1
# Seconds for one attempt at one address, to the last byte.
attempt_timeout=10
# Attempts for one request: the first one and three retries.
attempts=4
# Milliseconds: the most that the first pause may take. It doubles from retry to retry.
pause=200

# Prints the status and the body that a GET of URL brings. GET is idempotent; do not send a POST this way.
#
# The walk over the addresses is ours. curl walks too, but divides its --connect-timeout among them, and
# curl 7.88, that of Debian 12, gives up at the first silent one. The retries are ours as well: the pauses
# of curl's --retry have no jitter, so clients that failed together come back together.
fetch() {
    local url=$1 host port attempt address reply status connected code most=$pause
    [[ $url =~ ^(https?)://([^/:]+)(:([0-9]+))? ]] || { echo "curl.sh: not a URL: $url" >&2; return 2; }
    host=${BASH_REMATCH[2]} port=${BASH_REMATCH[4]}
    [[ -n $port ]] || { [[ ${BASH_REMATCH[1]} == https ]] && port=443 || port=80; }
    for ((attempt = 1; ; attempt++)); do
        code=6 status=none
        # Each attempt asks the resolver again, and that keeps the TTL. The order is that of the answer,
        # but for what RFC 6724 prefers, such as a family that this machine has.
        for address in $(getent ahosts "$host" | awk '$2 == "STREAM" { print $1 }'); do
            # The address of `--resolve` changes where curl connects to, and nothing else: neither the
            # Host header nor the name that a certificate must have.
            code=0
            reply=$(curl --silent --resolve "$host:$port:$address" \
                --connect-timeout "$connect_timeout" --max-time "$attempt_timeout" \
                --write-out '\n%{http_code} %{time_connect}' "$url") || code=$?
            read -r status connected <<<"${reply##*$'\n'}"
            # Without a connection nothing was sent, and the next address is tried at once.
            [[ $connected =~ ^0[.,]0+$ ]] || break
        done
        if ((code == 0)) && [[ ! $status =~ ^(429|502|503|504)$ ]]; then
            echo "$status ${reply%$'\n'*}"
            return
        fi
        if ((attempt == attempts)); then
            echo "curl.sh: all $attempts attempts failed; the last: curl's exit code $code, status $status" >&2
            return 1
        fi
        # Full jitter: any time up to the limit.
        sleep "$(printf '0.%03d' $((RANDOM % most)))"
        most=$((most * 2 < 1000 ? most * 2 : 1000))
    done
}

for ((request = 0; request < ${2:-1}; request++)); do
    fetch "$1" || echo "failed"
    sleep 0.1
done
