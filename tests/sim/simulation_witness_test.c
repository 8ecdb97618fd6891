/*
 * simulation_witness_test.c - what simulated threads tell of queues, single times, interpreter
 * locks and events, against laws that do not know how it is counted: Little's law, constants of the
 * costs, conservation of time and of messages.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/helper_load.h"

enum {
    THREADS_MAX = 64,
    EVENTS_MAX = 1 << 14
};

/* The times of one kind of one thread. */
struct times {
    uint64_t count;
    time_ps sum;
    time_ps least;
    time_ps most;
};

struct seen {
    struct test_load load;
    struct simulation_observer inner;
    struct simulation_witness witness;
    struct simulation *simulation;
    struct times times[THREADS_MAX][SIMULATION_SPANS_COUNT];
    struct simulation_event events[EVENTS_MAX];
    uint32_t events_count;
    time_ps queued; /* sum over requests: received by the engine core to first scheduled */
    struct simulation_totals totals;
    const struct simulation_thread *threads;
    uint32_t threads_count;
};

static void lasted(void *ctx, uint32_t thread, enum simulation_span what, time_ps time,
                   uint32_t count)
{
    struct seen *seen = ctx;
    assert_true(thread < THREADS_MAX && time >= 0 && count > 0);
    struct times *t = &seen->times[thread][what];
    t->least = t->count == 0 || time < t->least ? time : t->least;
    t->most = time > t->most ? time : t->most;
    t->count += count;
    t->sum += time * (time_ps)count;
}

static void happened(void *ctx, const struct simulation_event *event)
{
    struct seen *seen = ctx;
    assert_true(seen->events_count < EVENTS_MAX);
    seen->events[seen->events_count++] = *event;
}

static void sent(void *ctx, const struct simulation_request *request, time_ps now)
{
    struct seen *seen = ctx;
    seen->inner.sent(&seen->load, request, now);
}

static void ended(void *ctx, const struct simulation_end *end)
{
    struct seen *seen = ctx;
    seen->queued +=
        end->hops[SIMULATION_HOP_ENGINE_SCHEDULED] - end->hops[SIMULATION_HOP_ENGINE_RECEIVED];
    seen->load.tokens[end->request->number] = end->output_tokens;
    seen->inner.ended(&seen->load, end);
}

