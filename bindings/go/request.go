package confer

// Requests other than chats, and the loop that yields the events of any request.

/*
#include <confer.h>
*/
import "C"

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"path/filepath"
	"time"
	"unsafe"
)

// Ending says how the answer to Client.Do ends, because nothing on the wire shows it. A wrong one
// loses the rest of an answer, or waits for more until the idle limit.
type Ending int32

const (
	EndingOneResponse   Ending = C.CONFER_ENDING_ONE_RESPONSE   // one response: one EventBody
	EndingCompletion    Ending = C.CONFER_ENDING_COMPLETION     // events up to EventCompletion
	EndingContentLength Ending = C.CONFER_ENDING_CONTENT_LENGTH // pieces of Content-Length bytes in all
)

// Ping sends a ping and returns its round trip. The library also sends pings itself, to keep the
// connection.
func (c *Client) Ping(ctx context.Context) (time.Duration, error) {
	var took time.Duration
	err := c.pull(ctx, func() (sendable, error) {
		return newRequest(func(native **C.confer_request, e **C.confer_error) C.confer_status {
			return C.confer_request_new_ping(native, e)
		})
	}, func(event *C.confer_event) bool {
		if us := C.confer_event_round_trip_us(event); us >= 0 {
			took = time.Duration(us) * time.Microsecond
		}
		return true
	})
	return took, err
}

// Embed returns a row for each of 1 to 64 texts. isQuery says that the texts are queries, not
// passages.
func (c *Client) Embed(ctx context.Context, texts []string, isQuery bool) ([][]float32, error) {
	var embeddings [][]float32
	err := c.pull(ctx, func() (sendable, error) {
		adds := make([]step, len(texts))
		for at, text := range texts {
			adds[at] = func(native *C.confer_request, e **C.confer_error) C.confer_status {
				content, length := bytesOf(text)
				return C.confer_request_add_text(native, content, length, e)
			}
		}
		return newRequest(func(native **C.confer_request, e **C.confer_error) C.confer_status {
			return C.confer_request_new_embeddings(C.bool(isQuery), native, e)
		}, adds...)
	}, func(event *C.confer_event) bool {
		var rows, columns C.size_t
		if lent := C.confer_event_embeddings(event, &rows, &columns); lent != nil {
			values := append([]float32(nil), unsafe.Slice((*float32)(unsafe.Pointer(lent)), int(rows*columns))...)
			embeddings = make([][]float32, rows)
			for at := range embeddings {
				from, to := at*int(columns), (at+1)*int(columns)
				embeddings[at] = values[from:to:to]
			}
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	return embeddings, nil
}

// FetchHTML lets the enclave fetch a page with these headers, which may be nil, and returns its
// HTML. The page's server, and anyone who sees the enclave's traffic, can see the fetch, but not
// its user.
func (c *Client) FetchHTML(ctx context.Context, url string, headers map[string]string) (string, error) {
	page, err := c.body(ctx, maxAnswer, func() (sendable, error) {
		var sets []step
		for name, value := range headers {
			sets = append(sets, func(native *C.confer_request, e **C.confer_error) C.confer_status {
				key, keyLength := bytesOf(name)
				text, length := bytesOf(value)
				return C.confer_request_set_header(native, key, keyLength, text, length, e)
			})
		}
		return newRequest(func(native **C.confer_request, e **C.confer_error) C.confer_status {
			text, length := bytesOf(url)
			return C.confer_request_new_fetch(text, length, native, e)
		}, sets...)
	}, nil)
	return string(page), err
}

// Document is a document for Client.Extract. Servers accept at most 50 MiB, newer ones 1 byte to
// 256 MiB.
type Document struct {
	// Filename is sent to the server. Default: the name in Path.
	Filename string
	// Bytes is the document. If Path is not empty, that regular file is read during the upload
	// instead.
	Bytes []byte
	Path  string
	// Options of the extraction: "content_type" and "image_export_mode" (strings), "ocr",
	// "table_structure" and "include_images" (true or false), or options of later servers. Default:
	// the server's.
	Options map[string]any
	// MaxAnswer is the largest answer in bytes; a larger one fails with ErrLimit. Default: 256 MiB.
	MaxAnswer int64
	// Progress is called with the bytes sent and the total, in the goroutine that called Extract. May
	// be nil.
	Progress func(sent, total int64)
}

const maxAnswer = 256 << 20

// Extract uploads a document and returns its extraction, a JSON object. An answer or refusal during
// the upload ends the upload.
func (c *Client) Extract(ctx context.Context, document Document) (json.RawMessage, error) {
	bound := document.MaxAnswer
	if bound == 0 {
		bound = maxAnswer
	}
	return c.body(ctx, bound, func() (sendable, error) {
		options, err := documentsOf(document.Options, "option")
		if err != nil {
			return nil, err
		}
		filename := document.Filename
		if filename == "" && document.Path != "" {
			filename = filepath.Base(document.Path)
		}
		sets := []step{func(native *C.confer_request, e **C.confer_error) C.confer_status {
			if document.Path != "" {
				path, length := bytesOf(document.Path)
				return C.confer_request_set_document_file(native, path, length, e)
			}
			bytes := (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(document.Bytes)))
			return C.confer_request_set_document_bytes(native, bytes, C.size_t(len(document.Bytes)), e)
		}}
		for name, value := range options {
			sets = append(sets, func(native *C.confer_request, e **C.confer_error) C.confer_status {
				key, keyLength := bytesOf(name)
				text, length := bytesOf(value)
				return C.confer_request_set_option(native, key, keyLength, text, length, e)
			})
		}
		return newRequest(func(native **C.confer_request, e **C.confer_error) C.confer_status {
			text, length := bytesOf(filename)
			return C.confer_request_new_extraction(text, length, native, e)
		}, sets...)
	}, document.Progress)
}

// Do sends a request of any route, such as one without a method in this version, and yields its
// events like Chat. The body may be empty.
func (c *Client) Do(ctx context.Context, verb, path, body string, ending Ending) iter.Seq2[Event, error] {
	return c.events(ctx, func() (sendable, error) {
		var sets []step
		if body != "" {
			sets = append(sets, func(native *C.confer_request, e **C.confer_error) C.confer_status {
				text, length := bytesOf(body)
				return C.confer_request_set_body(native, text, length, e)
			})
		}
		return newRequest(func(native **C.confer_request, e **C.confer_error) C.confer_status {
			verb, verbLength := bytesOf(verb)
			path, pathLength := bytesOf(path)
			return C.confer_request_new(verb, verbLength, path, pathLength, C.int32_t(ending), native, e)
		}, sets...)
	})
}

// sendable is the handle of a request of either kind.
type sendable interface {
	send(*C.confer_client, **C.confer_stream, **C.confer_error) C.confer_status
	free()
}

type requestHandle struct{ handle *C.confer_request }

func (h requestHandle) send(client *C.confer_client, stream **C.confer_stream, e **C.confer_error) C.confer_status {
	return C.confer_request_pull(client, h.handle, stream, e)
}

func (h requestHandle) free() { C.confer_request_free(h.handle) }

type step = func(*C.confer_request, **C.confer_error) C.confer_status

func newRequest(make func(**C.confer_request, **C.confer_error) C.confer_status, steps ...step) (sendable, error) {
	var native *C.confer_request
	var a attempt
	a.call(func(e **C.confer_error) C.confer_status { return make(&native, e) })
	for _, step := range steps {
		a.call(func(e **C.confer_error) C.confer_status { return step(native, e) })
	}
	if err := a.err(); err != nil {
		C.confer_request_free(native)
		return nil, err
	}
	return requestHandle{native}, nil
}

// body collects an answer in pieces, up to a limit, so that an enclave cannot fill the memory.
func (c *Client) body(ctx context.Context, bound int64, make func() (sendable, error), progress func(int64, int64)) ([]byte, error) {
	var body []byte
	for event, err := range c.events(ctx, make) {
		switch {
		case err != nil:
			return nil, err
		case event.Type == EventBody && max(event.Transferred, event.Total) > bound:
			tooLong := madeHere(ErrLimit, fmt.Sprintf("an answer of more than %d bytes", bound))
			tooLong.Progress = PartlyAnswered
			return nil, tooLong
		case event.Type == EventBody:
			body = append(body, event.Content...)
		case event.Type == EventProgress && progress != nil:
			progress(event.Transferred, event.Total)
		}
	}
	return body, nil
}

// events returns a sequence. Each use makes a request, sends it, and yields its events.
func (c *Client) events(ctx context.Context, make func() (sendable, error)) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		err := c.pull(ctx, make, func(event *C.confer_event) bool { return yield(readEvent(event), nil) })
		if err != nil {
			yield(Event{}, err)
		}
	}
}

