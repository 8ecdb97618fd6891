/*
 * outside.c - owns the looks at a server of others and the thread that fetches its metrics page
 * (outside.h). Driven by measure.c and `harness load --observe`. Must not guess: what could not be
 * read is not there.
 */
#include "harness/run/outside.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "harness/load/shared.h"
#include "harness/run/fetch.h"

enum {
    IDLE_NS = 500000000,
    HTTP_OK = 200,
};

static const char waiting_name[] = "vllm:num_requests_waiting";

static void take_look(struct outside *o, enum outside_look which)
{
    struct error error;
    if (o->found && !o->taken[which]) {
        o->taken[which] = foreign_look(&o->system, &o->looks[which], &error) == STATUS_OK;
    }
}

/* ---- the page ---- */

static bool scrape(const struct outside *o, struct prometheus *out)
{
    struct http_buffer body = {0};
    struct error error;
    bool good = fetch_page(&o->options.server, o->options.page, &body) == HTTP_OK && !body.failed &&
                prometheus_parse(body.data, body.bytes, out, &error) == STATUS_OK;
    http_buffer_free(&body);
    return good;
}

/* Gauges; the index of an engine core is the value of its label. */
static void look_at_queues(struct outside *o, const struct prometheus *p)
{
    for (size_t i = 0; i < p->samples_count; i++) {
        const struct prometheus_sample *s = &p->samples[i];
        const char *engine = prometheus_label(p, s, "engine");
        char *end = NULL;
        unsigned long index = engine != NULL ? strtoul(engine, &end, 10) : OUTSIDE_ENGINES_MAX;
        if (strcmp(s->name, waiting_name) != 0 || index >= OUTSIDE_ENGINES_MAX || *end != '\0' ||
            !(s->value >= 0)) {
            continue;
        }
        struct outside_queue *q = &o->queues[index];
        q->waiting_sum += s->value;
        q->waiting_max = fmax(q->waiting_max, s->value);
        q->looks_count++;
    }
}

static void take_page(struct outside *o, int which)
{
    o->scraped[which] = scrape(o, &o->metrics[which]);
    o->metrics_ns[which] = clock_now_ns();
    if (o->scraped[which]) {
        look_at_queues(o, &o->metrics[which]);
    }
}

static void *follow_page(void *ctx)
{
    struct outside *o = ctx;
    struct pollfd wake = {.fd = o->wake_fd, .events = POLLIN};
    int every_ms = o->options.every_ns > 0 ? (int)(o->options.every_ns / 1000000) : -1;
    int woken = 0;
    take_page(o, 0);
    while ((woken = poll(&wake, 1, every_ms)) == 0 || (woken < 0 && errno == EINTR)) {
        struct prometheus between;
        if (woken == 0 && scrape(o, &between)) {
            look_at_queues(o, &between);
            prometheus_free(&between);
        }
    }
    take_page(o, 1);
    return NULL;
}

static void start_page(struct outside *o)
{
    if (o->options.page[0] == '\0' || o->scraping) {
        return;
    }
    o->wake_fd = eventfd(0, EFD_CLOEXEC);
    o->scraping = o->wake_fd >= 0 && pthread_create(&o->thread, NULL, follow_page, o) == 0;
    if (o->wake_fd >= 0 && !o->scraping) {
        (void)close(o->wake_fd);
    }
}

static void wake_page(const struct outside *o)
{
    uint64_t one = 1;
    if (o->scraping) {
        (void)!write(o->wake_fd, &one, sizeof one);
    }
}

/* ---- life ---- */

