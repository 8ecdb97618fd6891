/*
 * processes.c - reads the life of a run's processes out of its events (processes.h). Computes
 * nothing but differences and means of their times.
 */
#include "harness/report/processes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/report/event_lines.h"

static double seconds(const struct run_event *e)
{
    return (double)e->at_ns / 1e9;
}

/* ---- lives ---- */

static void name_span(struct process_span *s)
{
    switch (s->kind) {
    case THREAD_API_MAIN:
        (void)snprintf(s->name, sizeof s->name, "ApiServer_%u", s->instance);
        return;
    case THREAD_ENGINE_MAIN:
        (void)snprintf(s->name, sizeof s->name, "EngineCore_DP%u", s->instance);
        return;
    default:
        break;
    }
    const char *word = s->kind == THREAD_LAUNCHER_MAIN ? "launcher" : "DPCoordinator";
    if (s->instance > 0) { /* of another node than the first */
        (void)snprintf(s->name, sizeof s->name, "%s %u", word, s->instance);
    } else {
        (void)snprintf(s->name, sizeof s->name, "%s", word);
    }
}

static struct process_span *span_of(struct process_lives *l, uint32_t kind, uint32_t instance)
{
    for (uint32_t i = 0; i < l->spans_count; i++) {
        if (l->spans[i].kind == kind && l->spans[i].instance == instance) {
            return &l->spans[i];
        }
    }
    ASSERT(l->spans_count < PROCESS_SPANS_MAX);
    struct process_span *s = &l->spans[l->spans_count++];
    *s = (struct process_span){.kind = kind,
                               .instance = instance,
                               .spawned_s = STATS_UNKNOWN,
                               .started_s = STATS_UNKNOWN,
                               .ready_s = STATS_UNKNOWN,
                               .stop_s = STATS_UNKNOWN,
                               .ended_s = STATS_UNKNOWN};
    name_span(s);
    return s;
}

static void first(double *at_s, double now_s)
{
    *at_s = isnan(*at_s) ? now_s : *at_s;
}

static void take_event(struct process_lives *l, const struct run_event *e)
{
    double now = seconds(e);
    bool about = e->note.about;
    struct process_span *s =
        span_of(l, about ? e->note.kind : e->process, about ? e->note.instance : e->instance);
    switch (e->what) {
    case EVENT_SPAWNED:
        first(&s->spawned_s, now);
        break;
    case EVENT_STARTED:
        first(&s->started_s, now);
        break;
    case EVENT_SERVING:
        l->serving_s = now;
        first(&s->ready_s, now);
        break;
    case EVENT_READY:
    case EVENT_LISTENING:
        first(&s->ready_s, now);
        break;
    case EVENT_SIGNAL_SENT:
        first(&s->stop_s, now);
        first(&l->stop_s, now);
        break;
    case EVENT_DONE:
        l->done_s = now;
        first(&s->ended_s, now);
        break;
    case EVENT_EXITED:
        first(&s->ended_s, now);
        break;
    default:
        break;
    }
}

/* What was started first stands first; a launcher is started by the harness, which notes nothing.
 */
static int by_start(const void *a, const void *b)
{
    const struct process_span *x = a;
    const struct process_span *y = b;
    double from = fmin(x->spawned_s, x->started_s);
    double to = fmin(y->spawned_s, y->started_s);
    if (from > to || from < to) {
        return from > to ? 1 : -1;
    }
    if (isnan(from) && isnan(to) && x->kind != y->kind) { /* in virtual time nobody is started */
        return x->kind > y->kind ? 1 : -1;
    }
    return (x->instance > y->instance) - (x->instance < y->instance);
}

