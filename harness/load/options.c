/*
 * options.c - checks of load options. A pure function: called by the harness before it starts a
 * client and by the client itself, since the options crossed a process border.
 */
#include "harness/load/options.h"

#include <string.h>

#define CYCLES_WINDOW_NS ((int64_t)1000000000) /* less is not long enough to hear of a new end */

uint32_t load_connections_count(const struct load_options *o)
{
    return o->mode == LOAD_CLOSED ? o->users_count : o->connections_count;
}

bool load_has_sessions(const struct load_options *o)
{
    return o->turns_count > 1;
}

uint64_t load_prompt_tokens_max(const struct load_options *o)
{
    uint64_t turns = load_has_sessions(o) ? o->turns_count : 1;
    return turns * o->prompt_tokens.hi + (turns - 1) * o->output_tokens.hi;
}

static enum status check_target(const struct load_target *t, struct error *error)
{
    if (memchr(t->host, '\0', sizeof t->host) == NULL || t->host[0] == '\0') {
        return error_set(error, STATUS_INVALID, "load: host: want an IPv4 address or unix:PATH");
    }
    if (strncmp(t->host, "unix:", 5) != 0 && (t->port == 0 || t->port > 65535)) {
        return error_set(error, STATUS_INVALID, "load: port: want 1..65535, got %u", t->port);
    }
    return STATUS_OK;
}

static enum status check_targets(const struct load_options *o, struct error *error)
{
    if (o->targets_count < 1 || o->targets_count > LOAD_TARGETS_MAX) {
        return error_set(error, STATUS_INVALID, "load: servers: want 1..%d, got %u",
                         LOAD_TARGETS_MAX, o->targets_count);
    }
    for (uint32_t i = 0; i < o->targets_count; i++) {
        TRY(check_target(&o->targets[i], error));
    }
    if (memchr(o->model, '\0', sizeof o->model) == NULL ||
        memchr(o->trace_path, '\0', sizeof o->trace_path) == NULL) {
        return error_set(error, STATUS_INVALID, "load: model or trace: name too long");
    }
    return STATUS_OK;
}

static enum status check_range(const char *name, const struct load_range *range,
                               struct error *error)
{
    if (range->lo < 1 || range->hi < range->lo || range->hi > LOAD_TOKENS_MAX) {
        return error_set(error, STATUS_INVALID, "load: %s: want 1 <= lo <= hi <= %d, got %u..%u",
                         name, LOAD_TOKENS_MAX, range->lo, range->hi);
    }
    if (range->sd > 0 && (range->mean < 1 || lengths_inside_frac(range) < LENGTHS_INSIDE_MIN)) {
        return error_set(error, STATUS_INVALID,
                         "load: %s: hardly any log-normal length of mean %u and deviation %u lies "
                         "in %u..%u",
                         name, range->mean, range->sd, range->lo, range->hi);
    }
    return STATUS_OK;
}

static enum status check_lengths(const struct load_options *o, struct error *error)
{
    if (o->trace_path[0] == '\0') {
        TRY(check_range("prompt tokens", &o->prompt_tokens, error));
        TRY(check_range("output tokens", &o->output_tokens, error));
    }
    if (!(o->shared_prefix >= 0.0 && o->shared_prefix <= 1.0)) {
        return error_set(error, STATUS_INVALID, "load: shared_prefix: want 0..1, got %g",
                         o->shared_prefix);
    }
    if (!(o->temperature >= 0.0 && o->temperature <= 2.0)) {
        return error_set(error, STATUS_INVALID, "load: temperature: want 0..2, got %g",
                         o->temperature);
    }
    return STATUS_OK;
}

static enum status check_sessions(const struct load_options *o, struct error *error)
{
    if (o->mode != LOAD_CLOSED && (load_has_sessions(o) || o->think_mean_ns > 0)) {
        return error_set(error, STATUS_INVALID, "load: turns and think times need users");
    }
    if (!load_has_sessions(o)) {
        return STATUS_OK;
    }
    if (o->trace_path[0] != '\0' || o->shared_prefix > 0) {
        return error_set(error, STATUS_INVALID,
                         "load: turns exclude traces and shared_prefix: a session's prompts are "
                         "their own");
    }
    if (o->turns_count > LOAD_TURNS_MAX || load_prompt_tokens_max(o) > LOAD_TOKENS_MAX) {
        return error_set(error, STATUS_INVALID,
                         "load: turns: want at most %d, and no prompt over %d tokens",
                         LOAD_TURNS_MAX, LOAD_TOKENS_MAX);
    }
    return STATUS_OK;
}

