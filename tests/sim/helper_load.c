/* helper_load.c - see helper_load.h. */
#include "tests/sim/helper_load.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void fill(struct test_load *load, struct simulation_request *request)
{
    uint64_t n = load->next++;
    uint32_t span = load->output_hi - load->output_lo + 1;
    uint64_t prompt = load->prompts_count > 0 ? random_at(n, 7) % load->prompts_count : n;
    request->number = n;
    request->prompt_tokens = load->prompt_tokens;
    request->output_tokens = load->output_lo + (uint32_t)(random_at(load->seed, n) % span);
    request->prompt_hash = random_at(prompt, 1);
}

static bool next(void *ctx, struct simulation_request *request)
{
    struct test_load *load = ctx;
    if (load->next == load->requests_count) {
        return false;
    }
    load->at += random_interval_ps(&load->arrivals, load->requests_per_s);
    request->at = load->at;
    request->user = (uint32_t)load->next;
    fill(load, request);
    return true;
}

static bool next_of_user(void *ctx, uint32_t user, time_ps now, struct simulation_request *request)
{
    struct test_load *load = ctx;
    if (load->next == load->requests_count) {
        return false;
    }
    request->at = now;
    request->user = user;
    fill(load, request);
    if (now == 0) { /* no convoy: the first ones are somewhere in the middle */
        request->output_tokens = 1 + request->output_tokens * (user % 16) / 16;
    }
    return true;
}

static void change(struct test_load *load, time_ps now, int by)
{
    load->inflight_integral += load->inflight * (uint64_t)(now - load->changed_at);
    load->wrong_count += now < load->changed_at ? 1 : 0;
    load->changed_at = now;
    load->inflight += (uint64_t)(int64_t)by;
}

static void sent(void *ctx, const struct simulation_request *request, time_ps now)
{
    struct test_load *load = ctx;
    change(load, now, 1);
    load->sent_count++;
    load->wrong_count += now < request->at ? 1 : 0;
}

static void read_tokens(void *ctx, const struct simulation_read *read)
{
    struct test_load *load = ctx;
    load->wrong_count += read->at < load->last_at ? 1 : 0;
    load->wrong_count += read->first != (load->tokens[read->number] == 0) ? 1 : 0;
    load->wrong_count += load->ended[read->number];
    load->last_at = read->at;
    load->tokens[read->number] += read->tokens;
    if (read->at >= load->count_from) {
        load->counted_tokens += read->tokens;
    }
}

/* In the order of the ledger's hops; the two of first and last may interleave. */
static bool ordered(const struct simulation_end *end)
{
    static const uint8_t first[] = {
        SIMULATION_HOP_API_RECEIVED,       SIMULATION_HOP_API_SENT,
        SIMULATION_HOP_ENGINE_RECEIVED,    SIMULATION_HOP_ENGINE_SCHEDULED,
        SIMULATION_HOP_ENGINE_FIRST_TOKEN, SIMULATION_HOP_API_FIRST_OUTPUT,
        SIMULATION_HOP_API_FIRST_WRITE};
    static const uint8_t last[] = {SIMULATION_HOP_ENGINE_FIRST_TOKEN,
                                   SIMULATION_HOP_ENGINE_LAST_TOKEN, SIMULATION_HOP_API_LAST_OUTPUT,
                                   SIMULATION_HOP_API_LAST_WRITE};
    time_ps before = end->sent;
    for (uint32_t i = 0; i < sizeof first; i++) {
        if (end->hops[first[i]] < before) {
            return false;
        }
        before = end->hops[first[i]];
    }
    if (end->first < before) {
        return false;
    }
    for (uint32_t i = 1; i < sizeof last; i++) {
        if (end->hops[last[i]] < end->hops[last[i - 1]]) {
            return false;
        }
    }
    return end->ended >= end->hops[SIMULATION_HOP_API_LAST_WRITE] && end->ended >= end->first;
}

