/* random_driver.c - the event loop of random_driver.h: arrivals, aborts, turns and completions in
 * random order. */
#include "sim/random_driver.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/hash.h"
#include "sim/random_driver_model.h"

enum {
    EVENTS_MAX = 60000 /* more than any workload here needs: beyond it, it makes no progress */
};

/* ---- trace ---- */

void driver_trace(struct driver *d, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(d->lines[d->lines_count % DRIVER_TRACE_LINES], DRIVER_TRACE_LINE_BYTES, fmt,
                    args);
    va_end(args);
    d->lines_count++;
}

bool driver_fail(struct driver *d, const char *fmt, ...)
{
    if (d->failure[0] == '\0') {
        va_list args;
        va_start(args, fmt);
        (void)vsnprintf(d->failure, sizeof d->failure, fmt, args);
        va_end(args);
    }
    return false;
}

static void write_trace(const struct driver *d)
{
    const struct engine_core_options *o = &d->options;
    char *out = d->report->trace;
    size_t cap = sizeof d->report->trace;
    int head = snprintf(out, cap,
                        "seed %lu: seqs %u budget %u threshold %u blocks %u x %u len %u held %u "
                        "depth %u stages %u %s%s%s%s watermark %g\n",
                        (unsigned long)d->seed, o->max_num_seqs, o->max_num_batched_tokens,
                        o->long_prefill_token_threshold, o->num_gpu_blocks, o->block_tokens,
                        o->max_model_len, o->requests_max, o->async_depth, o->pipeline_stages,
                        o->policy == POLICY_FCFS ? "fcfs" : "priority",
                        o->chunked_prefill ? " chunked" : "", o->prefix_caching ? " caching" : "",
                        o->reserve_full_isl ? " reserve" : "", o->watermark);
    size_t used = (size_t)head;
    uint64_t first = d->lines_count > DRIVER_TRACE_LINES ? d->lines_count - DRIVER_TRACE_LINES : 0;
    for (uint64_t i = first; i < d->lines_count; i++) {
        const char *line = d->lines[i % DRIVER_TRACE_LINES];
        size_t bytes = strlen(line);
        if (used + bytes + 2 > cap) {
            break;
        }
        memcpy(out + used, line, bytes);
        out[used + bytes] = '\n';
        used += bytes + 1;
    }
    out[used] = '\0';
}

/* ---- inputs ---- */

static bool in_flight(const struct driver *d, const struct driver_request *q)
{
    for (uint32_t s = 0; s < d->in_flight_count; s++) {
        for (uint32_t i = 0; i < d->in_flight[s].plan->seqs_count; i++) {
            if (d->in_flight[s].owners[i] == q) {
                return true;
            }
        }
    }
    return false;
}

/* Requests that the engine may count as held. */
static uint32_t held_count(const struct driver *d)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->requests_count; i++) {
        const struct driver_request *q = &d->requests[i];
        n += q->added && (!q->ended || !q->reported || in_flight(d, q));
    }
    return n;
}

static bool add_next(struct driver *d)
{
    struct driver_request *q = &d->requests[d->next_request];
    struct error error;
    bool full = held_count(d) >= d->options.requests_max;
    enum status status = engine_core_add(d->engine, &q->request, d->now, &error);
    driver_trace(d, "%ld add %s prompt %u max %u -> %d", (long)d->now, q->id,
                 q->request.prompt_tokens_count, q->request.sampling.max_tokens, (int)status);
    if (full) {
        DRIVER_REQUIRE(d, status == STATUS_FULL, "%s: added beyond requests_max", q->id);
        d->report->refused_count++;
        return true;
    }
    DRIVER_REQUIRE(d, status == STATUS_OK, "%s refused: %s", q->id, error.text);
    q->added = true;
    q->added_at = d->now;
    d->next_request++;
    d->report->requests_count++;
    if (q->request.abort_immediately) {
        q->ended = true;
        q->aborted = true;
        d->report->aborted_count++;
    }
    return true;
}

