/*
 * Invalid input: each mistake fails with a status and an error that names the argument, and changes
 * nothing. Needs no network.
 */
#include "check.h"

#define BAD_UTF8 "ab\xff"

static confer_config *config;
static confer_chat_request *request;

static void setup(void) {
    CHECK_OK(confer_config_new(&config, &error));
    CHECK_OK(confer_chat_request_new(&request, &error));
}

static void teardown(void) {
    confer_config_free(config);
    confer_chat_request_free(request);
}

#define REFUSES_NULL(name, call) CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, name, call)

static void null_pointer_error_names_the_argument(void) {
    setup();
    confer_policy *policy = NULL;
    confer_report *report = NULL;
    confer_client *client = NULL;
    confer_stream *stream = NULL;
    const confer_event *event = NULL;
    int fd = 0;
    REFUSES_NULL("policy", confer_policy_production(NULL, &error));
    REFUSES_NULL("policy", confer_policy_strict(NULL, &error));
    REFUSES_NULL("policy", confer_policy_parse("{}", 2, NULL, &error));
    REFUSES_NULL("json", confer_policy_parse(NULL, 2, &policy, &error));
    REFUSES_NULL("path", confer_policy_load(NULL, SIZE_MAX, &policy, &error));
    REFUSES_NULL("policy", confer_policy_load("/", 1, NULL, &error));
    REFUSES_NULL("config", confer_config_new(NULL, &error));
    REFUSES_NULL("config", confer_config_set_endpoint(NULL, "wss://a/", SIZE_MAX, &error));
    REFUSES_NULL("url", confer_config_set_endpoint(config, NULL, 1, &error));
    REFUSES_NULL("config", confer_config_set_token(NULL, "t", 1, &error));
    REFUSES_NULL("token", confer_config_set_token(config, NULL, SIZE_MAX, &error));
    REFUSES_NULL("policy", confer_config_set_policy(config, NULL, &error));
    REFUSES_NULL("config", confer_config_set_proxy(NULL, "", 0, &error));
    REFUSES_NULL("url", confer_config_set_proxy(config, NULL, 1, &error));
    REFUSES_NULL("config", confer_config_set_proxy_from_environment(NULL, &error));
    REFUSES_NULL("config", confer_config_set_roots(NULL, CONFER_ROOTS_BUNDLED, &error));
    REFUSES_NULL("config", confer_config_set_roots_pem(NULL, "x", 1, &error));
    REFUSES_NULL("pem", confer_config_set_roots_pem(config, NULL, 1, &error));
    REFUSES_NULL("config", confer_config_set_jwks_cache_file(NULL, "x", 1, &error));
    REFUSES_NULL("path", confer_config_set_jwks_cache_file(config, NULL, 1, &error));
    REFUSES_NULL("config", confer_config_set_duration_ms(NULL, CONFER_DURATION_CONNECT, 1, &error));
    REFUSES_NULL("config", confer_config_set_limit(NULL, CONFER_LIMIT_ATTEMPTS, 1, &error));
    REFUSES_NULL("config", confer_config_set_ask(NULL, 0, &error));
    REFUSES_NULL("config", confer_config_set_log(NULL, CONFER_LOG_INFO, NULL, NULL, NULL, &error));
    REFUSES_NULL("report", confer_evidence_verify("{}", 2, NULL, 0, NULL, &error));
    REFUSES_NULL("evidence", confer_evidence_verify(NULL, 2, NULL, 0, &report, &error));
    REFUSES_NULL("config", confer_connect(NULL, &client, &error));
    REFUSES_NULL("client", confer_connect(config, NULL, &error));
    REFUSES_NULL("config", confer_connect_start(NULL, &client, &error));
    REFUSES_NULL("client", confer_connect_start(config, NULL, &error));
    REFUSES_NULL("client", confer_client_wait(NULL, 0, &error));
    REFUSES_NULL("client", confer_client_watch(NULL, NULL, &stream, &error));
    REFUSES_NULL("client", confer_client_set_token(NULL, "t", 1, &error));
    REFUSES_NULL("client", confer_attestation_report(NULL, &report, &error));
    REFUSES_NULL("client", confer_client_check(NULL, &error));
    REFUSES_NULL("client", confer_close(NULL, 0, &error));
    REFUSES_NULL("request", confer_chat_request_new(NULL, &error));
    REFUSES_NULL("request", confer_chat_request_add_message(NULL, CONFER_ROLE_USER, "x", 1, &error));
    REFUSES_NULL("content", confer_chat_request_add_message(request, CONFER_ROLE_USER, NULL, 1, &error));
    REFUSES_NULL("request", confer_chat_request_add_message_json(NULL, "{}", 2, &error));
    REFUSES_NULL("json", confer_chat_request_add_message_json(request, NULL, 2, &error));
    REFUSES_NULL("request", confer_chat_request_set_model(NULL, "m", 1, &error));
    REFUSES_NULL("model", confer_chat_request_set_model(request, NULL, 1, &error));
    REFUSES_NULL("request", confer_chat_request_set_web_search(NULL, true, &error));
    REFUSES_NULL("request", confer_chat_request_set_property(NULL, "n", 1, "1", 1, &error));
    REFUSES_NULL("name", confer_chat_request_set_property(request, NULL, 1, "1", 1, &error));
    REFUSES_NULL("json", confer_chat_request_set_property(request, "n", 1, NULL, 1, &error));
    REFUSES_NULL("client", confer_chat_stream(NULL, request, NULL, &stream, &error));
    REFUSES_NULL("stream", confer_stream_next(NULL, 0, &event, &error));
    REFUSES_NULL("stream", confer_stream_fd(NULL, &fd, &error));
    CHECK(confer_config_new(NULL, NULL) == CONFER_E_INVALID_ARGUMENT); /* the error output is optional */
    teardown();
}

