/*
 * pipeline_test.c - engine cores with several workers, as real processes: the tokens do not depend
 * on how a model is divided over GPUs, every worker launches its share of every step and nothing
 * else, and the stages of a pipeline work at the same time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "engine/model/shapes.h"
#include "helper_http.h"
#include "helper_system.h"

enum {
    USERS = 8,
    REQUESTS_EACH = 3,
    REQUESTS = USERS * REQUESTS_EACH,
    TEXT_BYTES = 256,
};

static struct topology divided(uint32_t tp, uint32_t pp)
{
    struct topology t = e2e_topology(1, 1);
    t.tp = tp;
    t.pp = pp;
    t.launch = LAUNCH_EAGER;
    /* About one prompt a step: so requests fall into different batches. */
    t.max_num_batched_tokens = 32;
    return t;
}

struct user {
    uint32_t port;
    uint32_t index;
    uint32_t tokens; /* of each answer; 0: different lengths */
    char (*texts)[TEXT_BYTES];
    bool well;
};

static void *user_main(void *context)
{
    struct user *u = context;
    u->well = true;
    for (uint32_t i = 0; i < REQUESTS_EACH; i++) {
        uint32_t number = u->index * REQUESTS_EACH + i;
        uint32_t tokens = u->tokens != 0 ? u->tokens : 1 + number * 7 % 60;
        struct completion c;
        char json[200];
        (void)snprintf(json, sizeof json,
                       "{\"prompt\":\"a prompt as long as a step: %u\",\"max_tokens\":%u,"
                       "\"ignore_eos\":true,\"seed\":%u}",
                       number, tokens, number);
        completion_post(u->port, "/v1/completions", json, &c);
        u->well =
            u->well && c.status == 200 && strcmp(c.finish, "length") == 0 && c.text_bytes == tokens;
        (void)snprintf(u->texts[number], TEXT_BYTES, "%.200s", c.text);
    }
    return NULL;
}

static void run_users(const struct system *s, uint32_t tokens, char (*texts)[TEXT_BYTES])
{
    pthread_t threads[USERS];
    struct user users[USERS];
    for (uint32_t i = 0; i < USERS; i++) {
        users[i] = (struct user){.port = s->port, .index = i, .tokens = tokens, .texts = texts};
        assert_int_equal(pthread_create(&threads[i], NULL, user_main, &users[i]), 0);
    }
    for (uint32_t i = 0; i < USERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(users[i].well);
    }
}

static uint64_t launches(const struct ledger_thread *t, enum ledger_launch_class class)
{
    return ledger_get(&t->launches_count[class]);
}

/* The thread that launches as worker `w`. */
static const struct ledger_thread *launching(const struct system *s, uint32_t w)
{
    bool own = s->ledger.topology->tp * s->ledger.topology->pp == 1;
    const struct ledger_thread *t =
        e2e_thread(s, own ? THREAD_ENGINE_MAIN : THREAD_WORKER_MAIN, 0, w);
    assert_non_null(t);
    return t;
}

/* Each step with tokens is one copy of its plan and a stage's kernels, on every worker. */
static void assert_shares(const struct system *s, uint64_t forwards)
{
    const struct topology *t = s->ledger.topology;
    uint32_t kernels = model_step_kernels(model_shape_find(t->model));
    for (uint32_t w = 0; w < t->tp * t->pp; w++) {
        const struct ledger_thread *l = launching(s, w);
        assert_int_equal(launches(l, LAUNCH_CLASS_COPY), forwards);
        assert_int_equal(launches(l, LAUNCH_CLASS_KERNEL), forwards * (kernels / t->pp));
        assert_int_equal(launches(l, LAUNCH_CLASS_GRAPH), 0);
    }
}

static char undivided[REQUESTS][TEXT_BYTES]; /* the answers of one GPU */

