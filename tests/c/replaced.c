/*
 * Functions that others replace: requests of every kind in one type, pulls, and a document in 13 arguments. They work until
 * they are removed.
 */
#include "recorder.h"

static struct enclave enclave;

#define REFUSES(name, call) CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, name, call)

enum { RAW, PING, EMBEDDINGS, FETCH, EXTRACTION, KINDS };

static confer_request *request_of(int kind) {
    confer_request *request = NULL;
    switch (kind) {
    case RAW:
        CHECK_OK(confer_request_new("GET", SIZE_MAX, "/ping", SIZE_MAX, CONFER_ENDING_ONE_RESPONSE, &request, &error));
        break;
    case PING:
        CHECK_OK(confer_request_new_ping(&request, &error));
        break;
    case EMBEDDINGS:
        CHECK_OK(confer_request_new_embeddings(true, &request, &error));
        break;
    case FETCH:
        CHECK_OK(confer_request_new_fetch("http://example.test/", SIZE_MAX, &request, &error));
        break;
    default:
        CHECK_OK(confer_request_new_extraction("note.pdf", SIZE_MAX, &request, &error));
    }
    return request;
}

static int64_t no_document(void *user_data, uint8_t *buffer, size_t size) {
    (void)user_data, (void)buffer, (void)size;
    return -1;
}

static void setter_is_for_its_own_kind_of_request(void) {
    for (int kind = 0; kind < KINDS; kind++) {
        confer_request *request = request_of(kind);
        const confer_status of_extraction = kind == EXTRACTION ? CONFER_OK : CONFER_E_INVALID_ARGUMENT;
        CHECK_STATUS(kind == RAW ? CONFER_OK : CONFER_E_INVALID_ARGUMENT, confer_request_set_body(request, "x", 1, &error));
        CHECK_STATUS(kind == EMBEDDINGS ? CONFER_OK : CONFER_E_INVALID_ARGUMENT,
                     confer_request_add_text(request, "x", 1, &error));
        CHECK_STATUS(kind == FETCH ? CONFER_OK : CONFER_E_INVALID_ARGUMENT,
                     confer_request_set_header(request, "a", 1, "", 0, &error));
        CHECK_STATUS(of_extraction, confer_request_set_option(request, "ocr", 3, "true", 4, &error));
        CHECK_STATUS(of_extraction, confer_request_set_document_bytes(request, NULL, 0, &error));
        CHECK_STATUS(of_extraction, confer_request_set_document_file(request, "/proc/self/exe", SIZE_MAX, &error));
        CHECK_STATUS(of_extraction, confer_request_set_document_stream(request, 1, &error));
        CHECK_STATUS(of_extraction, confer_request_set_document_callback(request, 1, no_document, NULL, NULL, &error));
        confer_request_free(request);
    }
}

static void request_of_every_kind_is_answered(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    for (int kind = 0; kind < KINDS; kind++) {
        struct recorder recorder = RECORDER;
        confer_request *request = request_of(kind);
        confer_stream *stream = NULL;
        const confer_event *event = NULL;
        confer_status status;
        if (kind == EMBEDDINGS) CHECK_OK(confer_request_add_text(request, "x", 1, &error));
        if (kind == EXTRACTION) CHECK_OK(confer_request_set_document_bytes(request, (const uint8_t *)"words", 5, &error));
        CHECK_OK(confer_request_pull(client, request, &stream, &error));
        while ((status = confer_stream_next(stream, -1, &event, NULL)) == CONFER_OK) CHECK(event != NULL);
        CHECK(status == CONFER_END);
        confer_stream_free(stream);
        confer_stream_callbacks table = recorder_table(&recorder);
        CHECK_OK(confer_request_stream(client, request, &table, &recorder.stream, &error));
        recorder_wait(&recorder, CONFER_OK);
        confer_stream_free(recorder.stream);
        confer_request_free(request);
    }
    enclave_close(client);
    enclave_stop(&enclave);
}

static void chat_is_pulled(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_chat_request *request = chat_request("hello");
    confer_stream *stream = NULL;
    const char *text = NULL;
    CHECK_OK(confer_chat_request_set_stream(request, false, &error));
    REFUSES("attachment_id", confer_chat_request_add_document(request, "", 0, "f", 1, "t", 1, 1, "k", 1, "e", 1, &error));
    CHECK_OK(confer_chat_request_add_document(request, "a", 1, "b.md", 4, "text/markdown", 13, 1, "k", 1, "e", 1, &error));
    CHECK_OK(confer_chat_pull(client, request, &stream, &error));
    CHECK_OK(confer_stream_collect(stream, -1, &text, NULL, &error));
    CHECK_TEXT("You said: hello", text);
    confer_stream_free(stream);
    confer_chat_request_free(request);
    enclave_close(client);
    enclave_stop(&enclave);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(setter_is_for_its_own_kind_of_request),
        PROMISE(request_of_every_kind_is_answered),
        PROMISE(chat_is_pulled),
    };
    return KEEP_PROMISES(promises);
}
