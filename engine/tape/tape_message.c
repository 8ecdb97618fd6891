/* tape_message.c - see tape_message.h. */
#include "engine/tape/tape_message.h"

enum {
    OUTPUT_BYTES_MIN = 7, /* of one that was written */
    COUNTS_BYTES_MIN = 10,
    UTILITY_TEXT_BYTES_MIN = 1,
};

void tape_sampling_walk(struct tape_code *c, struct sampling_params *p)
{
    const uint32_t *stops = p->stop_token_ids;
    tape_u32(c, "max_tokens", &p->max_tokens);
    tape_u32(c, "min_tokens", &p->min_tokens);
    tape_bool(c, "has_seed", &p->has_seed);
    tape_i64(c, "seed", &p->seed);
    tape_i32(c, "eos", &p->eos_token_id);
    tape_u32s(c, "stop_tokens", &stops, &p->stop_token_ids_count);
    if (p->stop_token_ids_count > STOP_TOKENS_MAX) {
        c->failed = true;
        p->stop_token_ids_count = 0;
    }
    for (uint32_t i = 0; c->reading && i < p->stop_token_ids_count; i++) {
        p->stop_token_ids[i] = stops[i];
    }
    uint32_t output_kind = p->output_kind;
    tape_u32(c, "output_kind", &output_kind);
    p->output_kind = (uint8_t)output_kind;
    tape_u32(c, "n", &p->n);
    tape_f32(c, "temperature", &p->temperature);
    tape_f32(c, "top_p", &p->top_p);
    tape_i32(c, "top_k", &p->top_k);
    tape_f32(c, "min_p", &p->min_p);
    tape_f32(c, "presence_penalty", &p->presence_penalty);
    tape_f32(c, "frequency_penalty", &p->frequency_penalty);
    tape_f32(c, "repetition_penalty", &p->repetition_penalty);
}

void tape_request_walk(struct tape_code *c, struct engine_request *r, bool prompt)
{
    tape_text(c, "id", &r->id);
    tape_u64(c, "tag", &r->tag);
    tape_u32(c, "prompt_tokens", &r->prompt_tokens_count);
    tape_hash(c, "prompt_hash", &r->prompt_hash);
    if (prompt) {
        uint32_t count = r->prompt_token_ids != NULL ? r->prompt_tokens_count : 0;
        tape_u32s(c, "prompt", &r->prompt_token_ids, &count);
        if (count != 0 && count != r->prompt_tokens_count) {
            c->failed = true;
        }
    }
    tape_sampling_walk(c, &r->sampling);
    tape_i64(c, "arrival_wall_ns", &r->arrival_wall_ns);
    tape_text(c, "cache_salt", &r->cache_salt);
    tape_i32(c, "rank", &r->data_parallel_rank);
    tape_u32(c, "client", &r->client_index);
    tape_u32(c, "wave", &r->current_wave);
    tape_i32(c, "priority", &r->priority);
    tape_text(c, "external_id", &r->external_id);
    tape_bool(c, "abort_immediately", &r->abort_immediately);
    if (c->reading && r->id == NULL) {
        c->failed = true;
    }
}

void tape_finish_walk(struct tape_code *c, enum finish_reason *finish)
{
    static const char *const words[] = {"stop", "length", "abort", "error", "repetition", "none"};
    uint32_t none = FINISH_REPETITION + 1;
    uint32_t word = *finish == FINISH_NONE ? none : (uint32_t)*finish;
    tape_word(c, "finish", &word, words, none + 1);
    *finish = word == none ? FINISH_NONE : (enum finish_reason)word;
}

static void output_walk(struct tape_code *c, struct engine_output *o)
{
    tape_text(c, "id", &o->id);
    tape_u64(c, "tag", &o->tag);
    uint32_t tokens = o->new_token_ids != NULL ? 1 : 0;
    tape_count(c, "tokens", &tokens, 0);
    if (tokens != 0) {
        tape_u32s(c, "tokens", &o->new_token_ids, &o->new_tokens_count);
    } else {
        tape_u32(c, "tokens_count", &o->new_tokens_count);
    }
    tape_finish_walk(c, &o->finish);
    tape_i32(c, "stop_token", &o->stop_token_id);
    tape_bool(c, "first", &o->first);
    if (o->first) {
        tape_time(c, "queued_at", &o->queued_at);
        tape_time(c, "scheduled_at", &o->scheduled_at);
        tape_u32(c, "preemptions", &o->preemptions_count);
        tape_u32(c, "prompt_tokens", &o->prefill.prompt_tokens);
        tape_u32(c, "computed_tokens", &o->prefill.computed_tokens);
        tape_u32(c, "cached_tokens", &o->prefill.cached_tokens);
    }
    if (c->reading && o->id == NULL) {
        c->failed = true;
    }
}

