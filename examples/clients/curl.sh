#!/usr/bin/env bash
# Sends GET requests to a service of steerd with curl.
#
#   curl.sh URL [TTL [REQUESTS]]
#
# TTL is the TTL of the service, in seconds. It changes nothing here: each attempt is a separate process,
# which keeps no connection. Prints the status and the body of each reply. Copy `fetch` and the settings
# above it.
set -euo pipefail

# Timeout for connecting to one address, seconds.
connect_timeout=1
# Timeout for one attempt at one address, to the last byte, seconds.
attempt_timeout=10
# Attempts for one request: the first one and three retries.
attempts=4
# Maximum of the first pause, milliseconds. It doubles with each retry.
pause=200

# Sends GET and prints the status and the body of the reply. GET is idempotent; do not send a POST this way.
#
# The script tries the addresses itself. curl does too, but divides its --connect-timeout among them, and
# curl 7.88 (Debian 12) gives up at the first silent one. The script also retries itself: the pauses of
# curl's --retry have no jitter, so clients that failed together retry together.
fetch() {
    local url=$1 host port attempt address reply status connected code most=$pause
    [[ $url =~ ^(https?)://([^/:]+)(:([0-9]+))? ]] || { echo "curl.sh: not a URL: $url" >&2; return 2; }
    host=${BASH_REMATCH[2]} port=${BASH_REMATCH[4]}
    [[ -n $port ]] || { [[ ${BASH_REMATCH[1]} == https ]] && port=443 || port=80; }
    for ((attempt = 1; ; attempt++)); do
        code=6 status=none
        # Each attempt asks the resolver again, which respects the TTL. The order is that of the answer,
        # except for the preferences of RFC 6724, such as a family that this machine has.
        for address in $(getent ahosts "$host" | awk '$2 == "STREAM" { print $1 }'); do
            # `--resolve` changes only the address that curl connects to, not the Host header or the name
            # in the certificate.
            code=0
            reply=$(curl --silent --resolve "$host:$port:$address" \
                --connect-timeout "$connect_timeout" --max-time "$attempt_timeout" \
                --write-out '\n%{http_code} %{time_connect}' "$url") || code=$?
            read -r status connected <<<"${reply##*$'\n'}"
            # Nothing was sent without a connection, so the next address is tried at once.
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

if (($# < 1 || $# > 3)) || [[ ! ${2:-20} =~ ^[0-9]+$ || ! ${3:-1} =~ ^[0-9]+$ ]]; then
    echo "usage: curl.sh URL [TTL [REQUESTS]]" >&2
    exit 2
fi
for ((request = 0; request < ${3:-1}; request++)); do
    fetch "$1" || echo "failed"
    sleep 0.1
done
