/*
 * startup.c - what the launcher knows while the system starts, and what follows from it. Driven by
 * the launcher, one message at a time, and by the protocol's random driver. It must not know
 * addresses, encode messages, or keep deadlines.
 */
#include "engine/core/startup.h"

#include <string.h>

enum engine_state {
    ENGINE_NEW,
    ENGINE_CONNECTED, /* said HELLO */
    ENGINE_TOLD,      /* was sent INIT */
    ENGINE_READY,
};

static const char *const state_texts[] = {
    [ENGINE_NEW] = "before HELLO",
    [ENGINE_CONNECTED] = "before it was sent INIT",
    [ENGINE_TOLD] = "after INIT",
    [ENGINE_READY] = "after READY",
};

struct startup {
    struct startup_options options;
    enum engine_state *engines; /* [engines_count], by rank - engines_first */
    uint32_t connected_count;   /* said HELLO and were not sent INIT */
    uint32_t engines_ready;
    uint32_t api_servers_bound;
    uint32_t api_servers_ready;
};

size_t startup_arena_bytes(const struct startup_options *options)
{
    return ARENA_BYTES(1, struct startup) + ARENA_BYTES(options->engines_count, enum engine_state);
}

struct startup *startup_create(struct arena *arena, const struct startup_options *options)
{
    struct startup *s = ARENA_NEW(arena, struct startup, 1);
    s->options = *options;
    s->engines = ARENA_NEW(arena, enum engine_state, options->engines_count);
    return s;
}

/* ---- engine cores ---- */

static bool within(uint32_t rank, uint32_t first, uint32_t count)
{
    return rank >= first && rank - first < count;
}

static enum status check_place(const struct startup_options *o, uint32_t rank,
                               const struct startup_message *message, struct error *error)
{
    bool local = within(rank, o->local_first, o->local_count);
    if (message->local != local) {
        return error_set(error, STATUS_PROTOCOL,
                         "handshake: engine core %u says it was %sstarted by this launcher", rank,
                         message->local ? "" : "not ");
    }
    /* This launcher has API servers for its own engine cores. */
    bool headless = !local && o->remote_headless;
    if (message->headless != headless) {
        return error_set(error, STATUS_PROTOCOL,
                         "handshake: engine core %u says its node has %s API servers", rank,
                         message->headless ? "no" : "its own");
    }
    return STATUS_OK;
}

/* Ranks that were configured differently would not take the same steps. */
static enum status check_hash(const struct startup_options *o, uint32_t rank, const char *got,
                              struct error *error)
{
    if (o->config_hash != NULL && (got == NULL || strcmp(got, o->config_hash) != 0)) {
        return error_set(error, STATUS_PROTOCOL,
                         "handshake: engine core %u is configured differently (parallel config "
                         "%.80s, want %.80s)",
                         rank, got != NULL ? got : "not sent", o->config_hash);
    }
    return STATUS_OK;
}

enum status startup_heard(struct startup *s, uint32_t rank, const struct startup_message *message,
                          struct error *error)
{
    const struct startup_options *o = &s->options;
    if (!within(rank, o->engines_first, o->engines_count)) {
        return error_set(error, STATUS_PROTOCOL, "handshake: unknown engine core %u", rank);
    }
    TRY(check_place(o, rank, message, error));
    enum engine_state *state = &s->engines[rank - o->engines_first];
    if (*state != (message->ready ? ENGINE_TOLD : ENGINE_NEW)) {
        return error_set(error, STATUS_PROTOCOL, "handshake: engine core %u sent %s %s", rank,
                         message->ready ? "READY" : "HELLO", state_texts[*state]);
    }
    if (message->ready) {
        TRY(check_hash(o, rank, message->config_hash, error));
        *state = ENGINE_READY;
        s->engines_ready++;
    } else {
        *state = ENGINE_CONNECTED;
        s->connected_count++;
    }
    return STATUS_OK;
}

bool startup_take_init(struct startup *s, uint32_t *rank)
{
    if (s->connected_count == 0 || s->api_servers_bound < s->options.api_servers_count) {
        return false;
    }
    uint32_t i = 0;
    while (s->engines[i] != ENGINE_CONNECTED) {
        i++;
    }
    s->engines[i] = ENGINE_TOLD;
    s->connected_count--;
    *rank = s->options.engines_first + i;
    return true;
}

/* ---- API servers ---- */

enum status startup_api_server_bound(struct startup *s, struct error *error)
{
    if (s->api_servers_bound >= s->options.api_servers_count) {
        return error_set(error, STATUS_PROTOCOL,
                         "start-up: more than %u API servers reported their sockets",
                         s->options.api_servers_count);
    }
    s->api_servers_bound++;
    return STATUS_OK;
}

enum status startup_api_server_ready(struct startup *s, struct error *error)
{
    if (s->api_servers_ready >= s->api_servers_bound) {
        return error_set(error, STATUS_PROTOCOL,
                         "start-up: more API servers are ready than the %u that reported sockets",
                         s->api_servers_bound);
    }
    s->api_servers_ready++;
    return STATUS_OK;
}

/* ---- what is known ---- */

bool startup_serving(const struct startup *s)
{
    return s->engines_ready == s->options.engines_count &&
           s->api_servers_ready == s->options.api_servers_count;
}

uint32_t startup_engines_ready(const struct startup *s)
{
    return s->engines_ready;
}

uint32_t startup_api_servers_ready(const struct startup *s)
{
    return s->api_servers_ready;
}