static void getters_accept_null(void) {
    size_t len = 7;
    CHECK(confer_error_status(NULL) == CONFER_OK && confer_error_http_status(NULL) == 0);
    CHECK(confer_error_message(NULL, &len) == NULL && len == 0);
    CHECK(confer_error_check_id(NULL, NULL) == NULL && confer_error_peer_text(NULL, NULL) == NULL);
    CHECK(!confer_error_retryable(NULL) && confer_error_retry_delay_ms(NULL) == -1 && confer_error_report(NULL) == NULL);
    CHECK(confer_error_progress(NULL) == CONFER_PROGRESS_NOT_SENT);
    CHECK(confer_policy_json(NULL, &len) == NULL && confer_policy_name(NULL, NULL) == NULL);
    CHECK(confer_policy_sha256(NULL, NULL) == NULL && confer_client_state(NULL) == CONFER_CLIENT_ENDED);
    CHECK(!confer_report_verified(NULL) && confer_report_json(NULL, &len) == NULL);
    CHECK(confer_report_evidence(NULL, NULL) == NULL && confer_report_check_count(NULL) == 0);
    CHECK(confer_report_check_outcome(NULL, 0) == -1 && confer_report_check_id(NULL, 0, NULL) == NULL);
    CHECK(confer_report_mrtd(NULL, NULL) == NULL && confer_report_server_key(NULL, NULL) == NULL);
    CHECK(confer_report_expires_at(NULL) == -1 && confer_report_advisory_count(NULL) == 0);
    CHECK(confer_event_type(NULL) == CONFER_EVENT_OTHER && confer_event_json(NULL, &len) == NULL);
    CHECK(confer_event_content(NULL, NULL) == NULL && confer_event_context_tokens(NULL) == -1);
    CHECK(!confer_event_pending_tool_calls(NULL));
}

