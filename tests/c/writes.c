/*
 * Documents that the application writes to the stream: what arrives, when a write waits, and how an
 * upload ends.
 */
#include "recorder.h"

static struct enclave enclave;

#define REFUSES(name, call) CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, name, call)
#define MIB (1 << 20)

enum { LARGE = 3 * MIB + 5 };

static uint8_t document[LARGE];

static void fill(void) {
    for (size_t at = 0; at < LARGE; at++) document[at] = (uint8_t)('a' + at % 23);
}

/* A request for a document of this length, -1 for an unknown length. */
static confer_extraction_request *extraction(int64_t total) {
    confer_extraction_request *request = NULL;
    CHECK_OK(confer_extraction_request_new("note.pdf", SIZE_MAX, &request, &error));
    CHECK_OK(confer_extraction_request_set_document_stream(request, total, &error));
    return request;
}

static confer_stream *start(confer_client *client, int64_t total) {
    confer_stream *stream = NULL;
    confer_extraction_request *request = extraction(total);
    CHECK_OK(confer_extraction_stream(client, request, NULL, &stream, &error));
    confer_extraction_request_free(request);
    return stream;
}

/* Writes all bytes, `piece` at a time. */
static void write_all(confer_stream *stream, size_t from, size_t to, size_t piece) {
    while (from < to) {
        size_t len = to - from < piece ? to - from : piece, written = 77;
        CHECK_OK(confer_stream_write(stream, document + from, len, -1, &written, &error));
        CHECK(written == len);
        from += len;
    }
}

struct end {
    confer_status status;
    int32_t http_status;
    char text[8192];
};

/* Reads to the end. */
static void read_to(confer_stream *stream, struct end *end) {
    size_t used = 0;
    confer_error *failure = NULL;
    const confer_event *event = NULL;
    while ((end->status = confer_stream_next(stream, -1, &event, &failure)) == CONFER_OK) {
        size_t len = 0;
        const char *content = confer_event_content(event, &len);
        if (confer_event_type(event) != CONFER_EVENT_BODY) continue;
        CHECK(used + len < sizeof end->text);
        memcpy(end->text + used, content, len);
        used += len;
    }
    end->text[used] = '\0';
    end->http_status = confer_error_http_status(failure);
    confer_error_free(failure);
}

/* Reads to the end, and frees the stream. */
static void read_end(confer_stream *stream, struct end *end) {
    read_to(stream, end);
    confer_stream_free(stream);
}

static void ends_with(confer_stream *stream, confer_status expected) {
    struct end end;
    read_end(stream, &end);
    if (end.status != expected) CHECK_TEXT(confer_status_name(expected), confer_status_name(end.status));
}

static void takes_no_more(confer_stream *stream) {
    size_t written = 77;
    CHECK_ERROR(CONFER_E_STALE, "upload", confer_stream_write(stream, document, 1, -1, &written, &error));
    CHECK_STATUS(CONFER_E_STALE, confer_stream_write(stream, NULL, 0, 0, &written, &error));
    CHECK_STATUS(CONFER_E_STALE, confer_stream_finish(stream, &error));
    CHECK(written == 77);
}

/* ---- what arrives ---------------------------------------------------------------------------- */

static void written_document_arrives_whole(void) {
    static const size_t sizes[] = {1, 1000, MIB - 1, MIB, MIB + 1, LARGE}, pieces[] = {4099, MIB, LARGE};
    fill();
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    for (size_t size = 0; size < sizeof sizes / sizeof *sizes; size++) {
        struct end expected, found;
        confer_stream *stream = NULL;
        confer_extraction_request *request = extraction(0);
        CHECK_OK(confer_extraction_request_set_document_bytes(request, document, sizes[size], &error)); /* replaces it */
        CHECK_OK(confer_extraction_stream(client, request, NULL, &stream, &error));
        confer_extraction_request_free(request);
        read_end(stream, &expected);
        CHECK(expected.status == CONFER_END);
        for (size_t piece = 0; piece < sizeof pieces / sizeof *pieces; piece++) {
            stream = start(client, (int64_t)sizes[size]);
            write_all(stream, 0, sizes[size], pieces[piece]);
            if (piece == 0) CHECK_OK(confer_stream_finish(stream, &error)); /* the length is its end, too */
            read_end(stream, &found);
            CHECK(found.status == CONFER_END);
            CHECK_TEXT(expected.text, found.text); /* with the same digest */
        }
    }
    enclave_close(client);
    enclave_stop(&enclave);
}