struct process_lives process_lives_of(const struct run_result *r)
{
    struct process_lives l = {.serving_s = STATS_UNKNOWN,
                              .window_s = {STATS_UNKNOWN, STATS_UNKNOWN},
                              .stop_s = STATS_UNKNOWN,
                              .done_s = STATS_UNKNOWN};
    l.spans = calloc(PROCESS_SPANS_MAX, sizeof *l.spans);
    ASSERT(l.spans != NULL);
    for (uint32_t i = 0; i < r->events_count; i++) {
        const struct run_event *e = &r->events[i];
        if (e->process < THREAD_KINDS_COUNT) {
            take_event(&l, e);
        } else if (e->what == EVENT_WINDOW_BEGAN || e->what == EVENT_WINDOW_ENDED) {
            l.window_s[e->what == EVENT_WINDOW_ENDED] = seconds(e);
        }
    }
    qsort(l.spans, l.spans_count, sizeof *l.spans, by_start);
    return l;
}

void process_lives_free(struct process_lives *lives)
{
    free(lives->spans);
    *lives = (struct process_lives){.spans = NULL};
}

/* ---- table ---- */

/* Events that are one row: of the same sort, noted by the same kind of process, about the same. */
struct sort {
    const struct run_event *one;
    uint32_t count;
    uint64_t noted_by; /* a bit for each process */
    double first_s;
    double last_s;
};

enum {
    SORTS_MAX = 4 * EVENT_KINDS_COUNT
};

/* Two different things under one name; they begin with different letters. */
static const char *says(const struct run_event *e)
{
    if (e->what == EVENT_PUBLISHED) {
        return e->note.value[0] != 0 ? "counts changed" : "nothing new";
    }
    if (e->what == EVENT_WAVE_PUBLISHED) {
        return e->note.value[1] != 0 ? "it runs" : "over";
    }
    return "";
}

static bool same_sort(const struct run_event *a, const struct run_event *b)
{
    return a->process == b->process && a->what == b->what && a->note.about == b->note.about &&
           (!a->note.about || a->note.kind == b->note.kind) && says(a)[0] == says(b)[0];
}

static struct sort *sort_of(struct sort sorts[SORTS_MAX], uint32_t *count,
                            const struct run_event *e)
{
    for (uint32_t i = 0; i < *count; i++) {
        if (same_sort(sorts[i].one, e)) {
            return &sorts[i];
        }
    }
    ASSERT(*count < SORTS_MAX);
    struct sort *s = &sorts[(*count)++];
    *s = (struct sort){.one = e, .first_s = seconds(e)};
    return s;
}

static void name_sort(struct grid *g, const struct sort *s)
{
    const struct run_event *e = s->one;
    struct text t = grid_cell(g);
    text_add(&t, "%s%s%s", event_name((enum event_kind)e->what), says(e)[0] != '\0' ? ": " : "",
             says(e));
    t = grid_cell(g);
    text_add(&t, "%s", e->note.about ? event_process_name(e->note.kind) : "");
}

static void sort_row(struct grid *g, const struct sort *s)
{
    struct text t = grid_cell(g);
    int processes = __builtin_popcountll(s->noted_by);
    text_add(&t, "%s", event_process_name(s->one->process));
    if (processes > 1) {
        text_add(&t, " x %d", processes);
    }
    name_sort(g, s);
    t = grid_cell(g);
    text_add(&t, "%u", s->count);
    grid_number(g, s->first_s * 1e3, 1);
    if (s->count > 1) {
        grid_number(g, s->last_s * 1e3, 1);
    } else {
        grid_text(g, "");
    }
}

