/*
 * measured.h - requests of a serving system as somebody else measured them: JSON lines, one request
 * a line, with when it came, how long its prompt and output were, and when the engine queued and
 * scheduled it and gave its first and last token. `harness validate` holds simulations against
 * them. Reads a file, nothing else.
 *
 * Fields of a line: input_toks, output_toks (counts), arrival_time (s, any clock), queued_ts,
 * scheduled_ts, first_token_ts, last_token_ts (s, the engine's clock). The two clocks are joined by
 * the request that was queued fastest, whose way into the queue is taken to last no time.
 */
#ifndef HARNESS_LOAD_MEASURED_H
#define HARNESS_LOAD_MEASURED_H

#include <stdint.h>
#include <stdio.h>

#include "engine/base/status.h"

enum {
    MEASURED_REQUESTS_MAX = 1 << 22
};

/* Times in ns since the first arrival. */
struct measured_request {
    int64_t arrival_ns;
    int64_t queued_ns;
    int64_t scheduled_ns;
    int64_t first_ns;
    int64_t last_ns;
    uint32_t prompt_tokens;
    uint32_t output_tokens;
};

struct measured_run {
    struct measured_request *requests; /* in order of arrival */
    uint32_t count;
};

/*
 * INVALID: "PATH:LINE: what": no such file, no JSON, a field that is missing or no number, times
 * out of order within a request, no prompt or output token, or not one request. The caller frees
 * *out with measured_free().
 */
MUST_CHECK enum status measured_read(const char *path, struct measured_run *out,
                                     struct error *error);
/* An open file; `name` stands for the path in errors. */
MUST_CHECK enum status measured_parse(const char *name, FILE *in, struct measured_run *out,
                                      struct error *error);
void measured_free(struct measured_run *run);

#endif
