/*
 * Every status of the header has its name and its sentence in the library, and no other number has one. The list is
 * made from the header by test.sh.
 */
#include "check.h"

static const struct {
    confer_status status;
    const char *name;
} statuses[] = {
#include "statuses.inc"
};

enum { STATUSES = sizeof statuses / sizeof *statuses };

static void every_status_of_the_header_has_its_name_in_the_library(void) {
    CHECK(STATUSES > 35);
    for (int i = 0; i < STATUSES; i++) {
        CHECK_TEXT(statuses[i].name, confer_status_name(statuses[i].status));
        CHECK(confer_status_description(statuses[i].status)[0] != '\0');
    }
}

static void no_other_number_has_a_name(void) {
    int known = 0;
    for (confer_status status = -1000; status < 2000; status++)
        known += strcmp(confer_status_name(status), "CONFER_E_UNKNOWN") != 0;
    CHECK(known == STATUSES);
    CHECK_TEXT("CONFER_E_UNKNOWN", confer_status_name(INT32_MIN));
    CHECK_TEXT("CONFER_E_UNKNOWN", confer_status_name(INT32_MAX));
    CHECK(confer_status_description(INT32_MAX)[0] != '\0');
}

static void the_loaded_library_is_the_headers(void) {
    CHECK(confer_version_number() == CONFER_VERSION_NUMBER);
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", CONFER_VERSION_MAJOR, CONFER_VERSION_MINOR, CONFER_VERSION_PATCH);
    CHECK_TEXT(text, confer_version_string());
    CHECK(CONFER_VERSION_MAJOR * 1000000 + CONFER_VERSION_MINOR * 1000 + CONFER_VERSION_PATCH == CONFER_VERSION_NUMBER);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(every_status_of_the_header_has_its_name_in_the_library),
        PROMISE(no_other_number_has_a_name),
        PROMISE(the_loaded_library_is_the_headers),
    };
    return KEEP_PROMISES(promises);
}
