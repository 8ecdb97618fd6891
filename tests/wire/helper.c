/*
 * helper.c - one way to encode, decode and compare any message of the wire, and the reader of the
 * golden file. Linked into every test of the wire room.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/wire/helper.h"

void message_encode(struct wire_buffer *b, const struct message *m)
{
    switch (m->kind) {
    case MESSAGE_HELLO:
        wire_encode_hello(b, &m->hello);
        break;
    case MESSAGE_INIT:
        wire_encode_init(b, &m->init);
        break;
    case MESSAGE_READY:
        wire_encode_ready(b, &m->ready);
        break;
    case MESSAGE_REQUEST:
        wire_encode_request(b, &m->request);
        break;
    case MESSAGE_ABORT:
        wire_encode_abort(b, m->abort.ids, m->abort.count);
        break;
    case MESSAGE_UTILITY:
        wire_encode_utility(b, &m->utility);
        break;
    case MESSAGE_OUTPUTS:
        wire_encode_outputs(b, &m->outputs);
        break;
    case MESSAGE_COUNTS:
        wire_encode_counts(b, &m->outputs);
        break;
    case MESSAGE_STATE:
        wire_encode_coordinator_state(b, &m->state);
        break;
    case MESSAGE_FIRST_REQUEST:
        wire_encode_first_request(b, &m->first);
        break;
    case MESSAGE_START_WAVE:
        wire_encode_start_wave(b, &m->start);
        break;
    }
}

enum status message_decode(struct wire_decoder *d, const void *data, size_t bytes,
                           struct message *m, struct error *error)
{
    switch (m->kind) {
    case MESSAGE_HELLO:
        return wire_decode_hello(d, data, bytes, &m->hello, error);
    case MESSAGE_INIT:
        return wire_decode_init(d, data, bytes, &m->init, error);
    case MESSAGE_READY:
        return wire_decode_ready(d, data, bytes, &m->ready, error);
    case MESSAGE_REQUEST:
        return wire_decode_request(d, data, bytes, &m->request, error);
    case MESSAGE_ABORT:
        return wire_decode_abort(d, data, bytes, &m->abort.ids, &m->abort.count, error);
    case MESSAGE_UTILITY:
        return wire_decode_utility(d, data, bytes, &m->utility, error);
    case MESSAGE_OUTPUTS:
    case MESSAGE_COUNTS:
        return wire_decode_outputs(d, data, bytes, &m->outputs, error);
    case MESSAGE_STATE:
        return wire_decode_coordinator_state(d, data, bytes, &m->state, error);
    case MESSAGE_FIRST_REQUEST:
        return wire_decode_first_request(d, data, bytes, &m->first, error);
    case MESSAGE_START_WAVE:
        return wire_decode_start_wave(d, data, bytes, &m->start, error);
    }
    return STATUS_INVALID;
}

/* --- comparing --- */

static void same_text(const char *a, const char *b)
{
    assert_int_equal(a == NULL, b == NULL);
    if (a != NULL && b != NULL) {
        assert_string_equal(a, b);
    }
}

static void same_texts(const char *const *a, const char *const *b, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        same_text(a[i], b[i]);
    }
}

static void same_number(double a, double b)
{
    assert_false(a < b);
    assert_false(a > b);
}

static void same_time(time_ps a, time_ps b)
{
    assert_true(a - b < PS_PER_US && b - a < PS_PER_US);
}

static void same_init(const struct wire_init *a, const struct wire_init *b)
{
    assert_int_equal(a->clients_count, b->clients_count);
    same_texts(a->inputs, b->inputs, a->clients_count);
    same_texts(a->outputs, b->outputs, a->clients_count);
    same_text(a->coordinator_input, b->coordinator_input);
    same_text(a->coordinator_output, b->coordinator_output);
    same_text(a->frontend_stats_address, b->frontend_stats_address);
    assert_int_equal(a->has_parallel_config, b->has_parallel_config);
    same_text(a->master_ip, b->master_ip);
    assert_int_equal(a->master_port, b->master_port);
    assert_int_equal(a->master_ports_count, b->master_ports_count);
    assert_memory_equal(a->master_ports, b->master_ports, sizeof a->master_ports);
    assert_int_equal(a->data_parallel_size, b->data_parallel_size);
}

static void same_ready(const struct wire_ready *a, const struct wire_ready *b)
{
    assert_int_equal(a->max_model_len, b->max_model_len);
    assert_int_equal(a->num_gpu_blocks, b->num_gpu_blocks);
    assert_int_equal(a->block_size, b->block_size);
    same_text(a->dp_stats_address, b->dp_stats_address);
    same_text(a->dtype, b->dtype);
    same_text(a->version, b->version);
    assert_int_equal(a->world_size, b->world_size);
    assert_int_equal(a->data_parallel_size, b->data_parallel_size);
    assert_int_equal(a->tensor_parallel_size, b->tensor_parallel_size);
    assert_int_equal(a->pipeline_parallel_size, b->pipeline_parallel_size);
    assert_int_equal(a->data_parallel_rank, b->data_parallel_rank);
    assert_int_equal(a->max_num_seqs, b->max_num_seqs);
    assert_int_equal(a->max_num_batched_tokens, b->max_num_batched_tokens);
    same_text(a->instance_id, b->instance_id);
    assert_int_equal(a->kv_cache_size_tokens, b->kv_cache_size_tokens);
}

