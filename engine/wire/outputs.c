/*
 * outputs.c - EngineCoreOutputs, what an engine core sends a front end or the coordinator: tokens,
 * statistics, finished ids, utility replies, wave notices. Knows the order of its arrays and the
 * keys of its maps. Arrays are written up to their last element that is not a default (the envelope
 * at least up to its timestamp), which every version of both front ends accepts. Holds no state.
 */
#include "engine/wire/reader.h"
#include "engine/wire/stats.h"
#include "engine/wire/writer.h"

enum envelope_field {
    ENVELOPE_ENGINE_INDEX,
    ENVELOPE_OUTPUTS,
    ENVELOPE_STATS,
    ENVELOPE_TIMESTAMP,
    ENVELOPE_UTILITY,
    ENVELOPE_FINISHED,
    ENVELOPE_WAVE_COMPLETE,
    ENVELOPE_START_WAVE,
    ENVELOPE_FIELDS_MIN = ENVELOPE_OUTPUTS + 1,
};

enum output_field {
    OUTPUT_ID,
    OUTPUT_NEW_TOKEN_IDS,
    OUTPUT_FINISH_REASON = 5,
    OUTPUT_STOP_REASON,
    OUTPUT_EVENTS,
    OUTPUT_PREFILL_STATS = 11,
    OUTPUT_FIELDS_MIN = OUTPUT_NEW_TOKEN_IDS + 1,
};

enum {
    UTILITY_FIELDS_COUNT = 3,
    RESULT_FIELDS_COUNT = 2
};

enum event_type {
    EVENT_QUEUED = 1,
    EVENT_SCHEDULED = 2,
    EVENT_PREEMPTED = 3
};
enum {
    EVENT_TYPE,
    EVENT_TIMESTAMP,
    EVENT_KEYS_COUNT
};
static const char *const event_keys[] = {"type", "timestamp", NULL};

/* --- writing --- */

static void put_event(struct wire_buffer *b, enum event_type type, time_ps t)
{
    wire_put_map(b, EVENT_KEYS_COUNT);
    wire_put_key_uint(b, event_keys[EVENT_TYPE], type);
    wire_put_string(b, event_keys[EVENT_TIMESTAMP]);
    wire_put_time(b, t);
}

/* When each preemption happened is not kept: they carry the time of the scheduling that led to this
 * output. */
static void put_events(struct wire_buffer *b, const struct engine_output *o)
{
    wire_put_array(b, 2 + o->preemptions_count);
    put_event(b, EVENT_QUEUED, o->queued_at);
    put_event(b, EVENT_SCHEDULED, o->scheduled_at);
    for (uint32_t i = 0; i < o->preemptions_count; i++) {
        put_event(b, EVENT_PREEMPTED, o->scheduled_at);
    }
}

static void put_output(struct wire_buffer *b, const struct engine_output *o)
{
    uint32_t count = OUTPUT_FIELDS_MIN;
    if (o->first) {
        count = OUTPUT_PREFILL_STATS + 1;
    } else if (o->stop_token_id != TOKEN_NONE) {
        count = OUTPUT_STOP_REASON + 1;
    } else if (o->finish != FINISH_NONE) {
        count = OUTPUT_FINISH_REASON + 1;
    }
    wire_put_array(b, count);
    wire_put_string(b, o->id);
    wire_put_uints(b, o->new_token_ids, o->new_tokens_count);
    if (count <= OUTPUT_FINISH_REASON) {
        return;
    }
    wire_put_nils(b, OUTPUT_FINISH_REASON - OUTPUT_FIELDS_MIN);
    if (o->finish == FINISH_NONE) {
        wire_put_nil(b);
    } else {
        wire_put_uint(b, o->finish);
    }
    if (count <= OUTPUT_STOP_REASON) {
        return;
    }
    if (o->stop_token_id == TOKEN_NONE) {
        wire_put_nil(b);
    } else {
        wire_put_int(b, o->stop_token_id);
    }
    if (count <= OUTPUT_EVENTS) {
        return;
    }
    put_events(b, o);
    wire_put_nils(b, OUTPUT_PREFILL_STATS - OUTPUT_EVENTS - 1);
    wire_put_prefill_stats(b, &o->prefill);
}

static void put_reply(struct wire_buffer *b, const struct utility_reply *reply)
{
    wire_put_array(b, UTILITY_FIELDS_COUNT);
    wire_put_uint(b, reply->call_id);
    wire_put_string(b, reply->failure);
    if (reply->failure != NULL) {
        wire_put_nil(b);
        return;
    }
    wire_put_array(b, RESULT_FIELDS_COUNT);
    wire_put_nil(b); /* no type information: the value is what it is */
    switch (reply->kind) {
    case UTILITY_NIL:
        wire_put_nil(b);
        break;
    case UTILITY_BOOL:
        wire_put_bool(b, reply->boolean);
        break;
    case UTILITY_STRINGS:
        wire_put_strings(b, reply->strings, reply->strings_count);
        break;
    }
}

