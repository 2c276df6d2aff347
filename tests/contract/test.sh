#!/usr/bin/env bash
# Tests the examples: command lines, exit codes, last lines and output, with the local enclave and
# each of its faults.
# Needs `make examples enclave`. Prints "N passed, N failed" at the end.
set -uo pipefail
work=$(mktemp -d)
CONFER_ENCLAVE_STATE=$work/state
. "$(dirname "$0")/examples.sh"
trap 'stop_enclave; [ ! -e "$work"/tmux-* ] || tmux kill-server 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
here=$(cd "$(dirname "$0")" && pwd)

for program in "$chat" "$verify" "$enclave"; do
  [ -x "$program" ] || { echo "$program is not built: make examples enclave"; exit 1; }
done
mkdir "$work/tokens"
cd "$work" || exit 1
export PROMPT='secret-prompt Grüße 👩‍🚀 "quoted" \back'
unset CONFER_TOKEN
passed=0 failed=0

ok()  { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "not ok $*"; }

# talk NAME CODE STATUS [ARGUMENT…]: runs chat with the enclave's URL, token and policy. Checks the
# exit code, and the last line unless STATUS is "-". Writes NAME.out and NAME.err.
talk() {
  local name=$1 want=$2 status=$3
  shift 3
  CONFER_TOKEN=$token timeout 60 "$chat" --url "$url" --policy "$policy" "$@" >"$name.out" 2>"$name.err"
  judge "$name" $? "$want" "$status"
}

# judge NAME CODE WANTED STATUS
judge() {
  if [ "$2" != "$3" ]; then bad "$1: exit $2, not $3; $(tail -n 1 "$1.err")"
  elif [ "$4" != - ] && ! tail -n 1 "$1.err" | grep -q "^confer: $4: ."; then bad "$1: last line: $(tail -n 1 "$1.err")"
  elif [ "$4" = - ] && grep -q '^confer: ' "$1.err"; then bad "$1: an error line after success"
  else ok; fi
}

# holds NAME COMMAND…: a test that passes if the command succeeds.
holds() { local name=$1; shift; if "$@"; then ok; else bad "$name"; fi; }
not() { ! "$@"; }

# until_ COMMAND…: waits until the command succeeds, at most 20 s.
until_() { local tries=400; until "$@" 2>/dev/null; do [ $((tries -= 1)) -gt 0 ] || return 1; sleep 0.05; done; }

# stuck_in_write FILE, signal_handled FILE: the process whose id is in FILE waits in write() to a
# full pipe, or has no pending signal.
stuck_in_write() { grep -q 'pipe_w' "/proc/$(cat "$1")/wchan"; }
signal_handled() { not grep -qE '^(SigPnd|ShdPnd):.*[1-9a-f]' "/proc/$(cat "$1")/status"; }

start_enclave
printf '%s' "$token" >tokens/main

# --- answers
talk answer 0 - --once "$PROMPT"
holds only_the_answer_goes_to_standard_output test "$(cat answer.out)" = "You said: $PROMPT"
holds checklist_shows_every_check test "$(grep -c '^  ✓ ' answer.err)" = 20
holds checklist_shows_the_log_entry grep -q 'logged at https://.* as entry [0-9]' answer.err
holds colours_only_on_terminals not grep -q $'\033' answer.err
talk unicode 0 - --once /unicode
holds unicode_is_unchanged grep -q '你好' unicode.out
talk big 0 - --once '/big 3000000'
holds big_answer_is_complete test "$(wc -c <big.out)" -gt 2900000
talk events 0 - --json --once "/thinking"
holds json_events_are_one_line_each test "$(grep -vc '^{.*}$' events.out)" = 0
holds json_shows_every_type grep -q '"type":"thinking"' events.out
holds json_ends_with_done test "$(tail -n 1 events.out)" = '{"type":"done","status":"CONFER_OK"}'
holds completion_comes_before_done grep -q '"type":"completion"' <(tail -n 2 events.out | head -n 1)
talk thinking 0 - --once /thinking
holds answer_omits_thinking test "$(cat thinking.out)" = 'Thought through.'
talk search 0 - --once /websearch
holds web_search_is_off_by_default grep -q 'webSearch=false' search.out
talk model 0 - --model some/model --once /echo-request
holds request_names_the_model grep -q '"model":"some/model"' model.out

talk conversation 0 - < <(printf '%s\n\nsecond\n/echo-request\n/quit\nnever\n' "$PROMPT")
holds conversation_answers_each_line grep -q '^You said: second$' conversation.out
holds conversation_sends_its_history \
  grep -q '"role":"assistant","content":"You said: second"},{"role":"user"' conversation.out
