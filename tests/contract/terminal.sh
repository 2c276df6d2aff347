# Tests chat and extract at a terminal, with the screen of tmux. test.sh sources this, and has
# `holds` and `until_`.

tmux() { TMUX_TMPDIR=$work command tmux -L contract -u -f /dev/null "$@"; }
screen() { tmux capture-pane -p; }
shows() { screen | grep -E -e "$1" >/dev/null; }
type_() { tmux send-keys -l -- "$1"; }
key() { tmux send-keys "$1"; }
# Prints the last line of the screen that is not empty.
last() { screen | grep . | tail -n 1; }
is_last() { [ "$(last)" = "$1" ]; }

# begin [ARGUMENT…]: starts chat with these arguments on a screen of 24 lines, so that the
# report fills it. `preload` is a library for chat.
begin() {
  CONFER_TOKEN=$token tmux new-session -d -x 100 -y 24 \
    "{ LD_PRELOAD='${preload:-}' '$chat' --url '$url' --policy '$policy'; echo exit \$? >&2; } $*; cat"
  until_ is_last '>' || bad "$current: no prompt: $(last)"
}
# sees NAME PATTERN: a test that waits until the screen shows the pattern.
sees() { if until_ shows "$2"; then ok; else bad "$1: not on the screen: $2"; screen; fi; }
end() { tmux kill-server; until_ not tmux has-session; }

current=waiting begin
type_ '/slow 2500 1' && key Enter
sees waiting_shows_seconds '^… [12] s$'
sees answer_comes_after_waiting '^slow0'
holds answer_replaces_seconds not shows '… [0-9]+ s'
type_ '/silent' && key Enter
sees waiting_within_an_answer_shows_seconds 'before the silence … [0-9]+ s$'

key C-c
sees ctrl_c_stops_an_answer "Stopped. Ctrl-C again quits"
holds stopped_answer_shows_no_seconds not shows '… [0-9]+ s'
type_ 'still there' && key Enter
sees conversation_continues_after_a_stopped_answer '^You said: still there'
type_ '/silent' && key Enter
sees next_answer_waits '^before the silence'
key C-c
until_ is_last '>'
key C-c
sees second_ctrl_c_quits '^exit 130$'
sees last_line_says_interrupted '^confer: CONFER_E_CANCELLED: '
end

current=tools begin
type_ '/mixed-tools now {}' && key Enter
sees tool_call_of_the_enclave_starts_a_line '^\[the enclave runs its tool '
sees tool_call_left_undone_starts_a_line '^\[left undone: the tool now\]$'
holds answer_before_a_tool_call_is_shown_first grep -q '^Let me look' <(screen | grep -B 1 '^\[the enclave')
end

current=closed_output begin '| { head -n 1; exec <&-; echo reader gone; }'
type_ 'first' && key Enter
sees reader_ends 'reader gone$'
type_ 'second' && key Enter
sees conversation_without_output_ends '^confer: CONFER_E_FILE: standard output: '
sees conversation_without_output_exits_with_5 '^exit 5$'
end

# The client ends after chat saw it alive. A preloaded confer_client_check() waits for this end, and
# returns CONFER_OK the first time.
cat >lives_once.c <<'END'
#define _GNU_SOURCE
#include <confer.h>
#include <dlfcn.h>
#include <poll.h>
confer_status confer_client_check(const confer_client *client, confer_error **error) {
    static int calls;
    confer_status (*check)(const confer_client *, confer_error **);
    *(void **)&check = dlsym(RTLD_NEXT, "confer_client_check");
    if (calls++ > 0) return check(client, error);
    for (int tries = 0; tries < 2000 && check(client, NULL) == CONFER_OK; tries++) poll(NULL, 0, 10);
    return CONFER_OK;
}
END
"${CC:-cc}" -shared -fPIC -I"$TREE/include" lives_once.c -o lives_once.so -ldl || bad "lives_once.c does not compile"
current=ended preload=$work/lives_once.so begin
type_ '/slow 50 1000' && key Enter
sees answer_to_break_begins 'slow1 '
stop_enclave
port=${url##*:}
start_enclave --port "${port%%/*}" --token "$token" --fault debug-debuggable
sees end_between_two_answers_is_the_last_line '^confer: CONFER_E_REJECTED: '
sees end_between_two_answers_gives_the_exit_code '^exit 3$'
end
stop_enclave
start_enclave --port "${port%%/*}" --token "$token"

current=failed begin
type_ '/status 503' && key Enter
sees failed_answer_says_so '^confer: CONFER_E_REFUSED: '
until_ is_last '>'
key C-d
sees finished_conversation_exits_with_0 '^exit 0$'
end

current=typing begin
type_ '/slow 50 1000' && key Enter
sees answer_begins 'slow1 '
stop_enclave
sees lost_connection_is_shown_at_once '^! The connection is lost: '
type_ 'half-typed'
until_ shows '^> half-typed'
sees failed_attempt_is_shown_while_typing '^! That failed: '
sees next_attempt_is_shown_while_typing 'attempt [4-9]$'
holds half_typed_text_stays_below_messages is_last '> half-typed'
holds lost_connection_gives_one_message test "$(screen | grep -c 'The connection is lost')" = 1
port=${url##*:}
start_enclave --port "${port%%/*}" --token "$token"
sees new_connection_is_shown_while_typing '^✓ Connected again, and verified: the same release as before$'
holds half_typed_text_stays_after_reconnecting is_last '> half-typed'
type_ ' text' && key Enter
sees half_typed_text_is_asked '^You said: half-typed text$'
holds half_typed_text_is_shown_complete shows '^> half-typed text$'
end

current=extract
stop_enclave
start_enclave --fault upload-never-answered
CONFER_TOKEN=$token tmux new-session -d -x 100 -y 24 \
  "'$TREE/build/examples/c/extract' --url '$url' --policy '$policy' --timeout 10 --type text/plain '$policy'; echo exit \$?; cat"
sees upload_shows_a_bar '^sent     \[#{40}\] 100 %'
sees waiting_for_the_extraction_shows_seconds '^… [0-9]+ s$'
sees timeout_ends_an_extraction '^confer: CONFER_E_STREAM_IDLE: nothing came'
sees timed_out_extraction_exits_with_5 '^exit 5$'
holds ended_extraction_shows_no_seconds not shows '… [0-9]+ s'
end

stop_enclave
start_enclave
printf '%s' "$token" >tokens/terminal
