/*
 * progress.c - header, rows and the live line on the terminal (progress.h). Writes to the caller's
 * stream only; keeps no more than the durations of the runs so far.
 *
 * The estimated end: expected durations of the runs that remain, scaled by how the finished ones of
 * their kind (measured or simulated) compared with what was expected of them; where a trace
 * decides, the mean of the finished ones. What simulated ones take is known once one is finished.
 */
#include "harness/report/progress.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "harness/report/rows.h"
#include "harness/report/text.h"

enum {
    LINE_BYTES = 512,
    PART_BYTES = 64,
    NAME_BYTES_MIN = 8, /* of a cell, in a line that is too long */
    NAME_BYTES_MAX = 200,
    COLUMNS_DEFAULT = 100
};

#define LIVE_EVERY_NS  INT64_C(100000000)
#define JSONL_EVERY_NS INT64_C(1000000000)
#define PLAIN_EVERY_NS INT64_C(10000000000)

struct progress {
    FILE *out;
    const struct scenario *scenario;
    bool rows; /* a table with a header */
    bool live; /* a line that is rewritten */
    bool jsonl;
    bool colour; /* bold and dim */
    bool shown;  /* the live line is on the screen */
    int cell_width;
    double total_s; /* NAN: unknown */
    int64_t run_begun_ns;
    int64_t written_ns; /* last line of any kind */
    uint32_t done_count;
    uint32_t resumed_count; /* of these, by an earlier session */
    /* Sums over the finished runs, those that are measured and those that are simulated. */
    double taken_s[2];
    double expected_s[2]; /* NAN: not known for one of them */
};

/* ---- how ---- */

static bool is_set(const char *name)
{
    const char *value = getenv(name); // NOLINT(concurrency-mt-unsafe): before any thread
    return value != NULL && value[0] != '\0';
}

static bool is_smart_terminal(FILE *out)
{
    const char *terminal = getenv("TERM"); // NOLINT(concurrency-mt-unsafe): before any thread
    return isatty(fileno(out)) == 1 && (terminal == NULL || strcmp(terminal, "dumb") != 0);
}

static int columns_of(FILE *out)
{
    struct winsize size;
    if (ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        return size.ws_col;
    }
    return COLUMNS_DEFAULT;
}

static void clear_live(struct progress *p)
{
    if (p->shown) {
        (void)fputs("\r\033[K", p->out);
        p->shown = false;
    }
}

/* ---- when it ends ---- */

/* Of a simulated run no more than a measure of the others: how much time passes in it, once an
 * engine core. */
static double expected_run_s(const struct progress *p, uint32_t index)
{
    const struct scenario_run *run = &p->scenario->runs[index];
    const struct scenario_cell *cell = &p->scenario->cells[run->cell];
    int64_t ns = scenario_run_ns(p->scenario, cell);
    if (run->simulated && ns >= 0) {
        return (double)(cell->load.warmup_ns + cell->load.measure_ns) / 1e9 *
               cell->topology.engines_count;
    }
    return ns >= 0 ? (double)ns / 1e9 : STATS_UNKNOWN;
}

static double remaining_s(const struct progress *p, int64_t now_ns)
{
    double rest = 0;
    for (uint32_t i = p->done_count; i < p->scenario->runs_count; i++) {
        int kind = p->scenario->runs[i].simulated ? 1 : 0;
        double unlearnt = kind == 1 ? STATS_UNKNOWN : 1;
        rest += expected_run_s(p, i) *
                (p->expected_s[kind] > 0 ? p->taken_s[kind] / p->expected_s[kind] : unlearnt);
    }
    uint32_t own_count = p->done_count - p->resumed_count;
    if (isnan(rest) && own_count > 0) {
        double mean_s = (p->taken_s[0] + p->taken_s[1]) / own_count;
        rest = mean_s * (p->scenario->runs_count - p->done_count);
    } else if (isnan(rest)) {
        rest = p->total_s;
    }
    double spent = (double)(now_ns - p->run_begun_ns) / 1e9;
    return isnan(rest) ? rest : fmax(0, rest - spent);
}

static void add_duration(struct text *t, double seconds)
{
    if (isnan(seconds)) {
        text_add(t, "unknown");
        return;
    }
    long whole = lround(seconds);
    if (whole >= 3600) {
        text_add(t, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
    } else {
        text_add(t, "%ld:%02ld", whole / 60, whole % 60);
    }
}

/* ---- objects ---- */

static struct json_object *object_of(const char *event)
{
    struct json_object *o = json_object_new_object();
    (void)json_object_object_add(o, "event", json_object_new_string(event));
    return o;
}

static void put_text(struct json_object *o, const char *key, const char *text)
{
    (void)json_object_object_add(o, key, json_object_new_string(text));
}

static void put_count(struct json_object *o, const char *key, uint64_t count)
{
    (void)json_object_object_add(o, key, json_object_new_uint64(count));
}

/* Six digits; null if it is not known. */
static void put_number(struct json_object *o, const char *key, double value)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%.6g", value);
    (void)json_object_object_add(o, key,
                                 isfinite(value) ? json_object_new_double_s(value, text) : NULL);
}

