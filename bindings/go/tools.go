package confer

// Tools that the model may call, and the goroutines that run them.

/*
#include <confer.h>
*/
import "C"

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"
)

// Tool is a tool that the model may call.
type Tool struct {
	Name        string // unique in a request
	Description string // for the model
	// Parameters is the JSON Schema of the arguments, an object. Default: any object.
	Parameters json.RawMessage
	// Run runs the tool. If it is nil, the loop over the chat's events handles the calls: see
	// ChatRequest.ToolRounds.
	Run ToolFunc `json:"-"`
}

// ToolFunc runs a tool in a goroutine. The arguments are text from the model, which may break the
// tool's schema or not be JSON. If Run fails, the model receives the error as the result, and
// continues. ctx ends with the chat, or after [ChatRequest.ToolTimeout]. The chat's sequence ends
// after the function has returned. A panic in it ends the program, as in any goroutine.
type ToolFunc = func(ctx context.Context, arguments string) (string, error)

const (
	toolRounds  = 16
	toolTimeout = 5 * time.Minute
)

func (t Tool) parameters() string {
	if len(t.Parameters) == 0 {
		return `{"type":"object"}`
	}
	return string(t.Parameters)
}

// rounds returns the request's rounds of tools, 0 if the application continues by itself.
func (r ChatRequest) rounds() uint32 {
	runs := func(tool Tool) bool { return tool.Run != nil }
	if r.ToolRounds == 0 && slices.ContainsFunc(r.Tools, runs) {
		return toolRounds
	}
	return r.ToolRounds
}

// runsItsTools returns whether there are tools, and all have functions.
func (r ChatRequest) runsItsTools() bool {
	hasNone := func(tool Tool) bool { return tool.Run == nil }
	return len(r.Tools) > 0 && !slices.ContainsFunc(r.Tools, hasNone)
}

func (r ChatRequest) toolTimeout() time.Duration {
	if r.ToolTimeout == 0 {
		return toolTimeout
	}
	return r.ToolTimeout
}

// toolRunner runs the tools of one chat.
type toolRunner struct {
	tools   map[string]ToolFunc
	timeout time.Duration
	ctx     context.Context
	cancel  func()
	running sync.WaitGroup
	calls   []*kept
}

func newToolRunner(ctx context.Context, request ChatRequest) *toolRunner {
	r := &toolRunner{tools: map[string]ToolFunc{}, timeout: request.toolTimeout()}
	r.ctx, r.cancel = context.WithCancel(ctx)
	for _, tool := range request.Tools {
		if tool.Run != nil {
			r.tools[tool.Name] = tool.Run
		}
	}
	return r
}

// take starts the tool that an event calls, if it has a function. The event then wants no answer
// from the application.
func (r *toolRunner) take(event Event) Event {
	run := r.tools[event.ToolName]
	if run == nil || !event.WantsAnswer() {
		return event
	}
	r.calls = append(r.calls, event.kept)
	r.running.Add(1)
	go func(call Event) {
		defer r.running.Done()
		ctx, cancel := context.WithTimeout(r.ctx, r.timeout)
		defer cancel()
		result, err := "", errNoResult
		defer func() {
			if r.ctx.Err() != nil {
				return // an answer could begin another round before the stream is cancelled
			}
			if err == nil {
				err = call.AnswerTool(result)
			}
			if err != nil {
				// If the call is over, nobody needs this answer.
				_ = call.FailTool(err.Error())
			}
		}()
		result, err = run(ctx, call.ToolArguments)
	}(event)
	event.kept = nil
	return event
}

// end cancels the tools, waits for them, and frees their calls. Freeing an open call answers it
// with an error, which can begin another round. So the stream must be freed before.
func (r *toolRunner) end() {
	r.cancel()
	r.running.Wait()
	for _, call := range r.calls {
		call.free()
	}
}

// WantsAnswer returns whether the event is a call of a tool that the loop must answer with
// AnswerTool or FailTool, at once or later, from any goroutine. A call that nobody answers fails at
// its time limit, or when the event is garbage.
func (e Event) WantsAnswer() bool { return e.kept != nil }

// AnswerTool answers a tool call with the tool's result. If the chat has ended, it drops the
// answer. [ErrStale]: the call was answered before, or failed at its time limit.
func (e Event) AnswerTool(content string) error {
	return answer(e.kept, func(event *C.confer_event, failure **C.confer_error) C.confer_status {
		text, length := bytesOf(content)
		return C.confer_event_answer_tool(event, text, length, failure)
	})
}

// FailTool answers a tool call with a failure. The model reads "Error: " and the reason, and
// continues. Otherwise like AnswerTool.
func (e Event) FailTool(reason string) error {
	return answer(e.kept, func(event *C.confer_event, failure **C.confer_error) C.confer_status {
		text, length := bytesOf(reason)
		return C.confer_event_fail_tool(event, text, length, failure)
	})
}