// pull makes a request, sends it, and lends each event to take. When take returns false, it cancels
// the rest.
func (c *Client) pull(ctx context.Context, make func() (sendable, error), take func(*C.confer_event) bool) error {
	stream, err := c.start(ctx, make)
	if err != nil {
		return err
	}
	defer C.confer_stream_free(stream)
	defer whenDone(ctx, func() { C.confer_stream_cancel(stream) })()
	for {
		var event *C.confer_event
		var failure *C.confer_error
		switch status := C.confer_stream_next(stream, -1, &event, &failure); status {
		case C.CONFER_OK:
			if !take(event) {
				return nil
			}
		case C.CONFER_TIMEOUT:
			// A wait without a limit should not time out. If it does, wait again.
		case C.CONFER_END:
			return nil
		default:
			return takeError(status, failure).because(ctx)
		}
	}
}

func (c *Client) start(ctx context.Context, make func() (sendable, error)) (*C.confer_stream, error) {
	if ctx.Err() != nil {
		return nil, madeHere(ErrCancelled, ErrCancelled.Error()).because(ctx)
	}
	request, err := make()
	if err != nil {
		return nil, err
	}
	defer request.free()
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.handle == nil {
		return nil, madeHere(ErrClosed, ErrClosed.Error())
	}
	var stream *C.confer_stream
	var failure *C.confer_error
	if status := request.send(c.handle, &stream, &failure); status != C.CONFER_OK {
		return nil, takeError(status, failure).because(ctx)
	}
	return stream, nil
}