/* The whole load; the caller gives it back with done_with(). */
static struct seen *run(struct simulation_options o, const struct test_load *load)
{
    struct seen *seen = calloc(1, sizeof *seen);
    struct simulation_source source;
    struct error error = {.text = ""};
    assert_non_null(seen);
    seen->load = *load;
    seen->witness =
        (struct simulation_witness){.ctx = seen, .lasted = lasted, .happened = happened};
    o.witness = &seen->witness;
    test_load_begin(&seen->load, &source, &seen->inner);
    struct simulation_observer observer = {.ctx = seen, .sent = sent, .ended = ended};
    if (simulation_create(&o, &source, &observer, &seen->simulation, &error) != STATUS_OK ||
        simulation_run(seen->simulation, TIME_NEVER, &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(seen->load.wrong_count, 0);
    seen->totals = simulation_totals(seen->simulation);
    seen->threads = simulation_threads(seen->simulation, &seen->threads_count);
    assert_true(seen->threads_count <= THREADS_MAX);
    return seen;
}

static void done_with(struct seen *seen)
{
    simulation_destroy(seen->simulation);
    test_load_end(&seen->load);
    free(seen);
}

/* Of all threads of the kind. */
static struct times times_of(const struct seen *seen, enum simulation_thread_kind kind,
                             enum simulation_span what)
{
    struct times all = {.count = 0};
    for (uint32_t i = 0; i < seen->threads_count; i++) {
        const struct times *t = &seen->times[i][what];
        if (seen->threads[i].kind == kind && t->count > 0) {
            all.least = all.count == 0 || t->least < all.least ? t->least : all.least;
            all.most = t->most > all.most ? t->most : all.most;
            all.count += t->count;
            all.sum += t->sum;
        }
    }
    return all;
}

static const struct simulation_thread *thread_of(const struct seen *seen,
                                                 enum simulation_thread_kind kind)
{
    uint32_t at = 0;
    while (at < seen->threads_count && seen->threads[at].kind != kind) {
        at++;
    }
    assert_true(at < seen->threads_count);
    return &seen->threads[at];
}

/* Sum over the threads of a kind. */
static time_ps length_of(const struct seen *seen, enum simulation_thread_kind kind)
{
    time_ps sum = 0;
    for (uint32_t i = 0; i < seen->threads_count; i++) {
        sum += seen->threads[i].kind == kind ? seen->threads[i].queue_length : 0;
    }
    return sum;
}

static struct simulation_options busy_system(uint32_t api_servers, uint32_t engines)
{
    struct simulation_options o = test_options(api_servers, engines);
    o.costs = simulation_costs_default();
    o.host = *host_profile_find("vllm-python");
    o.engine.max_num_seqs = 6;
    return o;
}

static const struct test_load crowd = {.requests_count = 400,
                                       .users_count = 60,
                                       .prompt_tokens = 100,
                                       .output_lo = 4,
                                       .output_hi = 40,
                                       .seed = 5};

/* ---- queues ---- */

/* Little's law without a rest: what the engine cores add up of their queues' lengths over time is
 * what the requests, by their own stamps, waited in them. */
static void queue_lengths_are_the_sum_of_waits(void **state)
{
    (void)state;
    for (uint32_t depth = 1; depth <= 2; depth++) {
        struct simulation_options o = busy_system(2, 3);
        o.engine.async_depth = depth;
        struct seen *seen = run(o, &crowd);
        assert_int_equal(seen->totals.failed_count, 0);
        assert_true(seen->queued > 0);
        assert_int_equal(length_of(seen, SIMULATION_THREAD_ENGINE_MAIN), seen->queued);
        struct times waits = times_of(seen, SIMULATION_THREAD_ENGINE_MAIN, SIMULATION_SPAN_WAIT);
        assert_int_equal(waits.count, crowd.requests_count);
        assert_int_equal(waits.sum, seen->queued);
        struct times messages =
            times_of(seen, SIMULATION_THREAD_ENGINE_OUTPUT, SIMULATION_SPAN_WAIT);
        assert_int_equal(messages.sum, length_of(seen, SIMULATION_THREAD_ENGINE_OUTPUT));
        done_with(seen);
    }
}

/* 60 users in front of 6 places: 54 requests wait all the time, but for those on their way. */
static void a_full_engine_core_has_the_others_in_its_queue(void **state)
{
    (void)state;
    struct simulation_options o = test_options(1, 1);
    o.engine.max_num_seqs = 6;
    struct test_load load = crowd;
    load.output_lo = load.output_hi = 40;
    load.requests_count = 2000;
    struct seen *seen = run(o, &load);
    const struct simulation_thread *t = thread_of(seen, SIMULATION_THREAD_ENGINE_MAIN);
    double mean = (double)t->queue_length / (double)simulation_now(seen->simulation);
    /* The last 54 are not followed by others: a triangle of 54 / 2 over their share of the run. */
    double share = 54.0 / 2000;
    double expected = 54 * (1 - share) + 27 * share;
    if (!(mean > expected - 0.6 && mean < expected + 0.6)) {
        fail_msg("mean length %.3f, expected %.3f", mean, expected);
    }
    assert_int_equal(t->queue_max, 60); /* at the start none has a place yet */
    done_with(seen);
}

/* Messages that come faster than they are sent queue up behind the one in work. */
static void an_output_thread_that_is_slow_has_a_queue(void **state)
{
    (void)state;
    for (uint32_t cores = 0; cores <= 16; cores += 16) { /* ahead of the clock, and not */
        struct simulation_options o = test_options(4, 1);
        o.cores_count = cores;
        o.extra.engine_output_message = 100 * PS_PER_US;
        struct test_load load = crowd;
        load.users_count = 8; /* a message to each of 4 API servers at a time */
        load.requests_count = 64;
        load.output_lo = load.output_hi = 20;
        struct seen *seen = run(o, &load);
        const struct simulation_thread *t = thread_of(seen, SIMULATION_THREAD_ENGINE_OUTPUT);
        struct times waits = times_of(seen, SIMULATION_THREAD_ENGINE_OUTPUT, SIMULATION_SPAN_WAIT);
        assert_int_equal(t->queue_max, 4);
        assert_int_equal(waits.least, 0);
        assert_int_equal(waits.most, 3 * 100 * PS_PER_US); /* behind three others */
        done_with(seen);
    }
}

/* ---- single times ---- */

/* One request at a time: each wait is a sum of constants. */
static void waits_are_the_constants_that_they_are_made_of(void **state)
{
    (void)state;
    struct simulation_options o = busy_system(1, 1);
    o.costs.sleep_late = 0;
    struct test_load load = crowd;
    load.users_count = 1;
    load.requests_count = 40;
    struct seen *seen = run(o, &load);
    const struct simulation_costs *c = &o.costs;
    struct times in = times_of(seen, SIMULATION_THREAD_ENGINE_INPUT, SIMULATION_SPAN_WAIT);
    time_ps input = c->ipc + c->wake + c->wake_cpu + c->engine_input.call +
                    c->engine_input.token * (time_ps)load.prompt_tokens;
    assert_int_equal(in.count, 40);
    assert_int_equal(in.least, input);
    assert_int_equal(in.most, input);
    struct times out = times_of(seen, SIMULATION_THREAD_ENGINE_OUTPUT, SIMULATION_SPAN_WAIT);
    assert_int_equal(out.least, c->wake);
    assert_int_equal(out.most, c->wake);
    /* Twice a request: its first and its last token. */
    struct times api = times_of(seen, SIMULATION_THREAD_API, SIMULATION_SPAN_WAIT);
    time_ps output = c->engine_commit.call + c->engine_commit.item + c->engine_commit.token +
                     c->wake + c->wake_cpu + c->engine_output.call + c->engine_output.item +
                     c->engine_output.token + c->ipc + c->wake + c->wake_cpu + c->api_message.call +
                     c->api_message.item + c->api_message.token;
    assert_int_equal(api.count, 80);
    assert_int_equal(api.least, output);
    assert_int_equal(api.most, output);
    struct times steps = times_of(seen, SIMULATION_THREAD_ENGINE_MAIN, SIMULATION_SPAN_STEP);
    const struct simulation_thread *main_thread = thread_of(seen, SIMULATION_THREAD_ENGINE_MAIN);
    assert_int_equal(steps.count, main_thread->steps_count);
    assert_int_equal(steps.sum, main_thread->step);
    done_with(seen);
}

/* Kernels one by one, and graphs. */
static void launches_take_what_they_cost(void **state)
{
    (void)state;
    for (int graphs = 0; graphs < 2; graphs++) {
        struct simulation_options o = busy_system(1, 2);
        o.graphs = graphs == 1;
        o.launch_extra = 700 * PS_PER_NS;
        struct seen *seen = run(o, &crowd);
        uint64_t count = 0;
        time_ps time = 0;
        time_ps most = 0;
        for (uint32_t i = 0; i < seen->threads_count; i++) {
            const struct simulation_thread *t = &seen->threads[i];
            for (int k = SIMULATION_LAUNCH_KERNEL; k <= SIMULATION_LAUNCH_GRAPH; k++) {
                count += t->launches_count[k];
                time += t->launch[k];
            }
            most = t->launch_max > most ? t->launch_max : most;
        }
        struct times t = times_of(seen, SIMULATION_THREAD_WORKER, SIMULATION_SPAN_LAUNCH);
        assert_true(t.count > 1000);
        assert_int_equal(t.count, count);
        assert_int_equal(t.sum, time);
        assert_int_equal(t.least, o.gpu->launch + o.launch_extra);
        time_ps graph =
            o.gpu->graph_launch + o.gpu->graph_node * model_step_kernels(o.model) + o.launch_extra;
        assert_int_equal(t.most, graphs == 1 ? graph : t.least);
        assert_int_equal(most, t.most);
        done_with(seen);
    }
}

/* From the first kernel on a GPU computes, copies, or has a gap. */
static void gaps_and_work_fill_a_gpus_time(void **state)
{
    (void)state;
    struct simulation_options o = busy_system(1, 1);
    struct test_load load = crowd;
    load.users_count = 0;
    load.requests_per_s = 5;
    load.requests_count = 100;
    struct seen *seen = run(o, &load);
    const struct simulation_thread *t = thread_of(seen, SIMULATION_THREAD_ENGINE_MAIN);
    struct times gaps = times_of(seen, SIMULATION_THREAD_ENGINE_MAIN, SIMULATION_SPAN_GAP);
    time_ps idle = t->gpu_idle_late + t->gpu_idle_absent;
    assert_true(gaps.count > 20);
    /* What is missing is the idle time before the first kernel. */
    struct test_load one = load;
    one.requests_count = 1;
    one.output_lo = one.output_hi = 1;
    struct seen *first = run(o, &one); /* its only step: all idle time is before it */
    const struct simulation_thread *f = thread_of(first, SIMULATION_THREAD_ENGINE_MAIN);
    assert_int_equal(times_of(first, SIMULATION_THREAD_ENGINE_MAIN, SIMULATION_SPAN_GAP).count, 0);
    assert_int_equal(idle - gaps.sum, f->gpu_idle_late + f->gpu_idle_absent);
    done_with(first);
    done_with(seen);
}

/* Nobody can be told of steps that are not gone through one by one. */
static void a_witness_sees_every_step(void **state)
{
    (void)state;
    struct simulation_options o = test_options(1, 2);
    struct seen *seen = run(o, &crowd);
    assert_int_equal(simulation_level(seen->simulation), SIMULATION_L0);
    done_with(seen);
}

static void a_witness_changes_nothing(void **state)
{
    (void)state;
    struct simulation_options o = busy_system(2, 3);
    o.cores_count = 64; /* else only a witness gets every segment of workers */
    struct seen *seen = run(o, &crowd);
    struct test_load load = crowd;
    assert_int_equal(test_run(&o, &load, TIME_NEVER).log_hash, seen->totals.log_hash);
    done_with(seen);
}

/* ---- interpreter locks ---- */

/* The lock is held for what is booked under it, and by one thread at a time. */
static void a_lock_is_held_for_the_booked_time(void **state)
{
    (void)state;
    struct simulation_options o = busy_system(1, 2);
    o.interpreter_lock = true;
    o.extra.engine_input_request = 300 * PS_PER_US;
    o.extra.engine_output_message = 150 * PS_PER_US;
    struct seen *seen = run(o, &crowd);
    time_ps held[2] = {0};
    time_ps waited[2] = {0};
    for (uint32_t i = 0; i < seen->threads_count; i++) {
        const struct simulation_thread *t = &seen->threads[i];
        if (t->kind == SIMULATION_THREAD_ENGINE_MAIN || t->kind == SIMULATION_THREAD_ENGINE_INPUT ||
            t->kind == SIMULATION_THREAD_ENGINE_OUTPUT) {
            assert_int_equal(t->lock_held, t->occupancy);
            held[t->instance] += t->lock_held;
            waited[t->instance] += t->lock_wait;
        } else {
            assert_int_equal(t->lock_held, 0);
        }
    }
    for (int i = 0; i < 2; i++) {
        assert_true(held[i] > 0 && held[i] <= simulation_now(seen->simulation));
        assert_true(waited[i] > 0);
    }
    done_with(seen);
    o.extra.engine_input_request = 0; /* one thread alone waits for nobody */
    o.extra.engine_output_message = 0;
    seen = run(o, &crowd);
    assert_true(thread_of(seen, SIMULATION_THREAD_ENGINE_MAIN)->lock_held > 0);
    assert_int_equal(thread_of(seen, SIMULATION_THREAD_ENGINE_MAIN)->lock_wait, 0);
    done_with(seen);
}

/* One request at a time: when a step is done the main thread books the next one at once, and the
 * output thread, woken by it, has to wait for that. The last step carries nobody. */
static void a_lock_is_waited_for_as_long_as_others_hold_it(void **state)
{
    (void)state;
    struct simulation_options o = test_options(1, 1);
    o.engine.async_depth = 1;
    o.interpreter_lock = true;
    o.host.engine_step = 200 * PS_PER_US;
    o.host.engine_seq = 30 * PS_PER_US;
    o.extra.engine_output_message = 100 * PS_PER_US;
    struct test_load load = crowd;
    load.users_count = 0;
    load.requests_per_s = 1;
    load.requests_count = 3;
    load.output_lo = load.output_hi = 10;
    struct seen *seen = run(o, &load);
    time_ps expected = 3 * (10 * o.host.engine_step + 9 * o.host.engine_seq);
    assert_int_equal(thread_of(seen, SIMULATION_THREAD_ENGINE_OUTPUT)->lock_wait, expected);
    assert_int_equal(thread_of(seen, SIMULATION_THREAD_ENGINE_MAIN)->lock_wait, 0);
    done_with(seen);
}

/* ---- events ---- */

static uint32_t count_of(const struct seen *seen, enum simulation_event_kind kind)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < seen->events_count; i++) {
        count += seen->events[i].kind == kind ? 1 : 0;
    }
    return count;
}

