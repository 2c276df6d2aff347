#!/usr/bin/env bash
# Faults below TCP, by the kernel's own tools: a network namespace with a slow line, and one whose only link goes down.
# What these tools cannot do (loss, reordering, latency where netem is missing) the proxy of tests/api/network.rs does;
# where they are not to be had, all of it is left to that.
#
# Needs what `make lib enclave examples` builds.
set -uo pipefail
cd "$(dirname "$0")/../.."

NAME=confer-test-$$
inside() { ip netns exec "$NAME" "$@"; }
if ! { command -v ip && command -v tc && ip netns add "$NAME" && inside ip link set lo up &&
       inside tc qdisc add dev lo root tbf rate 2mbit burst 64kb latency 500ms; } >/dev/null 2>&1; then
  ip netns del "$NAME" 2>/dev/null
  echo 'no network namespaces and traffic control here: left to the proxy in tests/api'
  exit 0
fi
OUT=$(mktemp -d)
trap 'exec 9>&-; ip netns del "$NAME"; rm -rf "$OUT"' EXIT

mkfifo "$OUT/stdin"
inside build/bin/confer-enclave --exit-with-stdin --state "$OUT/state" <"$OUT/stdin" >"$OUT/line" &
exec 9>"$OUT/stdin"
until [ -s "$OUT/line" ]; do sleep 0.05; done
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" "$OUT/line"; }
CONFER_TOKEN=$(field token)
export CONFER_TOKEN
chat() { inside build/examples/c/chat --url "$(field url)" --policy "$(field policy)" "$@"; }

failed=0
check() { # name, command…
  local name=$1
  shift
  if "$@"; then echo "ok: $name"; else failed=$((failed + 1)); echo "FAILED: $name"; cat "$OUT/answer" "$OUT/errors" | tail -5; fi
}

a_slow_line_loses_nothing() { # 400 KB at 2 Mbit/s, and the handshake with its evidence
  chat --timeout 30 --once '/tokens 400 1000' >"$OUT/answer" 2>"$OUT/errors" || return 1
  [ "$(wc -c <"$OUT/answer")" -ge 400000 ]
}

# 1 s to the next ping, 2 s until a peer that does not answer is dead, and a busy machine.
a_link_that_goes_down_is_noticed_within_the_limits() {
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

check 'a slow line loses nothing' a_slow_line_loses_nothing
check 'a link that goes down is noticed within the limits' a_link_that_goes_down_is_noticed_within_the_limits
check 'and once it is up again the next connection works' a_slow_line_loses_nothing
[ $failed = 0 ]