static void same_sampling(const struct sampling_params *a, const struct sampling_params *b)
{
    assert_int_equal(a->max_tokens, b->max_tokens);
    assert_int_equal(a->min_tokens, b->min_tokens);
    assert_int_equal(a->has_seed, b->has_seed);
    assert_int_equal(a->seed, b->seed);
    assert_int_equal(a->eos_token_id, b->eos_token_id);
    assert_int_equal(a->stop_token_ids_count, b->stop_token_ids_count);
    assert_memory_equal(a->stop_token_ids, b->stop_token_ids, sizeof a->stop_token_ids);
    assert_int_equal(a->output_kind, b->output_kind);
    assert_int_equal(a->n, b->n);
    same_number((double)a->temperature, (double)b->temperature);
    same_number((double)a->top_p, (double)b->top_p);
    assert_int_equal(a->top_k, b->top_k);
    same_number((double)a->min_p, (double)b->min_p);
    same_number((double)a->presence_penalty, (double)b->presence_penalty);
    same_number((double)a->frequency_penalty, (double)b->frequency_penalty);
    same_number((double)a->repetition_penalty, (double)b->repetition_penalty);
}

static void same_request(const struct engine_request *a, const struct engine_request *b)
{
    same_text(a->id, b->id);
    assert_int_equal(a->prompt_tokens_count, b->prompt_tokens_count);
    if (a->prompt_tokens_count > 0) {
        assert_memory_equal(a->prompt_token_ids, b->prompt_token_ids,
                            a->prompt_tokens_count * sizeof(uint32_t));
    }
    same_sampling(&a->sampling, &b->sampling);
    same_time(ps_from_ns(a->arrival_wall_ns - b->arrival_wall_ns), 0);
    same_text(a->cache_salt, b->cache_salt);
    assert_int_equal(a->data_parallel_rank, b->data_parallel_rank);
    assert_int_equal(a->client_index, b->client_index);
    assert_int_equal(a->current_wave, b->current_wave);
    assert_int_equal(a->priority, b->priority);
    same_text(a->external_id, b->external_id);
    assert_int_equal(a->abort_immediately, b->abort_immediately);
}

static void same_output(const struct engine_output *a, const struct engine_output *b)
{
    same_text(a->id, b->id);
    assert_int_equal(a->new_tokens_count, b->new_tokens_count);
    if (a->new_tokens_count > 0) {
        assert_memory_equal(a->new_token_ids, b->new_token_ids,
                            a->new_tokens_count * sizeof(uint32_t));
    }
    assert_int_equal(a->finish, b->finish);
    assert_int_equal(a->stop_token_id, b->stop_token_id);
    assert_int_equal(a->first, b->first);
    same_time(a->queued_at, b->queued_at);
    same_time(a->scheduled_at, b->scheduled_at);
    assert_int_equal(a->preemptions_count, b->preemptions_count);
    assert_memory_equal(&a->prefill, &b->prefill, sizeof a->prefill);
}

static void same_stats(const struct scheduler_stats *a, const struct scheduler_stats *b)
{
    assert_int_equal(a == NULL, b == NULL);
    if (a == NULL || b == NULL) {
        return;
    }
    assert_int_equal(a->running_count, b->running_count);
    assert_int_equal(a->waiting_count, b->waiting_count);
    assert_int_equal(a->skipped_waiting_count, b->skipped_waiting_count);
    assert_int_equal(a->step_counter, b->step_counter);
    assert_int_equal(a->current_wave, b->current_wave);
    same_number(a->kv_cache_usage, b->kv_cache_usage);
    assert_memory_equal(&a->prefix_cache, &b->prefix_cache, sizeof a->prefix_cache);
}

static void same_reply(const struct utility_reply *a, const struct utility_reply *b)
{
    assert_int_equal(a == NULL, b == NULL);
    if (a == NULL || b == NULL) {
        return;
    }
    assert_true(a->call_id == b->call_id);
    same_text(a->failure, b->failure);
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->boolean, b->boolean);
    assert_int_equal(a->strings_count, b->strings_count);
    same_texts(a->strings, b->strings, a->strings_count);
}

static void same_arguments(const struct utility_call *a, const struct utility_call *b)
{
    assert_int_equal(a->arguments_count, b->arguments_count);
    for (uint32_t i = 0; i < a->arguments_count; i++) {
        assert_int_equal(a->arguments[i].kind, b->arguments[i].kind);
        assert_int_equal(a->arguments[i].boolean, b->arguments[i].boolean);
        assert_true(a->arguments[i].integer == b->arguments[i].integer);
        same_text(a->arguments[i].string, b->arguments[i].string);
    }
}