static uint32_t envelope_count(const struct engine_outputs *o)
{
    if (o->start_wave >= 0) {
        return ENVELOPE_START_WAVE + 1;
    }
    if (o->wave_complete >= 0) {
        return ENVELOPE_WAVE_COMPLETE + 1;
    }
    if (o->finished_ids_count > 0) {
        return ENVELOPE_FINISHED + 1;
    }
    return o->utility != NULL ? ENVELOPE_UTILITY + 1 : ENVELOPE_TIMESTAMP + 1;
}

static void put_wave(struct wire_buffer *b, int64_t wave)
{
    if (wave < 0) {
        wire_put_nil(b);
    } else {
        wire_put_int(b, wave);
    }
}

static void put_envelope(struct wire_buffer *b, const struct engine_outputs *o,
                         void (*put_stats)(struct wire_buffer *, const struct scheduler_stats *))
{
    int purposes = (o->outputs_count > 0 || o->stats != NULL || o->finished_ids_count > 0) +
                   (o->utility != NULL) + (o->wave_complete >= 0) + (o->start_wave >= 0);
    ASSERT(purposes == 1); /* anything else puts the Rust front end out of service */
    uint32_t count = envelope_count(o);
    wire_put_array(b, count);
    wire_put_uint(b, o->engine_index);
    wire_put_array(b, o->outputs_count);
    for (uint32_t i = 0; i < o->outputs_count; i++) {
        put_output(b, &o->outputs[i]);
    }
    if (o->stats == NULL) {
        wire_put_nil(b);
    } else {
        put_stats(b, o->stats);
    }
    wire_put_time(b, o->timestamp);
    if (count > ENVELOPE_UTILITY && o->utility == NULL) {
        wire_put_nil(b);
    } else if (count > ENVELOPE_UTILITY) {
        put_reply(b, o->utility);
    }
    if (count > ENVELOPE_FINISHED && o->finished_ids_count == 0) {
        wire_put_nil(b);
    } else if (count > ENVELOPE_FINISHED) {
        wire_put_strings(b, o->finished_ids, o->finished_ids_count);
    }
    if (count > ENVELOPE_WAVE_COMPLETE) {
        put_wave(b, o->wave_complete);
    }
    if (count > ENVELOPE_START_WAVE) {
        put_wave(b, o->start_wave);
    }
}

void wire_encode_outputs(struct wire_buffer *b, const struct engine_outputs *outputs)
{
    put_envelope(b, outputs, wire_put_stats);
}

void wire_encode_counts(struct wire_buffer *b, const struct engine_outputs *outputs)
{
    ASSERT(outputs->outputs_count == 0 && outputs->finished_ids_count == 0);
    ASSERT(outputs->utility == NULL);
    put_envelope(b, outputs, wire_put_counts);
}

/* --- reading --- */

static void get_event(struct wire_reader *r, struct engine_output *o)
{
    int64_t type = 0;
    time_ps t = 0;
    uint32_t count = wire_get_map(r, "events");
    for (uint32_t i = 0; i < count && wire_reader_ok(r); i++) {
        switch (wire_get_key(r, "events", event_keys)) {
        case EVENT_TYPE:
            type = wire_get_int(r, "events.type", INT32_MIN, INT32_MAX);
            break;
        case EVENT_TIMESTAMP:
            t = wire_get_time(r, "events.timestamp");
            break;
        default:
            wire_skip(r, "an unknown key of events", 1);
        }
    }
    if (type == EVENT_QUEUED) {
        o->first = true;
        o->queued_at = t;
    } else if (type == EVENT_SCHEDULED) {
        o->scheduled_at = t;
    } else if (type == EVENT_PREEMPTED) {
        o->preemptions_count++;
    }
}

static void get_events(struct wire_reader *r, struct engine_output *o)
{
    if (wire_get_nil(r)) {
        return;
    }
    uint32_t count = wire_get_array(r, "events", 0);
    for (uint32_t i = 0; i < count && wire_reader_ok(r); i++) {
        get_event(r, o);
    }
}

static void get_output_field(struct wire_reader *r, uint32_t index, struct engine_output *o)
{
    switch (index) {
    case OUTPUT_ID:
        o->id = wire_get_id(r, "outputs.request_id");
        break;
    case OUTPUT_NEW_TOKEN_IDS:
        o->new_token_ids = wire_get_uints(r, "outputs.new_token_ids", &o->new_tokens_count);
        break;
    case OUTPUT_FINISH_REASON:
        if (!wire_get_nil(r)) {
            o->finish =
                (enum finish_reason)wire_get_uint(r, "outputs.finish_reason", FINISH_REPETITION);
        }
        break;
    case OUTPUT_STOP_REASON:
        if (wire_next_is_string(r)) { /* a stop string: only front ends know those */
            (void)wire_get_string(r, "outputs.stop_reason");
        } else if (!wire_get_nil(r)) {
            o->stop_token_id = (int32_t)wire_get_int(r, "outputs.stop_reason", 0, INT32_MAX);
        }
        break;
    case OUTPUT_EVENTS:
        get_events(r, o);
        break;
    case OUTPUT_PREFILL_STATS:
        if (!wire_get_nil(r)) {
            o->first = true;
            wire_get_prefill_stats(r, &o->prefill);
        }
        break;
    default:
        wire_skip(r, "an ignored element of outputs", 1);
    }
}

