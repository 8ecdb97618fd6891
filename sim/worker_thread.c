/*
 * worker_thread.c - owns a worker's two threads: the loops of engine/node/worker.c. With
 * asynchronous scheduling the main thread launches and the output thread waits for the GPU and
 * answers; otherwise the main thread does both. Driven by the scene.
 */
#include "sim/simulation_state.h"

enum worker_phase {
    WORKER_LOOK,
    WORKER_STAGE, /* a pipeline: waits for another stage's launches */
    WORKER_LAUNCH,
    WORKER_DEVICE,
};

static bool answers(const struct worker *w)
{
    const struct simulation_options *o = &simulation_of(&w->engine->station)->options;
    return w->index == o->tp * (o->pp - 1); /* the first tensor-parallel rank of the last stage */
}

/* False: the GPU is not done, and the segment ends with waiting for it. */
static bool finish_step(struct simulation *s, struct worker *w, struct station *on, uint64_t flight)
{
    struct engine_thread *e = w->engine;
    if (!launch_done(w, on, flight, answers(w))) {
        return false;
    }
    on->books->launches_count[SIMULATION_LAUNCH_SYNC]++;
    if (answers(w)) {
        uint32_t tokens = e->flights[flight % FLIGHTS_MAX].sampled_count;
        station_work(on, station_cost(&s->options.costs.worker_result, 1, tokens));
        on->books->messages_out_count++;
        letter_send(on, &e->station, RESULTS_INBOX,
                    (struct letter){.at = on->cursor + s->options.costs.ring, .as.number = flight});
    }
    return true;
}

static void wait_for_plan(struct station *station)
{
    station->phase = WORKER_LOOK;
    station_wait(station, 1U << ONLY_INBOX, &station->books->idle);
    station_wait_spins(station);
}

/* All workers have launched the flight: those that wait for all of them can go on. */
static void tell_outputs(struct worker *w, uint64_t flight)
{
    struct engine_thread *e = w->engine;
    const struct simulation *s = simulation_of(&w->station);
    bool all = w->stage_index == s->options.pp - 1 &&
               e->flights[flight % FLIGHTS_MAX].workers_launched == s->options.tp;
    if (!answers(w)) {
        letter_send(&w->station, &w->output, ONLY_INBOX,
                    (struct letter){.at = w->station.cursor, .as.number = flight});
    }
    if (all) {
        letter_send(&w->station, &e->workers[s->options.tp * (s->options.pp - 1)].output,
                    ONLY_INBOX, (struct letter){.at = w->station.cursor, .as.number = flight});
    }
}

static void launch(struct simulation *s, struct worker *w)
{
    struct station *me = &w->station;
    if (!launch_more(w, me)) {
        return;
    }
    if (s->options.engine.async_depth > 1) {
        tell_outputs(w, w->launching);
        wait_for_plan(me);
        return;
    }
    me->phase = WORKER_DEVICE;
    station_again(me);
}

static void begin_launching(struct simulation *s, struct worker *w)
{
    struct station *me = &w->station;
    me->phase = WORKER_STAGE;
    if (s->options.pp == 1 || launch_await(w, me, w->launching)) {
        launch_begin(w, me, w->launching);
        me->phase = WORKER_LAUNCH;
        launch(s, w);
    }
}

static void take_plan(struct simulation *s, struct worker *w)
{
    struct station *me = &w->station;
    const struct letter *letter = station_letter(me, ONLY_INBOX, me->now);
    if (letter == NULL) {
        wait_for_plan(me);
        return;
    }
    uint64_t flight = letter->as.number;
    uint32_t seqs = w->engine->flights[flight % FLIGHTS_MAX].seqs_count;
    station_drop(me, ONLY_INBOX);
    me->books->messages_in_count++;
    station_work(me, station_cost(&s->options.costs.worker_plan, seqs, 0));
    w->launching = flight;
    begin_launching(s, w);
}

void worker_run(struct station *station)
{
    struct simulation *s = simulation_of(station);
    struct worker *w = station->owner;
    switch ((enum worker_phase)station->phase) {
    case WORKER_LOOK:
        take_plan(s, w);
        break;
    case WORKER_STAGE:
        begin_launching(s, w);
        break;
    case WORKER_LAUNCH:
        launch(s, w);
        break;
    case WORKER_DEVICE:
        if (finish_step(s, w, station, w->launching)) {
            wait_for_plan(station);
        }
        break;
    }
}

void worker_output_run(struct station *station)
{
    struct simulation *s = simulation_of(station);
    struct worker *w = station->owner;
    const struct letter *letter = station_letter(station, ONLY_INBOX, station->now);
    if (letter != NULL) {
        if (!finish_step(s, w, station, letter->as.number)) {
            return;
        }
        station_drop(station, ONLY_INBOX);
    }
    station_wait(station, 1U << ONLY_INBOX, &station->books->idle);
}
