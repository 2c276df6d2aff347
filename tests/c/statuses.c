/*
 * The library has a name and a sentence for every status of the header, and for no other number.
 * test.sh makes the list from the header.
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
        PROMISE(library_has_the_headers_version),
    };
    return KEEP_PROMISES(promises);
}