static const struct engine_output *get_outputs(struct wire_reader *r, uint32_t *count)
{
    uint32_t n = wire_get_array(r, "outputs", 0);
    struct engine_output *outputs = wire_alloc(r, n, sizeof *outputs);
    for (uint32_t i = 0; i < n && wire_reader_ok(r); i++) {
        struct engine_output *o = &outputs[i];
        *o = (struct engine_output){.finish = FINISH_NONE, .stop_token_id = TOKEN_NONE};
        uint32_t fields_count = wire_get_array(r, "outputs", OUTPUT_FIELDS_MIN);
        for (uint32_t k = 0; k < fields_count && wire_reader_ok(r); k++) {
            get_output_field(r, k, o);
        }
        if (!o->first) { /* events of a later scheduling say nothing about the first */
            o->scheduled_at = 0;
            o->preemptions_count = 0;
        }
    }
    *count = n;
    return outputs;
}

static void get_result(struct wire_reader *r, struct utility_reply *reply)
{
    if (wire_get_nil(r)) {
        if (reply->failure == NULL) {
            wire_reader_fail(r, STATUS_PROTOCOL, "utility_output.result", "nil without a failure");
        }
        return;
    }
    uint32_t count = wire_get_array(r, "utility_output.result", RESULT_FIELDS_COUNT);
    if (!wire_get_nil(r)) {
        wire_reader_fail(r, STATUS_UNSUPPORTED, "utility_output.result", "it has type information");
    } else if (wire_next_is_bool(r)) {
        reply->kind = UTILITY_BOOL;
        reply->boolean = wire_get_bool(r, "utility_output.result");
    } else if (!wire_get_nil(r)) {
        reply->kind = UTILITY_STRINGS;
        reply->strings = wire_get_strings(r, "utility_output.result", &reply->strings_count);
    }
    wire_skip_rest(r, count, RESULT_FIELDS_COUNT);
}

static const struct utility_reply *get_reply(struct wire_reader *r)
{
    if (wire_get_nil(r)) {
        return NULL;
    }
    uint32_t count = wire_get_array(r, "utility_output", UTILITY_FIELDS_COUNT);
    struct utility_reply *reply = wire_alloc(r, 1, sizeof *reply);
    if (reply == NULL) {
        return NULL;
    }
    *reply = (struct utility_reply){.kind = UTILITY_NIL};
    reply->call_id = wire_get_uint(r, "utility_output.call_id", UINT64_MAX);
    reply->failure = wire_get_string_or_nil(r, "utility_output.failure_message");
    get_result(r, reply);
    wire_skip_rest(r, count, UTILITY_FIELDS_COUNT);
    return reply;
}

static const struct scheduler_stats *get_stats(struct wire_reader *r)
{
    if (wire_get_nil(r)) {
        return NULL;
    }
    struct scheduler_stats *stats = wire_alloc(r, 1, sizeof *stats);
    if (stats != NULL) {
        wire_get_stats(r, stats);
    }
    return stats;
}

static int64_t get_wave(struct wire_reader *r, const char *field)
{
    return wire_get_nil(r) ? -1 : (int64_t)wire_get_uint(r, field, INT64_MAX);
}

static void get_envelope_field(struct wire_reader *r, uint32_t index, struct engine_outputs *o)
{
    switch (index) {
    case ENVELOPE_ENGINE_INDEX:
        o->engine_index = (uint32_t)wire_get_uint(r, "engine_index", UINT16_MAX);
        break;
    case ENVELOPE_OUTPUTS:
        o->outputs = get_outputs(r, &o->outputs_count);
        break;
    case ENVELOPE_STATS:
        o->stats = get_stats(r);
        break;
    case ENVELOPE_TIMESTAMP:
        o->timestamp = wire_get_time(r, "timestamp");
        break;
    case ENVELOPE_UTILITY:
        o->utility = get_reply(r);
        break;
    case ENVELOPE_FINISHED:
        if (!wire_get_nil(r)) {
            o->finished_ids = wire_get_ids(r, "finished_requests", &o->finished_ids_count);
        }
        break;
    case ENVELOPE_WAVE_COMPLETE:
        o->wave_complete = get_wave(r, "wave_complete");
        break;
    case ENVELOPE_START_WAVE:
        o->start_wave = get_wave(r, "start_wave");
        break;
    default:
        wire_skip(r, "an ignored element", 1);
    }
}

enum status wire_decode_outputs(struct wire_decoder *d, const void *data, size_t bytes,
                                struct engine_outputs *out, struct error *error)
{
    struct wire_reader r = {.message = "outputs", .error = error};
    struct engine_outputs outputs = {.wave_complete = -1, .start_wave = -1};
    wire_reader_start(&r, d, data, bytes);
    uint32_t count = wire_get_array(&r, "message", ENVELOPE_FIELDS_MIN);
    for (uint32_t i = 0; i < count && wire_reader_ok(&r); i++) {
        get_envelope_field(&r, i, &outputs);
    }
    TRY(wire_reader_finish(&r));
    *out = outputs;
    return STATUS_OK;
}
