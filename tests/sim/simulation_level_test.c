/*
 * simulation_level_test.c - levels L1 and L2, and workers as one computation (sim/worker_flow.c),
 * against every segment of every thread: random systems and loads, in which every request must have
 * the same times and every thread the same work to the picosecond. Who is told of single launches
 * (a witness) gets every segment.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/helper_load.h"

enum {
    SYSTEMS = 40, /* of any kind */
    COUNTABLE_SYSTEMS = 150,
    COSTLY_SYSTEMS = 100
};

struct witness {
    struct test_load *load;
    struct simulation_observer inner;
    uint64_t hash; /* of all that a client sees of requests, in this order, and of threads what all
                      levels promise */
    uint64_t threads_hash; /* all of threads but turns */
    uint64_t events_count;
};

static void lasted(void *ctx, uint32_t thread, enum simulation_span what, time_ps time,
                   uint32_t count)
{
    (void)ctx, (void)thread, (void)what, (void)time, (void)count;
}

static void happened(void *ctx, const struct simulation_event *event)
{
    (void)ctx, (void)event;
}

static const struct simulation_witness every_segment = {.lasted = lasted, .happened = happened};

static void note(struct witness *w, uint64_t value)
{
    w->hash = random_at(w->hash ^ value, 1);
}

static void sent(void *ctx, const struct simulation_request *request, time_ps now)
{
    struct witness *w = ctx;
    note(w, request->number);
    note(w, (uint64_t)now);
    w->inner.sent(w->load, request, now);
}

static void ended(void *ctx, const struct simulation_end *end)
{
    struct witness *w = ctx;
    note(w, end->request->number);
    note(w, (uint64_t)end->first);
    note(w, (uint64_t)end->ended);
    note(w, (uint64_t)end->output_tokens << 32 | end->cached_tokens);
    note(w, (uint64_t)end->engine << 32 | end->api_server);
    note(w, end->failed);
    for (uint32_t i = 0; i < SIMULATION_HOPS_COUNT; i++) {
        note(w, (uint64_t)end->hops[i]);
    }
    w->load->tokens[end->request->number] = end->output_tokens;
    w->inner.ended(w->load, end);
}

enum { /* events of a run: by its level, and of every segment */
    ALL_SEGMENTS = SIMULATION_L2 + 1,
    EVENTS_COUNT
};

/* What the levels promise alike: all but turns, and messages behind the engine cores; while a
 * message is on its way, its output thread may have booked its wait for it. */
static struct simulation_thread promised(const struct simulation_thread *t, bool done)
{
    struct simulation_thread p = *t;
    p.turns_count = 0;
    p.queue_max = 0;
    if (t->kind == SIMULATION_THREAD_API || t->kind == SIMULATION_THREAD_CLIENT) {
        p.messages_in_count = 0;
        p.messages_out_count = 0;
        p.output_tokens = 0; /* those of quiet steps come with the next */
    }
    if (t->kind == SIMULATION_THREAD_ENGINE_OUTPUT && !done) {
        p.idle = 0;
        p.busy = 0;
    }
    return p;
}

static void note_threads(struct witness *w, struct simulation *s)
{
    uint32_t count;
    const struct simulation_thread *threads = simulation_threads(s, &count);
    for (uint32_t i = 0; i < count; i++) {
        struct simulation_thread p = promised(&threads[i], simulation_done(s));
        uint64_t words[sizeof p / sizeof(uint64_t)];
        memcpy(words, &p, sizeof words);
        for (uint32_t k = 0; k < sizeof words / sizeof words[0]; k++) {
            note(w, words[k]);
        }
        p = threads[i];
        p.turns_count = 0;
        memcpy(words, &p, sizeof words);
        for (uint32_t k = 0; k < sizeof words / sizeof words[0]; k++) {
            w->threads_hash = random_at(w->threads_hash ^ words[k], 1);
        }
    }
}

