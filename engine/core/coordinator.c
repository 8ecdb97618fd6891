/*
 * coordinator.c - the load counts of all engine cores, the wave that lock-step ranks are in, and
 * the decision when to publish both. Driven by the coordinator process and by the simulator with
 * the time they have. It must not wait, send or remember who its clients are.
 */
#include "engine/core/coordinator.h"

#include <string.h>

#include "engine/base/status.h"

/* (wave, step) of counts, ordered. */
struct step_stamp {
    int64_t wave;
    int64_t step;
};

struct coordinator {
    struct coordinator_options options;
    struct engine_counts *counts;   /* [engines_count], the newest of each */
    struct engine_counts *snapshot; /* [engines_count], lock-step: as of one step boundary */
    bool has_snapshot;              /* not published yet */
    struct step_stamp last_stamp;   /* highest seen */
    bool changed;                   /* counts arrived since live counts were last published */
    bool published;                 /* at least once: before that a publish is always due */
    time_ps last_publish;
    bool heard;          /* a message came in since coordinator_publish() was last called */
    time_ps quiet_since; /* of the last message, as far as known */

    uint32_t current_wave;
    bool engines_running;
    uint32_t subscribed_count;
    struct coordinator_action actions[COORDINATOR_ACTIONS_MAX];
    uint32_t actions_first; /* actions[actions_first .. actions_count) are not taken yet */
    uint32_t actions_count;
    struct coordinator_counters counters;
};

size_t coordinator_arena_bytes(const struct coordinator_options *options)
{
    return ARENA_BYTES(1, struct coordinator) +
           2 * ARENA_BYTES(options->engines_count, struct engine_counts);
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
    if (options->settle_interval < 0) {
        return error_set(error, STATUS_INVALID, "settle_interval: want at least 0");
    }
    struct coordinator *c = ARENA_NEW(arena, struct coordinator, 1);
    c->options = *options;
    c->counts = ARENA_NEW(arena, struct engine_counts, options->engines_count);
    c->snapshot = ARENA_NEW(arena, struct engine_counts, options->engines_count);
    c->last_stamp = (struct step_stamp){.wave = -1, .step = -1};
    *out = c;
    return STATUS_OK;
}

/* ---- actions ---- */

/* A message came in: what the one before asked for must have been taken. */
static void begin_message(struct coordinator *c)
{
    ASSERT(c->actions_first == c->actions_count);
    c->actions_first = 0;
    c->actions_count = 0;
    c->heard = true;
}

static struct coordinator_action *add_action(struct coordinator *c,
                                             enum coordinator_action_kind kind)
{
    ASSERT(c->actions_count < COORDINATOR_ACTIONS_MAX);
    struct coordinator_action *action = &c->actions[c->actions_count++];
    *action = (struct coordinator_action){.kind = kind};
    return action;
}

/* `exclude` comes from a peer; what is no engine core is left out of nothing. */
static void add_start(struct coordinator *c, bool excludes, uint32_t exclude)
{
    bool known = excludes && exclude < c->options.engines_count;
    add_action(c, COORDINATOR_START_WAVE)->start = (struct start_wave){
        .wave = c->current_wave,
        .exclude = known ? (int32_t)exclude : -1,
    };
    c->counters.wave_starts_count++;
}

static void add_wave_change(struct coordinator *c)
{
    add_action(c, COORDINATOR_PUBLISH)->state = (struct coordinator_state){
        .wave = c->current_wave,
        .running = c->engines_running,
    };
    c->counters.wave_changes_count++;
}

bool coordinator_take_action(struct coordinator *c, struct coordinator_action *action)
{
    if (c->actions_first == c->actions_count) {
        return false;
    }
    *action = c->actions[c->actions_first++];
    return true;
}

/* ---- messages ---- */

void coordinator_subscribe(struct coordinator *c)
{
    begin_message(c);
    c->subscribed_count++;
    if (c->subscribed_count >= c->options.engines_count) {
        (void)add_action(c, COORDINATOR_READY);
    }
}

/* The first counts of a later step close the one before: what is known then belongs to it. */
static void note_stamp(struct coordinator *c, const struct scheduler_stats *stats)
{
    struct step_stamp last = c->last_stamp;
    struct step_stamp now = {.wave = stats->current_wave, .step = stats->step_counter};
    if (now.wave < last.wave || (now.wave == last.wave && now.step < last.step)) {
        c->counters.late_stats_count++;
        return;
    }
    if (now.wave == last.wave && now.step == last.step) {
        return;
    }
    if (c->changed) {
        memcpy(c->snapshot, c->counts, c->options.engines_count * sizeof *c->counts);
        c->has_snapshot = true;
    }
    c->last_stamp = now;
}

