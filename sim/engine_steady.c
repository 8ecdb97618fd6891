/*
 * engine_steady.c - owns what a row of quiet steps comes to where the GPU sets the pace: two steps
 * in flight on one worker, the next one always launched before the one before it is done. Then the
 * GPU is never idle, every thread waits for what comes from it, and all times follow from the ends
 * of steps by constants. Driven by engine_flow.c, whose general way gives the same, step by step.
 *
 * With steps in flight k and k + 1, of which the main thread awaits k:
 *
 *     done[k + 2]   = done[k + 1] + copy + graph      if it was launched early enough
 *     taken[k + 1]  = done[k + 1] + answer            the main thread has the result
 *     submit[k + 2] = taken[k] + turn
 *     launch[k + 2] = submit[k + 2] + launching       the worker's main thread is done with it
 */
#include "sim/simulation_state.h"

/* Constants of steps of one number of sequences, in ps. */
struct pace {
    time_ps commit;  /* a result is taken in: until the main thread looks at its input */
    time_ps cpu;     /* of the main thread, for a step */
    time_ps charge;  /* its emulated time */
    time_ps turn;    /* from a result to the next submission */
    time_ps reach;   /* until the worker has the plan */
    time_ps prepare; /* ... and begins to launch */
    time_ps copy;    /* launches */
    time_ps graph;   /* ... */
    time_ps poll;    /* of spinning threads */
    time_ps result;  /* CPU time of the answer */
    time_ps answer;  /* from the end on the GPU to the main thread's having the result */
};

static struct pace pace_of(const struct simulation *s, uint32_t n)
{
    const struct simulation_options *o = &s->options;
    const struct simulation_costs *c = &o->costs;
    time_ps poll = o->wait == SIMULATION_SPIN ? c->poll : 0;
    struct pace p = {
        .commit = station_cost(&c->engine_commit, n, n),
        .charge = o->host.engine_step + o->host.engine_seq * (time_ps)n,
        .reach = c->ring + poll,
        .prepare = station_cost(&c->worker_plan, n, 0),
        .copy = o->gpu->launch + o->launch_extra,
        .graph = graph_launch_time(o, s->cost_model.kernels_count),
        .poll = poll,
        .result = station_cost(&c->worker_result, 1, n),
    };
    p.cpu = p.commit + station_cost(&c->engine_step, n, n);
    p.turn = p.charge > p.cpu ? p.charge : p.cpu;
    p.answer = poll + p.result + c->ring + poll;
    return p;
}

/* From a submission until the worker has launched everything. */
static time_ps launching(const struct pace *p)
{
    return p->reach + p->prepare + p->copy + p->graph;
}

/* Are both steps in flight of this kind? */
static bool are_alike(const struct simulation *s, struct engine_thread *e,
                      const struct tally_plan *plan)
{
    const struct flight *a = flight_of(e, e->taken + 1);
    const struct flight *b = flight_of(e, e->taken + 2);
    uint32_t n = plan->seqs_count;
    return e->submitted == e->taken + 2 && a->sampled_count == n && b->sampled_count == n &&
           a->clients_count == plan->clients_count && b->clients_count == plan->clients_count &&
           b->graph && s->options.tp == 1 && !s->options.uniproc &&
           s->options.engine.async_depth == 2;
}

/* Was the later one launched while the GPU worked? */
static bool is_steady(const struct simulation *s, struct engine_thread *e, const struct pace *p)
{
    const struct station *me = &e->station;
    const struct worker *w = &e->workers[0];
    const struct flight *b = flight_of(e, e->taken + 2);
    time_ps reached = e->phase_at + p->turn + p->reach - p->poll;
    return e->phase_at > me->cursor && w->station.spinning == w->station.waits_spinning &&
           reached > w->station.wait_since &&
           w->output.wait_since == w->gpu_end + p->poll + p->result &&
           b->result_at == w->output.wait_since + s->options.costs.ring &&
           w->gpu_end >= e->phase_at + p->turn + launching(p) + GPU_SUBMIT_LATENCY;
}