static void every_message_of_the_coordinator_is_an_event(void **state)
{
    (void)state;
    struct simulation_options o = busy_system(3, 4);
    o.lockstep = true;
    struct test_load load = crowd;
    load.users_count = 0;
    load.requests_per_s = 4; /* pauses, so that waves end */
    load.requests_count = 60;
    struct seen *seen = run(o, &load);
    const struct simulation_thread *c = thread_of(seen, SIMULATION_THREAD_COORDINATOR);
    uint32_t published = count_of(seen, SIMULATION_EVENT_PUBLISHED);
    uint32_t told = count_of(seen, SIMULATION_EVENT_WAVE_PUBLISHED);
    uint32_t starts = count_of(seen, SIMULATION_EVENT_START_WAVE_SENT);
    assert_true(published > 10 && told > 1 && starts > 1);
    assert_int_equal(published + told + starts, c->messages_out_count);
    assert_int_equal(count_of(seen, SIMULATION_EVENT_FIRST_STATE), 3);
    int64_t heard = 0;
    time_ps last = 0;
    for (uint32_t i = 0; i < seen->events_count; i++) {
        const struct simulation_event *e = &seen->events[i];
        if (e->kind == SIMULATION_EVENT_PUBLISHED) {
            assert_int_equal(e->by, SIMULATION_THREAD_COORDINATOR);
            assert_true(e->at - last >= o.publish_interval || last == 0);
            heard += e->value[1];
            last = e->at;
        }
    }
    assert_true(heard > 0 && (uint64_t)heard <= c->messages_in_count);
    done_with(seen);
}