/* Requests that must be refused and leave nothing behind. */
static bool add_invalid(struct driver *d)
{
    struct driver_request *q = &d->requests[random_range(&d->events, 0, d->requests_count - 1)];
    struct engine_request bad = q->request;
    switch (random_range(&d->events, 0, 3)) {
    case 0:
        bad.client_index = d->options.clients_count;
        break;
    case 1:
        bad.prompt_tokens_count = 0;
        break;
    case 2:
        bad.prompt_tokens_count = d->options.max_model_len;
        break;
    default:
        if (!q->added || q->ended) {
            return true;
        }
        break; /* the id is in use */
    }
    enum status status = engine_core_add(d->engine, &bad, d->now, NULL);
    DRIVER_REQUIRE(d, status == STATUS_INVALID, "an invalid request was not refused");
    return true;
}

/* Any request, also one that has ended or was never added. */
static void abort_any(struct driver *d)
{
    struct driver_request *q = &d->requests[random_range(&d->events, 0, d->requests_count - 1)];
    driver_trace(d, "%ld abort %s", (long)d->now, q->id);
    engine_core_abort(d->engine, q->id);
    if (q->added && !q->ended) {
        q->ended = true;
        q->aborted = true;
        d->report->aborted_count++;
    }
}

static bool inputs(struct driver *d)
{
    while (random_unit(&d->events) < 0.4) {
        double kind = random_unit(&d->events);
        bool good = true;
        if (kind < 0.8) {
            good = d->next_request == d->requests_count || add_next(d);
        } else if (kind < 0.9) {
            abort_any(d);
        } else if (kind < 0.95) {
            engine_core_abort(d->engine, "cmpl-unknown");
        } else {
            good = add_invalid(d);
        }
        if (!good) {
            return false;
        }
    }
    return true;
}

/* ---- laws ---- */

static bool check_laws(struct driver *d)
{
    const char *broken = engine_core_check(d->engine);
    DRIVER_REQUIRE(d, broken == NULL, "%s", broken);
    uint32_t unfinished = 0;
    bool unreported = false;
    for (uint32_t i = 0; i < d->requests_count; i++) {
        unfinished += d->requests[i].added && !d->requests[i].ended;
        unreported |= d->requests[i].ended && !d->requests[i].reported;
    }
    DRIVER_REQUIRE(d, engine_core_unfinished(d->engine) == unfinished,
                   "%u unfinished requests, the engine says %u", unfinished,
                   engine_core_unfinished(d->engine));
    d->unfinished_count = unfinished;
    DRIVER_REQUIRE(d,
                   engine_core_has_work(d->engine) ||
                       (unfinished == 0 && !unreported && d->in_flight_count == 0),
                   "the engine forgot work");
    struct scheduler_stats stats;
    if (random_unit(&d->events) < 0.3 && engine_core_counts_changed(d->engine, &stats)) {
        DRIVER_REQUIRE(d, stats.running_count + stats.waiting_count == unfinished,
                       "published counts are not those of unfinished requests");
        DRIVER_REQUIRE(d, !engine_core_counts_changed(d->engine, &stats),
                       "counts changed twice without a cause");
    }
    return true;
}

static bool check_end(struct driver *d)
{
    struct scheduler_stats stats;
    (void)engine_core_counts_changed(d->engine, &stats);
    DRIVER_REQUIRE(d, d->last_stats_idle, "idle, but blocks or requests are still counted");
    for (uint32_t i = 0; i < d->requests_count; i++) {
        const struct driver_request *q = &d->requests[i];
        DRIVER_REQUIRE(d, q->ended && q->reported, "%s never ended", q->id);
        DRIVER_REQUIRE(d, q->aborted || q->delivered == q->expected_count,
                       "%s ended after %u of %u tokens", q->id, q->delivered, q->expected_count);
    }
    for (uint32_t i = 0; i < DRIVER_REQUESTS_MAX; i++) {
        DRIVER_REQUIRE(d, d->slots[i].owner == NULL, "workers were not told that %s ended",
                       d->slots[i].owner->id);
    }
    return true;
}

/* ---- events ---- */

