# Functions for the scripts of this folder, which start a local enclave and run the examples.
# start_enclave sets url, token and policy.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
chat=$root/build/examples/c/chat
verify=$root/build/examples/c/verify
enclave=$root/build/bin/confer-enclave

# start_enclave STATE [OPTION…]: the enclave ends when this shell ends.
start_enclave() {
  local state=$1 ready
  shift
  coproc ENCLAVE { exec "$enclave" --exit-with-stdin --state "$state" "$@"; }
  enclave_pid=$ENCLAVE_PID
  IFS= read -r -t 60 ready <&"${ENCLAVE[0]}" || { echo "the local enclave did not start: $*" >&2; exit 1; }
  url=$(sed -n 's/.*"url":"\([^"]*\)".*/\1/p' <<<"$ready")
  token=$(sed -n 's/.*"token":"\([^"]*\)".*/\1/p' <<<"$ready")
  policy=$(sed -n 's/.*"policy":"\([^"]*\)".*/\1/p' <<<"$ready")
}

stop_enclave() { { kill "$enclave_pid"; wait "$enclave_pid"; } 2>/dev/null; }

# exit_code STATUS_NAME: prints chat's exit code for a fault's status.
exit_code() {
  case $1 in
    CONFER_OK) echo 0 ;;
    CONFER_E_REJECTED) echo 3 ;;
    CONFER_E_CANCELLED) echo 130 ;;
    CONFER_E_INVALID_* | CONFER_E_FILE | CONFER_E_TOO_LARGE) echo 2 ;;
    CONFER_E_EVENT | CONFER_E_REFUSED | CONFER_E_UNAUTHORIZED | CONFER_E_PAYMENT_REQUIRED | CONFER_E_STREAM_IDLE) echo 5 ;;
    *) echo 4 ;;
  esac
}

# checks FILE: prints the checks of a report, one per line.
checks() { sed 's/.*"checks":\[//; s/\],"timings_us".*//; s/},{/}\n{/g' "$1"; }
