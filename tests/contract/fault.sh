#!/usr/bin/env bash
# Tests one fault: `fault.sh WORK LINE`. LINE is a line of `confer-enclave --list-faults`. Checks
# chat's exit code, last line and done line. If the enclave is refused, only the
# check of LINE may fail in the report, and a replay must have the same checks. Prints "ok NAME"
# or "not ok NAME: why".
set -uo pipefail
work=$1 line=$2
CONFER_ENCLAVE_STATE=$work/state
. "$(dirname "$0")/examples.sh"
field() { sed -n 's/.*"'"$1"'":"\([^"]*\)".*/\1/p' <<<"$line"; }
name=$(field fault) status=$(field status) check=$(field check) outcome=$(field outcome)
dir=$work/fault-$name
mkdir -p "$dir"
cd "$dir" || exit 1

bad() { echo "not ok fault $name: $*"; exit; }

# A fault that only a time limit ends takes as long as the limit. The other faults must not meet it on a slow machine.
case $status/$name in
  CONFER_E_STAGE_TIMEOUT/* | CONFER_E_DEAD_PEER/* | CONFER_E_STREAM_IDLE/* | */key-server-stall | */key-server-half)
    limit=10 ;;
  *) limit=50 ;;
esac
start_enclave --fault "$name"
printf '%s' "$token" >"$work/tokens/$name"
CONFER_TOKEN=$token timeout 60 "$chat" --url "$url" --policy "$policy" --timeout "$limit" --json --report report --evidence evidence \
  --once "$PROMPT" >out 2>err
code=$?

want=$(exit_code "$status")
[ "$code" = "$want" ] || bad "exit $code, not $want; $(tail -n 1 err)"
[ "$(tail -n 1 out)" = "{\"type\":\"done\",\"status\":\"$status\"}" ] || bad "done line: $(tail -n 1 out | head -c 200)"
[ "$(grep -c '"type":"done"' out)" = 1 ] || bad "not one done line"
if [ "$status" = CONFER_OK ]; then
  grep -q '^confer: ' err && bad "an error line after success"
  grep -q '"verdict":"verified"' report || bad "no report of a verified enclave"
  if [ "$outcome" = warn ]; then
    checks report | grep "\"id\":\"$check\",\"outcome\":\"warn\"" >/dev/null || bad "$check does not warn"
    grep -q "! $check" err || bad "the checklist does not show the warning"
  fi
else
  tail -n 1 err | grep -q "^confer: $status: ." || bad "last line: $(tail -n 1 err)"
fi
if [ "$status" = CONFER_E_REJECTED ]; then
  grep -q '"verdict":"rejected"' report || bad "no report of a rejected enclave"
  failing=$(checks report | grep '"outcome":"fail"' | sed 's/{"id":"\([^"]*\)".*/\1/' | tr '\n' ' ')
  [ "$failing" = "$check " ] || bad "failed: $failing, not $check alone"
  grep -q "✗ $check" err || bad "the checklist does not show the failure"
  timeout 20 "$verify" evidence --policy "$policy" >replayed 2>replay-err
  [ $? = 3 ] || bad "the replay's exit code is not 3"
  tail -n 1 replay-err | grep -q '^confer: CONFER_E_REJECTED: .' || bad "the replay's last line: $(tail -n 1 replay-err)"
  [ "$(checks report)" = "$(checks replayed)" ] || bad "the replay comes to other checks"
fi
echo "ok fault $name"
