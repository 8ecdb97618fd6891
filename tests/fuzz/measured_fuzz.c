/* measured_fuzz.c - any bytes as a measured run: an error, or requests in order of arrival with
 * tokens and times in order, never a crash. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "harness/load/measured.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct measured_run run;
    struct error error;
    FILE *in = size > 0 ? fmemopen((void *)(uintptr_t)data, size, "r") : NULL;
    if (in == NULL) {
        return 0;
    }
    enum status status = measured_parse("fuzz", in, &run, &error);
    (void)fclose(in);
    if (status != STATUS_OK) {
        ASSERT(error.text[0] != '\0');
        return 0;
    }
    ASSERT(run.count > 0 && run.requests[0].arrival_ns == 0);
    for (uint32_t i = 0; i < run.count; i++) {
        const struct measured_request *r = &run.requests[i];
        ASSERT(i == 0 || r->arrival_ns >= run.requests[i - 1].arrival_ns);
        ASSERT(r->prompt_tokens > 0 && r->output_tokens > 0);
        ASSERT(r->queued_ns <= r->scheduled_ns && r->scheduled_ns <= r->first_ns &&
               r->first_ns <= r->last_ns);
    }
    measured_free(&run);
    return 0;
}
