/*
 * coordinator.c - the load counts of all engine cores and the decision when to publish them. Driven
 * by the coordinator process and by the simulator with the time they have. It must not wait, send
 * or remember who its clients are.
 */
#include "engine/core/coordinator.h"

#include "engine/base/status.h"

struct coordinator {
    struct coordinator_options options;
    struct engine_counts *counts; /* [engines_count] */
    bool changed;                 /* counts arrived since the last publish */
    bool published;               /* at least once: before that a publish is always due */
    time_ps last_publish;
    struct coordinator_counters counters;
};

size_t coordinator_arena_bytes(const struct coordinator_options *options)
{
    return ARENA_BYTES(1, struct coordinator) +
           ARENA_BYTES(options->engines_count, struct engine_counts);
}

enum status coordinator_create(struct arena *arena, const struct coordinator_options *options,
                               struct coordinator **out, struct error *error)
{
    if (options->engines_count == 0) {
        return error_set(error, STATUS_INVALID, "engines_count: want at least 1, got 0");
    }
    if (options->publish_interval <= 0) {
        return error_set(error, STATUS_INVALID, "publish_interval: want more than 0");
    }
    if (options->heartbeat_interval < options->publish_interval) {
        return error_set(error, STATUS_INVALID,
                         "heartbeat_interval: want at least publish_interval");
    }
    struct coordinator *c = ARENA_NEW(arena, struct coordinator, 1);
    c->options = *options;
    c->counts = ARENA_NEW(arena, struct engine_counts, options->engines_count);
    *out = c;
    return STATUS_OK;
}

void coordinator_stats(struct coordinator *c, uint32_t engine, const struct scheduler_stats *stats)
{
    if (engine >= c->options.engines_count) {
        return;
    }
    c->counts[engine] = (struct engine_counts){
        .waiting = stats->waiting_count,
        .running = stats->running_count,
        .kv_usage = stats->kv_cache_usage,
    };
    c->changed = true;
    c->counters.stats_count++;
}

void coordinator_first_request(struct coordinator *c, const struct first_request *first)
{
    (void)first;
    c->counters.first_requests_count++;
}

time_ps coordinator_deadline(const struct coordinator *c)
{
    if (!c->published) {
        return 0;
    }
    return c->last_publish +
           (c->changed ? c->options.publish_interval : c->options.heartbeat_interval);
}

bool coordinator_publish(struct coordinator *c, time_ps now, bool input_pending,
                         struct coordinator_state *state)
{
    if (now < coordinator_deadline(c)) {
        return false;
    }
    if (input_pending && c->options.rule == PUBLISH_WHEN_QUIET) {
        return false;
    }
    c->changed = false;
    c->published = true;
    c->last_publish = now;
    c->counters.publishes_count++;
    *state = (struct coordinator_state){
        .counts = c->counts,
        .counts_count = c->options.engines_count,
        .wave = 0,
        .running = false,
    };
    return true;
}

struct coordinator_counters coordinator_counters(const struct coordinator *c)
{
    return c->counters;
}