static void take_stats(struct coordinator *c, uint32_t engine, const struct scheduler_stats *stats)
{
    if (engine >= c->options.engines_count) {
        return;
    }
    if (c->options.lockstep) {
        note_stamp(c, stats);
    }
    c->counts[engine] = (struct engine_counts){
        .waiting = stats->waiting_count,
        .running = stats->running_count,
        .kv_usage = stats->kv_cache_usage,
    };
    c->changed = true;
    c->counters.stats_count++;
}

/* A wave ended. The notice may have been overtaken by a later wave's start. */
static void wave_completed(struct coordinator *c, int64_t wave)
{
    if (wave < c->current_wave || wave >= UINT32_MAX) {
        return;
    }
    c->current_wave = (uint32_t)wave + 1;
    c->engines_running = false;
    add_wave_change(c);
}

/* Engine core `engine` runs in `wave`: the others must be woken. */
static void wave_started(struct coordinator *c, uint32_t engine, int64_t wave)
{
    if (wave < c->current_wave || wave > UINT32_MAX ||
        (wave == c->current_wave && c->engines_running)) {
        return;
    }
    c->current_wave = (uint32_t)wave;
    c->engines_running = true;
    add_start(c, true, engine);
    add_wave_change(c);
}

void coordinator_outputs(struct coordinator *c, const struct engine_outputs *outputs)
{
    begin_message(c);
    if (outputs->stats != NULL) {
        take_stats(c, outputs->engine_index, outputs->stats);
    }
    if (!c->options.lockstep) {
        return;
    }
    if (outputs->wave_complete >= 0) {
        wave_completed(c, outputs->wave_complete);
    } else if (outputs->start_wave >= 0) {
        wave_started(c, outputs->engine_index, outputs->start_wave);
    }
}

void coordinator_stats(struct coordinator *c, uint32_t engine, const struct scheduler_stats *stats)
{
    begin_message(c);
    take_stats(c, engine, stats);
}

void coordinator_first_request(struct coordinator *c, const struct first_request *first)
{
    begin_message(c);
    c->counters.first_requests_count++;
    if (!c->options.lockstep || c->engines_running) {
        return;
    }
    /* The engine core with the request runs by itself, unless the stamp is of an old wave. */
    bool stale = first->wave < c->current_wave;
    add_start(c, !stale, first->engine);
    if (!c->options.believe_engines_only) {
        c->engines_running = true;
        add_wave_change(c);
    }
}

/* ---- publishing ---- */

/* Live counts of lock-step ranks may be a mix of two steps unless the ranks were silent. */
static bool must_settle(const struct coordinator *c)
{
    return c->options.lockstep && !c->has_snapshot;
}

time_ps coordinator_deadline(const struct coordinator *c)
{
    time_ps due = 0;
    if (c->published) {
        due = c->last_publish +
              (c->changed ? c->options.publish_interval : c->options.heartbeat_interval);
    }
    time_ps settled = c->quiet_since + c->options.settle_interval;
    return must_settle(c) && settled > due ? settled : due;
}

bool coordinator_publish(struct coordinator *c, time_ps now, bool input_pending,
                         struct coordinator_state *state)
{
    if (c->heard) {
        c->heard = false;
        c->quiet_since = now;
    }
    if (now < coordinator_deadline(c)) {
        return false;
    }
    if (input_pending && (c->options.rule == PUBLISH_WHEN_QUIET || must_settle(c))) {
        return false;
    }
    bool live = !c->has_snapshot;
    if (live) {
        c->changed = false;
    }
    c->has_snapshot = false;
    c->published = true;
    c->last_publish = now;
    c->quiet_since = now;
    c->counters.publishes_count++;
    *state = (struct coordinator_state){
        .counts = live ? c->counts : c->snapshot,
        .counts_count = c->options.engines_count,
        .wave = c->current_wave,
        .running = c->engines_running,
    };
    return true;
}

/* ---- what is looked at from outside ---- */

bool coordinator_changed(const struct coordinator *c)
{
    return c->changed;
}

uint32_t coordinator_current_wave(const struct coordinator *c)
{
    return c->current_wave;
}

bool coordinator_engines_running(const struct coordinator *c)
{
    return c->engines_running;
}

struct coordinator_counters coordinator_counters(const struct coordinator *c)
{
    return c->counters;
}

const char *coordinator_check(const struct coordinator *c)
{
    if (!c->options.lockstep) {
        bool waves = c->current_wave > 0 || c->engines_running || c->has_snapshot ||
                     c->counters.wave_starts_count + c->counters.wave_changes_count > 0;
        return waves ? "coordinator: waves among independent ranks" : NULL;
    }
    if (c->has_snapshot && !c->changed) {
        return "coordinator: a snapshot without counts that changed";
    }
    if (c->actions_first > c->actions_count) {
        return "coordinator: more actions taken than there were";
    }
    return NULL;
}