static void same_outputs(const struct engine_outputs *a, const struct engine_outputs *b)
{
    assert_int_equal(a->engine_index, b->engine_index);
    assert_int_equal(a->outputs_count, b->outputs_count);
    for (uint32_t i = 0; i < a->outputs_count; i++) {
        same_output(&a->outputs[i], &b->outputs[i]);
    }
    same_stats(a->stats, b->stats);
    same_time(a->timestamp, b->timestamp);
    same_reply(a->utility, b->utility);
    assert_int_equal(a->finished_ids_count, b->finished_ids_count);
    same_texts(a->finished_ids, b->finished_ids, a->finished_ids_count);
    assert_true(a->wave_complete == b->wave_complete);
    assert_true(a->start_wave == b->start_wave);
}

static void same_state(const struct coordinator_state *a, const struct coordinator_state *b)
{
    assert_int_equal(a->counts == NULL, b->counts == NULL);
    assert_int_equal(a->counts_count, b->counts_count);
    for (uint32_t i = 0; i < a->counts_count; i++) {
        assert_int_equal(a->counts[i].waiting, b->counts[i].waiting);
        assert_int_equal(a->counts[i].running, b->counts[i].running);
        same_number(a->counts[i].kv_usage, b->counts[i].kv_usage);
    }
    assert_int_equal(a->wave, b->wave);
    assert_int_equal(a->running, b->running);
}

void assert_message_equal(const struct message *a, const struct message *b)
{
    switch (a->kind) {
    case MESSAGE_HELLO:
        assert_int_equal(a->hello.status, b->hello.status);
        assert_int_equal(a->hello.local, b->hello.local);
        assert_int_equal(a->hello.headless, b->hello.headless);
        same_text(a->hello.parallel_config_hash, b->hello.parallel_config_hash);
        break;
    case MESSAGE_INIT:
        same_init(&a->init, &b->init);
        break;
    case MESSAGE_READY:
        same_ready(&a->ready, &b->ready);
        break;
    case MESSAGE_REQUEST:
        same_request(&a->request, &b->request);
        break;
    case MESSAGE_ABORT:
        assert_int_equal(a->abort.count, b->abort.count);
        same_texts(a->abort.ids, b->abort.ids, a->abort.count);
        break;
    case MESSAGE_UTILITY:
        assert_int_equal(a->utility.client_index, b->utility.client_index);
        assert_true(a->utility.call_id == b->utility.call_id);
        same_text(a->utility.method, b->utility.method);
        same_arguments(&a->utility, &b->utility);
        break;
    case MESSAGE_OUTPUTS:
    case MESSAGE_COUNTS:
        same_outputs(&a->outputs, &b->outputs);
        break;
    case MESSAGE_STATE:
        same_state(&a->state, &b->state);
        break;
    case MESSAGE_FIRST_REQUEST:
        assert_int_equal(a->first.engine, b->first.engine);
        assert_int_equal(a->first.wave, b->first.wave);
        break;
    case MESSAGE_START_WAVE:
        assert_int_equal(a->start.wave, b->start.wave);
        assert_int_equal(a->start.exclude, b->start.exclude);
        break;
    }
}

/* --- the golden file --- */

unsigned char *bytes_from_hex(const char *hex, size_t *bytes)
{
    unsigned char *data = malloc(strlen(hex) / 2 + 1);
    assert_non_null(data);
    size_t count = 0;
    while (*hex != '\0') {
        if (isspace((unsigned char)*hex)) {
            hex++;
            continue;
        }
        const char digits[3] = {hex[0], hex[1], '\0'};
        assert_true(isxdigit((unsigned char)hex[0]) && isxdigit((unsigned char)hex[1]));
        data[count] = (unsigned char)strtoul(digits, NULL, 16);
        count++;
        hex += 2;
    }
    unsigned char *exact = malloc(count > 0 ? count : 1);
    assert_non_null(exact);
    memcpy(exact, data, count);
    free(data);
    *bytes = count;
    return exact;
}

static const struct sample *sample_of(const char *name)
{
    size_t stem_bytes = strcspn(name, ".");
    for (size_t i = 0; i < helper_samples_count; i++) {
        const char *other = helper_samples[i].name;
        if (strlen(other) == stem_bytes && strncmp(other, name, stem_bytes) == 0) {
            return &helper_samples[i];
        }
    }
    fail_msg("golden.txt: no sample for %s", name);
    return NULL;
}

struct golden *goldens_load(size_t *count)
{
    enum {
        GOLDENS_MAX = 200
    };
    const char *root = getenv("HARNESS_SOURCE_DIR");
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/tests/wire/golden/golden.txt", root == NULL ? "." : root);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    struct golden *goldens = calloc(GOLDENS_MAX, sizeof *goldens);
    assert_non_null(goldens);
    char line[16384];
    *count = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        char hex[sizeof line];
        struct golden *g = &goldens[*count];
        if (line[0] == '#') {
            continue;
        }
        assert_true(*count < GOLDENS_MAX);
        assert_int_equal(sscanf(line, "%63s %16383s", g->name, hex), 2);
        g->data = bytes_from_hex(hex, &g->bytes);
        g->sample = sample_of(g->name);
        (*count)++;
    }
    (void)fclose(file);
    assert_true(*count > 0);
    return goldens;
}

void goldens_free(struct golden *goldens, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(goldens[i].data);
    }
    free(goldens);
}