static void invalid_utf8_error_names_the_first_bad_byte(void) {
    setup();
    confer_policy *policy = NULL;
    CHECK_ERROR(CONFER_E_INVALID_UTF8, "url: not UTF-8 (first invalid byte at offset 2)", confer_config_set_endpoint(config, BAD_UTF8, SIZE_MAX, &error));
    CHECK_ERROR(CONFER_E_INVALID_UTF8, "token", confer_config_set_token(config, BAD_UTF8, 3, &error));
    CHECK_ERROR(CONFER_E_INVALID_UTF8, "url", confer_config_set_proxy(config, BAD_UTF8, 3, &error));
    CHECK_ERROR(CONFER_E_INVALID_UTF8, "pem", confer_config_set_roots_pem(config, BAD_UTF8, 3, &error));
    CHECK_ERROR(CONFER_E_INVALID_UTF8, "path", confer_config_set_jwks_cache_file(config, BAD_UTF8, 3, &error));
    CHECK_ERROR(CONFER_E_INVALID_UTF8, "path", confer_policy_load(BAD_UTF8, 3, &policy, &error));
    CHECK_ERROR(CONFER_E_INVALID_UTF8, "content",
                confer_chat_request_add_message(request, CONFER_ROLE_USER, BAD_UTF8, SIZE_MAX, &error));
    CHECK_ERROR(CONFER_E_INVALID_UTF8, "json", confer_chat_request_add_message_json(request, "{\"a\":\"\xc3\"}", SIZE_MAX, &error));
    CHECK_ERROR(CONFER_E_INVALID_UTF8, "model", confer_chat_request_set_model(request, BAD_UTF8, 3, &error));
    CHECK_ERROR(CONFER_E_INVALID_UTF8, "name", confer_chat_request_set_property(request, BAD_UTF8, 3, "1", 1, &error));
    CHECK_ERROR(CONFER_E_INVALID_UTF8, "json", confer_chat_request_set_property(request, "n", 1, BAD_UTF8, 3, &error));
    /* Surrogates and overlong forms are invalid too. A length can cut a valid sequence. */
    CHECK_STATUS(CONFER_E_INVALID_UTF8, confer_chat_request_set_model(request, "\xed\xa0\x80", 3, &error));
    CHECK_STATUS(CONFER_E_INVALID_UTF8, confer_chat_request_set_model(request, "\xc0\xaf", 2, &error));
    CHECK_STATUS(CONFER_E_INVALID_UTF8, confer_chat_request_set_model(request, "\xe2\x82\xac", 2, &error));
    CHECK_OK(confer_chat_request_set_model(request, "\xe2\x82\xac", 3, &error));
    teardown();
}

static void impossible_lengths_and_oversized_texts_are_refused(void) {
    setup();
    confer_policy *policy = NULL;
    CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "token", confer_config_set_token(config, "t", SIZE_MAX - 1, &error));
    CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "url", confer_config_set_endpoint(config, "t", SIZE_MAX / 2 + 1, &error));
    CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "content",
                confer_chat_request_add_message(request, CONFER_ROLE_USER, "t", SIZE_MAX - 1, &error));
    size_t size = (32 << 20) + 1;
    char *large = malloc(size);
    CHECK(large != NULL);
    memset(large, 'a', size);
    CHECK_OK(confer_config_set_token(config, large, 8192, &error));
    CHECK_ERROR(CONFER_E_TOO_LARGE, "token", confer_config_set_token(config, large, 8193, &error));
    CHECK_ERROR(CONFER_E_INVALID_URL, "2048", confer_config_set_endpoint(config, large, 2049, &error));
    CHECK_ERROR(CONFER_E_INVALID_POLICY, "", confer_policy_parse(large, (1 << 20) + 1, &policy, &error));
    CHECK_ERROR(CONFER_E_TOO_LARGE, "", confer_chat_request_add_message(request, CONFER_ROLE_USER, large, size, &error));
    CHECK_OK(confer_chat_request_add_message(request, CONFER_ROLE_USER, large, size / 2, &error));
    CHECK_STATUS(CONFER_E_TOO_LARGE, confer_chat_request_add_message(request, CONFER_ROLE_USER, large, size - size / 2, &error));
    free(large);
    /* NULL with length 0 is the empty text. */
    CHECK_OK(confer_chat_request_add_message(request, CONFER_ROLE_USER, NULL, 0, &error));
    CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "token", confer_config_set_token(config, NULL, 0, &error));
    teardown();
}

