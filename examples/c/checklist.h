/*
 * checklist.h: prints a report: the checks of an enclave, one by one, and the release that runs there.
 */
#ifndef CHECKLIST_H
#define CHECKLIST_H

#include "terminal.h"

#include <inttypes.h>

static inline const char *or_unknown(const char *text) {
    return text != NULL ? text : "unknown";
}

static inline void show_time(FILE *out, const char *before, int64_t seconds) {
    char text[32];
    struct tm utc;
    time_t when = (time_t)seconds;
    if (seconds >= 0 && gmtime_r(&when, &utc) != NULL && strftime(text, sizeof text, "%F %T UTC", &utc) != 0)
        fprintf(out, "%s%s", before, text);
}

/* Prints mark, id, sentence and observed value. Cuts the digest of a check that passed; --report has all of it. */
static inline void show_check(FILE *out, const confer_report *report, size_t index) {
    const char *marks[] = {"✓", "!", "✗", "–"}, *colours[] = {green, yellow, red, dim}; /* by CONFER_OUTCOME_* */
    int32_t outcome = confer_report_check_outcome(report, index);
    const char *expected = confer_report_check_expected(report, index, NULL);
    const char *observed = confer_report_check_observed(report, index, NULL);
    bool passed = outcome == CONFER_OUTCOME_PASS;

    fprintf(out, "  %s%s%s %-17s %s", colours[outcome], marks[outcome], plain,
            confer_report_check_id(report, index, NULL), confer_report_check_detail(report, index, NULL));
    if (passed && observed != NULL && *observed != '\0') {
        bool is_short = strlen(observed) < 64;
        fprintf(out, " %s%.*s%s%s", dim, is_short ? 64 : 24, observed, is_short ? "" : "…", plain);
    }
    if (!passed && expected != NULL) fprintf(out, "\n%22sexpected %s", "", expected);
    if (!passed && observed != NULL) fprintf(out, "\n%22sfound    %s", "", observed);
    fputc('\n', out);
}

static inline void show_release(FILE *out, const confer_report *report) {
    fprintf(out, "%sRelease%s  image %s, proxy %s\n         signed by %s, as %s vouches\n", bold, plain,
            or_unknown(confer_report_image_version(report, NULL)),
            or_unknown(confer_report_proxy_version(report, NULL)),
            or_unknown(confer_report_signer(report, NULL)), or_unknown(confer_report_issuer(report, NULL)));
    fprintf(out, "         logged at %s as entry %" PRId64, or_unknown(confer_report_log_url(report, NULL)),
            confer_report_log_index(report));
    show_time(out, " on ", confer_report_log_integrated_time(report));
    fputc('\n', out);
}

static inline void show_report(FILE *out, const confer_report *report) {
    fprintf(out, "\n%sVerification%s of %s by the policy %s\n", bold, plain,
            or_unknown(confer_report_endpoint(report, NULL)), or_unknown(confer_report_policy_name(report, NULL)));
    for (size_t index = 0; index < confer_report_check_count(report); index++) show_check(out, report, index);
    if (!confer_report_verified(report)) {
        fprintf(out, "\n%s%sRefused.%s No question goes to this enclave.\n", bold, red, plain);
        return;
    }
    fputc('\n', out);
    show_release(out, report);
    fprintf(out, "%sMachine%s  Intel TDX, patch level %s", bold, plain,
            or_unknown(confer_report_tcb_status(report, NULL)));
    show_time(out, "; Intel's word holds until ", confer_report_expires_at(report));
    fprintf(out, "\n\n%s%sVerified.%s\n\n", bold, green, plain);
}

#endif