/* Titles to look for; the stages' names are those of foreign_patterns_known(). */
static size_t list_patterns(const struct scenario_foreign *f,
                            struct foreign_pattern out[FOREIGN_PATTERNS_MAX])
{
    static const char *const stages[SCENARIO_STAGES_COUNT] = {
        [SCENARIO_STAGE_API_SERVER] = "api_server",
        [SCENARIO_STAGE_COORDINATOR] = "coordinator",
        [SCENARIO_STAGE_ENGINE] = "engine_core",
        [SCENARIO_STAGE_WORKER] = "worker",
    };
    for (size_t i = 0; i < SCENARIO_STAGES_COUNT; i++) {
        (void)snprintf(out[i].title, sizeof out[i].title, "%s", f->titles[i]);
        (void)snprintf(out[i].stage, sizeof out[i].stage, "%s", stages[i]);
    }
    return f->counters.proc ? SCENARIO_STAGES_COUNT : 0;
}

struct outside_options outside_options_of(const struct scenario_foreign *foreign,
                                          const struct load_target *server)
{
    struct outside_options o = {.server = *server, .every_ns = foreign->counters.every_ns};
    o.patterns_count = list_patterns(foreign, o.patterns);
    (void)snprintf(o.page, sizeof o.page, "%s", foreign->counters.prometheus);
    return o;
}

enum status outside_begin(struct outside *o, const struct outside_options *options,
                          struct error *error)
{
    *o = (struct outside){.options = *options};
    struct error unnamed;
    if (options->patterns_count == 0) {
        return STATUS_OK;
    }
    o->found = foreign_by_port(options->server.port, options->patterns, options->patterns_count,
                               &o->system, &unnamed) == STATUS_OK;
    if (!o->found) {
        TRY(foreign_by_title(options->patterns, options->patterns_count, &o->system, error));
        o->found = true;
    }
    take_look(o, OUTSIDE_IDLE_FROM);
    clock_sleep_until_ns(clock_now_ns() + IDLE_NS);
    take_look(o, OUTSIDE_IDLE_TO);
    return STATUS_OK;
}

void outside_tick(struct outside *o, uint32_t phase)
{
    if (phase == LOAD_PHASE_WINDOW && !o->taken[OUTSIDE_FROM]) {
        take_look(o, OUTSIDE_FROM);
        start_page(o);
    }
    if (phase > LOAD_PHASE_WINDOW && !o->taken[OUTSIDE_TO]) {
        take_look(o, OUTSIDE_TO);
        wake_page(o);
    }
}

void outside_end(struct outside *o)
{
    if (o->scraping) {
        wake_page(o);
        (void)pthread_join(o->thread, NULL);
        (void)close(o->wake_fd);
        o->scraping = false;
    }
}

void outside_free(struct outside *o)
{
    for (int i = 0; i < OUTSIDE_LOOKS_COUNT; i++) {
        if (o->taken[i]) {
            foreign_look_free(&o->looks[i]);
        }
    }
    for (int i = 0; i < 2; i++) {
        if (o->scraped[i]) {
            prometheus_free(&o->metrics[i]);
        }
    }
    *o = (struct outside){.found = false};
}

/* ---- what was seen ---- */

bool outside_is_seen(const struct outside *o)
{
    return o->taken[OUTSIDE_FROM] && o->taken[OUTSIDE_TO];
}

struct foreign_looks outside_looks(const struct outside *o)
{
    struct foreign_looks looks = {.from = &o->looks[OUTSIDE_FROM], .to = &o->looks[OUTSIDE_TO]};
    if (o->taken[OUTSIDE_IDLE_FROM] && o->taken[OUTSIDE_IDLE_TO]) {
        looks.idle_from = &o->looks[OUTSIDE_IDLE_FROM];
        looks.idle_to = &o->looks[OUTSIDE_IDLE_TO];
    }
    return looks;
}

double outside_since(const struct outside *o, const char *name, const char *engine)
{
    const char *label = engine != NULL ? "engine" : NULL;
    if (!o->scraped[0] || !o->scraped[1]) {
        return (double)NAN;
    }
    double from = prometheus_sum(&o->metrics[0], name, label, engine);
    double to = prometheus_sum(&o->metrics[1], name, label, engine);
    return isnan(from) ? to : to - from;
}
