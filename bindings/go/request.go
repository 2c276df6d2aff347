package confer

// Requests other than chats, and the start of any request.

/*
#include <confer.h>
*/
import "C"

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"time"
	"unsafe"
)

// Ping sends a ping and returns its round trip. The library also sends pings itself, to keep the
// connection.
func (c *Client) Ping(ctx context.Context) (time.Duration, error) {
	var took time.Duration
	err := c.pull(ctx, newPing, func(event *C.confer_event) bool {
		if us := C.confer_event_round_trip_us(event); us >= 0 {
			took = time.Duration(us) * time.Microsecond
		}
		return true
	})
	return took, err
}

func newPing() (sendable, error) {
	return sendable{
		send: func(client *C.confer_client, stream **C.confer_stream, e **C.confer_error) C.confer_status {
			return C.confer_ping_stream(client, nil, stream, e)
		},
		free: func() {},
	}, nil
}

// EmbeddingsRequest is a request for the embeddings of 1 to 64 texts.
type EmbeddingsRequest struct {
	Texts []string
	// IsQuery says that the texts are queries, not passages.
	IsQuery bool
}

// Embed returns a row for each text.
func (c *Client) Embed(ctx context.Context, request EmbeddingsRequest) ([][]float32, error) {
	var embeddings [][]float32
	err := c.pull(ctx, request.native, func(event *C.confer_event) bool {
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

func (r EmbeddingsRequest) native() (sendable, error) {
	var native *C.confer_embeddings_request
	var a attempt
	a.call(func(e **C.confer_error) C.confer_status { return C.confer_embeddings_request_new(&native, e) })
	for _, text := range r.Texts {
		a.call(func(e **C.confer_error) C.confer_status {
			content, length := bytesOf(text)
			return C.confer_embeddings_request_add_text(native, content, length, e)
		})
	}
	a.call(func(e **C.confer_error) C.confer_status {
		return C.confer_embeddings_request_set_is_query(native, C.bool(r.IsQuery), e)
	})
	return made(&a, sendable{
		send: func(client *C.confer_client, stream **C.confer_stream, e **C.confer_error) C.confer_status {
			return C.confer_embeddings_stream(client, native, nil, stream, e)
		},
		free: func() { C.confer_embeddings_request_free(native) },
	})
}

// FetchRequest is a request for a page, which the enclave fetches. The page's server, and anyone
// who sees the enclave's traffic, can see the fetch, but not its user.
type FetchRequest struct {
	URL     string
	Headers map[string]string
}

// Fetch returns the HTML of a page, at most 32 MiB.
func (c *Client) Fetch(ctx context.Context, request FetchRequest) (string, error) {
	page, err := c.collect(ctx, request.native)
	if err != nil {
		return "", err
	}
	return page, nil
}

func (r FetchRequest) native() (sendable, error) {
	var native *C.confer_fetch_request
	var a attempt
	a.call(func(e **C.confer_error) C.confer_status {
		url, length := bytesOf(r.URL)
		return C.confer_fetch_request_new(url, length, &native, e)
	})
	for name, value := range r.Headers {
		a.call(func(e **C.confer_error) C.confer_status {
			key, keyLength := bytesOf(name)
			text, length := bytesOf(value)
			return C.confer_fetch_request_set_header(native, key, keyLength, text, length, e)
		})
	}
	return made(&a, sendable{
		send: func(client *C.confer_client, stream **C.confer_stream, e **C.confer_error) C.confer_status {
			return C.confer_fetch_stream(client, native, nil, stream, e)
		},
		free: func() { C.confer_fetch_request_free(native) },
	})
}

// Ending says how the answer to a [RawRequest] ends, because nothing on the wire shows it. A wrong
// one loses the rest of an answer, or waits for more until the idle limit.
type Ending int32

const (
	EndingOneResponse   Ending = C.CONFER_ENDING_ONE_RESPONSE   // one response: one EventBody
	EndingCompletion    Ending = C.CONFER_ENDING_COMPLETION     // events up to EventCompletion
	EndingContentLength Ending = C.CONFER_ENDING_CONTENT_LENGTH // pieces of Content-Length bytes in all
)

// String returns the name of the constant in confer.h, such as "CONFER_ENDING_COMPLETION".
func (e Ending) String() string { return C.GoString(C.confer_ending_name(C.int32_t(e))) }

// RawRequest is a request of any route, such as one without a method in this version. The body may
// be empty.
type RawRequest struct {
	Verb, Path, Body string
	Ending           Ending
}

// Raw sends a request and yields its events like Chat.
func (c *Client) Raw(ctx context.Context, request RawRequest) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		err := c.pull(ctx, request.native, func(event *C.confer_event) bool { return yield(readEvent(event), nil) })
		if err != nil {
			yield(Event{}, err)
		}
	}
}

func (r RawRequest) native() (sendable, error) {
	var native *C.confer_raw_request
	var a attempt
	a.call(func(e **C.confer_error) C.confer_status {
		verb, verbLength := bytesOf(r.Verb)
		path, pathLength := bytesOf(r.Path)
		return C.confer_raw_request_new(verb, verbLength, path, pathLength, C.int32_t(r.Ending), &native, e)
	})
	if r.Body != "" {
		a.call(func(e **C.confer_error) C.confer_status {
			text, length := bytesOf(r.Body)
			return C.confer_raw_request_set_body(native, text, length, e)
		})
	}
	return made(&a, sendable{
		send: func(client *C.confer_client, stream **C.confer_stream, e **C.confer_error) C.confer_status {
			return C.confer_raw_stream(client, native, nil, stream, e)
		},
		free: func() { C.confer_raw_request_free(native) },
	})
}

// ExtractionRequest uploads a document: Reader, Path or Bytes. Servers accept at most 50 MiB, newer
// ones 1 byte to 256 MiB.
type ExtractionRequest struct {
	// Filename is sent to the server. Default: the name in Path.
	Filename string
	// Bytes is the document in memory.
	Bytes []byte
	// Path, if not empty, is a regular file, which is read during the upload.
	Path string
	// Reader, if not nil, is read during the upload, in a goroutine that ends before Extract
	// returns. If it is an io.Closer, Extract closes it, which must end a Read that waits.
	Reader io.Reader
	// Length is the number of bytes of Reader, 0 or negative if unknown. Newer servers refuse an
	// unknown length.
	Length int64
	// Options of the extraction: "content_type" and "image_export_mode" (strings), "ocr",
	// "table_structure" and "include_images" (true or false), or options of later servers. Default:
	// the server's.
	Options map[string]any
	// MaxAnswer is the largest answer in bytes; a larger one fails with ErrLimit. Default: 256 MiB.
	MaxAnswer int64
	// Progress is called with the bytes sent and the total, -1 if unknown, in the goroutine that
	// called Extract. May be nil.
	Progress func(sent, total int64)
}

const maxAnswer = 256 << 20

// Extract uploads a document and returns its extraction, a JSON object. An answer or refusal during
// the upload ends the upload. If Reader fails, the request is cancelled, and errors.Is finds its
// error.
func (c *Client) Extract(ctx context.Context, request ExtractionRequest) (answer json.RawMessage, err error) {
	closeReader := func() {
		if closer, ok := request.Reader.(io.Closer); ok {
			_ = closer.Close() // nothing more of it is needed
		}
	}
	stream, err := c.start(ctx, request.native)
	if err != nil {
		closeReader()
		return nil, err
	}
	defer C.confer_stream_free(stream)
	if request.Reader != nil {
		uploaded := make(chan error, 1)
		go func() {
			failure := errNoResult
			defer func() {
				if failure != nil {
					C.confer_stream_cancel(stream)
				}
				uploaded <- failure
			}()
			failure = upload(stream, request.Reader)
		}()
		defer func() {
			C.confer_stream_cancel(stream) // wakes a write
			closeReader()
			failure := <-uploaded
			if e, ok := err.(*Error); ok && failure != nil && e.Status == ErrCancelled && ctx.Err() == nil {
				e.causes = []error{failure}
			}
		}()
	}
	return request.read(ctx, stream)
}

// read collects the answer up to its limit, so that an enclave cannot fill the memory.
func (r ExtractionRequest) read(ctx context.Context, stream *C.confer_stream) (json.RawMessage, error) {
	bound := r.MaxAnswer
	if bound == 0 {
		bound = maxAnswer
	}
	var body []byte
	var tooLong *Error
	err := readStream(ctx, stream, func(lent *C.confer_event) bool {
		switch event := readEvent(lent); {
		case event.Type == EventBody && max(event.Transferred, event.Total) > bound:
			tooLong = madeHere(ErrLimit, fmt.Sprintf("an answer of more than %d bytes", bound))
			tooLong.Progress = PartlyAnswered
			return false
		case event.Type == EventBody:
			body = append(body, event.Content...)
		case event.Type == EventProgress && r.Progress != nil:
			r.Progress(event.Transferred, event.Total)
		}
		return true
	})
	switch {
	case tooLong != nil:
		return nil, tooLong
	case err != nil:
		return nil, err
	}
	return body, nil
}

// upload writes a document to its stream. An upload that has ended early is no error: the stream
// has the reason.
func upload(stream *C.confer_stream, document io.Reader) error {
	// A bufio.Reader fails when the document returns nothing again and again.
	_, err := io.Copy(uploadWriter{stream}, bufio.NewReaderSize(document, 64<<10))
	if err == nil {
		err = do(func(e **C.confer_error) C.confer_status { return C.confer_stream_finish(stream, e) })
	}
	if errors.Is(err, ErrStale) {
		return nil
	}
	return err
}

type uploadWriter struct{ stream *C.confer_stream }

func (w uploadWriter) Write(bytes []byte) (int, error) {
	var written C.size_t
	err := do(func(e **C.confer_error) C.confer_status {
		lent := (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(bytes)))
		return C.confer_stream_write(w.stream, lent, C.size_t(len(bytes)), -1, &written, e)
	})
	return int(written), err
}