static void endpoint_is_a_websocket_url_without_secrets(void) {
    static const char *const bad[] = {
        "", "nonsense", "inference.confer.to", "wss://", "http://127.0.0.1/", "https://inference.confer.to/websocket",
        "ws://inference.confer.to/websocket", "ws://10.0.0.1/", "ws://127.0.0.1.example.com/", "ws://128.0.0.1/",
        "ws://[::2]/", "wss://user:hunter2@inference.confer.to/", "wss://hunter2@inference.confer.to/",
        "wss://inference.confer.to/websocket?token=hunter2", "wss://inference.confer.to/?a=b&token=hunter2",
        "wss://inference.confer.to/#hunter2", "wss://inference.confer.to:99999/", "wss://in ference/", "file:///etc/passwd",
    };
    check_keep_secret("hunter2");
    setup();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_ERROR(CONFER_E_INVALID_URL, "", confer_config_set_endpoint(config, bad[i], SIZE_MAX, &error));
    static const char *const good[] = {
        "wss://inference.confer.to/websocket", "wss://example.com:8443/a/b?c=d", "ws://127.0.0.1:1/", "ws://127.9.9.9/",
        "ws://localhost:80/websocket", "ws://[::1]:7/",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK_OK(confer_config_set_endpoint(config, good[i], SIZE_MAX, &error));
    teardown();
}

static void invalid_json_error_has_the_position_without_quoting(void) {
    check_keep_secret("hunter2");
    setup();
    CHECK_ERROR(CONFER_E_INVALID_JSON, "line 1 column 7",
                confer_chat_request_set_property(request, "n", 1, "{\"a\": hunter2}", SIZE_MAX, &error));
    CHECK_ERROR(CONFER_E_INVALID_JSON, "line 3 column",
                confer_chat_request_set_property(request, "n", 1, "{\n\"a\": 1,\n}", SIZE_MAX, &error));
    CHECK_ERROR(CONFER_E_INVALID_JSON, "column", confer_chat_request_set_property(request, "n", 1, "", 0, &error));
    CHECK_ERROR(CONFER_E_INVALID_JSON, "column", confer_chat_request_set_property(request, "n", 1, "1 2", 3, &error));
    CHECK_ERROR(CONFER_E_INVALID_JSON, "column",
                confer_chat_request_add_message_json(request, "{\"role\":\"user\",\"content\":\"hunter2", SIZE_MAX, &error));
    CHECK_STATUS(CONFER_E_INVALID_JSON, confer_chat_request_add_message_json(request, "[]", 2, &error));
    CHECK_OK(confer_chat_request_set_property(request, "temperature", SIZE_MAX, "0.7", SIZE_MAX, &error));
    CHECK_OK(confer_chat_request_add_message_json(request, "{\"role\":\"user\",\"content\":\"x\"}", SIZE_MAX, &error));
    static const char *const own[] = {"messages", "model", "webSearch", "stream"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, own[i],
                    confer_chat_request_set_property(request, own[i], SIZE_MAX, "1", 1, &error));
    teardown();
}

/* Copies `json`, inserts `insert` at `at`, and removes the `cut` bytes after it. */
static void refuse_policy(const char *json, const char *at, const char *insert, size_t cut, const char *words) {
    const char *place = strstr(json, at);
    CHECK(place != NULL);
    char document[8192];
    snprintf(document, sizeof document, "%.*s%s%s", (int)(place - json), json, insert, place + cut);
    confer_policy *policy = (confer_policy *)document;
    CHECK_ERROR(CONFER_E_INVALID_POLICY, words, confer_policy_parse(document, SIZE_MAX, &policy, &error));
    CHECK(policy == NULL);
}

static void policy_with_a_wrong_key_is_refused_by_name(void) {
    confer_policy *policy = NULL, *again = NULL;
    size_t len = 0;
    CHECK_OK(confer_policy_production(&policy, &error));
    const char *json = confer_policy_json(policy, &len);
    CHECK(json != NULL && strlen(json) == len);
    CHECK_OK(confer_policy_parse(json, len, &again, &error));
    CHECK_TEXT(confer_policy_sha256(policy, NULL), confer_policy_sha256(again, NULL));
    CHECK_TEXT("confer-production", confer_policy_name(again, NULL));
    confer_policy_free(again);
    refuse_policy(json, "\"version\"", "\"surprise\": 1, ", 0, "surprise");
    refuse_policy(json, "\"issuers\"", "\"isuers\": [], ", 0, "isuers");
    refuse_policy(json, "\"leeway_s\"", "\"leeway_s\": 60, ", 0, "leeway_s");
    refuse_policy(json, "\"leeway_s\"", "\"jwks\": null, ", 0, "jwks");
    refuse_policy(json, "\"min_seam_svn\": 1,", "", strlen("\"min_seam_svn\": 1,"), "min_seam_svn");
    refuse_policy(json, "\"version\"", "]", 0, "column");
    refuse_policy(json, "{", "", 1, "");
    refuse_policy(json, "{", "\xef\xbb\xbf", 0, "");
    CHECK_ERROR(CONFER_E_INVALID_POLICY, "version", confer_policy_parse("{}", 2, &again, &error));
    CHECK_STATUS(CONFER_E_INVALID_POLICY, confer_policy_parse("", 0, &again, &error));
    CHECK_STATUS(CONFER_E_INVALID_POLICY, confer_policy_parse("[]", 2, &again, &error));
    confer_policy *strict = NULL;
    CHECK_OK(confer_policy_strict(&strict, &error));
    CHECK(strcmp(confer_policy_sha256(strict, NULL), confer_policy_sha256(policy, NULL)) != 0);
    confer_policy_free(strict);
    confer_policy_free(policy);
}

static void unreadable_policy_file_is_named(void) {
    confer_policy *policy = NULL;
    CHECK_ERROR(CONFER_E_FILE, "/nowhere/policy.json", confer_policy_load("/nowhere/policy.json", SIZE_MAX, &policy, &error));
    CHECK_ERROR(CONFER_E_FILE, "/tmp", confer_policy_load("/tmp", SIZE_MAX, &policy, &error));
    CHECK_ERROR(CONFER_E_INVALID_POLICY, "", confer_policy_load("/dev/null", SIZE_MAX, &policy, &error));
    CHECK(policy == NULL);
}

static void each_duration_has_bounds(void) {
    setup();
    for (int32_t key = 0; key <= CONFER_DURATION_LONGEST_RETRY; key++) {
        if (key == CONFER_DURATION_STAGE_PROXY + 1) key = CONFER_DURATION_CONNECT;
        bool age = key == CONFER_DURATION_MAX_AGE;
        uint64_t least = age ? 10000 : 1;
        CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "config", confer_config_set_duration_ms(NULL, key, least, &error));
        CHECK_OK(confer_config_set_duration_ms(config, key, least, &error));
        CHECK_OK(confer_config_set_duration_ms(config, key, 86400000, &error));
        CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "CONFER_DURATION_", confer_config_set_duration_ms(config, key, age ? least - 1 : 0, &error));
        CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "to 86400000", confer_config_set_duration_ms(config, key, 86400001, &error));
        CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "CONFER_DURATION_", confer_config_set_duration_ms(config, key, UINT64_MAX, &error));
    }
    CHECK_OK(confer_config_set_duration_ms(config, CONFER_DURATION_MAX_AGE, 0, &error));
    CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "config", confer_config_set_renew_with_evidence(NULL, true, &error));
    CHECK_OK(confer_config_set_limit(config, CONFER_LIMIT_ATTEMPTS, UINT32_MAX, &error));
    CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "CONFER_LIMIT_ATTEMPTS",
                confer_config_set_limit(config, CONFER_LIMIT_ATTEMPTS, (uint64_t)UINT32_MAX + 1, &error));
    CHECK_OK(confer_config_set_limit(config, CONFER_LIMIT_ATTEMPTS, 0, &error));
    teardown();
}

