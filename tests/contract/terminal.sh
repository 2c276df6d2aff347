# What chat and extract show at a terminal: tmux draws the screen. test.sh sources this; it has `holds` and `until_`.

tmux() { TMUX_TMPDIR=$work command tmux -L contract -u -f /dev/null "$@"; }
screen() { tmux capture-pane -p; }
shows() { screen | grep -qE -e "$1"; }
type_() { tmux send-keys -l -- "$1"; }
key() { tmux send-keys "$1"; }
# The last line on the screen with something in it.
last() { screen | grep . | tail -n 1; }
is_last() { [ "$(last)" = "$1" ]; }

# begin: a chat on a screen of 24 lines, so that the report alone fills it.
begin() {
  CONFER_TOKEN=$token tmux new-session -d -x 100 -y 24 "'$chat' --url '$url' --policy '$policy' $*; echo exit \$?; cat"
  until_ is_last '>' || bad "$current: no prompt: $(last)"
}
# sees NAME PATTERN: the screen comes to show it.
sees() { if until_ shows "$2"; then ok; else bad "$1: not on the screen: $2"; screen; fi; }
end() { tmux kill-server; }

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
holds lost_connection_gives_one_message test "$(screen | grep -c 'closed by the peer')" = 1
port=${url##*:}
start_enclave "$work/state" --port "${port%%/*}" --token "$token"
sees new_connection_is_shown_while_typing '^✓ Connected again, and verified: the same release as before$'
holds half_typed_text_stays_after_reconnecting is_last '> half-typed'
type_ ' text' && key Enter
sees half_typed_text_is_asked '^You said: half-typed text$'
holds half_typed_text_is_shown_complete shows '^> half-typed text$'
end

current=extract
stop_enclave
start_enclave "$work/state" --fault upload-never-answered
CONFER_TOKEN=$token tmux new-session -d -x 100 -y 24 \
  "'$root/build/examples/c/extract' --url '$url' --policy '$policy' --timeout 4 --type text/plain '$policy'; echo exit \$?; cat"
sees upload_shows_a_bar '^sent     \[#{40}\] 100 %'
sees waiting_for_the_extraction_shows_seconds '^… [12] s$'
sees timeout_ends_an_extraction '^confer: CONFER_E_STREAM_IDLE: nothing came'
sees timed_out_extraction_exits_with_5 '^exit 5$'
holds ended_extraction_shows_no_seconds not shows '… [0-9]+ s'
end

stop_enclave
start_enclave "$work/state"
printf '%s' "$token" >tokens/terminal