/* Newer servers need a length, of at least one byte. */
static void document_without_a_length_or_bytes_arrives_or_is_refused(void) {
    static const size_t sizes[] = {0, MIB - 1, MIB, MIB + 1};
    fill();
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    for (size_t size = 0; size < sizeof sizes / sizeof *sizes; size++)
        for (int known = size == 0; known >= 0; known--) {
            size_t done = 0, written = 0;
            confer_status status = CONFER_OK;
            confer_stream *stream = start(client, known ? (int64_t)sizes[size] : -1);
            for (; status == CONFER_OK && done < sizes[size]; done += written)
                status = confer_stream_write(stream, document + done, sizes[size] - done, -1, &written, NULL);
            if (status == CONFER_OK) status = confer_stream_finish(stream, NULL);
            CHECK(status == CONFER_OK || (enclave_is_newer() && status == CONFER_E_STALE));
            struct end end;
            read_end(stream, &end);
            if (enclave_is_newer()) CHECK(end.status == CONFER_E_REFUSED && end.http_status == 400);
            else CHECK(end.status == CONFER_END);
        }
    enclave_close(client);
    enclave_stop(&enclave);
}

static void each_start_has_its_document(void) {
    fill();
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_extraction_request *request = extraction(1000);
    confer_stream *streams[2] = {NULL, NULL};
    struct end ends[2];
    for (int at = 0; at < 2; at++) CHECK_OK(confer_extraction_stream(client, request, NULL, &streams[at], &error));
    confer_extraction_request_free(request);
    for (int at = 1; at >= 0; at--) write_all(streams[at], (size_t)at, (size_t)at + 1000, 300);
    for (int at = 0; at < 2; at++) read_end(streams[at], &ends[at]);
    CHECK(ends[0].status == CONFER_END && ends[1].status == CONFER_END);
    CHECK(strcmp(ends[0].text, ends[1].text) != 0);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void length_is_checked(void) {
    size_t written = 77;
    fill();
    enclave_start(&enclave, "upload-never-answered");
    confer_client *client = enclave_connect(&enclave);
    confer_stream *stream = start(client, 1000);
    write_all(stream, 0, 600, 600);
    REFUSES("401 bytes; of the document's 1000, 400", confer_stream_write(stream, document, 401, -1, &written, &error));
    CHECK(written == 77);
    write_all(stream, 600, 1000, 400);
    CHECK_OK(confer_stream_finish(stream, &error));
    CHECK_OK(confer_stream_finish(stream, &error));
    CHECK_OK(confer_stream_write(stream, NULL, 0, -1, &written, &error));
    CHECK(written == 0);
    REFUSES("0 are left", confer_stream_write(stream, document, 1, -1, &written, &error));
    confer_stream_free(stream);

    stream = start(client, 1000);
    write_all(stream, 0, 999, 999);
    REFUSES("before its 1000 bytes", confer_stream_finish(stream, &error));
    REFUSES("before its 1000 bytes", confer_stream_finish(stream, &error));
    ends_with(stream, CONFER_E_INVALID_ARGUMENT);
    chat_says(client, "still here", "You said: still here");
    enclave_close(client);
    enclave_stop(&enclave);
}

static void finished_document_takes_no_more(void) {
    size_t written = 77;
    enclave_start(&enclave, "upload-never-answered");
    confer_client *client = enclave_connect(&enclave);
    confer_stream *stream = start(client, -1);
    CHECK_OK(confer_stream_write(stream, (const uint8_t *)"x", 1, -1, &written, &error));
    CHECK_OK(confer_stream_finish(stream, &error));
    if (enclave_is_newer()) ends_with(stream, CONFER_E_REFUSED); /* it needs the length */
    else {
        REFUSES("finished", confer_stream_write(stream, (const uint8_t *)"x", 1, -1, &written, &error));
        confer_stream_free(stream);
    }
    enclave_close(client);
    enclave_stop(&enclave);
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* More than the library and the sockets between it and the enclave hold. */
enum { MORE_THAN_FITS = 64 * MIB };

/* Writes without waiting until there is no room, which comes sooner or later if the enclave does not read. */
static void fill_up(confer_stream *stream) {
    size_t written = 1;
    while (written > 0) {
        confer_status status = confer_stream_write(stream, document, LARGE, 0, &written, NULL);
        CHECK(written <= LARGE && status == (written == LARGE ? CONFER_OK : CONFER_TIMEOUT));
    }
    CHECK_OK(confer_stream_write(stream, NULL, 0, 0, &written, &error));
}

struct writer {
    confer_stream *stream;
    const uint8_t *bytes;
    confer_status status;
};

/* A call that cannot end before the upload, because the enclave does not read. */
static void *write_more_than_fits(void *data) {
    struct writer *writer = data;
    size_t written = 77;
    writer->status = confer_stream_write(writer->stream, writer->bytes, MORE_THAN_FITS, -1, &written, NULL);
    CHECK(written == 77);
    return NULL;
}

enum { CANCELS, FREES, CLOSES, BREAKS, WAYS };

static void waiting_writer_wakes_when_the_upload_ends(void) {
    static const confer_status ends[] = {CONFER_E_CANCELLED, CONFER_OK, CONFER_E_CLOSED, CONFER_E_CONNECTION_LOST};
    fill();
    uint8_t *bytes = calloc(MORE_THAN_FITS, 1);
    CHECK(bytes != NULL);
    for (int way = 0; way < WAYS; way++) {
        enclave_start(&enclave, "upload-not-read");
        confer_client *client = enclave_connect(&enclave);
        struct writer writer = {start(client, (int64_t)1 << 30), bytes, CONFER_OK};
        pthread_t thread;
        size_t written = 77;
        fill_up(writer.stream);
        CHECK(pthread_create(&thread, NULL, write_more_than_fits, &writer) == 0);
        while (confer_stream_write(writer.stream, document, 1, 0, &written, NULL) != CONFER_E_BUSY) check_pause();
        CHECK_STATUS(CONFER_E_BUSY, confer_stream_finish(writer.stream, &error));
        if (way == CANCELS) confer_stream_cancel(writer.stream);
        if (way == FREES) confer_stream_free(writer.stream);
        if (way == CLOSES) CHECK_OK(confer_close(client, -1, &error));
        if (way == BREAKS) enclave_stop(&enclave);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(writer.status == CONFER_E_STALE);
        if (way != FREES) {
            CHECK_STATUS(CONFER_E_STALE, confer_stream_write(writer.stream, document, 1, -1, &written, &error));
            ends_with(writer.stream, ends[way]);
        }
        enclave_close(client);
        if (way != BREAKS) enclave_stop(&enclave);
    }
    free(bytes);
}

static void idle_limit_rests_while_the_application_writes(void) {
    size_t written = 0;
    fill();
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config(&enclave);
    confer_client *client = NULL;
    enclave_set_idle(config, 2000);
    CHECK_OK(confer_connect(config, &client, &error));
    confer_config_free(config);
    confer_stream *stream = start(client, 1000);
    CHECK_OK(confer_stream_write(stream, document, 500, 0, &written, &error));
    confer_stream *slow = chat_pull(client, "/slow 100 30"); /* takes longer than the limit */
    chat_read(slow, NULL, 0);
    confer_stream_free(slow);
    write_all(stream, 500, 1000, 500);
    ends_with(stream, CONFER_END);
    enclave_close(client);
    enclave_stop(&enclave);
}

struct feed {
    size_t done;
};

/* Writes what fits, whenever more was sent. */
static int32_t write_on(struct recorder *recorder, const confer_event *event) {
    struct feed *feed = recorder->data;
    size_t written = 0;
    if (confer_event_type(event) != CONFER_EVENT_PROGRESS || feed->done == LARGE) return 0;
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_stream_write(recorder->stream, document, 1, -1, &written, &error));
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_stream_write(recorder->stream, document, 1, 1, &written, &error));
    confer_status status =
        confer_stream_write(recorder->stream, document + feed->done, LARGE - feed->done, 0, &written, NULL);
    CHECK(status == CONFER_OK || status == CONFER_TIMEOUT);
    feed->done += written;
    if (feed->done == LARGE) CHECK_OK(confer_stream_finish(recorder->stream, &error));
    return 0;
}