static void numbers_outside_their_range_are_refused(void) {
    setup();
    static const int32_t settings[] = {-1, 8, 9, 99, 110, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "CONFER_DURATION_*", confer_config_set_duration_ms(config, settings[i], 1000, &error));
        CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "CONFER_LIMIT_*", confer_config_set_limit(config, settings[i], 1000, &error));
    }
    static const int32_t roles[] = {-1, 6, INT32_MAX};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "role", confer_chat_request_add_message(request, roles[i], "x", 1, &error));
    CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "model", confer_chat_request_set_model(request, " \t", SIZE_MAX, &error));
    CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "name", confer_chat_request_set_property(request, "", 0, "1", 1, &error));
    static const int32_t roots[] = {-1, 2, INT32_MAX};
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++)
        CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "roots", confer_config_set_roots(config, roots[i], &error));
    CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "pem: it holds no certificate", confer_config_set_roots_pem(config, "", 0, &error));
    CHECK_ERROR(CONFER_E_INVALID_URL, "proxy: ", confer_config_set_proxy(config, "https://proxy.test", SIZE_MAX, &error));
    CHECK_OK(confer_config_set_proxy(config, "socks5://me:secret@proxy.test", SIZE_MAX, &error));
    CHECK_OK(confer_config_set_proxy(config, NULL, 0, &error)); /* no proxy */
    CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "path", confer_config_set_jwks_cache_file(config, "", 0, &error));
    CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "path", confer_config_set_jwks_cache_file(config, "a\0b", 3, &error));
    CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "worker", confer_runtime_set_workers(0, &error));
    CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "worker", confer_runtime_set_workers(65, &error));
    teardown();
}

