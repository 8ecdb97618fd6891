/*
 * worker_flow.c - owns what a step takes on an engine core's workers where nobody can see inside
 * them: what the threads of worker_thread.c and launch.c do for it is one computation at its
 * submission, without segments and letters. Driven by the main thread of engine_thread.c or
 * engine_flow.c. Every time and every count but turns is the one that those threads give.
 */
#include "sim/simulation_state.h"

/* Workers run on cores and GPUs of their own, in one stage, a launch never waits for room, and
 * nobody is told of single launches and gaps. A dummy may be in flight besides the plans. */
bool worker_flow_fits(const struct simulation *s)
{
    const struct simulation_options *o = &s->options;
    uint32_t launches = 1 + s->cost_model.kernels_count;
    return o->cores_count == 0 && o->gpu_sharing == SIMULATION_GPU_OWN && o->pp == 1 &&
           !o->uniproc && o->witness == NULL &&
           o->queue_depth >= (uint64_t)(o->engine.async_depth + 1) * launches;
}

/* ---- launches ---- */

/* Kernels of equal length, launched every `cpu` from `now` on: the last one ends when the GPU has
 * done all of them after what was there before, or after the first or the last of them came. */
static void enqueue_kernels(struct worker *w, time_ps now, time_ps cpu, uint32_t count,
                            time_ps work)
{
    time_ps first = now + cpu + GPU_SUBMIT_LATENCY;
    time_ps all = work * (time_ps)count;
    time_ps end = (w->gpu_end > first ? w->gpu_end : first) + all;
    time_ps last = first + cpu * (time_ps)(count - 1) + work;
    end = end > last ? end : last;
    w->books->gpu_idle_late += end - w->gpu_end - all;
    w->books->gpu_busy += all;
    w->gpu_end = end;
}

static void book_launches(struct station *on, enum simulation_launch kind, time_ps cpu,
                          uint32_t count)
{
    struct simulation_thread *books = on->books;
    station_work(on, cpu * (time_ps)count);
    books->launches_count[kind] += count;
    books->launch[kind] += cpu * (time_ps)count;
    books->launch_max = cpu > books->launch_max ? cpu : books->launch_max;
}

void worker_flow_launch(struct worker *w, struct station *on, struct flight *f)
{
    const struct simulation_options *o = &simulation_of(on)->options;
    time_ps cpu = o->gpu->launch + o->launch_extra;
    if (f->launches) {
        w->gpu_ready = on->cursor;
        book_launches(on, SIMULATION_LAUNCH_COPY, cpu, 1);
        (void)gpu_take(w, on->cursor, f->copy_time);
        if (f->graph) {
            time_ps graph = graph_launch_time(o, f->kernels_count);
            book_launches(on, SIMULATION_LAUNCH_GRAPH, graph, 1);
            (void)gpu_take(w, on->cursor, f->gpu_time);
        } else {
            uint32_t most = f->kernels_count - 1;
            enqueue_kernels(w, on->cursor, cpu, most, f->kernel_time);
            book_launches(on, SIMULATION_LAUNCH_KERNEL, cpu, f->kernels_count);
            (void)gpu_take(w, on->cursor, f->gpu_time - f->kernel_time * (time_ps)most);
        }
    }
    f->done = w->gpu_end > f->done ? w->gpu_end : f->done;
}

/* ---- a step ---- */

/* The thread waits for the GPU and answers, if its worker does. */
static void finish_step(const struct simulation *s, struct worker *w, struct station *on,
                        struct flight *f)
{
    bool answers = w->index == 0;
    station_pass_on(on, on->waits_spinning);
    station_pass_wait(on, answers ? f->done : w->gpu_end, true, &on->books->sync_wait);
    on->books->launches_count[SIMULATION_LAUNCH_SYNC]++;
    if (answers) {
        station_work(on, station_cost(&s->options.costs.worker_result, 1, f->sampled_count));
        on->books->messages_out_count++;
        f->result_at = on->cursor + s->options.costs.ring;
    }
}

/* The output thread of a worker. */
static void finish_apart(const struct simulation *s, struct worker *w, struct flight *f,
                         time_ps launched)
{
    struct station *o = &w->output;
    station_pass_wait(o, launched, false, &o->books->idle);
    finish_step(s, w, o, f);
    station_pass_on(o, false);
}

void worker_flow_step(struct engine_thread *e, struct flight *f)
{
    const struct simulation *s = simulation_of(&e->station);
    const struct simulation_options *o = &s->options;
    time_ps sent = e->station.cursor + o->costs.ring;
    bool apart = o->engine.async_depth > 1;
    time_ps launched = 0;
    for (uint32_t i = 0; i < o->tp; i++) {
        struct worker *w = &e->workers[i];
        struct station *on = &w->station;
        station_pass_wait(on, sent, false, &on->books->idle);
        on->books->messages_in_count++;
        station_work(on, station_cost(&o->costs.worker_plan, f->seqs_count, 0));
        worker_flow_launch(w, on, f);
        launched = on->cursor;
        if (!apart) {
            finish_step(s, w, on, f);
        } else if (i > 0) {
            finish_apart(s, w, f, launched);
        }
        station_pass_on(on, on->waits_spinning);
    }
    if (apart) {
        finish_apart(s, &e->workers[0], f, launched);
    }
}
