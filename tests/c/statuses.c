/*
 * The library has a name and a sentence for every status of the header, and for no other number; and
 * a name for every constant of its enumerations. test.sh makes the lists from the header.
 */
#include "check.h"

static const struct {
    confer_status status;
    const char *name;
} statuses[] = {
#include "statuses.inc"
};

enum { STATUSES = sizeof statuses / sizeof *statuses };

static void library_names_each_status_of_the_header(void) {
    CHECK(STATUSES > 35);
    for (int i = 0; i < STATUSES; i++) {
        CHECK_TEXT(statuses[i].name, confer_status_name(statuses[i].status));
        CHECK(confer_status_description(statuses[i].status)[0] != '\0');
    }
}

static void library_names_no_other_number(void) {
    int known = 0;
    for (confer_status status = -1000; status < 2000; status++)
        known += strcmp(confer_status_name(status), "CONFER_E_UNKNOWN") != 0;
    CHECK(known == STATUSES);
    CHECK_TEXT("CONFER_E_UNKNOWN", confer_status_name(INT32_MIN));
    CHECK_TEXT("CONFER_E_UNKNOWN", confer_status_name(INT32_MAX));
    CHECK(confer_status_description(INT32_MAX)[0] != '\0');
}

static const struct {
    int32_t number;
    const char *name;
} constants[] = {
#include "constants.inc"
};

static const struct {
    const char *prefix;
    const char *(*name)(int32_t);
} enumerations[] = {
    {"CONFER_EVENT_", confer_event_type_name}, {"CONFER_ROLE_", confer_role_name},
    {"CONFER_ENDING_", confer_ending_name},    {"CONFER_PROGRESS_", confer_progress_name},
    {"CONFER_OUTCOME_", confer_outcome_name},  {"CONFER_STAGE_", confer_stage_name},
    {"CONFER_ROOTS_", confer_roots_name},      {"CONFER_LIMIT_", confer_limit_name},
    {"CONFER_LOG_", confer_log_level_name},    {"CONFER_COUNTER_", confer_counter_name},
    {"CONFER_DURATION_", confer_duration_name}, {"CONFER_CLIENT_", confer_client_state_name},
    {"CONFER_TOKEN_", confer_token_reason_name},
};

enum { CONSTANTS = sizeof constants / sizeof *constants, ENUMERATIONS = sizeof enumerations / sizeof *enumerations };

static void library_names_each_constant_of_the_header(void) {
    int named = 0;
    for (int i = 0; i < ENUMERATIONS; i++) {
        const char *prefix = enumerations[i].prefix;
        char unknown[64];
        int known = 0;
        for (int at = 0; at < CONSTANTS; at++) {
            if (strncmp(constants[at].name, prefix, strlen(prefix)) != 0) continue;
            CHECK_TEXT(constants[at].name, enumerations[i].name(constants[at].number));
            known++;
        }
        CHECK(known >= 2);
        snprintf(unknown, sizeof unknown, "%sUNKNOWN", prefix);
        for (int32_t number = -1000; number < 2000; number++)
            known -= strcmp(enumerations[i].name(number), unknown) != 0;
        CHECK(known == 0);
        CHECK_TEXT(unknown, enumerations[i].name(INT32_MIN));
        CHECK_TEXT(unknown, enumerations[i].name(INT32_MAX));
    }
    for (int at = 0; at < CONSTANTS; at++)
        for (int i = 0; i < ENUMERATIONS; i++)
            named += strncmp(constants[at].name, enumerations[i].prefix, strlen(enumerations[i].prefix)) == 0;
    CHECK(named == CONSTANTS);
}

static void library_has_the_headers_version(void) {
    CHECK(confer_version_number() == CONFER_VERSION_NUMBER);
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", CONFER_VERSION_MAJOR, CONFER_VERSION_MINOR, CONFER_VERSION_PATCH);
    CHECK_TEXT(text, confer_version_string());
    CHECK(CONFER_VERSION_MAJOR * 1000000 + CONFER_VERSION_MINOR * 1000 + CONFER_VERSION_PATCH == CONFER_VERSION_NUMBER);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(library_names_each_status_of_the_header),
        PROMISE(library_names_no_other_number),
        PROMISE(library_names_each_constant_of_the_header),
        PROMISE(library_has_the_headers_version),
    };
    return KEEP_PROMISES(promises);
}
