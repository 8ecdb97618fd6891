/*
 * knees.h - the four numbers that a search for rates gives of each cell, never called by one name:
 * capacity, stable rate, rate within the SLO, knee. Their file knee.csv, their tables, their
 * sentence. harness/run/find.h fills the rows.
 */
#ifndef HARNESS_REPORT_KNEES_H
#define HARNESS_REPORT_KNEES_H

#include <stdio.h>

#include "harness/analysis/capacity.h"
#include "harness/analysis/knee.h"
#include "harness/analysis/search.h"
#include "harness/analysis/slo.h"
#include "harness/analysis/stability.h"
#include "harness/report/grid.h"
#include "harness/report/result.h"

enum {
    KNEES_LIMIT_BYTES = 32
};

/* Stages whose use is kept of each rate: those of the figures. X(name) */
#define KNEES_STAGES(X) \
    X(api_server)       \
    X(scheduler)        \
    X(launch)           \
    X(gpu)              \
    X(coordinator)      \
    X(ipc)              \
    X(client)

enum knees_stage {
#define X(name) KNEES_STAGE_##name,
    KNEES_STAGES(X)
#undef X
    KNEES_STAGES_COUNT
};

/* One rate with the arrivals of one replicate. NAN: not known. */
struct knees_point {
    double per_s; /* asked for */
    uint32_t replicate;
    uint32_t looks_count; /* windows it took: each twice as long as the one before */
    bool valid;           /* false: the client was the limit */
    bool host_limited;    /* no evidence that the rate is missed */
    double window_s;
    double offered_per_s;
    double achieved_per_s;
    double tok_per_s;
    struct run_latency ttft; /* from when a request was due; if the SLO says so, was sent */
    struct run_latency tpot;
    struct run_latency e2el;             /* from when a request was due */
    double use_frac[KNEES_STAGES_COUNT]; /* mean over the servers of a stage */
    struct stability stability;
    enum slo_outcome slo;
    double over_frac; /* share over the binding limit */
    char binding[KNEES_LIMIT_BYTES];
};

struct knees_row {
    const struct scenario_cell *cell;
    uint32_t what;       /* SCENARIO_FIND_* */
    double capacity_rps; /* NAN: not measured */
    double capacity_lo;
    double capacity_hi;
    enum capacity_verdict capacity_verdict;
    double overload_droop_frac;
    struct search_answer stable;
    struct search_answer slo;
    const struct scenario_slo *limits; /* those of `slo`; NULL: none */
    char binding[KNEES_LIMIT_BYTES];   /* the limit that fails first; "" */
    struct knee knee;
    struct knees_point *points; /* in the order of measuring; knees_free() */
    uint32_t points_count;
    uint32_t runs_count;
    bool complete; /* false: stopped early */
};

struct table;

/* All rows of a session. */
struct knees {
    struct knees_row *rows;
    uint32_t count;
};

void knees_free(struct knees *k);
/* The worst of what was searched for, as knee.csv says it: "ok", "cliff", ... */
const char *knees_status(const struct knees_row *row);
/* The rows of knee.csv into any table; a CSV gets its header. */
void knees_rows(const struct knees *k, struct table *out);
/* knee.csv in `folder`. IO names the file. */
MUST_CHECK enum status knees_write(const struct knees *k, const char *folder, struct error *error);
/* Sections of report.md. */
void knees_markdown(const struct knees *k, FILE *out);
/* One row a cell. */
struct grid knees_grid(const struct knees *k);
/* A sentence for each cell. */
void knees_tell(const struct knees *k, struct text *t);

#endif
