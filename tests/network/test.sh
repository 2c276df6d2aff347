#!/usr/bin/env bash
# Tests faults below TCP in a network namespace: a slow line, and a link that goes down. The proxy
# of tests/api/network.rs tests loss, reordering and latency. It also runs on systems without
# namespaces.
#
# Needs what `make lib enclave examples` builds.
set -uo pipefail
cd "$(dirname "$0")/../.."

NAME=confer-test-$$
inside() { ip netns exec "$NAME" "$@"; }
if ! { command -v ip && command -v tc && ip netns add "$NAME" && inside ip link set lo up &&
       inside tc qdisc add dev lo root tbf rate 2mbit burst 64kb latency 500ms; } >/dev/null 2>&1; then
  ip netns del "$NAME" 2>/dev/null
  echo 'no network namespaces or traffic control here: only the proxy of tests/api tests the network'
  exit 0
fi
OUT=$(mktemp -d)
CONFER_ENCLAVE_STATE=$OUT/state
source tests/enclave.sh
trap 'stop_enclave; ip netns del "$NAME"; rm -rf "$OUT"' EXIT

enclave=(ip netns exec "$NAME" "$CONFER_ENCLAVE")
start_enclave
export CONFER_TOKEN=$token
chat() { inside build/examples/c/chat --url "$url" --policy "$policy" "$@"; }

failed=0
check() { # name, command…
  local name=$1
  shift
  if "$@"; then echo "ok: $name"; else failed=$((failed + 1)); echo "FAILED: $name"; cat "$OUT/answer" "$OUT/errors" | tail -5; fi
}

slow_line_loses_nothing() { # the handshake with its evidence, and 400 KB at 2 Mbit/s
  chat --timeout 30 --once '/tokens 400 1000' >"$OUT/answer" 2>"$OUT/errors" || return 1
  [ "$(wc -c <"$OUT/answer")" -ge 400000 ]
}

# The next ping comes within 1 s, and a silent peer is dead after 2 s. The rest is slack.
lost_link_is_noticed_within_the_limits() {
  local began status
  chat --timeout 4 --once '/slow 100 1000' >"$OUT/answer" 2>"$OUT/errors" &
  until grep -q slow3 "$OUT/answer" 2>/dev/null; do sleep 0.05; kill -0 $! 2>/dev/null || return 1; done
  began=$SECONDS
  inside ip link set lo down
  wait $!
  status=$?
  inside ip link set lo up
  [ $status = 4 ] || [ $status = 5 ] || return 1
  grep -q 'CONFER_E_DEAD_PEER\|CONFER_E_CONNECTION_LOST' "$OUT/errors" && [ $((SECONDS - began)) -lt 10 ]
}

check 'a slow line loses nothing' slow_line_loses_nothing
check 'a lost link is noticed within the limits' lost_link_is_noticed_within_the_limits
check 'once the link is back the next connection works' slow_line_loses_nothing
[ $failed = 0 ]