static void write_object(const struct progress *p, struct json_object *o)
{
    (void)fprintf(
        p->out, "%s\n",
        json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    (void)fflush(p->out);
    (void)json_object_put(o);
}

static void write_begin(const struct progress *p)
{
    struct json_object *o = object_of("begin");
    put_text(o, "scenario", p->scenario->general.name);
    put_count(o, "cells", p->scenario->cells_count);
    put_count(o, "runs", p->scenario->runs_count);
    put_number(o, "expected_s", p->total_s);
    write_object(p, o);
}

static void write_state(const struct progress *p, const struct progress_state *s, int64_t now_ns)
{
    struct json_object *o = object_of("progress");
    put_count(o, "run", s->run_index + 1);
    put_count(o, "runs", p->scenario->runs_count);
    put_text(o, "cell", s->cell->name);
    put_count(o, "replicate", s->replicate);
    put_text(o, "phase", s->phase);
    put_number(o, "phase_s", s->phase_s);
    put_number(o, "phase_total_s", s->phase_total_s);
    put_number(o, "output_tok_per_s", s->output_tok_per_s);
    put_count(o, "sent", s->sent_count);
    put_count(o, "done", s->done_count);
    put_count(o, "inflight", s->inflight);
    put_number(o, "offered_per_s", s->client.offered_per_s);
    put_number(o, "done_per_s", s->client.done_per_s);
    put_number(o, "ttft_p99_ms", s->client.ttft_p99_ms);
    put_number(o, "lag_p99_ms", s->client.lag_p99_ms);
    put_number(o, "client_cpu_frac", s->client.cpu_frac);
    put_number(o, "remaining_s", remaining_s(p, now_ns));
    write_object(p, o);
}

static void write_run(const struct progress *p, const struct run_result *r, int64_t now_ns)
{
    struct json_object *o = object_of("run_done");
    put_text(o, "run_id", r->run_id);
    put_text(o, "cell", r->cell->name);
    put_count(o, "replicate", r->replicate);
    put_text(o, "outcome", rows_outcome_name(r->outcome));
    put_text(o, "reason", r->outcome != RUN_OK ? r->reason : "");
    put_number(o, "output_tok_per_s", r->output_tok_per_s.mean);
    put_text(o, "bottleneck", r->stages_count > 0 ? r->verdict.text : "");
    put_count(o, "ok", r->ok_count);
    put_count(o, "failed", r->fail_count);
    put_count(o, "host_limited", r->host_limited ? 1 : 0);
    put_number(o, "remaining_s", remaining_s(p, now_ns));
    write_object(p, o);
}

/* ---- lines ---- */

/* The parts of a line, as they stand in it. */
enum part {
    PART_TOKENS,
    PART_OFFERED,
    PART_DONE,
    PART_INFLIGHT,
    PART_FIRST_TOKEN,
    PART_LAG,
    PART_CLIENT,
    PARTS_COUNT
};

/* Three digits: 0.3, 23, 2310. */
static void add_ms(struct text *t, const char *name, double ms)
{
    if (!isnan(ms)) {
        text_add(t, "  %s p99 %.*fms", name, ms < 9.95 ? 1 : 0, ms);
    }
}

static void add_part(enum part part, const struct progress_state *s, struct text *t)
{
    const struct progress_client *c = &s->client;
    switch (part) {
    case PART_TOKENS:
        if (!isnan(s->output_tok_per_s)) {
            text_add(t, "  ");
            text_rate(t, s->output_tok_per_s);
            text_add(t, " tok/s");
        }
        break;
    case PART_OFFERED:
        if (!isnan(c->offered_per_s)) {
            text_add(t, "  off %.1f/s", c->offered_per_s);
        }
        break;
    case PART_DONE:
        if (!isnan(c->done_per_s)) {
            text_add(t, "  done %.1f/s", c->done_per_s);
        } else {
            text_add(t, "  done %" PRIu64, s->done_count);
        }
        break;
    case PART_INFLIGHT:
        text_add(t, "  inflight %" PRIu64, s->inflight);
        break;
    case PART_FIRST_TOKEN:
        add_ms(t, "ttft", c->ttft_p99_ms);
        break;
    case PART_LAG:
        add_ms(t, "lag", c->lag_p99_ms);
        break;
    case PART_CLIENT:
        if (!isnan(c->cpu_frac)) {
            text_add(t, "  cli %.0f%%", c->cpu_frac * 100);
        }
        break;
    case PARTS_COUNT:
        break;
    }
}

/* Those that `room` columns hold, the more important ones first. */
static void add_parts(const struct progress_state *s, int room, struct text *t)
{
    static const enum part by_rank[PARTS_COUNT] = {PART_TOKENS,      PART_DONE,     PART_OFFERED,
                                                   PART_FIRST_TOKEN, PART_INFLIGHT, PART_LAG,
                                                   PART_CLIENT};
    char parts[PARTS_COUNT][PART_BYTES];
    bool fits = true;
    int used = 0;
    for (size_t i = 0; i < PARTS_COUNT; i++) {
        char *part = parts[by_rank[i]];
        struct text into = text_into(part, PART_BYTES);
        add_part(by_rank[i], s, &into);
        used += (int)strlen(part);
        fits = fits && used <= room;
        if (!fits) {
            part[0] = '\0';
        }
    }
    for (size_t i = 0; i < PARTS_COUNT; i++) {
        text_add(t, "%s", parts[i]);
    }
}

static void add_head(const struct progress *p, const struct progress_state *s, int name_bytes,
                     struct text *t)
{
    uint32_t repeats = p->scenario->general.repeats_count;
    text_add(t, "[%u/%u %.*s", s->run_index + 1, p->scenario->runs_count, name_bytes,
             s->cell->name);
    if (repeats > 1) {
        text_add(t, " rep %u/%u", s->replicate + 1, repeats);
    }
    text_add(t, "] %s %.0f", s->phase, s->phase_s);
    if (!isnan(s->phase_total_s)) {
        text_add(t, "/%.0f", s->phase_total_s);
    }
    text_add(t, "s");
}

/* The estimate stands in every line: a long name of a cell is cut for it. */
static void describe(const struct progress *p, const struct progress_state *s, int64_t now_ns,
                     char line[LINE_BYTES])
{
    char end[PART_BYTES];
    int width = columns_of(p->out) - (p->live ? 1 : 0); /* a full line would scroll */
    struct text t = text_into(end, sizeof end);
    text_add(&t, "  ETA ");
    add_duration(&t, remaining_s(p, now_ns));
    int left = width - (int)strlen(end);
    int name_bytes = (int)strnlen(s->cell->name, NAME_BYTES_MAX);
    t = text_into(line, LINE_BYTES);
    add_head(p, s, name_bytes, &t);
    if ((int)t.used > left) {
        int shorter = name_bytes - ((int)t.used - left);
        t = text_into(line, LINE_BYTES);
        add_head(p, s, shorter > NAME_BYTES_MIN ? shorter : NAME_BYTES_MIN, &t);
    }
    add_parts(s, left - (int)t.used, &t);
    text_add(&t, "%s", end);
}

static void print_header(const struct progress *p)
{
    char line[LINE_BYTES];
    struct text t = text_into(line, sizeof line);
    text_add(&t, "%s: %u cell%s, %u run%s", p->scenario->general.name, p->scenario->cells_count,
             p->scenario->cells_count == 1 ? "" : "s", p->scenario->runs_count,
             p->scenario->runs_count == 1 ? "" : "s");
    if (!isnan(p->total_s)) {
        text_add(&t, ", about ");
        add_duration(&t, p->total_s);
    }
    (void)fprintf(p->out, "%s\n", line);
    if (p->rows) {
        (void)fprintf(p->out, "%s%5s  %-*s  %3s  %10s  %-12s %6s  %8s  %6s%s\n",
                      p->colour ? "\033[1m" : "", "run", p->cell_width, "cell", "rep", "tokens/s",
                      "limited by", "use", "ok", "failed", p->colour ? "\033[0m" : "");
    }
    (void)fflush(p->out);
}

struct progress *progress_begin(FILE *out, enum progress_mode mode, const struct scenario *scenario,
                                double total_s, int64_t now_ns)
{
    struct progress *p = calloc(1, sizeof *p);
    if (p == NULL || mode == PROGRESS_NONE) {
        free(p);
        return NULL;
    }
    bool smart = is_smart_terminal(out);
    p->out = out;
    p->scenario = scenario;
    p->jsonl = mode == PROGRESS_JSONL;
    p->rows = mode == PROGRESS_TABLE || (mode == PROGRESS_AUTO && smart && !is_set("CI"));
    p->live = p->rows && smart;
    p->colour = p->live && !is_set("NO_COLOR");
    p->total_s = total_s;
    p->run_begun_ns = now_ns;
    p->written_ns = now_ns;
    p->cell_width = 4;
    for (uint32_t i = 0; i < scenario->cells_count; i++) {
        int bytes = (int)strlen(scenario->cells[i].name);
        p->cell_width = bytes > p->cell_width ? bytes : p->cell_width;
    }
    if (p->jsonl) {
        write_begin(p);
    } else {
        print_header(p);
    }
    return p;
}

void progress_resume(struct progress *p, uint32_t count)
{
    if (p != NULL && count > 0) {
        p->resumed_count = count;
        p->done_count = count;
        if (p->jsonl) {
            struct json_object *o = object_of("resumed");
            put_count(o, "runs", count);
            write_object(p, o);
            return;
        }
        (void)fprintf(p->out, "%u of %u runs were made before\n", count, p->scenario->runs_count);
    }
}

void progress_update(struct progress *p, const struct progress_state *state, int64_t now_ns)
{
    if (p == NULL || now_ns - p->written_ns < (p->live    ? LIVE_EVERY_NS
                                               : p->jsonl ? JSONL_EVERY_NS
                                                          : PLAIN_EVERY_NS)) {
        return;
    }
    if (p->jsonl) {
        p->written_ns = now_ns;
        write_state(p, state, now_ns);
        return;
    }
    char line[LINE_BYTES];
    describe(p, state, now_ns, line);
    p->written_ns = now_ns;
    if (p->live) {
        (void)fprintf(p->out, "\r%.*s\033[K", columns_of(p->out) - 1, line);
        p->shown = true;
    } else {
        (void)fprintf(p->out, "%s\n", line);
    }
    (void)fflush(p->out);
}

static void print_row(const struct progress *p, const struct run_result *r)
{
    char rate[32];
    char use[32];
    struct text t = text_into(rate, sizeof rate);
    text_rate(&t, r->output_tok_per_s.mean);
    t = text_into(use, sizeof use);
    text_percent(&t, r->stages_count > 0 ? r->verdict.first_frac : STATS_UNKNOWN);
    bool bad = r->outcome != RUN_OK;
    const char *limit = r->verdict.kind == STAGE_NAMED   ? r->verdict.first
                        : r->verdict.kind == STAGE_MIXED ? "mixed"
                                                         : "unexplained";
    (void)fprintf(p->out, "%s%5s  %-*s  %3u  %10s  %-12s %6s  %8" PRIu64 "  %6" PRIu64 "%s%s%s%s\n",
                  p->colour && bad ? "\033[31m" : "", r->run_id, p->cell_width, r->cell->name,
                  r->replicate + 1, rate, r->stages_count > 0 ? limit : "-", use, r->ok_count,
                  r->fail_count, bad ? "  " : "", bad ? rows_outcome_name(r->outcome) : "",
                  r->host_limited ? "  host limited" : "", p->colour && bad ? "\033[0m" : "");
}

static void print_line(const struct progress *p, const struct run_result *r, int64_t now_ns)
{
    char line[LINE_BYTES * 2];
    struct text t = text_into(line, sizeof line);
    text_add(&t, "[%u/%u %s rep %u] %s: ", p->done_count, p->scenario->runs_count, r->cell->name,
             r->replicate + 1, rows_outcome_name(r->outcome));
    if (r->outcome == RUN_OK) {
        text_rate(&t, r->output_tok_per_s.mean);
        text_add(&t, " tok/s, %s", r->verdict.text);
    } else {
        text_add(&t, "%s", r->reason);
    }
    text_add(&t, "  ETA ");
    add_duration(&t, remaining_s(p, now_ns));
    (void)fprintf(p->out, "%s\n", line);
}

void progress_run_done(struct progress *p, const struct run_result *result, int64_t now_ns)
{
    if (p == NULL) {
        return;
    }
    int kind = result->simulated ? 1 : 0;
    if (p->done_count < p->scenario->runs_count) {
        p->expected_s[kind] += expected_run_s(p, p->done_count);
        p->done_count++;
    }
    p->taken_s[kind] += (double)(now_ns - p->run_begun_ns) / 1e9;
    p->run_begun_ns = now_ns;
    p->written_ns = now_ns;
    clear_live(p);
    if (p->jsonl) {
        write_run(p, result, now_ns);
    } else if (p->rows) {
        print_row(p, result);
    } else {
        print_line(p, result, now_ns);
    }
    (void)fflush(p->out);
}

void progress_note(struct progress *p, const char *text)
{
    if (p == NULL) {
        return;
    }
    if (p->jsonl) {
        struct json_object *o = object_of("note");
        put_text(o, "text", text);
        write_object(p, o);
        return;
    }
    clear_live(p);
    (void)fprintf(p->out, "%s\n", text);
    (void)fflush(p->out);
}

void progress_end(struct progress *p)
{
    if (p == NULL) {
        return;
    }
    clear_live(p);
    if (p->jsonl) {
        struct json_object *o = object_of("end");
        put_count(o, "runs", p->done_count);
        write_object(p, o);
    }
    (void)fflush(p->out);
    free(p);
}
