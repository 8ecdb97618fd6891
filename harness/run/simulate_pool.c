/*
 * simulate_pool.c - owns the threads that simulate runs ahead of being taken (simulate_pool.h).
 * A run is started only while few results wait to be taken, so that memory does not grow with the
 * number of runs. Nothing is shared between runs but the scenario, which is only read.
 */
#include "harness/run/simulate_pool.h"

#include <pthread.h>
#include <stdlib.h>

enum {
    AHEAD_EACH_THREAD = 4 /* results that wait, at most */
};

struct made {
    struct run_result result;
    bool ready;
};

struct simulate_pool {
    struct simulate_pool_options options;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct made *made; /* by place in options.runs, modulo ahead_max */
    uint32_t ahead_max;
    uint32_t started_count;
    uint32_t taken_count;
    bool stops;
    pthread_t threads[SIMULATE_THREADS_MAX];
    uint32_t threads_count;
};

/* Which run is next, as soon as there is room for its result; false: none any more. */
static bool claim(struct simulate_pool *p, uint32_t *place)
{
    bool more = false;
    (void)pthread_mutex_lock(&p->lock);
    while (!p->stops && p->started_count < p->options.runs_count &&
           p->started_count - p->taken_count >= p->ahead_max) {
        (void)pthread_cond_wait(&p->changed, &p->lock);
    }
    if (!p->stops && p->started_count < p->options.runs_count) {
        *place = p->started_count++;
        more = true;
    }
    (void)pthread_mutex_unlock(&p->lock);
    return more;
}

static void *work(void *ctx)
{
    struct simulate_pool *p = ctx;
    uint32_t place;
    while (claim(p, &place)) {
        uint32_t index = p->options.runs[place];
        struct made *made = &p->made[place % p->ahead_max];
        const struct measure_options options = {
            .scenario = p->options.scenario,
            .run = &p->options.scenario->runs[index],
            .order_index = index,
            .log_fd = -1,
            .interrupted = p->options.interrupted,
        };
        simulate_run(&options, &made->result);
        (void)pthread_mutex_lock(&p->lock);
        made->ready = true;
        (void)pthread_cond_broadcast(&p->changed);
        (void)pthread_mutex_unlock(&p->lock);
    }
    return NULL;
}

enum status simulate_pool_start(const struct simulate_pool_options *options,
                                struct simulate_pool **out, struct error *error)
{
    ASSERT(options->threads_count >= 1 && options->threads_count <= SIMULATE_THREADS_MAX);
    struct simulate_pool *p = calloc(1, sizeof *p);
    uint32_t ahead_max = options->threads_count * AHEAD_EACH_THREAD;
    struct made *made = calloc(ahead_max, sizeof *made);
    if (p == NULL || made == NULL) {
        free(p);
        free(made);
        return error_set(error, STATUS_NOMEM, "no memory for simulated runs");
    }
    p->options = *options;
    p->made = made;
    p->ahead_max = ahead_max;
    (void)pthread_mutex_init(&p->lock, NULL);
    (void)pthread_cond_init(&p->changed, NULL);
    for (uint32_t i = 0; i < options->threads_count && i < options->runs_count; i++) {
        if (pthread_create(&p->threads[p->threads_count], NULL, work, p) == 0) {
            p->threads_count++;
        }
    }
    if (p->threads_count == 0 && options->runs_count > 0) {
        simulate_pool_stop(p);
        return error_set(error, STATUS_FULL, "no thread can be started for simulated runs");
    }
    *out = p;
    return STATUS_OK;
}

void simulate_pool_take(struct simulate_pool *p, struct run_result *out)
{
    (void)pthread_mutex_lock(&p->lock);
    ASSERT(p->taken_count < p->options.runs_count);
    struct made *made = &p->made[p->taken_count % p->ahead_max];
    while (!made->ready) {
        (void)pthread_cond_wait(&p->changed, &p->lock);
    }
    *out = made->result;
    made->ready = false;
    p->taken_count++;
    (void)pthread_cond_broadcast(&p->changed);
    (void)pthread_mutex_unlock(&p->lock);
}

void simulate_pool_stop(struct simulate_pool *p)
{
    if (p == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&p->lock);
    p->stops = true;
    (void)pthread_cond_broadcast(&p->changed);
    (void)pthread_mutex_unlock(&p->lock);
    for (uint32_t i = 0; i < p->threads_count; i++) {
        (void)pthread_join(p->threads[i], NULL);
    }
    for (uint32_t i = 0; i < p->ahead_max; i++) {
        if (p->made[i].ready) {
            result_free(&p->made[i].result);
        }
    }
    (void)pthread_cond_destroy(&p->changed);
    (void)pthread_mutex_destroy(&p->lock);
    free(p->made);
    free(p);
}
