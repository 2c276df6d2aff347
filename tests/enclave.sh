# Sourced by scripts that need the local enclave. A script that wants another state than the other
# tests sets CONFER_ENCLAVE_STATE before.

TREE=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export CONFER_ENCLAVE=${CONFER_ENCLAVE:-$TREE/build/bin/confer-enclave}
export CONFER_ENCLAVE_STATE=${CONFER_ENCLAVE_STATE:-$TREE/build/tests/enclave-state}
mkdir -p "$CONFER_ENCLAVE_STATE"
enclave=("$CONFER_ENCLAVE")
enclave_pid=

# start_enclave [OPTION…]: sets url, token and policy. The enclave ends when this shell ends.
start_enclave() {
  local ready
  coproc ENCLAVE { exec "${enclave[@]}" --exit-with-stdin --state "$CONFER_ENCLAVE_STATE" "$@"; }
  enclave_pid=$ENCLAVE_PID
  IFS= read -r -t 60 ready <&"${ENCLAVE[0]}" || { echo "the local enclave did not start: $*" >&2; exit 1; }
  url=$(sed -n 's/.*"url":"\([^"]*\)".*/\1/p' <<<"$ready")
  token=$(sed -n 's/.*"token":"\([^"]*\)".*/\1/p' <<<"$ready")
  policy=$(sed -n 's/.*"policy":"\([^"]*\)".*/\1/p' <<<"$ready")
}

stop_enclave() {
  { kill "$enclave_pid" && wait "$enclave_pid"; } 2>/dev/null || true
  enclave_pid=
}

# with_enclave COMMAND…: runs a command with an enclave. CONFER_TOKEN has the token. The words @URL
# and @POLICY become the URL and the policy file, which are also in CONFER_TEST_URL and
# CONFER_TEST_POLICY.
with_enclave() {
  local status=0 words
  start_enclave
  words=("${@/#@URL/"$url"}")
  words=("${words[@]/#@POLICY/"$policy"}")
  CONFER_TOKEN=$token CONFER_TEST_URL=$url CONFER_TEST_POLICY=$policy "${words[@]}" || status=$?
  stop_enclave
  return $status
}

# answers NAME WANTED COMMAND…: runs a command with an enclave, and checks what it prints. Shows its
# errors if it fails.
answers() {
  local errors found
  errors=$(mktemp)
  if ! found=$(with_enclave "${@:3}" 2>"$errors") || [[ $found != "$2" ]]; then
    cat "$errors"
    rm "$errors"
    echo "FAILED: $1: expected '$2', found '$found'"
    exit 1
  fi
  rm "$errors"
  echo "$1: $found"
}