/* In pieces of `piece` at first, whose ends fall into quiet steps. */
static struct witness run(struct simulation_options o, struct test_load load, time_ps piece,
                          enum simulation_level level)
{
    struct witness w = {.load = &load};
    struct simulation_source source;
    struct simulation *s;
    struct error error = {.text = ""};
    test_load_begin(&load, &source, &w.inner);
    struct simulation_observer observer = {.ctx = &w, .sent = sent, .ended = ended};
    o.level_max = level;
    if (simulation_create(&o, &source, &observer, &s, &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(simulation_level(s), level);
    uint32_t pieces = 0;
    for (time_ps at = piece; !simulation_done(s) && at < 60 * PS_PER_S; at = at * 5 / 4) {
        if (simulation_run(s, at, &error) != STATUS_OK) {
            fail_msg("%s", error.text);
        }
        const char *broken = ++pieces % 4 == 0 ? simulation_check(s) : NULL;
        if (broken != NULL) {
            fail_msg("%s", broken);
        }
        note_threads(&w, s);
    }
    if (simulation_run(s, TIME_NEVER, &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
    assert_null(simulation_check(s));
    note_threads(&w, s);
    struct simulation_totals totals = simulation_totals(s);
    assert_int_equal(totals.ended_count, load.requests_count);
    w.events_count = totals.events_count;
    note(&w, totals.output_tokens);
    note(&w, totals.inflight_max);
    note(&w, load.wrong_count);
    assert_int_equal(load.wrong_count, 0);
    simulation_destroy(s);
    test_load_end(&load);
    return w;
}

static struct simulation_cost draw_cost(struct random *r)
{
    if (random_range(r, 0, 1) == 0) {
        return (struct simulation_cost){.call = 0};
    }
    return (struct simulation_cost){.call = (time_ps)random_range(r, 0, 20) * PS_PER_US,
                                    .item = (time_ps)random_range(r, 0, 500) * PS_PER_NS,
                                    .token = (time_ps)random_range(r, 0, 20) * PS_PER_NS};
}

static void draw_costs(struct random *r, struct simulation_options *o)
{
    o->costs.coordinator_message = draw_cost(r);
    o->costs.coordinator_publish = draw_cost(r);
    o->costs.engine_input = draw_cost(r);
    o->costs.engine_add = draw_cost(r);
    o->costs.engine_step = draw_cost(r);
    o->costs.engine_commit = draw_cost(r);
    o->costs.worker_plan = draw_cost(r);
    o->costs.worker_result = draw_cost(r);
    o->costs.ipc = (time_ps)random_range(r, 0, 1) * 60 * PS_PER_US;
    o->costs.ring = (time_ps)random_range(r, 0, 1) * PS_PER_US;
    o->costs.tcp = (time_ps)random_range(r, 0, 1) * 5 * PS_PER_US;
    o->host.engine_step = (time_ps)random_range(r, 0, 2) * 2 * PS_PER_MS;
    o->host.engine_seq = (time_ps)random_range(r, 0, 1) * 30 * PS_PER_US;
}

static struct simulation_options draw_system(struct random *r)
{
    uint32_t api_servers = (uint32_t)random_range(r, 1, 3);
    struct simulation_options o = test_options(api_servers, (uint32_t)random_range(r, 1, 5));
    o.engine.async_depth = (uint32_t)random_range(r, 1, 2);
    o.engine.prefix_caching = random_range(r, 0, 1) == 1;
    o.engine.block_tokens = 1U << random_range(r, 0, 5);
    o.engine.policy = random_range(r, 0, 1) == 0 ? POLICY_FCFS : POLICY_PRIORITY;
    o.engine.max_num_seqs = (uint32_t)random_range(r, 1, 40);
    o.router_rule = (enum router_rule)random_range(r, 0, ROUTER_WEIGHTED_SUM_FIXED_START);
    o.graphs = random_range(r, 0, 3) > 0;
    o.uniproc = random_range(r, 0, 2) == 0;
    o.publish_off = random_range(r, 0, 4) == 0;
    o.gpu_slower_ppm = (uint32_t)random_range(r, 0, 1) * 50000;
    if (random_range(r, 0, 1) == 0) { /* blocks run out now and then */
        o.engine.max_model_len = 512;
        o.engine.reserve_full_isl = false;
        o.engine.num_gpu_blocks = 1 + 1024 / o.engine.block_tokens;
    }
    if (random_range(r, 0, 3) == 0) {
        o.model = model_shape_find("qwen2.5-0.5b");
        o.engines_per_gpu = 2;
        o.gpu_sharing = SIMULATION_GPU_SIDE_BY_SIDE;
    }
    if (random_range(r, 0, 2) > 0) {
        draw_costs(r, &o);
    }
    return o;
}

static struct test_load draw_load(struct random *r)
{
    struct test_load load = {.requests_count = (uint64_t)random_range(r, 20, 200),
                             .prompt_tokens = (uint32_t)random_range(r, 1, 200),
                             .output_lo = (uint32_t)random_range(r, 1, 100),
                             .prompts_count = (uint32_t)random_range(r, 0, 5),
                             .seed = (uint64_t)random_range(r, 0, 1 << 20)};
    load.output_hi = load.output_lo + (uint32_t)random_range(r, 0, 200);
    if (random_range(r, 0, 1) == 0) {
        load.users_count = (uint32_t)random_range(r, 1, 30);
    } else {
        load.requests_per_s = (double)random_range(r, 1, 60);
    }
    return load;
}

static void compare(const struct simulation_options *o, const struct test_load *load,
                    enum simulation_level most, uint64_t *events)
{
    time_ps piece = (load->seed % 3 == 0 ? 3 : 70) * PS_PER_MS;
    struct simulation_options watched = *o;
    watched.witness = &every_segment;
    struct witness all = run(watched, *load, piece, SIMULATION_L0);
    struct witness l0 = run(*o, *load, piece, SIMULATION_L0);
    if (all.hash != l0.hash || all.threads_hash != l0.threads_hash) {
        fail_msg("load %llu differs at level L0", (unsigned long long)load->seed);
    }
    events[ALL_SEGMENTS] += all.events_count;
    events[SIMULATION_L0] += l0.events_count;
    for (enum simulation_level level = SIMULATION_L1; level <= most; level++) {
        struct witness other = run(*o, *load, piece, level);
        if (all.hash != other.hash) {
            fail_msg("load %llu differs at level L%d", (unsigned long long)load->seed, (int)level);
        }
        events[level] += other.events_count;
    }
}

static void levels_give_requests_the_same_times(void **state)
{
    (void)state;
    uint64_t events[EVENTS_COUNT] = {0};
    for (uint64_t i = 0; i < SYSTEMS; i++) {
        struct random r = random_stream(11, "systems", i);
        struct simulation_options o = draw_system(&r);
        struct test_load load = draw_load(&r);
        compare(&o, &load, SIMULATION_L1, events);
    }
    print_message("events: L0 %llu, L1 %llu\n", (unsigned long long)events[0],
                  (unsigned long long)events[1]);
    assert_true(events[1] < events[0]);
}

/* Engine cores that counts stand for, of all kinds there are. */
static struct simulation_options draw_countable(struct random *r)
{
    struct simulation_options o = draw_system(r);
    o.engine.prefix_caching = false;
    o.engine.policy = POLICY_FCFS;
    o.gpu_sharing = SIMULATION_GPU_OWN;
    o.router_rule = (enum router_rule)random_range(r, ROUTER_SCORE, ROUTER_ROUND_ROBIN);
    o.engine.watermark = (double)random_range(r, 0, 1) * 0.02;
    o.engine.max_num_batched_tokens = (uint32_t)random_range(r, 40, 400);
    o.wait = random_range(r, 0, 2) == 0 ? SIMULATION_SPIN : SIMULATION_BLOCK;
    o.costs.poll = (time_ps)random_range(r, 0, 1) * PS_PER_US;
    if (random_range(r, 0, 2) == 0) { /* a host about as slow as its GPU */
        o.launch_extra = (time_ps)random_range(r, 0, 400) * PS_PER_US;
        o.model = model_shape_find("qwen2.5-0.5b");
    } else if (random_range(r, 0, 2) == 0) {
        o.host.engine_step = (time_ps)random_range(r, 4500, 6500) * PS_PER_US;
    }
    o.tp = o.uniproc ? 1 : (uint32_t)random_range(r, 1, 2);
    o.workers = !o.uniproc && random_range(r, 0, 1) == 0;
    if (random_range(r, 0, 3) == 0) { /* more than its queue holds is refused */
        o.engine.requests_max = (uint32_t)random_range(r, 1, 30);
    }
    return o;
}

static void counts_give_requests_the_same_times(void **state)
{
    (void)state;
    uint64_t events[EVENTS_COUNT] = {0};
    for (uint64_t i = 0; i < COUNTABLE_SYSTEMS; i++) {
        struct random r = random_stream(12, "systems", i);
        struct simulation_options o = draw_countable(&r);
        struct test_load load = draw_load(&r);
        compare(&o, &load, SIMULATION_L2, events);
    }
    print_message("events: L0 %llu, L1 %llu, L2 %llu\n", (unsigned long long)events[0],
                  (unsigned long long)events[1], (unsigned long long)events[2]);
    assert_true(events[1] < events[0]);
    assert_true(events[2] < events[1]);
}

/* Engine cores of which everything takes time. */
static struct simulation_options draw_costly(struct random *r)
{
    struct simulation_options o = draw_system(r);
    bool lockstep = random_range(r, 0, 3) == 0 && o.engines_count > 1;
    struct simulation_costs drawn = o.costs;
    o.costs = random_range(r, 0, 1) == 0 ? simulation_costs_default() : drawn;
    o.costs.wake = (time_ps)random_range(r, 0, 2) * 20 * PS_PER_US;
    o.costs.wake_cpu = (time_ps)random_range(r, 0, 2) * 3 * PS_PER_US;
    o.costs.sleep_late = (time_ps)random_range(r, 0, 2) * 20 * PS_PER_US;
    o.costs.sleep_cpu = (time_ps)random_range(r, 0, 2) * 15 * PS_PER_US;
    o.costs.poll = (time_ps)random_range(r, 0, 1) * PS_PER_US;
    o.costs.ring = (time_ps)random_range(r, 0, 1) * PS_PER_US;
    o.host = *host_profile_find(random_range(r, 0, 1) == 0 ? "native" : "vllm-python");
    o.wait = random_range(r, 0, 2) == 0 ? SIMULATION_SPIN : SIMULATION_BLOCK;
    o.interpreter_lock = random_range(r, 0, 3) == 0;
    o.extra.engine_input_request = (time_ps)random_range(r, 0, 1) * 30 * PS_PER_US;
    o.extra.engine_output_message = (time_ps)random_range(r, 0, 1) * 40 * PS_PER_US;
    o.extra.engine_output_token = (time_ps)random_range(r, 0, 1) * 20 * PS_PER_US;
    o.lockstep = lockstep;
    o.gpu_sharing = SIMULATION_GPU_OWN;
    o.uniproc = false;
    o.workers = true;
    o.tp = (uint32_t)random_range(r, 1, 3);
    o.launch_extra = (time_ps)(random_range(r, 0, 3) == 0 ? 100 : 0) * PS_PER_US;
    return o;
}

static void workers_at_once_give_requests_the_same_times(void **state)
{
    (void)state;
    uint64_t events[EVENTS_COUNT] = {0};
    for (uint64_t i = 0; i < COSTLY_SYSTEMS; i++) {
        struct random r = random_stream(13, "systems", i);
        struct simulation_options o = draw_costly(&r);
        struct test_load load = draw_load(&r);
        compare(&o, &load, SIMULATION_L0, events);
    }
    print_message("events: all segments %llu, L0 %llu\n", (unsigned long long)events[ALL_SEGMENTS],
                  (unsigned long long)events[SIMULATION_L0]);
    assert_true(events[SIMULATION_L0] < events[ALL_SEGMENTS]);
}

/* ---- things that happen at one time ---- */

enum {
    MEETING_REQUESTS = 12
};

/* Requests at times of their own, and when the first of them got its first and last token. */
struct meeting {
    time_ps at[MEETING_REQUESTS];
    uint32_t next;
    uint64_t hash;
    time_ps first;
    time_ps ended;
};

static bool next_at_meeting(void *ctx, struct simulation_request *request)
{
    struct meeting *m = ctx;
    if (m->next == MEETING_REQUESTS) {
        return false;
    }
    *request = (struct simulation_request){.number = m->next,
                                           .at = m->at[m->next],
                                           .user = m->next,
                                           .prompt_tokens = 100,
                                           .output_tokens = 20 + m->next % 2};
    m->next++;
    return true;
}

static void sent_at_meeting(void *ctx, const struct simulation_request *request, time_ps now)
{
    struct meeting *m = ctx;
    m->hash = random_at(m->hash ^ request->number ^ (uint64_t)now, 2);
}

static void ended_at_meeting(void *ctx, const struct simulation_end *end)
{
    struct meeting *m = ctx;
    m->hash = random_at(m->hash ^ end->request->number ^ (uint64_t)end->ended, 3);
    m->hash = random_at(m->hash ^ (uint64_t)end->first ^ (uint64_t)end->engine << 56, 4);
    if (end->request->number == 0) {
        m->first = end->first;
        m->ended = end->ended;
    }
}

static struct meeting meet(struct simulation_options o, struct meeting m,
                           enum simulation_level level)
{
    const struct simulation_source source = {.ctx = &m, .next = next_at_meeting};
    const struct simulation_observer observer = {
        .ctx = &m, .sent = sent_at_meeting, .ended = ended_at_meeting};
    struct simulation *s;
    struct error error = {.text = ""};
    o.level_max = level;
    m.next = 0;
    m.hash = 0;
    if (simulation_create(&o, &source, &observer, &s, &error) != STATUS_OK ||
        simulation_run(s, TIME_NEVER, &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(simulation_level(s), level);
    assert_null(simulation_check(s));
    m.hash = random_at(m.hash ^ simulation_totals(s).inflight_max, 5);
    simulation_destroy(s);
    return m;
}

/* Requests come at the very time at which others got a token, or ended. */
static void what_meets_at_one_time_keeps_its_order(void **state)
{
    (void)state;
    for (uint32_t servers = 1; servers <= 2; servers++) {
        for (uint32_t engines = 1; engines <= 3; engines++) {
            struct simulation_options o = test_options(servers, engines);
            o.engine.prefix_caching = false;
            struct meeting m = {.at = {0}};
            for (uint32_t i = 1; i < MEETING_REQUESTS; i++) {
                m.at[i] = PS_PER_S; /* all but the first, to learn its times */
            }
            struct meeting alone = meet(o, m, SIMULATION_L0);
            for (uint32_t i = 1; i < MEETING_REQUESTS; i++) {
                m.at[i] = i < 4 ? 0 : i < 7 ? alone.first : alone.ended;
            }
            struct meeting l0 = meet(o, m, SIMULATION_L0);
            assert_true(l0.first > 0);
            m.at[MEETING_REQUESTS - 2] = m.at[MEETING_REQUESTS - 1] = l0.ended;
            l0 = meet(o, m, SIMULATION_L0);
            assert_int_equal(meet(o, m, SIMULATION_L1).hash, l0.hash);
            assert_int_equal(meet(o, m, SIMULATION_L2).hash, l0.hash);
        }
    }
}

/* The level that a system gets. */
static enum simulation_level level_of(const struct simulation_options *o, bool reads)
{
    struct test_load load = {.requests_count = 1, .requests_per_s = 1, .prompt_tokens = 1};
    struct simulation_source source;
    struct simulation_observer observer;
    struct simulation *s;
    struct error error;
    test_load_begin(&load, &source, &observer);
    load.output_lo = load.output_hi = 1;
    if (!reads) {
        observer.read = NULL;
    }
    assert_int_equal(simulation_create(o, &source, &observer, &s, &error), STATUS_OK);
    enum simulation_level level = simulation_level(s);
    simulation_destroy(s);
    test_load_end(&load);
    return level;
}

static void a_level_that_is_not_exact_is_not_taken(void **state)
{
    (void)state;
    struct simulation_options o = test_options(1, 2);
    assert_int_equal(level_of(&o, false), SIMULATION_L2);
    o.level_max = SIMULATION_L1;
    assert_int_equal(level_of(&o, false), SIMULATION_L1);
    o.level_max = SIMULATION_L2;
    o.engine.prefix_caching = true;
    assert_int_equal(level_of(&o, false), SIMULATION_L1);
    o = test_options(1, 2);
    o.queue_depth = 20;
    assert_int_equal(level_of(&o, false), SIMULATION_L1);
    o = test_options(1, 2);
    o.router_rule = ROUTER_RUST;
    assert_int_equal(level_of(&o, false), SIMULATION_L1);
    o = test_options(1, 2);
    assert_int_equal(level_of(&o, true), SIMULATION_L0);
    o.level_max = SIMULATION_L0;
    assert_int_equal(level_of(&o, false), SIMULATION_L0);
    o = test_options(1, 2);
    o.costs.api_write.call = 1;
    assert_int_equal(level_of(&o, false), SIMULATION_L0);
    o = test_options(1, 2);
    o.host.api_message = 1;
    assert_int_equal(level_of(&o, false), SIMULATION_L0);
    o = test_options(1, 2);
    o.cores_count = 4;
    assert_int_equal(level_of(&o, false), SIMULATION_L0);
    o = test_options(1, 2);
    o.lockstep = true;
    assert_int_equal(level_of(&o, false), SIMULATION_L0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_give_requests_the_same_times),
        cmocka_unit_test(counts_give_requests_the_same_times),
        cmocka_unit_test(workers_at_once_give_requests_the_same_times),
        cmocka_unit_test(what_meets_at_one_time_keeps_its_order),
        cmocka_unit_test(a_level_that_is_not_exact_is_not_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
