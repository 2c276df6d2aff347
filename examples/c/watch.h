/*
 * watch.h: shows what happens to the connection of chat, from the watch of its client.
 */
#ifndef WATCH_H
#define WATCH_H

#include "checklist.h"
#include "messages.h"

static enum { CONNECTING, CONNECTED, ENDED } phase; /* of the client */
static confer_error *end_of_client;                 /* why it ended, for the last line */
static confer_stream *watch;

static inline void describe(struct text *out, const confer_event *event) {
    const char *why = confer_error_message(confer_event_error(event), NULL);
    switch (confer_event_type(event)) {
    case CONFER_EVENT_DISCONNECTED:
        add_format(out, "%s!%s The connection is lost: %s\n", yellow, plain, why);
        break;
    case CONFER_EVENT_RETRY:
        if (why != NULL) add_format(out, "%s!%s That failed: %s\n", yellow, plain, why);
        add_format(out, "%sConnecting again in %.1f s, attempt %" PRIu32 "%s\n", dim,
                (double)confer_event_delay_ms(event) / 1000, confer_event_attempt(event), plain);
        break;
    case CONFER_EVENT_CONNECTED:
        if (!confer_event_release_changed(event)) {
            add_format(out, "%s✓%s Connected again, and verified: the same release as before\n", green, plain);
        } else {
            add_format(out, "%s!%s Connected again, and verified: another release than before\n", yellow, plain);
            show_release(out, confer_event_report(event));
        }
        break;
    }
}

/* Shows an event, or the report of an enclave that was refused when reconnecting. The last line shows other errors. */
static inline void show_client_event(const confer_event *event, const confer_report *refused) {
    struct text lines = {0};
    if (event != NULL) describe(&lines, event);
    if (refused != NULL) show_report(&lines, refused);
    if (lines.len > 0) {
        flockfile(stderr);
        interject(lines.text);
        funlockfile(stderr);
    }
    free(lines.text);
}

static inline void end_client(confer_error *error) {
    phase = ENDED;
    end_of_client = error;
}

/* Before the first connection there is nothing to show, and a failed attempt is the end. */
static inline void on_client_event(const confer_event *event) {
    const confer_error *failure = confer_event_error(event);
    if (phase == CONNECTED) show_client_event(event, NULL);
    else if (confer_event_type(event) == CONFER_EVENT_CONNECTED) phase = CONNECTED;
    else if (failure != NULL) end_client(confer_error_clone(failure));
}

/* Takes the client's events; with `to_the_end` all of them, because the client has ended. */
static inline void take_client_events(bool to_the_end) {
    while (phase != ENDED && watch != NULL) {
        const confer_event *event = NULL;
        confer_error *error = NULL;
        confer_status status = confer_stream_next(watch, to_the_end ? -1 : 0, &event, &error);
        if (status == CONFER_TIMEOUT) return;
        if (status == CONFER_OK) {
            on_client_event(event);
            continue;
        }
        if (phase == CONNECTED) show_client_event(NULL, confer_error_report(error));
        end_client(error);
    }
}

static inline int say_end_of_client(void) {
    confer_error *error = end_of_client;
    end_of_client = NULL;
    return say_error(error);
}

static inline confer_status watch_client(confer_client *client, confer_error **error) {
    const confer_stream_callbacks waking = {sizeof waking, NULL, NULL, NULL, NULL, on_ready};
    return confer_client_watch(client, &waking, &watch, error);
}

static inline void stop_watching(void) {
    confer_error_free(end_of_client);
    confer_stream_free(watch);
    end_of_client = NULL, watch = NULL;
}

#endif
