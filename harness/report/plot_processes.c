/*
 * plot_processes.c - when the processes of the timeline's run were started, ready and ended, and
 * what happened in between, for gnuplot (plot_processes.h). Computes only which of them are shown.
 */
#include "harness/report/plot_processes.h"

#include <math.h>

#include "harness/report/processes.h"
#include "harness/report/table.h"
#include "harness/report/text.h"

enum {
    ROWS_MAX = 24,
    EACH_KIND_MAX = 8 /* shown, where all would be more than ROWS_MAX */
};

/* Of the window that the figure shows a part of. */
static const double piece_s = 2;

/* plot_marks.tsv, column `what`. */
enum mark {
    MARK_STARTS,  /* the launcher starts a process */
    MARK_HEARS,   /* or hears of it, or answers */
    MARK_CHANGED, /* the coordinator publishes */
    MARK_NOTHING_NEW,
    MARK_WAVE, /* of an engine core, from and to */
    MARK_START_WAVE,
    MARK_NONE
};

static bool is_shown(const struct process_lives *l, const struct process_span *s)
{
    return l->spans_count <= ROWS_MAX || s->instance < EACH_KIND_MAX;
}

/* Rows are numbered from the top; -1: not shown. */
static int row_of(const struct process_lives *l, uint32_t kind, uint32_t instance)
{
    int row = 0;
    for (uint32_t i = 0; i < l->spans_count; i++) {
        const struct process_span *s = &l->spans[i];
        if (s->kind == kind && s->instance == instance) {
            return is_shown(l, s) ? row : -1;
        }
        row += is_shown(l, s) ? 1 : 0;
    }
    return -1;
}

static void describe(const struct data_source *d, const struct process_lives *l, char *out,
                     size_t cap)
{
    struct text t = text_into(out, cap);
    if (d->timeline == NULL) {
        return;
    }
    text_add(&t, "Run %s (%s)%s", d->timeline->run_id, d->timeline->cell->name,
             d->timeline->simulated ? ", in virtual time" : "");
    if (!isnan(l->serving_s)) {
        text_add(&t, ": ready after %.0f ms", l->serving_s * 1e3);
    }
    if (l->done_s > l->stop_s) {
        text_add(&t, ", ended in %.0f ms", (l->done_s - l->stop_s) * 1e3);
    }
    if (l->spans_count > ROWS_MAX) {
        text_add(&t, " (the first %d of each kind)", (int)EACH_KIND_MAX);
    }
}

/* Fields that may be empty stand before the last one: gnuplot would read the line's end as text. */
static void span_row(struct table *t, const struct data_source *d, const struct process_lives *l,
                     const struct process_span *s)
{
    char title[192];
    double from = l->window_s[0];
    describe(d, l, title, sizeof title);
    table_count(t, "row", (uint64_t)row_of(l, s->kind, s->instance));
    table_number(t, "spawned_s", isnan(s->spawned_s) ? 0 : s->spawned_s);
    table_number(t, "started_s", s->started_s);
    table_number(t, "ready_s", s->ready_s);
    table_number(t, "stop_s", s->stop_s);
    table_number(t, "ended_s", s->ended_s);
    table_number(t, "serving_s", l->serving_s);
    table_number(t, "piece_from_s", from);
    table_number(t, "piece_to_s", fmin(from + piece_s, l->window_s[1]));
    table_number(t, "first_stop_s", l->stop_s);
    table_number(t, "done_s", l->done_s);
    table_text(t, "kind", ledger_thread_kind_name((enum ledger_thread_kind)s->kind));
    table_text(t, "process", s->name);
    table_text(t, "title", title);
    table_end_row(t);
}

static enum mark mark_of(const struct run_event *e)
{
    switch (e->what) {
    case EVENT_SPAWNED:
    case EVENT_SIGNAL_SENT:
        return MARK_STARTS;
    case EVENT_ADDRESSES_HEARD:
    case EVENT_HELLO_HEARD:
    case EVENT_INIT_SENT:
    case EVENT_READY_HEARD:
    case EVENT_EXITED:
        return MARK_HEARS;
    case EVENT_PUBLISHED:
        return e->note.value[0] != 0 ? MARK_CHANGED : MARK_NOTHING_NEW;
    case EVENT_START_WAVE_SENT:
        return MARK_START_WAVE;
    case EVENT_WAVE_BEGAN:
        return MARK_WAVE;
    default:
        return MARK_NONE;
    }
}

/* Where the wave that begins with event `index` ends; the run's end if it does not. */
static double wave_end_s(const struct run_result *r, uint32_t index)
{
    const struct run_event *begin = &r->events[index];
    for (uint32_t i = index + 1; i < r->events_count; i++) {
        const struct run_event *e = &r->events[i];
        if (e->what == EVENT_WAVE_ENDED && e->instance == begin->instance) {
            return (double)e->at_ns / 1e9;
        }
    }
    return (double)r->events[r->events_count - 1].at_ns / 1e9;
}

static void mark_row(struct table *t, int row, enum mark what, double from_s, double to_s)
{
    table_number(t, "from_s", from_s);
    table_number(t, "to_s", to_s);
    table_known(t, "row", row);
    table_count(t, "what", (uint64_t)what);
    table_end_row(t);
}

static void mark_rows(struct table *t, const struct run_result *r, const struct process_lives *l)
{
    for (uint32_t i = 0; i < r->events_count; i++) {
        const struct run_event *e = &r->events[i];
        enum mark what = mark_of(e);
        int row = row_of(l, e->process, e->instance);
        double from = (double)e->at_ns / 1e9;
        if (what != MARK_NONE && row >= 0) {
            mark_row(t, row, what, from, what == MARK_WAVE ? wave_end_s(r, i) : from);
        }
    }
}

static enum status open_table(struct table *t, const struct data_source *d, const char *name,
                              struct error *error)
{
    TRY(table_open(t, d->folder, name, error));
    t->naming = true;
    t->tabs = true;
    return STATUS_OK;
}

static enum status finish_table(struct table *t, struct error *error)
{
    enum status status = table_sync(t, error);
    table_close(t);
    return status;
}

static enum status write_spans(const struct data_source *d, const struct process_lives *l,
                               struct error *error)
{
    const struct process_span none = {.kind = THREAD_LAUNCHER_MAIN};
    struct table t;
    TRY(open_table(&t, d, "plot_processes.tsv", error));
    span_row(&t, d, l, &none);
    t.naming = false;
    for (uint32_t i = 0; i < l->spans_count; i++) {
        if (is_shown(l, &l->spans[i])) {
            span_row(&t, d, l, &l->spans[i]);
        }
    }
    return finish_table(&t, error);
}

static enum status write_marks(const struct data_source *d, const struct process_lives *l,
                               struct error *error)
{
    struct table t;
    TRY(open_table(&t, d, "plot_marks.tsv", error));
    mark_row(&t, 0, MARK_NONE, 0, 0);
    t.naming = false;
    if (d->timeline != NULL) {
        mark_rows(&t, d->timeline, l);
    }
    return finish_table(&t, error);
}

enum status plot_processes_write(const struct data_source *d, struct error *error)
{
    static const struct run_result nothing;
    struct process_lives l = process_lives_of(d->timeline != NULL ? d->timeline : &nothing);
    enum status status = write_spans(d, &l, error);
    if (status == STATUS_OK) {
        status = write_marks(d, &l, error);
    }
    process_lives_free(&l);
    return status;
}