/* What the threads book for `steps` of them, the last result being taken at `last`. */
static void book_threads(const struct simulation *s, struct engine_thread *e, const struct pace *p,
                         uint64_t steps, time_ps last)
{
    struct station *me = &e->station;
    struct station *on = &e->workers[0].station;
    time_ps count = (time_ps)steps;
    time_ps waited = last - me->cursor - (count - 1) * p->turn;
    bool spins = s->options.wait == SIMULATION_SPIN;
    me->books->sync_wait += waited;
    me->books->cpu += count * p->cpu + (spins ? waited : 0);
    me->books->occupancy += count * p->charge;
    me->busy_until = p->charge > 0 ? last + p->charge : last;
    me->cursor = last + p->turn;
    time_ps reached = me->cursor + p->reach;
    time_ps own = p->prepare + p->copy + p->graph;
    time_ps idle = reached - on->wait_since - (count - 1) * own;
    on->books->idle += idle;
    on->books->cpu += count * own + (spins ? idle : 0);
    on->books->messages_in_count += steps;
    on->books->launches_count[SIMULATION_LAUNCH_COPY] += steps;
    on->books->launches_count[SIMULATION_LAUNCH_GRAPH] += steps;
    on->books->launch[SIMULATION_LAUNCH_COPY] += count * p->copy;
    on->books->launch[SIMULATION_LAUNCH_GRAPH] += count * p->graph;
    on->cursor = reached + own;
    on->wait_since = on->cursor;
    e->workers[0].gpu_ready = reached + p->prepare;
}

/* The GPU worked from `began` on. */
static void book_gpu(const struct simulation *s, struct engine_thread *e, const struct pace *p,
                     uint64_t steps, time_ps began)
{
    struct worker *w = &e->workers[0];
    struct station *out = &w->output;
    time_ps worked = w->gpu_end - began;
    time_ps waited = worked - (time_ps)steps * p->result;
    w->books->gpu_busy += worked;
    out->books->sync_wait += waited;
    out->books->cpu += (time_ps)steps * p->result;
    out->books->cpu += s->options.wait == SIMULATION_SPIN ? waited : 0;
    out->books->launches_count[SIMULATION_LAUNCH_SYNC] += steps;
    out->books->messages_out_count += steps;
    out->cursor = w->gpu_end + p->poll + p->result;
    out->wait_since = out->cursor;
}

static void set_flight(struct engine_thread *e, uint64_t step, const struct tally_plan *plan,
                       const struct pace *p, time_ps taken_before, time_ps done)
{
    struct flight *f = flight_of(e, step); /* what only its launches need is left as it is */
    f->submitted = taken_before + p->turn;
    f->sampled_count = plan->seqs_count;
    f->clients_count = plan->clients_count;
    f->graph = true;
    f->done = done;
    f->result_at = done + p->answer - p->poll;
}

/* What goes through the main thread and, at its look at its input, through its output thread. */
static void book_steps(struct engine_thread *e, const struct tally_plan *plan, uint64_t steps,
                       time_ps looked)
{
    struct simulation_thread *books = e->station.books;
    struct station *out = &e->output;
    uint64_t tokens = steps * plan->seqs_count;
    uint64_t messages = steps * plan->clients_count;
    books->steps_count += steps;
    books->backlog_steps_count += books->waiting_now > 0 ? steps : 0;
    books->step_seqs += tokens;
    books->step_tokens += tokens;
    books->output_tokens += tokens;
    books->messages_out_count += messages;
    out->books->output_tokens += tokens;
    out->books->messages_out_count += messages;
    out->books->idle += looked - out->wait_since;
    out->wait_since = looked;
    out->cursor = looked;
    e->output_taken_at = looked;
    e->output_taken_count = plan->clients_count;
    if (plan->clients_count > out->books->queue_max) {
        out->books->queue_max = plan->clients_count;
    }
}

const struct cost_decodes *engine_decodes(struct engine_thread *e, uint32_t seqs_count)
{
    const struct simulation *s = simulation_of(&e->station);
    const struct simulation_options *o = &s->options;
    if (e->decodes_seqs != seqs_count) {
        e->decodes_seqs = seqs_count;
        e->decodes_fit = cost_decodes_of(o->gpu, &s->cost_model, o->tp, seqs_count, &e->decodes);
    }
    return e->decodes_fit ? &e->decodes : NULL;
}