holds quit_ends_the_conversation not grep -q never conversation.out
talk last_line_without_newline 0 - < <(printf 'the end')
holds last_line_needs_no_newline grep -q 'You said: the end' last_line_without_newline.out

# --- a terminal
if command -v script >/dev/null; then
  CONFER_TOKEN=$token timeout 60 script -qec "'$chat' --url '$url' --policy '$policy'" /dev/null >terminal.out 2>terminal.err \
    < <(printf 'first\n/status 503\n/unicode\n/quit\n')
  judge terminal $? 0 -
  holds failed_answer_does_not_end_a_terminal_conversation \
    test "$(sed -n '/You said: first/,$p' terminal.out | grep -c 'confer: CONFER_E_REFUSED\|你好')" = 2
  holds terminal_gets_no_control_characters_of_a_model \
    not grep -qP '[\x00\x01-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f]' <(grep -a 你好 terminal.out)
  holds terminal_gets_colours grep -q $'\033\\[32m✓' terminal.out

  # Two signals while the pipe is full: chat cannot react to the first. The second ends it and
  # leaves the terminal clean.
  mkfifo unread_twice; exec 7<>unread_twice
  CONFER_TOKEN=$token timeout 60 script -qec \
    "echo \$\$ >quit.pid; exec '$chat' --url '$url' --policy '$policy' --once '/tokens 200000 60' >unread_twice" \
    /dev/null </dev/null >quit.out 2>quit.err &
  child=$!
  until_ stuck_in_write quit.pid || bad 'quit: not stuck in a write'
  kill -INT "$(cat quit.pid)"
  until_ signal_handled quit.pid
  kill -INT "$(cat quit.pid)"
  wait $child
  judge quit $? 130 -
  holds second_signal_resets_the_terminal \
    test "$(tr -d '\r' <quit.out | tail -c 48)" = $'\033[0m\033[K\nconfer: CONFER_E_CANCELLED: interrupted'
  exec 7<&-
else
  echo 'SKIP the chat at a terminal: script is not installed'
fi
if command -v tmux >/dev/null; then
  . "$here/terminal.sh"
else
  echo 'SKIP what the chat shows on a screen: tmux is not installed'
fi

# --- report and evidence
talk kept 0 - --report kept.json --evidence kept.evidence --once "$PROMPT"
holds report_is_written grep -q '^{"version":1,"verdict":"verified",' kept.json
replay() { # NAME CODE STATUS ARGUMENT…
  local name=$1 want=$2 status=$3; shift 3
  timeout 20 "$verify" "$@" >"$name.out" 2>"$name.err"
  judge "$name" $? "$want" "$status"
}
replay replayed 0 - kept.evidence --policy "$policy"
holds replay_has_the_same_checks test "$(checks kept.json)" = "$(checks replayed.out)"
replay later 3 CONFER_E_REJECTED kept.evidence --policy "$policy" --at "$(($(date +%s) + 7200))"
holds replay_uses_the_given_time grep -q '"id":"ita.time","outcome":"fail"' <(checks later.out)
replay other_policy 3 CONFER_E_REJECTED kept.evidence
holds production_policy_refuses_a_local_enclave grep -q '"id":"ita.key","outcome":"fail"' <(checks other_policy.out)
sed 's/"server_key":"......../"server_key":"00000000/' kept.evidence >key.evidence
replay other_key 3 CONFER_E_REJECTED key.evidence --policy "$policy"
holds evidence_for_another_key_is_refused grep -q '"id":"tdx.key_binding","outcome":"fail"' <(checks other_key.out)
# Changes one character in the middle of the evidence, which breaks a signature.
at=$(($(grep -ob '"evidence_base64":"' kept.evidence | cut -d: -f1) + 4000))
{ head -c $at kept.evidence; tail -c +$((at + 1)) kept.evidence | head -c 1 | tr 'A-Za-z0-9+/' 'B-ZAb-za1-90/+'; tail -c +$((at + 2)) kept.evidence; } >altered.evidence
holds altered_copy_differs not cmp -s kept.evidence altered.evidence
replay altered 3 CONFER_E_REJECTED altered.evidence --policy "$policy"
replay no_file 2 CONFER_E_FILE no-such-file
replay no_export 2 CONFER_E_INVALID_JSON "$policy" --policy "$policy"
replay a_folder 2 CONFER_E_FILE "$work"
replay no_policy 2 CONFER_E_FILE kept.evidence --policy no-such-file
replay no_argument 2 CONFER_E_INVALID_ARGUMENT
replay no_time 2 CONFER_E_INVALID_ARGUMENT kept.evidence --at yesterday
replay unknown_option 2 CONFER_E_INVALID_ARGUMENT kept.evidence --fast
timeout 20 "$verify" kept.evidence --policy "$policy" >/dev/full 2>full_replay.err
judge full_replay $? 2 CONFER_E_FILE
talk unwritable_report 2 CONFER_E_FILE --report no-such-folder/report --once "$PROMPT"
holds unwritable_report_prevents_the_request test ! -s unwritable_report.out

