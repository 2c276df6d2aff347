/*
 * checklist.h: writes a report: the checks of an enclave, one by one, and the release that runs there.
 */
#ifndef CHECKLIST_H
#define CHECKLIST_H

#include "terminal.h"

#include <inttypes.h>

static inline const char *or_unknown(const char *text) {
    return text != NULL ? text : "unknown";
}

static inline void show_time(struct text *out, const char *before, int64_t seconds) {
    char text[32];
    struct tm utc;
    time_t when = (time_t)seconds;
    if (seconds >= 0 && gmtime_r(&when, &utc) != NULL && strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &utc) != 0)
        add_format(out, "%s%s", before, text);
}

/* Writes mark, id, sentence and observed value. Cuts the digest of a check that passed; --report has all of it. */
static inline void show_check(struct text *out, const confer_report *report, size_t index) {
    const char *marks[] = {"✓", "!", "✗", "–"}, *colours[] = {green, yellow, red, dim}; /* by CONFER_OUTCOME_* */
    int32_t outcome = confer_report_check_outcome(report, index);
    const char *expected = confer_report_check_expected(report, index, NULL);
    const char *observed = confer_report_check_observed(report, index, NULL);
    bool passed = outcome == CONFER_OUTCOME_PASS;

    add_format(out, "  %s%s%s %-17s %s", colours[outcome], marks[outcome], plain,
            confer_report_check_id(report, index, NULL), confer_report_check_detail(report, index, NULL));
    if (passed && observed != NULL && *observed != '\0') {
        bool is_short = strlen(observed) < 64;
        add_format(out, " %s%.*s%s%s", dim, is_short ? 64 : 24, observed, is_short ? "" : "…", plain);
    }
    if (!passed && expected != NULL) add_format(out, "\n%22sexpected %s", "", expected);
    if (!passed && observed != NULL) add_format(out, "\n%22sfound    %s", "", observed);
    add(out, "\n", 1);
}

static inline void show_release(struct text *out, const confer_report *report) {
    add_format(out, "%sRelease%s  image %s, proxy %s\n         signed by %s, as %s vouches\n", bold, plain,
            or_unknown(confer_report_image_version(report, NULL)),
            or_unknown(confer_report_proxy_version(report, NULL)),
            or_unknown(confer_report_signer(report, NULL)), or_unknown(confer_report_issuer(report, NULL)));
    add_format(out, "         logged at %s as entry %" PRId64, or_unknown(confer_report_log_url(report, NULL)),
            confer_report_log_index(report));
    show_time(out, " on ", confer_report_log_integrated_time(report));
    add(out, "\n", 1);
}

static inline void show_report(struct text *out, const confer_report *report) {
    add_format(out, "\n%sVerification%s of %s by the policy %s\n", bold, plain,
            or_unknown(confer_report_endpoint(report, NULL)), or_unknown(confer_report_policy_name(report, NULL)));
    for (size_t index = 0; index < confer_report_check_count(report); index++) show_check(out, report, index);
    if (!confer_report_verified(report)) {
        add_format(out, "\n%s%sRefused.%s No question goes to this enclave.\n", bold, red, plain);
        return;
    }
    add(out, "\n", 1);
    show_release(out, report);
    add_format(out, "%sMachine%s  Intel TDX, patch level %s", bold, plain,
            or_unknown(confer_report_tcb_status(report, NULL)));
    show_time(out, "; Intel's word holds until ", confer_report_expires_at(report));
    add_format(out, "\n\n%s%sVerified.%s\n\n", bold, green, plain);
}

#endif
