# Functions for the scripts of this folder, which run the examples with a local enclave.

. "$(dirname "${BASH_SOURCE[0]}")/../enclave.sh"
chat=$TREE/build/examples/c/chat
verify=$TREE/build/examples/c/verify

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