# --- invalid arguments
talk unknown_option 2 CONFER_E_INVALID_ARGUMENT --verbose
talk a_token_in_the_option 2 CONFER_E_INVALID_ARGUMENT "--token=$token" --once "$PROMPT"
talk a_prompt_in_the_option 2 CONFER_E_INVALID_ARGUMENT "--once=$PROMPT"
talk a_missing_value 2 CONFER_E_INVALID_ARGUMENT --once
talk no_number 2 CONFER_E_INVALID_ARGUMENT --timeout soon
talk no_time_at_all 2 CONFER_E_INVALID_ARGUMENT --timeout 0
talk no_url 2 CONFER_E_INVALID_URL --url nonsense --once "$PROMPT"
talk clear_text 2 CONFER_E_INVALID_URL --url ws://192.0.2.1/websocket --once "$PROMPT"
talk no_policy_file 2 CONFER_E_FILE --policy no-such-file --once "$PROMPT"
talk no_policy_document 2 CONFER_E_INVALID_POLICY --policy kept.evidence --once "$PROMPT"
talk bad_utf8 2 CONFER_E_INVALID_UTF8 --once $'secret-prompt \xff'
token='' talk no_token 2 CONFER_E_INVALID_ARGUMENT --once "$PROMPT"
holds usage_errors_print_nothing_on_standard_output test ! -s unknown_option.out
printf 'my diary' >diary
talk no_key_set 2 CONFER_E_FILE --jwks-cache diary --once "$PROMPT"
holds invalid_cache_file_is_unchanged test "$(cat diary)" = 'my diary'
talk cache 0 - --jwks-cache cache.json --once "$PROMPT"
holds key_set_is_cached grep -q '"x5c"' cache.json
talk cached 0 - --jwks-cache cache.json --once "$PROMPT"
talk unwritable_cache 0 - --jwks-cache no-such-folder/cache.json --once "$PROMPT"
holds unwritable_cache_warns grep -q '^! .*no-such-folder' unwritable_cache.err
talk long_warning 0 - --jwks-cache "no-such-folder/$(printf '%02000d' 0)" --once "$PROMPT"
holds long_warning_ends_its_line \
  test "$(grep -v '^! ' long_warning.err | wc -l)" = "$(grep -v '^! ' unwritable_cache.err | wc -l)"

# --- connections
talk wrong_token 4 CONFER_E_UPGRADE --token secret-but-wrong --once "$PROMPT"
talk refused 4 CONFER_E_CONNECT --url ws://127.0.0.1:1/websocket --json --once "$PROMPT"
holds failed_connection_prints_done test "$(cat refused.out)" = '{"type":"done","status":"CONFER_E_CONNECT"}'

# --- requests
talk status 5 CONFER_E_REFUSED --once '/status 503'
talk thought 5 CONFER_E_REFUSED --once '/thinking-status 503'
holds enclaves_text_starts_a_line grep -q '^The enclave says: ' thought.err
talk midstream 5 CONFER_E_UNAUTHORIZED --json --once '/status-midstream 401'
holds tokens_before_a_failure_are_shown grep -q '"type":"token"' midstream.out
talk script 5 CONFER_E_REFUSED < <(printf '/status 503\nnever\n')
holds script_stops_at_its_first_failure not grep -q never script.out
talk silent 5 CONFER_E_STREAM_IDLE --timeout 8 --once /silent

# --- the small examples
small() { # NAME CODE STATUS EXAMPLE ARGUMENT…: `input` is its standard input
  local name=$1 want=$2 status=$3 example=$TREE/build/examples/c/$4
  shift 4
  CONFER_TOKEN=$token timeout 60 "$example" --url "$url" --policy "$policy" "$@" >"$name.out" 2>"$name.err" <<<"${input:-}"
  judge "$name" $? "$want" "$status"
}
for example in tool_callbacks tool_pull; do
  input='/client-tool fahrenheit {"celsius": 21.5}' small "$example" 0 - $example
  holds "${example}_result_reaches_the_model" test "$(cat $example.out)" = 'The tool answered: 70.7'
  input='/client-tool fahrenheit {"celsius": "rm -rf /"}' small "${example}_misused" 0 - $example
  holds "${example}_failure_reaches_the_model" grep -q '^The tool answered: Error: ' "${example}_misused.out"
  input='/endless-tool fahrenheit {"celsius": 1}' small "${example}_for_ever" 5 CONFER_E_TOOL_ROUNDS $example
  input='/status 503' small "${example}_refused" 5 CONFER_E_REFUSED $example
  small "${example}_with_a_prompt" 2 CONFER_E_INVALID_ARGUMENT $example Hello
