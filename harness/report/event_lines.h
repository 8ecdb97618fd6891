/*
 * event_lines.h - events.jsonl: what happened in a run's processes, an object a line, in the order
 * of time. Names are those of engine/ledger/events.h.
 */
#ifndef HARNESS_REPORT_EVENT_LINES_H
#define HARNESS_REPORT_EVENT_LINES_H

#include <stdio.h>

#include "harness/report/result.h"

/* "launcher", "coordinator", "api_server", "engine_core" or "client". */
const char *event_process_name(uint32_t process);
/* All of a run. The caller checks the stream. */
void event_lines_write(const struct run_result *r, FILE *out);

#endif