struct grid processes_grid(const struct run_result *r)
{
    static const char *const columns[] = {"<process", "<event",   "<of",
                                          "count",    "first ms", "last ms"};
    struct sort sorts[SORTS_MAX];
    uint32_t count = 0;
    struct grid g = grid_of(columns, sizeof columns / sizeof columns[0]);
    for (uint32_t i = 0; i < r->events_count; i++) {
        struct sort *s = sort_of(sorts, &count, &r->events[i]);
        s->count++;
        s->noted_by |= UINT64_C(1) << r->events[i].instance % 64;
        s->last_s = seconds(&r->events[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        sort_row(&g, &sorts[i]);
    }
    return g;
}

/* ---- sentences ---- */

/* What the coordinator published in the window. */
struct publishes {
    uint32_t count;
    uint32_t changed_count;
    int64_t messages_count; /* that came in between them */
    uint32_t gaps_count;
    double gap_min_s;
    double gap_max_s;
    uint32_t starts_count; /* START_DP_WAVE */
    uint32_t waves_count;  /* that began */
};

static struct publishes publishes_in(const struct run_result *r, const double window_s[2])
{
    struct publishes p = {.gap_min_s = STATS_UNKNOWN, .gap_max_s = STATS_UNKNOWN};
    double last = STATS_UNKNOWN;
    for (uint32_t i = 0; i < r->events_count; i++) {
        const struct run_event *e = &r->events[i];
        double now = seconds(e);
        if (e->process != THREAD_COORDINATOR_MAIN || e->instance > 0 || now < window_s[0] ||
            now > window_s[1]) {
            continue;
        }
        p.starts_count += e->what == EVENT_START_WAVE_SENT ? 1 : 0;
        p.waves_count += e->what == EVENT_WAVE_PUBLISHED && e->note.value[1] != 0 ? 1 : 0;
        if (e->what == EVENT_PUBLISHED) {
            p.count++;
            p.changed_count += e->note.value[0] != 0 ? 1 : 0;
            p.messages_count += e->note.value[1];
            p.gaps_count += isnan(last) ? 0 : 1;
            p.gap_min_s = fmin(p.gap_min_s, now - last);
            p.gap_max_s = fmax(p.gap_max_s, now - last);
            last = now;
        }
    }
    return p;
}

static uint32_t launcher_notes_in(const struct run_result *r, const double window_s[2])
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < r->events_count; i++) {
        const struct run_event *e = &r->events[i];
        count += e->process == THREAD_LAUNCHER_MAIN && seconds(e) >= window_s[0] &&
                         seconds(e) <= window_s[1]
                     ? 1
                     : 0;
    }
    return count;
}

static void tell_coordinator(const struct run_result *r, const struct process_lives *l,
                             struct text *t)
{
    struct publishes p = publishes_in(r, l->window_s);
    double window_s = l->window_s[1] - l->window_s[0];
    if (topology_data_parallel_size(&r->cell->topology) < 2) {
        text_add(t, " One engine core needs no coordinator.");
        return;
    }
    text_add(t, " The coordinator published %u times in %.1f s", p.count, window_s);
    if (p.gaps_count > 0) {
        text_add(t, ", %.0f to %.0f ms apart", p.gap_min_s * 1e3, p.gap_max_s * 1e3);
    }
    text_add(t, ", %u of these because counts had changed, and took in %.0f messages/s.",
             p.changed_count, (double)p.messages_count / window_s);
    if (topology_lockstep(&r->cell->topology)) {
        text_add(t, " Waves that began: %u; START_DP_WAVE sent: %u.", p.waves_count,
                 p.starts_count);
    }
}

void processes_tell(const struct run_result *r, struct text *t)
{
    struct process_lives l = process_lives_of(r);
    if (!isnan(l.serving_s)) {
        text_add(t, "The launcher had everything ready %.0f ms after it was started.",
                 l.serving_s * 1e3);
    }
    if (l.window_s[1] > l.window_s[0]) {
        if (!r->simulated) { /* without a launcher */
            text_add(t, " In the window it did %s.",
                     launcher_notes_in(r, l.window_s) == 0 ? "nothing" : "more than wait");
        }
        tell_coordinator(r, &l, t);
    }
    if (l.done_s > l.stop_s) {
        text_add(t, " From the first signal to the end of the last process it took %.0f ms.",
                 (l.done_s - l.stop_s) * 1e3);
    }
    process_lives_free(&l);
}