static void count_destroyed(void *user_data) {
    ++*(int *)user_data;
}

static void no_log(void *user_data, int32_t level, const char *target, const char *message) {
    (void)user_data, (void)level, (void)target, (void)message;
}

static void user_data_of_a_setting_is_destroyed_once(void) {
    setup();
    int destroyed = 0;
    CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "level",
                confer_config_set_log(config, 0, NULL, &destroyed, count_destroyed, &error));
    CHECK(destroyed == 1);
    CHECK_STATUS(CONFER_E_INVALID_ARGUMENT, confer_config_set_log(config, 5, NULL, &destroyed, count_destroyed, &error));
    CHECK_STATUS(CONFER_E_INVALID_ARGUMENT,
                 confer_config_set_log(NULL, CONFER_LOG_WARN, NULL, &destroyed, count_destroyed, &error));
    CHECK(destroyed == 3);
    CHECK_OK(confer_config_set_log(config, CONFER_LOG_WARN, (confer_log_fn)NULL, &destroyed, count_destroyed, &error));
    CHECK(destroyed == 4); /* without a callback nothing needs it */
    CHECK_OK(confer_config_set_log(config, CONFER_LOG_WARN, no_log, &destroyed, count_destroyed, &error));
    CHECK(destroyed == 4);
    CHECK_OK(confer_config_set_log(config, CONFER_LOG_INFO, no_log, &destroyed, count_destroyed, &error));
    CHECK(destroyed == 5); /* the one that it replaced */
    teardown();
    CHECK(destroyed == 6);
}

static void connecting_without_token_or_to_closed_port_fails(void) {
    setup();
    confer_client *client = (confer_client *)config;
    CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "token", confer_connect(config, &client, &error));
    CHECK(client == NULL);
    CHECK_OK(confer_config_set_token(config, "t", 1, &error));
    CHECK_OK(confer_config_set_endpoint(config, "ws://127.0.0.1:1/", SIZE_MAX, &error));
    confer_error *failure = NULL;
    CHECK(confer_connect(config, &client, &failure) == CONFER_E_CONNECT);
    CHECK(confer_error_retryable(failure) && confer_error_progress(failure) == CONFER_PROGRESS_NOT_SENT);
    confer_error_free(failure);
    teardown();
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(null_pointer_error_names_the_argument),
        PROMISE(getters_accept_null),
        PROMISE(invalid_utf8_error_names_the_first_bad_byte),
        PROMISE(impossible_lengths_and_oversized_texts_are_refused),
        PROMISE(endpoint_is_a_websocket_url_without_secrets),
        PROMISE(invalid_json_error_has_the_position_without_quoting),
        PROMISE(policy_with_a_wrong_key_is_refused_by_name),
        PROMISE(unreadable_policy_file_is_named),
        PROMISE(each_duration_has_bounds),
        PROMISE(numbers_outside_their_range_are_refused),
        PROMISE(user_data_of_a_setting_is_destroyed_once),
        PROMISE(connecting_without_token_or_to_closed_port_fails),
    };
    return KEEP_PROMISES(promises);
}
