/*
 * progress.h - what a person sees on stderr while runs go on: a header, a row a finished run, and
 * one live line with an estimated end. Parts that are not known are left out, and so are those that
 * the width has no room for. Without a terminal, or with CI set: a plain line every 10 s and for
 * each event. NO_COLOR is honoured. Or, for a program, a JSON object a line: `event` is
 * begin, resumed, progress (each second), run_done, note or end.
 */
#ifndef HARNESS_REPORT_PROGRESS_H
#define HARNESS_REPORT_PROGRESS_H

#include <stdio.h>

#include "harness/report/result.h"

enum progress_mode {
    PROGRESS_AUTO,
    PROGRESS_NONE,
    PROGRESS_LINE,
    PROGRESS_TABLE,
    PROGRESS_JSONL /* an object a line, for a program that watches */
};

/* What the load client of a measured run does right now; NAN: not known. */
struct progress_client {
    double offered_per_s; /* requests due; not of a closed loop */
    double done_per_s;    /* requests that ended */
    double ttft_p99_ms;   /* of the newest requests, from sending */
    double lag_p99_ms;    /* of the same: sent after they were due; not of a closed loop */
    double cpu_frac;      /* of a core */
};

#define PROGRESS_CLIENT_UNKNOWN                                                           \
    ((struct progress_client){STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN, \
                              STATS_UNKNOWN})

/* "run 7/36", its cell, and what is going on in it. */
struct progress_state {
    uint32_t run_index; /* 0.. */
    const struct scenario_cell *cell;
    uint32_t replicate;
    const char *phase;
    double phase_s;
    double phase_total_s;    /* NAN: unknown */
    double output_tok_per_s; /* NAN: none yet */
    uint64_t sent_count;
    uint64_t done_count;
    uint64_t inflight;
    struct progress_client client;
};

struct progress;

/* `total_s`: expected duration of all runs, NAN if unknown. `now_ns` everywhere: CLOCK_MONOTONIC.
 */
struct progress *progress_begin(FILE *out, enum progress_mode mode, const struct scenario *scenario,
                                double total_s, int64_t now_ns);
/* The first `count` runs were made by an earlier session. */
void progress_resume(struct progress *p, uint32_t count);
void progress_update(struct progress *p, const struct progress_state *state, int64_t now_ns);
void progress_run_done(struct progress *p, const struct run_result *result, int64_t now_ns);
/* One line about something a rule did. */
void progress_note(struct progress *p, const char *text);
/* Removes the live line and frees. Accepts NULL. */
void progress_end(struct progress *p);

#endif