static void waves_begin_and_end_in_turn(void **state)
{
    (void)state;
    struct simulation_options o = busy_system(1, 3);
    o.lockstep = true;
    struct test_load load = crowd;
    load.users_count = 0;
    load.requests_per_s = 4;
    load.requests_count = 40;
    struct seen *seen = run(o, &load);
    bool runs[3] = {false};
    int64_t wave[3] = {-1, -1, -1};
    uint64_t ended_count[3] = {0};
    for (uint32_t i = 0; i < seen->events_count; i++) {
        const struct simulation_event *e = &seen->events[i];
        if (e->kind == SIMULATION_EVENT_WAVE_BEGAN) {
            assert_false(runs[e->instance]);
            assert_true(e->value[0] > wave[e->instance]);
            wave[e->instance] = e->value[0];
            runs[e->instance] = true;
        } else if (e->kind == SIMULATION_EVENT_WAVE_ENDED) {
            assert_true(runs[e->instance]);
            assert_int_equal(e->value[0], wave[e->instance]);
            runs[e->instance] = false;
            ended_count[e->instance]++;
        }
    }
    for (uint32_t i = 0; i < seen->threads_count; i++) {
        const struct simulation_thread *t = &seen->threads[i];
        if (t->kind == SIMULATION_THREAD_ENGINE_MAIN) {
            assert_int_equal(t->waves_count, ended_count[t->instance]);
            assert_true(t->waves_count > 2);
        }
    }
    done_with(seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queue_lengths_are_the_sum_of_waits),
        cmocka_unit_test(a_full_engine_core_has_the_others_in_its_queue),
        cmocka_unit_test(an_output_thread_that_is_slow_has_a_queue),
        cmocka_unit_test(waits_are_the_constants_that_they_are_made_of),
        cmocka_unit_test(launches_take_what_they_cost),
        cmocka_unit_test(gaps_and_work_fill_a_gpus_time),
        cmocka_unit_test(a_witness_sees_every_step),
        cmocka_unit_test(a_witness_changes_nothing),
        cmocka_unit_test(a_lock_is_held_for_the_booked_time),
        cmocka_unit_test(a_lock_is_waited_for_as_long_as_others_hold_it),
        cmocka_unit_test(every_message_of_the_coordinator_is_an_event),
        cmocka_unit_test(waves_begin_and_end_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
