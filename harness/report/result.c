/*
 * result.c - frees what a run's result owns (result.h). Filling is harness/run's business.
 */
#include "harness/report/result.h"

#include <stdlib.h>

void result_free(struct run_result *r)
{
    free(r->stages);
    free(r->launchers);
    free(r->engines);
    free(r->seconds);
    free(r->requests);
    free(r->engine_tok_per_s);
    free(r->events);
    free(r->bins);
    r->stages = NULL;
    r->launchers = NULL;
    r->engines = NULL;
    r->seconds = NULL;
    r->requests = NULL;
    r->engine_tok_per_s = NULL;
    r->events = NULL;
    r->bins = NULL;
    r->stages_count = 0;
    r->launchers_count = 0;
    r->engines_count = 0;
    r->seconds_count = 0;
    r->requests_rows_count = 0;
    r->ranks_count = 0;
    r->events_count = 0;
    r->bins_count = 0;
}