/* The course of a row of steps, as far as it has come. */
struct course {
    uint64_t steps_max;
    time_ps until; /* of the looks at the input */
    uint64_t steps;
    time_ps done[2];  /* the steps in flight */
    time_ps taken[2]; /* the last two results; one: the second */
    time_ps next;     /* the result after them */
};

/* Goes through steps in which the GPU is the last to be ready. */
static void go_through(const struct simulation *s, const uint32_t *step_blocks,
                       const struct cost_decodes *decodes, const struct pace *p,
                       struct tally_plan *plan, struct course *course)
{
    const struct simulation_options *o = &s->options;
    struct course c = *course;
    uint32_t n = plan->seqs_count;
    uint32_t period = o->engine.block_tokens;
    uint32_t phase = (uint32_t)(plan->step % period);
    uint32_t slower_ppm = o->gpu_slower_ppm;
    uint64_t contexts = plan->kv_read_tokens;
    uint64_t steps = 0;
    double pcie_bytes_per_s = o->gpu->pcie_bytes_per_s;
    time_ps least = p->answer + p->turn + launching(p) + GPU_SUBMIT_LATENCY;
    while (steps < c.steps_max && c.next + p->commit <= c.until) {
        time_ps bytes = 28 * (time_ps)n + 4 * (time_ps)step_blocks[phase];
        time_ps time = cost_decodes_time(decodes, contexts);
        time += slower_ppm > 0 ? time / 1000000 * slower_ppm : 0;
        time += (time_ps)((double)bytes / pcie_bytes_per_s * (double)PS_PER_S);
        if (time < least) {
            break;
        }
        contexts += n;
        phase = phase + 1 == period ? 0 : phase + 1;
        c.taken[0] = c.taken[1];
        c.taken[1] = c.next;
        c.next = c.done[1] + p->answer;
        c.done[0] = c.done[1];
        c.done[1] += time;
        steps++;
    }
    c.steps = steps;
    plan->kv_read_tokens = contexts;
    plan->step += steps;
    if (steps > 0) {
        plan->blocks_count = step_blocks[(phase > 0 ? phase : period) - 1];
    }
    *course = c;
}

/* The sum of the steps' times from submission to result. */
static time_ps step_sum(struct engine_thread *e, const struct pace *p, const struct course *c)
{
    time_ps sum = c->taken[1] - flight_of(e, e->taken + 1)->submitted;
    if (c->steps > 1) { /* the third one was submitted a turn after the first result, ... */
        sum += c->taken[0] - flight_of(e, e->taken + 2)->submitted;
        sum -= (time_ps)(c->steps - 2) * p->turn;
    }
    return sum;
}

uint64_t engine_steady_pass(struct engine_thread *e, const struct tally_quiet *quiet,
                            struct tally_plan *plan, uint64_t steps_max, time_ps until)
{
    const struct simulation *s = simulation_of(&e->station);
    if (!are_alike(s, e, plan)) {
        return 0;
    }
    const struct cost_decodes *decodes = engine_decodes(e, plan->seqs_count);
    struct pace p = pace_of(s, plan->seqs_count);
    if (decodes == NULL || !is_steady(s, e, &p)) {
        return 0;
    }
    time_ps began = e->workers[0].gpu_end;
    struct course c = {.steps_max = steps_max,
                       .until = until,
                       .done = {flight_of(e, e->taken + 1)->done, began},
                       .next = e->phase_at};
    go_through(s, quiet->step_blocks, decodes, &p, plan, &c);
    if (c.steps == 0) {
        return 0;
    }
    e->workers[0].gpu_end = c.done[1];
    e->station.books->step += step_sum(e, &p, &c);
    book_steps(e, plan, c.steps, c.taken[1] + p.commit);
    book_threads(s, e, &p, c.steps, c.taken[1]);
    e->looked_at = c.taken[1] + p.commit;
    book_gpu(s, e, &p, c.steps, began);
    e->taken += c.steps;
    e->submitted += c.steps;
    e->phase_at = c.next;
    if (c.steps > 1) {
        set_flight(e, e->submitted - 1, plan, &p, c.taken[0], c.done[0]);
    }
    set_flight(e, e->submitted, plan, &p, c.taken[1], c.done[1]);
    return c.steps;
}
