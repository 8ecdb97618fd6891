/*
 * coordinator.c - what the coordinator says and hears apart from engine outputs: the state it
 * publishes to front ends, a front end's note of a first request, and START_DP_WAVE. Knows the
 * order of these arrays; holds no state.
 */
#include "engine/wire/reader.h"
#include "engine/wire/writer.h"

enum {
    STATE_FIELDS_COUNT = 3,
    COUNTS_FIELDS_COUNT = 3,
    FIRST_FIELDS_COUNT = 2,
    WAVE_FIELDS_COUNT = 2
};

void wire_encode_coordinator_state(struct wire_buffer *b, const struct coordinator_state *state)
{
    wire_put_array(b, STATE_FIELDS_COUNT);
    if (state->counts == NULL) {
        wire_put_nil(b);
    } else {
        wire_put_array(b, state->counts_count);
        for (uint32_t i = 0; i < state->counts_count; i++) {
            wire_put_array(b, COUNTS_FIELDS_COUNT);
            wire_put_uint(b, state->counts[i].waiting);
            wire_put_uint(b, state->counts[i].running);
            wire_put_double(b, state->counts[i].kv_usage);
        }
    }
    wire_put_uint(b, state->wave);
    wire_put_bool(b, state->running);
}

static const struct engine_counts *get_counts(struct wire_reader *r, uint32_t *count)
{
    uint32_t n = wire_get_array(r, "counts", 0);
    struct engine_counts *counts = wire_alloc(r, n, sizeof *counts);
    for (uint32_t i = 0; i < n && wire_reader_ok(r); i++) {
        uint32_t fields_count = wire_get_array(r, "counts", COUNTS_FIELDS_COUNT);
        counts[i].waiting = wire_get_u32(r, "counts.waiting");
        counts[i].running = wire_get_u32(r, "counts.running");
        counts[i].kv_usage = wire_get_double(r, "counts.kv_usage");
        wire_skip_rest(r, fields_count, COUNTS_FIELDS_COUNT);
    }
    *count = n;
    return counts;
}

enum status wire_decode_coordinator_state(struct wire_decoder *d, const void *data, size_t bytes,
                                          struct coordinator_state *out, struct error *error)
{
    struct wire_reader r = {.message = "coordinator state", .error = error};
    struct coordinator_state state = {0};
    wire_reader_start(&r, d, data, bytes);
    uint32_t count = wire_get_array(&r, "message", STATE_FIELDS_COUNT);
    if (!wire_get_nil(&r)) {
        state.counts = get_counts(&r, &state.counts_count);
    }
    state.wave = wire_get_u32(&r, "wave");
    state.running = wire_get_bool(&r, "running");
    wire_skip_rest(&r, count, STATE_FIELDS_COUNT);
    TRY(wire_reader_finish(&r));
    *out = state;
    return STATUS_OK;
}

void wire_encode_first_request(struct wire_buffer *b, const struct first_request *first)
{
    wire_put_array(b, FIRST_FIELDS_COUNT);
    wire_put_uint(b, first->engine);
    wire_put_uint(b, first->wave);
}

enum status wire_decode_first_request(struct wire_decoder *d, const void *data, size_t bytes,
                                      struct first_request *out, struct error *error)
{
    struct wire_reader r = {.message = "first request", .error = error};
    struct first_request first = {0};
    wire_reader_start(&r, d, data, bytes);
    uint32_t count = wire_get_array(&r, "message", FIRST_FIELDS_COUNT);
    first.engine = wire_get_rank(&r, "engine");
    first.wave = wire_get_u32(&r, "wave");
    wire_skip_rest(&r, count, FIRST_FIELDS_COUNT);
    TRY(wire_reader_finish(&r));
    *out = first;
    return STATUS_OK;
}

void wire_encode_start_wave(struct wire_buffer *b, const struct start_wave *start)
{
    wire_put_array(b, WAVE_FIELDS_COUNT);
    wire_put_uint(b, start->wave);
    if (start->exclude == RANK_NONE) {
        wire_put_nil(b);
    } else {
        wire_put_int(b, start->exclude);
    }
}

enum status wire_decode_start_wave(struct wire_decoder *d, const void *data, size_t bytes,
                                   struct start_wave *out, struct error *error)
{
    struct wire_reader r = {.message = "START_DP_WAVE", .error = error};
    struct start_wave start = {.exclude = RANK_NONE};
    wire_reader_start(&r, d, data, bytes);
    uint32_t count = wire_get_array(&r, "message", WAVE_FIELDS_COUNT);
    start.wave = wire_get_u32(&r, "wave");
    if (!wire_get_nil(&r)) {
        start.exclude = (int32_t)wire_get_rank(&r, "exclude");
    }
    wire_skip_rest(&r, count, WAVE_FIELDS_COUNT);
    TRY(wire_reader_finish(&r));
    *out = start;
    return STATUS_OK;
}
