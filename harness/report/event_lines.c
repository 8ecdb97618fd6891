/*
 * event_lines.c - writes a run's events as JSON lines (event_lines.h). Every name in them is one of
 * this program's own words, so nothing has to be escaped.
 */
#include "harness/report/event_lines.h"

#include <inttypes.h>

const char *event_process_name(uint32_t process)
{
    return process < THREAD_KINDS_COUNT ? ledger_thread_kind_name((enum ledger_thread_kind)process)
                                        : "client";
}

/* In whole us, so that no locale puts a comma into it. */
static void write_time(int64_t at_ns, FILE *out)
{
    int64_t us = (at_ns < 0 ? -at_ns : at_ns) / 1000;
    (void)fprintf(out, "%s%" PRId64 ".%03" PRId64, at_ns < 0 ? "-" : "", us / 1000, us % 1000);
}

static void write_line(const struct run_result *r, const struct run_event *e, FILE *out)
{
    enum event_kind what = (enum event_kind)e->what;
    (void)fprintf(out, "{\"run_id\":\"%s\",\"t_ms\":", r->run_id);
    write_time(e->at_ns, out);
    (void)fprintf(out, ",\"process\":\"%s\",\"instance\":%u,\"event\":\"%s\"",
                  event_process_name(e->process), e->instance, event_name(what));
    if (e->note.about) {
        (void)fprintf(out, ",\"of\":\"%s\",\"of_instance\":%u", event_process_name(e->note.kind),
                      e->note.instance);
    }
    for (uint32_t i = 0; i < EVENT_VALUES; i++) {
        const char *name = event_value_name(what, i);
        if (name[0] != '\0') {
            (void)fprintf(out, ",\"%s\":%" PRId64, name, e->note.value[i]);
        }
    }
    (void)fputs("}\n", out);
}

void event_lines_write(const struct run_result *r, FILE *out)
{
    for (uint32_t i = 0; i < r->events_count; i++) {
        write_line(r, &r->events[i], out);
    }
}