static enum status check_open(const struct load_options *o, struct error *error)
{
    if (o->mode == LOAD_OPEN_BURSTS) {
        if (o->burst_count < 1 || o->burst_every_ns < 1) {
            return error_set(error, STATUS_INVALID,
                             "load: bursts: want 1 or more requests every 1 ns or more, got %u",
                             o->burst_count);
        }
        return STATUS_OK;
    }
    if (!(o->rate_per_s >= 1e-3 && o->rate_per_s <= 1e7)) {
        return error_set(error, STATUS_INVALID, "load: rate: want 0.001..10000000 /s, got %g",
                         o->rate_per_s);
    }
    if (o->mode == LOAD_OPEN_GAMMA && !(o->gap_cv >= 0.01 && o->gap_cv <= 10.0)) {
        return error_set(error, STATUS_INVALID,
                         "load: coefficient of variation: want 0.01..10, got %g", o->gap_cv);
    }
    return STATUS_OK;
}

static enum status check_mode(const struct load_options *o, struct error *error)
{
    switch ((enum load_mode)o->mode) {
    case LOAD_CLOSED:
        if (o->users_count < 1 || o->users_count > LOAD_INFLIGHT_MAX) {
            return error_set(error, STATUS_INVALID, "load: users: want 1..%d, got %u",
                             LOAD_INFLIGHT_MAX, o->users_count);
        }
        return STATUS_OK;
    case LOAD_OPEN_POISSON:
    case LOAD_OPEN_CONSTANT:
    case LOAD_OPEN_GAMMA:
    case LOAD_OPEN_BURSTS:
        TRY(check_open(o, error));
        break;
    case LOAD_TRACE:
        if (o->trace_path[0] == '\0' || !(o->time_scale >= 1e-6 && o->time_scale <= 1e6)) {
            return error_set(
                error, STATUS_INVALID,
                "load: trace: want a trace and a time scale of 0.000001..1000000, got %g",
                o->time_scale);
        }
        break;
    default:
        return error_set(error, STATUS_INVALID, "load: unknown mode %u", o->mode);
    }
    if (o->connections_count < 1 || o->connections_count > LOAD_INFLIGHT_MAX) {
        return error_set(error, STATUS_INVALID, "load: connections: want 1..%d, got %u",
                         LOAD_INFLIGHT_MAX, o->connections_count);
    }
    return STATUS_OK;
}

static bool is_duration(int64_t ns)
{
    const int64_t week_ns = (int64_t)7 * 24 * 3600 * 1000000000;
    return ns >= 0 && ns <= week_ns;
}

static enum status check_times(const struct load_options *o, struct error *error)
{
    if (!is_duration(o->warmup_ns) || !is_duration(o->window_ns) || !is_duration(o->drain_ns) ||
        !is_duration(o->think_mean_ns) || !is_duration(o->connect_timeout_ns) ||
        !is_duration(o->request_timeout_ns) || !is_duration(o->pace_spin_ns)) {
        return error_set(error, STATUS_INVALID, "load: a duration is negative or over a week");
    }
    bool ends = o->mode == LOAD_TRACE || (o->mode != LOAD_CLOSED && o->requests_max > 0);
    if (o->window_ns == 0 && !ends) {
        return error_set(error, STATUS_INVALID, "load: window: want a duration over 0");
    }
    if (o->min_cycles_count > 0 && (o->mode == LOAD_CLOSED || o->window_ns < CYCLES_WINDOW_NS)) {
        return error_set(error, STATUS_INVALID,
                         "load: mean request times of a window: need an open load and 1 s or more");
    }
    if (o->batches_count < 1 || o->batches_count > LOAD_BATCHES_MAX) {
        return error_set(error, STATUS_INVALID, "load: batches: want 1..%d, got %u",
                         LOAD_BATCHES_MAX, o->batches_count);
    }
    if (o->events_max > LOAD_EVENTS_MAX) {
        return error_set(error, STATUS_INVALID, "load: kept events: want at most %d",
                         LOAD_EVENTS_MAX);
    }
    return STATUS_OK;
}

enum status load_options_check(const struct load_options *o, struct error *error)
{
    TRY(check_targets(o, error));
    TRY(check_lengths(o, error));
    TRY(check_mode(o, error));
    TRY(check_sessions(o, error));
    TRY(check_times(o, error));
    if (o->api_servers_count > LOAD_API_SERVERS_MAX || (o->balance && o->api_servers_count < 1)) {
        return error_set(error, STATUS_INVALID, "load: API servers: want 1..%d, got %u",
                         LOAD_API_SERVERS_MAX, o->api_servers_count);
    }
    if (load_connections_count(o) < o->targets_count) {
        return error_set(error, STATUS_INVALID, "load: %u connections cannot reach %u servers",
                         load_connections_count(o), o->targets_count);
    }
    if (o->balance && o->api_servers_count % o->targets_count != 0) {
        return error_set(error, STATUS_INVALID,
                         "load: %u API servers cannot be divided evenly among %u servers",
                         o->api_servers_count, o->targets_count);
    }
    if (o->balance && load_connections_count(o) < o->api_servers_count) {
        return error_set(error, STATUS_INVALID,
                         "load: %u connections cannot be balanced over %u API servers",
                         load_connections_count(o), o->api_servers_count);
    }
    return STATUS_OK;
}