done
small extract_nothing 2 CONFER_E_FILE extract no-such-file
small extract_refused 5 CONFER_E_REFUSED extract --type a/b "$policy"
holds partial_document_is_not_printed test ! -s extract_refused.out
small extract_no_type 2 CONFER_E_INVALID_JSON extract --type 'a"b' "$policy"
small extract_no_time 2 CONFER_E_INVALID_ARGUMENT extract --timeout soon "$policy"
truncate -s $((256 * 1024 * 1024 + 1)) too-large.txt
small extract_too_large 2 CONFER_E_TOO_LARGE extract too-large.txt
holds too_large_document_is_refused_before_connecting not grep -q Verified extract_too_large.err
small embed_nothing 2 CONFER_E_INVALID_ARGUMENT embed
small embed_too_many 2 CONFER_E_TOO_LARGE embed $(seq 65)
small embed_token 2 CONFER_E_INVALID_ARGUMENT embed "--token=$token" x
small embed_wrong_token 4 CONFER_E_UPGRADE embed --token secret-but-wrong x
small embed_no_policy 2 CONFER_E_FILE embed --policy no-such-file x
for example in extract embed tool_callbacks tool_pull; do
  case $example in tool_*) argument= ;; *) argument=$policy ;; esac
  CONFER_TOKEN=$token timeout 60 "$TREE/build/examples/c/$example" --url "$url" --policy "$policy" $argument \
    <<<Hello >/dev/full 2>"full_$example.err"
  judge "full_$example" $? 5 CONFER_E_FILE
done

# --- output that cannot be written
CONFER_TOKEN=$token timeout 60 "$chat" --url "$url" --policy "$policy" --once "$PROMPT" >/dev/full 2>full.err
judge full $? 5 CONFER_E_FILE
CONFER_TOKEN=$token timeout 60 "$chat" --url "$url" --policy "$policy" --once "$PROMPT" >&- 2>closed.err
judge closed $? 5 CONFER_E_FILE
{ CONFER_TOKEN=$token timeout 60 "$chat" --url "$url" --policy "$policy" --once '/tokens 2000 1000' 2>pipe.err; echo $? >pipe.code; } | head -c 1 >/dev/null
judge pipe "$(cat pipe.code)" 5 CONFER_E_FILE

# --- Ctrl-C: signals the program in the background when its output shows that it is ready
interrupt() { # NAME FILE-THAT-FILLS ARGUMENT…
  local name=$1 sign=$2 child; shift 2
  : >"$sign"
  # <&0: otherwise a program in the background reads /dev/null.
  CONFER_TOKEN=$token "$chat" --url "$url" --policy "$policy" "$@" <&0 >"$name.out" 2>"$name.err" &
  child=$!
  until_ test -s "$sign" || bad "$name: nothing came"
  command_line=$(tr '\0' ' ' <"/proc/$child/cmdline")
  kill -INT $child
  until_ not kill -0 $child || kill -KILL $child
  wait $child
  judge "$name" $? 130 CONFER_E_CANCELLED
}
interrupt mid_stream mid_stream.out --token "$token" --json --once '/slow 50 1000'
holds command_line_no_longer_shows_the_token not grep -qF "$token" <<<"$command_line"
holds done_line_has_cancelled test "$(tail -n 1 mid_stream.out)" = '{"type":"done","status":"CONFER_E_CANCELLED"}'
interrupt in_a_flood in_a_flood.out --once '/tokens 10000000 100'
mkfifo nothing_typed; exec 9<>nothing_typed
interrupt at_the_prompt at_the_prompt.err <nothing_typed
printf 'half a line' >&9
interrupt in_mid_line in_mid_line.err <nothing_typed

# A signal while the pipe is full takes effect when a reader empties it.
mkfifo unread; exec 7<>unread
CONFER_TOKEN=$token timeout 60 "$chat" --url "$url" --policy "$policy" --once '/tokens 200000 60' >unread 2>unread_answer.err &
child=$!
until_ pgrep -P $child >unread.pid || bad 'unread_answer: no chat'
until_ stuck_in_write unread.pid || bad 'unread_answer: not stuck in a write'
kill -INT "$(cat unread.pid)"
until_ signal_handled unread.pid
cat <&7 >/dev/null &
reader=$!
wait $child
judge unread_answer $? 130 CONFER_E_CANCELLED
kill $reader; exec 7<&-