static bool complete(struct driver *d)
{
    DRIVER_REQUIRE(d, d->in_flight_count > 0, "asked to await a result, but nothing is in flight");
    struct driver_step step = d->in_flight[0];
    uint64_t hash = hash64(step.plan->seqs, step.plan->seqs_count * sizeof *step.plan->seqs, 0);
    DRIVER_REQUIRE(d, hash == step.plan_hash, "a plan changed while it was in flight");
    for (uint32_t i = 0; i < step.plan->seqs_count; i++) {
        d->report->wasted_seqs_count += step.owners[i]->ended;
    }
    struct step_result result = {
        .step = step.plan->step, .tokens = step.tokens, .tokens_count = step.tokens_count};
    DRIVER_REQUIRE(d, driver_messages_hash(&d->messages) == d->messages_hash,
                   "messages changed before the next step was completed");
    engine_core_complete(d->engine, d->now, &result, &d->messages);
    d->messages_hash = driver_messages_hash(&d->messages);
    d->in_flight_count--;
    memmove(&d->in_flight[0], &d->in_flight[1], d->in_flight_count * sizeof d->in_flight[0]);
    driver_trace(d, "%ld complete %lu: %u messages", (long)d->now, (unsigned long)result.step,
                 d->messages.count);
    return driver_receive(d, &d->messages);
}

static bool submit(struct driver *d, const struct step_plan *plan)
{
    driver_trace(d, "%ld submit %lu: %u seqs %u tokens %u finished", (long)d->now,
                 (unsigned long)plan->step, plan->seqs_count, plan->tokens_count,
                 plan->finished_slots_count);
    DRIVER_REQUIRE(d, d->in_flight_count < engine_core_batches_max(&d->options),
                   "too many steps in flight");
    return driver_execute(d, plan);
}

static bool turn(struct driver *d)
{
    const struct step_plan *plan = NULL;
    switch (engine_core_turn(d->engine, d->now, &plan)) {
    case ENGINE_TURN_SUBMIT:
        return submit(d, plan);
    case ENGINE_TURN_AWAIT:
        d->now += random_range(&d->events, 1, 50000);
        if (random_unit(&d->events) < 0.3 && !inputs(d)) {
            return false;
        }
        return complete(d);
    case ENGINE_TURN_DONE:
        DRIVER_REQUIRE(d, d->in_flight_count > 0 || !engine_core_has_work(d->engine),
                       "nothing in flight, yet the engine plans nothing");
        return true;
    }
    return driver_fail(d, "unknown turn");
}

static bool drive(struct driver *d)
{
    for (uint32_t events = 0; events < EVENTS_MAX; events++) {
        if (d->next_request == d->requests_count && !engine_core_has_work(d->engine)) {
            return d->report->requests_count == 0 || check_end(d);
        }
        d->now += random_range(&d->events, 0, 1000);
        if (!inputs(d) || !check_laws(d) || !turn(d) || !check_laws(d)) {
            return false;
        }
    }
    return driver_fail(d, "no end after %d events: no progress", EVENTS_MAX);
}

enum status random_driver_run(uint64_t seed, struct random_driver_report *out, struct error *error)
{
    struct driver *d = calloc(1, sizeof *d);
    if (d == NULL) {
        return error_set(error, STATUS_NOMEM, "random driver: out of memory");
    }
    *out = (struct random_driver_report){0};
    d->seed = seed;
    d->report = out;
    d->next_step = 1;
    d->config = random_stream(seed, "driver-config", 0);
    d->events = random_stream(seed, "driver-events", 0);
    driver_draw_options(d);
    driver_draw_requests(d);
    enum status status = arena_create(engine_core_arena_bytes(&d->options), &d->arena, error);
    if (status == STATUS_OK) {
        status = engine_core_create(&d->arena, &d->options, &d->engine, error);
        if (status == STATUS_OK && !drive(d)) {
            write_trace(d);
            status = error_set(error, STATUS_PROTOCOL, "seed %lu, event %lu: %s",
                               (unsigned long)seed, (unsigned long)d->lines_count, d->failure);
        }
        arena_destroy(&d->arena);
    }
    free(d);
    return status;
}