static void callback_writes_as_there_is_room(void) {
    fill();
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct feed feed = {MIB};
    struct recorder recorder = RECORDER;
    confer_extraction_request *request = extraction(LARGE);
    confer_stream_callbacks table = recorder_table(&recorder);
    recorder.data = &feed;
    recorder.react = write_on;
    CHECK_OK(confer_extraction_stream(client, request, &table, &recorder.stream, &error));
    confer_extraction_request_free(request);
    write_all(recorder.stream, 0, MIB, MIB); /* its progress is the first event */
    recorder_wait(&recorder, CONFER_OK);
    CHECK(feed.done == LARGE);
    confer_stream_free(recorder.stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

/* ---- answers before the end ------------------------------------------------------------------ */

static void answer_can_come_before_the_end(void) {
    fill();
    enclave_start(&enclave, "upload-answers-early");
    confer_client *client = enclave_connect(&enclave);
    confer_stream *stream = start(client, LARGE + 1);
    struct end end;
    write_all(stream, 0, MIB, MIB); /* the answer follows the first chunk */
    read_to(stream, &end);
    CHECK(end.status == CONFER_END && *end.text != '\0');
    takes_no_more(stream);
    confer_stream_free(stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void refusal_can_come_before_the_end(void) {
    fill();
    enclave_start(&enclave, "upload-refused-midway");
    confer_client *client = enclave_connect(&enclave);
    confer_stream *stream = start(client, LARGE + 1);
    struct end end;
    write_all(stream, 0, 3 * MIB, MIB); /* the refusal follows the third chunk */
    read_to(stream, &end);
    CHECK(end.status == CONFER_E_REFUSED && end.http_status == 422);
    takes_no_more(stream);
    confer_stream_free(stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

/* ---- invalid calls --------------------------------------------------------------------------- */

static void invalid_writes_are_refused(void) {
    size_t written = 77;
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *chat = chat_pull(client, "/silent"), *stream = start(client, 1000);
    REFUSES("request", confer_extraction_request_set_document_stream(NULL, 1, &error));
    REFUSES("stream", confer_stream_write(NULL, document, 1, 0, &written, &error));
    REFUSES("stream", confer_stream_finish(NULL, &error));
    REFUSES("written", confer_stream_write(stream, document, 1, 0, NULL, &error));
    REFUSES("bytes", confer_stream_write(stream, NULL, 1, 0, &written, &error));
    REFUSES("len", confer_stream_write(stream, document, SIZE_MAX, 0, &written, &error));
    REFUSES("no document", confer_stream_write(chat, document, 1, 0, &written, &error));
    REFUSES("no document", confer_stream_finish(chat, &error));
    CHECK(written == 77);
    write_all(stream, 0, 1000, 1000);
    ends_with(stream, CONFER_END);
    confer_stream_free(chat);
    enclave_close(client);
    enclave_stop(&enclave);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(written_document_arrives_whole),
        PROMISE(document_without_a_length_or_bytes_arrives_or_is_refused),
        PROMISE(each_start_has_its_document),
        PROMISE(length_is_checked),
        PROMISE(finished_document_takes_no_more),
        PROMISE(waiting_writer_wakes_when_the_upload_ends),
        PROMISE(idle_limit_rests_while_the_application_writes),
        PROMISE(callback_writes_as_there_is_room),
        PROMISE(answer_can_come_before_the_end),
        PROMISE(refusal_can_come_before_the_end),
        PROMISE(invalid_writes_are_refused),
    };
    return KEEP_PROMISES(promises);
}