void tape_stats_walk(struct tape_code *c, struct scheduler_stats *s)
{
    tape_u32(c, "running", &s->running_count);
    tape_u32(c, "waiting", &s->waiting_count);
    tape_u32(c, "skipped_waiting", &s->skipped_waiting_count);
    tape_u32(c, "step_counter", &s->step_counter);
    tape_u32(c, "wave", &s->current_wave);
    tape_f64(c, "kv_usage", &s->kv_cache_usage);
    tape_u64(c, "prefix_requests", &s->prefix_cache.requests_count);
    tape_u64(c, "prefix_queries_tokens", &s->prefix_cache.queries_tokens);
    tape_u64(c, "prefix_hits_tokens", &s->prefix_cache.hits_tokens);
    tape_u32(c, "preemptions", &s->preemptions_count);
}

static void utility_walk(struct tape_code *c, struct utility_reply *u)
{
    static const char *const kinds[] = {"nil", "bool", "strings"};
    tape_u64(c, "call_id", &u->call_id);
    tape_text(c, "failure", &u->failure);
    TAPE_ENUM(c, "kind", u->kind, kinds);
    tape_bool(c, "true", &u->boolean);
    tape_count(c, "strings", &u->strings_count, UTILITY_TEXT_BYTES_MIN);
    const char **room = tape_room(c, u->strings_count, sizeof *room);
    for (uint32_t i = 0; i < u->strings_count; i++) {
        const char *text = room != NULL ? NULL : u->strings[i];
        tape_text(c, "string", &text);
        if (room != NULL) {
            room[i] = text;
        }
    }
    u->strings = room != NULL ? room : u->strings;
}

static void finished_walk(struct tape_code *c, struct engine_outputs *m)
{
    tape_count(c, "finished", &m->finished_ids_count, 1);
    const char **room = tape_room(c, m->finished_ids_count, sizeof *room);
    for (uint32_t i = 0; i < m->finished_ids_count; i++) {
        const char *id = room != NULL ? NULL : m->finished_ids[i];
        tape_text(c, "finished", &id);
        if (room != NULL) {
            room[i] = id != NULL ? id : "";
            c->failed = c->failed || id == NULL;
        }
    }
    m->finished_ids = room != NULL ? room : m->finished_ids;
}

/* Structs that may be missing. */
static void optional_walk(struct tape_code *c, struct engine_outputs *m)
{
    struct scheduler_stats stats = {0};
    struct utility_reply utility = {0};
    bool has_stats = m->stats != NULL;
    bool has_utility = m->utility != NULL;
    if (m->stats != NULL) {
        stats = *m->stats;
    }
    if (m->utility != NULL) {
        utility = *m->utility;
    }
    tape_bool(c, "stats", &has_stats);
    if (has_stats) {
        tape_stats_walk(c, &stats);
    }
    tape_bool(c, "utility", &has_utility);
    if (has_utility) {
        utility_walk(c, &utility);
    }
    struct scheduler_stats *stats_room = tape_room(c, has_stats ? 1 : 0, sizeof *stats_room);
    if (stats_room != NULL) {
        *stats_room = stats;
        m->stats = stats_room;
    }
    struct utility_reply *utility_room = tape_room(c, has_utility ? 1 : 0, sizeof *utility_room);
    if (utility_room != NULL) {
        *utility_room = utility;
        m->utility = utility_room;
    }
}

void tape_outputs_walk(struct tape_code *c, struct engine_outputs *m)
{
    tape_u32(c, "engine", &m->engine_index);
    tape_time(c, "timestamp", &m->timestamp);
    tape_i64(c, "wave_complete", &m->wave_complete);
    tape_i64(c, "start_wave", &m->start_wave);
    optional_walk(c, m);
    tape_count(c, "outputs", &m->outputs_count, OUTPUT_BYTES_MIN);
    struct engine_output *room = tape_room(c, m->outputs_count, sizeof *room);
    for (uint32_t i = 0; i < m->outputs_count; i++) {
        struct engine_output o = {0};
        if (room == NULL) {
            o = m->outputs[i];
        }
        tape_mark(c, " [");
        output_walk(c, &o);
        tape_mark(c, "]");
        if (room != NULL) {
            room[i] = o;
        }
    }
    m->outputs = room != NULL ? room : m->outputs;
    finished_walk(c, m);
}

static void counts_walk(struct tape_code *c, struct engine_counts *n)
{
    tape_u32(c, "waiting", &n->waiting);
    tape_u32(c, "running", &n->running);
    tape_f64(c, "kv_usage", &n->kv_usage);
}

void tape_state_walk(struct tape_code *c, struct coordinator_state *s)
{
    tape_u32(c, "wave", &s->wave);
    tape_bool(c, "running", &s->running);
    uint32_t count = s->counts != NULL ? s->counts_count : 0;
    tape_count(c, "counts", &count, COUNTS_BYTES_MIN);
    struct engine_counts *room = tape_room(c, count, sizeof *room);
    for (uint32_t i = 0; i < count; i++) {
        struct engine_counts n = {0};
        if (room == NULL && s->counts != NULL) {
            n = s->counts[i];
        }
        tape_mark(c, " [");
        counts_walk(c, &n);
        tape_mark(c, "]");
        if (room != NULL) {
            room[i] = n;
        }
    }
    if (c->reading) {
        s->counts = room;
        s->counts_count = count;
    }
}

void tape_result_walk(struct tape_code *c, struct tape_result *r)
{
    tape_u32(c, "status", &r->status);
    tape_text(c, "why", &r->why);
}