func (r ExtractionRequest) native() (sendable, error) {
	options, err := documentsOf(r.Options, "option")
	if err == nil && r.MaxAnswer < 0 {
		err = madeHere(ErrInvalidArgument, "MaxAnswer: it is negative")
	}
	if err != nil {
		return sendable{}, err
	}
	filename := r.Filename
	if filename == "" && r.Path != "" {
		filename = filepath.Base(r.Path)
	}
	var native *C.confer_extraction_request
	var a attempt
	a.call(func(e **C.confer_error) C.confer_status {
		text, length := bytesOf(filename)
		return C.confer_extraction_request_new(text, length, &native, e)
	})
	a.call(func(e **C.confer_error) C.confer_status {
		switch {
		case r.Reader != nil && r.Length <= 0:
			return C.confer_extraction_request_set_document_stream(native, -1, e)
		case r.Reader != nil:
			return C.confer_extraction_request_set_document_stream(native, C.int64_t(r.Length), e)
		case r.Path != "":
			path, length := bytesOf(r.Path)
			return C.confer_extraction_request_set_document_file(native, path, length, e)
		}
		bytes := (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(r.Bytes)))
		return C.confer_extraction_request_set_document_bytes(native, bytes, C.size_t(len(r.Bytes)), e)
	})
	for name, value := range options {
		a.call(func(e **C.confer_error) C.confer_status {
			key, keyLength := bytesOf(name)
			text, length := bytesOf(value)
			return C.confer_extraction_request_set_option(native, key, keyLength, text, length, e)
		})
	}
	return made(&a, sendable{
		send: func(client *C.confer_client, stream **C.confer_stream, e **C.confer_error) C.confer_status {
			return C.confer_extraction_stream(client, native, nil, stream, e)
		},
		free: func() { C.confer_extraction_request_free(native) },
	})
}