# --- a lost connection ends one answer; a conversation reconnects, if the policy permits it
CONFER_TOKEN=$token timeout 60 "$chat" --url "$url" --policy "$policy" --json --once '/slow 50 1000' >broken.out 2>broken.err &
broken=$!
CONFER_TOKEN=$token timeout 60 "$chat" --url "$url" --policy "$policy" <nothing_typed >later.out 2>later.err &
later=$! port=${url##*:}
echo hello >&9
until_ test -s broken.out && until_ test -s later.out || bad "the connections to break: nothing came"
stop_enclave
wait $broken
judge broken $? 4 CONFER_E_CONNECTION_LOST
holds done_line_has_connection_lost test "$(tail -n 1 broken.out)" = '{"type":"done","status":"CONFER_E_CONNECTION_LOST"}'
until_ grep -q 'Connecting again' later.err
start_enclave --port "${port%%/*}" --token "$token" --fault debug-debuggable
wait $later
judge later $? 3 CONFER_E_REJECTED
holds lost_connection_is_reported grep -q 'The connection is lost' later.err
holds later_refusal_shows_its_failed_check grep -q '✗ tdx.debug' later.err
stop_enclave
for fault in accept-stall upgrade-stall message1-stall key-server-stall; do
  start_enclave --fault $fault
  printf '%s' "$token" >"tokens/interrupt-$fault"
  interrupt "connecting_$fault" "connecting_$fault.err" --once "$PROMPT"
  stop_enclave
done

# --- documents: an answer that breaks the protocol; the size limit depends on the server's version
start_enclave --fault document-no-length
printf '%s' "$token" >tokens/document-no-length
small extract_bad_answer 5 CONFER_E_PROTOCOL extract "$policy"
stop_enclave
truncate -s $((50 * 1024 * 1024 + 1)) large.txt
start_enclave --release 0.1.16
printf '%s' "$token" >tokens/release-16
small extract_for_0_1_16 5 CONFER_E_TOO_LARGE extract large.txt
holds refusal_names_version_and_limit grep -q 'version 0.1.16, takes at most 50 MiB' extract_for_0_1_16.err
stop_enclave
start_enclave --release 0.1.17
printf '%s' "$token" >tokens/release-17
CONFER_TOKEN=$token timeout 60 "$TREE/build/examples/c/extract" --url "$url" --policy "$policy" large.txt >sent.out 2>sent.err
holds later_version_connects grep -q '^Verified' sent.err
holds later_version_receives_the_document not grep -q CONFER_E_TOO_LARGE sent.err
stop_enclave

# --- the first program, which the header and README print
start_enclave
printf '%s' "$token" >tokens/hello
hello() { CONFER_TOKEN=$1 timeout 60 "$TREE/build/examples/c/hello" "$url" "$policy" >"$2.out" 2>"$2.err"; }
hello "$token" hello
judge hello $? 0 -
holds hello_prints_its_answer grep -q '^You said: Hello!$' hello.out
hello wrong hello_refused
holds hello_exits_with_1_when_refused test $? = 1
stop_enclave

# --- every fault of a chat; other tests have the faults of documents
"$enclave" --list-faults | grep -v '"scope":"document"' >faults
tr '\n' '\0' <faults | xargs -0 -n 1 -P 4 "$here/fault.sh" "$work" >fault-results
grep -v '^ok ' fault-results
passed=$((passed + $(grep -c '^ok ' fault-results)))
failed=$((failed + $(grep -vc '^ok ' fault-results)))
holds every_fault_was_tried test "$(wc -l <fault-results)" = "$(wc -l <faults)"

# --- secrets: no file contains the token, and only answers contain the prompt
absent() { grep -rl "$@" . >&2; [ $? -eq 1 ]; } # 2 would be an error
for secret in tokens/*; do cat "$secret"; echo; done >all-tokens
holds each_fault_had_a_token test "$(wc -l <all-tokens)" -gt "$(wc -l <faults)"
holds no_token_in_any_output \
  absent -Ff all-tokens --include='*.out' --include='*.err' --include='*.json' --include='*.evidence' --include=out \
  --include=err --include=report --include=evidence
holds only_answers_contain_the_prompt \
  absent 'secret-prompt\|secret-but-wrong' --include='*.err' --include='*.json' --include='*.evidence' --include=err \
  --include=report --include=evidence

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