static void tokens_are_the_same_however_divided(void **state)
{
    (void)state;
    static char texts[REQUESTS][TEXT_BYTES];
    for (uint32_t shape = 0; shape < 8; shape++) {
        struct system s;
        struct topology t = divided(1 + shape % 2, 1 + shape / 2 % 2);
        t.async_depth = 1 + shape / 4;
        e2e_start(&t, &s);
        run_users(&s, 0, shape == 0 ? undivided : texts);
        for (uint32_t i = 0; i < REQUESTS && shape > 0; i++) {
            assert_string_equal(texts[i], undivided[i]);
        }
        uint64_t forwards = launches(launching(&s, 0), LAUNCH_CLASS_COPY);
        assert_shares(&s, forwards);
        const struct ledger_thread *engine = e2e_thread(&s, THREAD_ENGINE_MAIN, 0, 0);
        assert_true(forwards > 0 && forwards <= ledger_get(&engine->steps_count));
        e2e_stop(&s);
    }
}

/* When a stage is done is not known before it is: others use its GPU too. */
static void stages_on_shared_gpus_give_them_too(void **state)
{
    (void)state;
    static char texts[REQUESTS][TEXT_BYTES];
    for (uint32_t depth = 1; depth <= 2; depth++) {
        struct system s;
        struct topology t = divided(1, 2);
        t.engines_count = 2;
        t.gpu_sharing = GPU_TIME_SLICED;
        t.engines_per_gpu = 2;
        t.async_depth = depth;
        e2e_start(&t, &s);
        run_users(&s, 0, texts);
        for (uint32_t i = 0; i < REQUESTS; i++) {
            assert_string_equal(texts[i], undivided[i]);
        }
        e2e_stop(&s);
    }
}

/* One request at a time: as many forwards as tokens, on every worker. */
static void a_token_is_a_forward_of_all(void **state)
{
    (void)state;
    struct system s;
    struct topology t = divided(2, 2);
    e2e_start(&t, &s);
    uint64_t tokens = 0;
    for (uint32_t i = 1; i <= 4; i++) {
        struct completion c;
        char json[100];
        (void)snprintf(json, sizeof json,
                       "{\"prompt\":\"p\",\"max_tokens\":%u,\"ignore_eos\":true}", i * i);
        completion_post(s.port, "/v1/completions", json, &c);
        assert_int_equal(c.status, 200);
        tokens += i * i;
        assert_shares(&s, tokens);
    }
    e2e_stop(&s);
}

/* Of the time between two looks in which a stage had work or could have had, it worked. */
static double share_busy(const struct ledger_thread *t, uint64_t busy_before,
                         uint64_t absent_before)
{
    double busy = (double)(ledger_get(&t->gpu_busy_ns) - busy_before);
    double absent = (double)(ledger_get(&t->gpu_idle_absent_ns) - absent_before);
    return busy / (busy + absent);
}

static void stages_work_at_the_same_time(void **state)
{
    (void)state;
    static char texts[REQUESTS][TEXT_BYTES];
    for (uint32_t depth = 1; depth <= 2; depth++) {
        struct system s;
        uint64_t busy[2];
        uint64_t absent[2];
        struct topology t = divided(1, 2);
        t.launch = LAUNCH_GRAPH;
        t.async_depth = depth;
        (void)snprintf(t.model, sizeof t.model, "llama-3.1-8b");
        e2e_start(&t, &s);
        struct completion c;
        completion_post(s.port, "/v1/completions", "{\"prompt\":\"p\",\"max_tokens\":2}", &c);
        assert_int_equal(c.status, 200);
        for (uint32_t w = 0; w < 2; w++) {
            busy[w] = ledger_get(&launching(&s, w)->gpu_busy_ns);
            absent[w] = ledger_get(&launching(&s, w)->gpu_idle_absent_ns);
        }
        run_users(&s, 60, texts);
        for (uint32_t w = 0; w < 2; w++) {
            double share = share_busy(launching(&s, w), busy[w], absent[w]);
            assert_true(share > 0.5); /* of both: for some of the time they worked together */
        }
        e2e_stop(&s);
    }
}

int main(void)
{
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_the_same_however_divided),
        cmocka_unit_test(stages_on_shared_gpus_give_them_too),
        cmocka_unit_test(a_token_is_a_forward_of_all),
        cmocka_unit_test(stages_work_at_the_same_time),
    };
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