// sendable is a request of any kind, whose handle it owns.
type sendable struct {
	send func(*C.confer_client, **C.confer_stream, **C.confer_error) C.confer_status
	free func()
}

// made returns the request, or frees it if a call failed.
func made(a *attempt, request sendable) (sendable, error) {
	if err := a.err(); err != nil {
		request.free()
		return sendable{}, err
	}
	return request, nil
}

// pull makes a request, sends it, and lends each event to take. When take returns false, it cancels
// the rest.
func (c *Client) pull(ctx context.Context, make func() (sendable, error), take func(*C.confer_event) bool) error {
	stream, err := c.start(ctx, make)
	if err != nil {
		return err
	}
	defer C.confer_stream_free(stream)
	return readStream(ctx, stream, take)
}

// collect makes a request, sends it, and returns the whole answer, or the part before a failure.
func (c *Client) collect(ctx context.Context, make func() (sendable, error)) (string, error) {
	stream, err := c.start(ctx, make)
	if err != nil {
		return "", err
	}
	defer C.confer_stream_free(stream)
	defer whenDone(ctx, func() { C.confer_stream_cancel(stream) })()
	for {
		var lent *C.char
		var failure *C.confer_error
		status := C.confer_stream_collect(stream, -1, &lent, nil, &failure)
		if status == C.CONFER_TIMEOUT {
			continue // see readStream
		}
		text := textOf(func(n *C.size_t) *C.char { return C.confer_stream_text(stream, n) })
		if status != C.CONFER_OK {
			return text, takeError(status, failure).because(ctx)
		}
		return text, nil
	}
}

func (c *Client) start(ctx context.Context, make func() (sendable, error)) (stream *C.confer_stream, err error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	request, err := make()
	if err != nil {
		return nil, err
	}
	defer request.free()
	err = c.call(func(client *C.confer_client, e **C.confer_error) C.confer_status {
		return request.send(client, &stream, e)
	})
	return stream, err
}