static void ended(void *ctx, const struct simulation_end *end)
{
    struct test_load *load = ctx;
    uint64_t n = end->request->number;
    change(load, end->ended, -1);
    load->ended_count++;
    load->residence += (uint64_t)(end->ended - end->sent);
    load->cached_tokens += end->cached_tokens;
    load->wrong_count += load->ended[n];
    load->ended[n] = 1;
    if (end->failed) {
        load->failed_count++;
        return;
    }
    load->wrong_count += load->tokens[n] != end->request->output_tokens ? 1 : 0;
    load->wrong_count += end->output_tokens != end->request->output_tokens ? 1 : 0;
    load->wrong_count += ordered(end) ? 0 : 1;
    load->wait_sum_s +=
        (double)(end->hops[SIMULATION_HOP_API_RECEIVED] - end->sent) / (double)PS_PER_S;
}

void test_load_begin(struct test_load *load, struct simulation_source *source,
                     struct simulation_observer *observer)
{
    assert_true(load->requests_count <= LOAD_REQUESTS_MAX);
    load->ended = calloc(load->requests_count, sizeof *load->ended);
    load->tokens = calloc(load->requests_count, sizeof *load->tokens);
    assert_non_null(load->ended);
    assert_non_null(load->tokens);
    load->arrivals = random_stream(load->seed, "arrivals", 0);
    *source = (struct simulation_source){.ctx = load, .users_count = load->users_count};
    if (load->users_count > 0) {
        source->next_of_user = next_of_user;
    } else {
        source->next = next;
    }
    *observer = (struct simulation_observer){
        .ctx = load, .sent = sent, .read = read_tokens, .ended = ended};
}

void test_load_end(struct test_load *load)
{
    free(load->ended);
    free(load->tokens);
}

struct simulation_options test_options(uint32_t api_servers, uint32_t engines)
{
    struct simulation_options o = simulation_options_default();
    o.api_servers_count = api_servers;
    o.engines_count = engines;
    o.model = model_shape_find("llama-3.1-8b");
    o.gpu = gpu_shape_find("h100");
    o.engine.max_num_seqs = 40;
    o.engine.max_model_len = 2048;
    o.engine.prefix_caching = false;
    o.costs = simulation_costs_none();
    return o;
}

struct simulation_totals test_run(const struct simulation_options *options, struct test_load *load,
                                  time_ps until)
{
    struct simulation_source source;
    struct simulation_observer observer;
    struct simulation *s;
    struct error error = {.text = ""};
    test_load_begin(load, &source, &observer);
    enum status status = simulation_create(options, &source, &observer, &s, &error);
    if (status != STATUS_OK) {
        fail_msg("%s", error.text);
    }
    /* In pieces: where a run is cut must not matter. */
    for (time_ps at = PS_PER_MS; status == STATUS_OK && !simulation_done(s) && at < until;
         at *= 3) {
        status = simulation_run(s, at, &error);
        const char *broken = simulation_check(s);
        if (broken != NULL) {
            fail_msg("at %lld ps: %s", (long long)at, broken);
        }
    }
    if (status == STATUS_OK) {
        status = simulation_run(s, until, &error);
    }
    if (status != STATUS_OK) {
        fail_msg("%s", error.text);
    }
    const char *broken = simulation_check(s);
    if (broken != NULL) {
        fail_msg("%s", broken);
    }
    struct simulation_totals totals = simulation_totals(s);
    assert_int_equal(load->wrong_count, 0);
    assert_int_equal(totals.sent_count, load->sent_count);
    assert_int_equal(totals.ended_count, load->ended_count);
    simulation_destroy(s);
    test_load_end(load);
    return totals;
}

double test_throughput(const struct simulation_options *options, struct test_load *load,
                       time_ps warmup, time_ps window)
{
    load->requests_count = LOAD_REQUESTS_MAX;
    load->count_from = warmup;
    (void)test_run(options, load, warmup + window);
    return (double)load->counted_tokens / ((double)window / (double)PS_PER_S);
}
