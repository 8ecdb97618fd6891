/*
 * engine_flow.c - owns an engine core's main thread, its workers and their GPUs where nobody can
 * tell its steps apart (simulation_options_level()): the turns of engine_thread.c with the counts
 * of engine/core/tally instead of an engine core, and what the threads of worker_thread.c and
 * launch.c do for a step as one computation, without segments and letters. Driven by the scene.
 * Must not decide anything: the tally does, and every time is the one that those threads give.
 *
 * The thread's time stands still at its next phase: a look at its input, or a result. Phases that
 * nobody sees are gone through when somebody asks, those that send something at their own time.
 */
#include <string.h>

#include "engine/core/tally.h"
#include "sim/simulation_state.h"

enum flow_phase {
    FLOW_IDLE,  /* waits for input */
    FLOW_INPUT, /* looks at its input, plans and submits */
    FLOW_RESULT /* takes the oldest result in */
};

/* ---- what others are told ---- */

/* The output thread, which takes no time, has sent so many messages at the main thread's cursor. */
static void book_output(struct engine_thread *e, uint64_t messages, uint64_t tokens)
{
    struct station *o = &e->output;
    struct simulation_thread *books = o->books;
    time_ps at = e->station.cursor;
    if (at > e->output_taken_at) {
        e->output_taken_at = at;
        e->output_taken_count = 0;
    }
    e->output_taken_count += (uint32_t)messages;
    books->queue_max =
        e->output_taken_count > books->queue_max ? e->output_taken_count : books->queue_max;
    books->messages_out_count += messages;
    books->output_tokens += tokens;
    e->station.books->messages_out_count += messages;
    if (at > o->wait_since) {
        books->idle += at - o->wait_since;
        o->wait_since = at;
        o->cursor = at;
    }
}

static struct outputs_parcel *new_parcel(struct simulation *s, struct engine_thread *e,
                                         uint32_t rows, uint32_t ids)
{
    struct outputs_parcel *p = (struct outputs_parcel *)parcel_take(
        s, sizeof *p + rows * sizeof *p->rows + ids * sizeof(const char *));
    p->outputs = (struct engine_outputs){
        .engine_index = e->index,
        .outputs = p->rows,
        .outputs_count = rows,
        .timestamp = e->station.cursor,
        .finished_ids = (const char *const *)&p->rows[rows],
        .finished_ids_count = ids,
        .wave_complete = -1,
        .start_wave = -1,
    };
    return p;
}

static void send_parcel(struct simulation *s, struct engine_thread *e, struct outputs_parcel *p,
                        struct station *to, uint32_t inbox)
{
    letter_send(&e->output, to, inbox,
                (struct letter){.at = e->station.cursor + s->options.costs.ipc,
                                .kind = LETTER_PARCEL,
                                .as.parcel = &p->parcel});
}

static void book_stats(struct engine_thread *e)
{
    struct simulation_thread *books = e->station.books;
    books->waiting_now = tally_waiting(e->tally);
    books->running_now = tally_unfinished(e->tally) - books->waiting_now;
    books->preemptions_count = tally_preemptions(e->tally);
    books->kv_used_blocks = tally_used_blocks(e->tally);
}

static void send_counts(struct simulation *s, struct engine_thread *e,
                        const struct scheduler_stats *stats)
{
    if (s->coordinator == NULL || s->options.publish_off) {
        return;
    }
    book_output(e, 1, 0);
    if (coordinator_hears(s, e->index, stats, e->station.cursor + s->options.costs.ipc)) {
        return;
    }
    struct outputs_parcel *p = new_parcel(s, e, 0, 0);
    p->client = COORDINATOR_CLIENT;
    p->stats = *stats;
    p->outputs.stats = &p->stats;
    send_parcel(s, e, p, &s->coordinator->station, COUNTS_INBOX);
}

static void publish_counts(struct simulation *s, struct engine_thread *e)
{
    struct scheduler_stats stats;
    if (tally_counts_changed(e->tally, &stats)) {
        book_stats(e);
        send_counts(s, e, &stats);
    }
}

/* What the client hears of a request: the rows of its API server. */
static void send_rows(struct simulation *s, struct engine_thread *e,
                      const struct tally_result *result, uint32_t client)
{
    uint32_t rows = 0;
    uint32_t ids = 0;
    for (uint32_t i = 0; i < result->rows_count; i++) {
        bool own = result->rows[i].client_index == client;
        rows += own ? 1 : 0;
        ids += own && result->rows[i].last ? 1 : 0;
    }
    struct outputs_parcel *p = new_parcel(s, e, rows, ids);
    const char **finished = (const char **)&p->rows[rows];
    struct engine_output *output = p->rows;
    p->client = (int32_t)client;
    for (uint32_t i = 0; i < result->rows_count; i++) {
        const struct tally_row *row = &result->rows[i];
        if (row->client_index != client) {
            continue;
        }
        const struct ticket *t = ticket_at(s, (uint32_t)row->number);
        *output++ = (struct engine_output){
            .new_tokens_count = row->new_tokens_count,
            .finish = row->last ? FINISH_LENGTH : FINISH_NONE,
            .stop_token_id = TOKEN_NONE,
            .first = row->first,
            .queued_at = row->queued_at,
            .scheduled_at = row->scheduled_at,
            .preemptions_count = row->preemptions_count,
            .tag = t->add.tag, /* names it: no id, and nobody asks which tokens */
        };
        if (row->last) {
            *finished++ = t->id;
        }
    }
    if (!api_hears(s, &s->apis[client], p, e->station.cursor + s->options.costs.ipc)) {
        send_parcel(s, e, p, &s->apis[client].station, OUTPUTS_INBOX);
    }
}

static bool is_first_of_client(const struct tally_result *result, uint32_t index)
{
    for (uint32_t i = 0; i < index; i++) {
        if (result->rows[i].client_index == result->rows[index].client_index) {
            return false;
        }
    }
    return true;
}

static void send_result(struct simulation *s, struct engine_thread *e,
                        const struct tally_result *result, time_ps now)
{
    bool several = s->options.api_servers_count > 1;
    for (uint32_t i = 0; i < result->rows_count; i++) {
        const struct tally_row *row = &result->rows[i];
        struct ticket *t = ticket_at(s, (uint32_t)row->number);
        if (row->first) {
            t->hops[SIMULATION_HOP_ENGINE_SCHEDULED] = row->scheduled_at;
            t->hops[SIMULATION_HOP_ENGINE_FIRST_TOKEN] = now;
        }
        if (row->last) {
            t->hops[SIMULATION_HOP_ENGINE_LAST_TOKEN] = now;
        }
    }
    for (uint32_t i = 0; i < result->rows_count; i++) {
        if (i == 0 || (several && is_first_of_client(result, i))) {
            send_rows(s, e, result, result->rows[i].client_index);
        }
    }
}

/* ---- steps ---- */

static bool only_decodes(const struct tally_plan *plan)
{
    return plan->tokens_count == plan->seqs_count && plan->sampled_count == plan->seqs_count;
}

static time_ps roofline(const struct simulation *s, struct engine_thread *e,
                        const struct tally_plan *plan)
{
    const struct simulation_options *o = &s->options;
    const struct cost_decodes *decodes =
        only_decodes(plan) ? engine_decodes(e, plan->seqs_count) : NULL;
    if (decodes != NULL) {
        return cost_decodes_time(decodes, plan->kv_read_tokens);
    }
    const struct step_load load = {.seqs_count = plan->seqs_count,
                                   .tokens_count = plan->tokens_count,
                                   .kv_read_tokens = plan->kv_read_tokens,
                                   .attention_pairs = plan->attention_pairs,
                                   .sampled_count = plan->sampled_count};
    uint32_t ep = o->model->experts_count > 0 ? o->engines_count : 1;
    const struct step_ranks ranks = {
        .tp = o->tp, .ep = ep, .all_tokens = (uint64_t)ep * plan->tokens_count};
    return cost_step_time(o->gpu, &s->cost_model, &ranks, &load);
}

/* launch_plan() of counts. */
static void fill_flight(const struct simulation *s, struct engine_thread *e, struct flight *f,
                        const struct tally_plan *plan)
{
    const struct simulation_options *o = &s->options;
    f->seqs_count = plan->seqs_count;
    f->sampled_count = plan->sampled_count;
    f->clients_count = plan->clients_count;
    f->done = 0;
    f->launches = plan->tokens_count > 0;
    if (!f->launches) {
        return;
    }
    uint64_t bytes =
        12ULL * plan->tokens_count + 16ULL * plan->seqs_count + 4ULL * plan->blocks_count;
    time_ps time = roofline(s, e, plan);
    f->gpu_time = time + time / 1000000 * o->gpu_slower_ppm;
    f->graph = o->graphs && plan->tokens_count == plan->seqs_count &&
               plan->seqs_count <= SIMULATION_GRAPH_SEQS_MAX;
    f->kernels_count = s->cost_model.kernels_count;
    f->kernel_time = f->graph ? 0 : f->gpu_time / f->kernels_count;
    f->copy_time = (time_ps)((double)bytes / o->gpu->pcie_bytes_per_s * (double)PS_PER_S);
}

/* ---- the main thread ---- */

static void enter(struct engine_thread *e, enum flow_phase phase, time_ps at)
{
    e->station.phase = phase;
    e->phase_at = at;
}

/* True: the result of the oldest step in flight is there already, and is taken at once. */
static bool await_result(const struct simulation *s, struct engine_thread *e)
{
    struct station *me = &e->station;
    const struct flight *f = flight_of(e, e->taken + 1);
    time_ps at = s->options.uniproc ? f->done : f->result_at;
    time_ps poll = me->waits_spinning ? s->options.costs.poll : 0;
    bool ready = at <= me->cursor;
    enter(e, FLOW_RESULT, ready ? me->cursor : at + poll);
    return ready;
}

/* True: it slept off its emulated time before. */
static bool submit(const struct simulation *s, struct engine_thread *e,
                   const struct tally_plan *plan)
{
    const struct simulation_options *o = &s->options;
    struct station *me = &e->station;
    station_work(me, station_cost(&o->costs.engine_step, plan->seqs_count, plan->tokens_count));
    station_charge(me, o->host.engine_step + o->host.engine_seq * (time_ps)plan->seqs_count);
    bool slept = station_owes(me);
    me->cursor = slept ? me->busy_until : me->cursor;
    struct flight *f = flight_of(e, ++e->submitted);
    fill_flight(s, e, f, plan);
    f->submitted = me->cursor;
    me->books->step_seqs += plan->seqs_count;
    me->books->step_tokens += plan->tokens_count;
    if (o->uniproc) {
        worker_flow_launch(&e->workers[0], me, f);
    } else {
        worker_flow_step(e, f);
    }
    return slept;
}

static void add(struct simulation *s, struct engine_thread *e, struct ticket *t)
{
    struct station *me = &e->station;
    struct error refused;
    const struct tally_request request = {.number = t->index,
                                          .prompt_tokens = t->add.prompt_tokens_count,
                                          .max_tokens = t->add.sampling.max_tokens,
                                          .client_index = t->add.client_index};
    enum status status = tally_add(e->tally, &request, me->cursor, &refused);
    station_work(me, station_cost(&s->options.costs.engine_add, 1, request.prompt_tokens));
    if (status != STATUS_OK) {
        engine_refuse(e, t);
        return;
    }
    me->books->requests_count++;
    me->books->prompt_tokens += request.prompt_tokens;
}

/* Letters that its look at `now` finds. What was sent at this very time by an entity that comes
 * behind it in the order was sent after it had looked; an idle thread looks because of a letter. */
static bool take_letters(struct simulation *s, struct engine_thread *e, time_ps now, bool idle)
{
    struct station *me = &e->station;
    bool looked = !idle && now == s->scene.now && s->scene.latest_entity > me->entity;
    const struct letter *letter;
    bool took = false;
    while ((letter = station_letter(me, REQUESTS_INBOX, now - (looked ? 1 : 0))) != NULL) {
        uint32_t ticket = (uint32_t)letter->as.number;
        me->books->messages_in_count++;
        me->books->queue_length += now - letter->at;
        station_drop(me, REQUESTS_INBOX);
        add(s, e, ticket_at(s, ticket));
        took = true;
    }
    return took;
}

/* The main thread has the oldest result. */
static const struct flight *take_result(const struct simulation *s, struct engine_thread *e)
{
    struct station *me = &e->station;
    struct simulation_thread *books = me->books;
    const struct flight *f = flight_of(e, ++e->taken);
    time_ps waited = e->phase_at - me->cursor;
    if (waited > 0) {
        books->sync_wait += waited;
        books->cpu += me->waits_spinning ? waited : 0;
        me->busy_until = me->busy_until > e->phase_at ? me->busy_until : e->phase_at;
        me->cursor = e->phase_at;
    }
    if (s->options.uniproc) {
        books->launches_count[SIMULATION_LAUNCH_SYNC]++;
        station_work(me, station_cost(&s->options.costs.worker_result, 1, f->sampled_count));
    }
    books->steps_count++;
    books->backlog_steps_count += books->waiting_now > 0 ? 1 : 0;
    books->step += me->cursor - f->submitted;
    books->output_tokens += f->sampled_count;
    return f;
}

static void work_on_result(const struct simulation *s, struct engine_thread *e,
                           const struct flight *f)
{
    station_work(&e->station,
                 station_cost(&s->options.costs.engine_commit, f->sampled_count, f->sampled_count));
    book_output(e, f->clients_count > 0 ? f->clients_count : 1, f->sampled_count);
}

static void complete(struct simulation *s, struct engine_thread *e)
{
    struct station *me = &e->station;
    struct tally_result result;
    struct scheduler_stats stats;
    const struct flight *f = take_result(s, e);
    time_ps now = me->cursor;
    tally_complete(e->tally, &result);
    e->ahead_known = false;
    me->books->finished_count += result.finished_count;
    work_on_result(s, e, f);
    book_stats(e);
    ASSERT(result.rows_count == 0 || me->cursor >= s->scene.now);
    send_result(s, e, &result, now);
    s->progress_at = me->cursor;
    if (tally_counts_changed(e->tally, &stats)) {
        send_counts(s, e, &stats);
    }
    enter(e, FLOW_INPUT, me->cursor);
}

/* Plans and submits, and takes a result that is there. True: it looks at its input again in the
 * same segment, as no time has passed since that began. */
static bool work_turn(struct simulation *s, struct engine_thread *e)
{
    struct station *me = &e->station;
    const struct tally_plan *plan;
    time_ps segment = e->phase_at;
    for (;;) {
        switch (tally_turn(e->tally, me->cursor, &plan)) {
        case ENGINE_TURN_SUBMIT:
            engine_count_waiting(e, tally_waiting(e->tally), me->cursor);
            segment = submit(s, e, plan) ? flight_of(e, e->submitted)->submitted : segment;
            break;
        case ENGINE_TURN_AWAIT:
            if (!await_result(s, e)) {
                return false;
            }
            complete(s, e);
            return me->cursor == segment;
        case ENGINE_TURN_DONE:
            publish_counts(s, e);
            enter(e, FLOW_INPUT, me->cursor);
            return me->cursor == segment;
        }
    }
}

static void look(struct simulation *s, struct engine_thread *e, bool idle)
{
    bool again = true;
    e->ahead_known = false;
    while (again) {
        if (take_letters(s, e, e->phase_at, idle)) {
            engine_count_waiting(e, tally_waiting(e->tally), e->phase_at);
        } else if (!tally_has_work(e->tally)) {
            enter(e, FLOW_IDLE, TIME_NEVER);
            return;
        }
        publish_counts(s, e);
        again = work_turn(s, e);
        idle = true;
    }
}

/* ---- steps that nobody sees ---- */

/* From the oldest result to the look at the input. */
static time_ps commit_time(const struct simulation *s, struct engine_thread *e)
{
    const struct simulation_costs *costs = &s->options.costs;
    uint32_t n = flight_of(e, e->taken + 1)->sampled_count;
    return station_cost(&costs->engine_commit, n, n) +
           (s->options.uniproc ? station_cost(&costs->worker_result, 1, n) : 0);
}

/* Quiet steps from now on; what was found holds until something else happens. */
static const struct tally_quiet *look_ahead(struct engine_thread *e)
{
    if (!e->ahead_known) {
        tally_quiet(e->tally, &e->ahead);
        e->ahead_known = true;
    }
    return &e->ahead;
}

/* Quiet steps whose result and whose look at the input come by `until`. */
static void pass_quiet_steps(struct simulation *s, struct engine_thread *e, time_ps until)
{
    struct station *me = &e->station;
    const struct tally_quiet *quiet = look_ahead(e);
    uint32_t n = quiet->seqs_count;
    if (quiet->steps_count == 0) {
        return;
    }
    const struct letter *letter = station_letter(me, REQUESTS_INBOX, TIME_NEVER);
    time_ps most = letter != NULL && letter->at - 1 < until ? letter->at - 1 : until;
    struct tally_plan plan = {.step = quiet->next_step,
                              .seqs_count = n,
                              .tokens_count = n,
                              .sampled_count = n,
                              .clients_count = quiet->clients_count,
                              .kv_read_tokens = quiet->kv_read_tokens};
    uint64_t steps = 0;
    time_ps segment = 0;
    bool ready = false;
    while (!ready && steps < quiet->steps_count && e->phase_at + commit_time(s, e) <= most) {
        uint64_t steady = engine_steady_pass(e, quiet, &plan, quiet->steps_count - steps, most);
        if (steady > 0) {
            steps += steady;
            continue;
        }
        work_on_result(s, e, take_result(s, e));
        e->looked_at = me->cursor;
        plan.attention_pairs = plan.kv_read_tokens;
        plan.blocks_count = quiet->step_blocks[plan.step % s->options.engine.block_tokens];
        segment = submit(s, e, &plan) ? flight_of(e, e->submitted)->submitted : e->looked_at;
        ready = await_result(s, e);
        plan.step++;
        plan.kv_read_tokens += n;
        steps++;
    }
    if (steps == 0) {
        return;
    }
    tally_advance(e->tally, steps);
    e->ahead.steps_count -= steps;
    e->ahead.next_step += steps;
    e->ahead.kv_read_tokens += steps * n;
    me->books->kv_used_blocks = tally_used_blocks(e->tally) - plan.blocks_count;
    engine_count_waiting(e, tally_waiting(e->tally), e->looked_at);
    s->progress_at = me->cursor;
    if (ready) {
        complete(s, e);
        if (me->cursor == segment) {
            look(s, e, true);
        }
    }
}

/* Every phase by `until`. */
void engine_flow_pass(struct engine_thread *e, time_ps until)
{
    struct station *me = &e->station;
    struct simulation *s = simulation_of(me);
    while (e->phase_at <= until) {
        if (me->phase == FLOW_RESULT) {
            pass_quiet_steps(s, e, until);
        }
        if (e->phase_at > until) {
            break;
        }
        if (me->phase == FLOW_RESULT) {
            complete(s, e);
        } else {
            look(s, e, false);
        }
    }
    /* As it would stand in the scene. */
    me->wait_since = me->cursor;
    me->spinning = me->phase == FLOW_RESULT && me->waits_spinning;
    me->wait_books = me->phase == FLOW_RESULT ? &me->books->sync_wait
                     : me->phase == FLOW_IDLE ? &me->books->idle
                                              : NULL;
}

/* Not after the next phase that somebody may see, if no request comes. */
static time_ps next_seen(const struct simulation *s, struct engine_thread *e)
{
    const struct simulation_options *o = &s->options;
    if (s->level < SIMULATION_L2 || e->station.phase != FLOW_RESULT) {
        return e->phase_at;
    }
    const struct tally_quiet *quiet = look_ahead(e);
    uint64_t row = quiet->next_row;
    if (row == e->taken + 1) {
        return e->phase_at;
    }
    if (row <= e->submitted) {
        const struct flight *f = flight_of(e, row);
        time_ps there = o->uniproc ? f->done : f->result_at;
        return there > e->phase_at ? there : e->phase_at;
    }
    uint64_t steps = row - e->submitted;
    struct tally_plan plan = {.seqs_count = quiet->seqs_count,
                              .tokens_count = quiet->seqs_count,
                              .sampled_count = quiet->seqs_count,
                              .kv_read_tokens = quiet->kv_read_tokens,
                              .attention_pairs = quiet->kv_read_tokens};
    time_ps least = roofline(s, e, &plan);
    if (o->gpu->fit != NULL) { /* a line that may fall; else times rise with the contexts */
        plan.kv_read_tokens += (steps - 1) * quiet->seqs_count;
        plan.attention_pairs = plan.kv_read_tokens;
        time_ps last = roofline(s, e, &plan);
        least = (least < last ? least : last) - 1; /* they are rounded */
    }
    time_ps seen = e->workers[0].gpu_end + least * (time_ps)steps;
    return seen > e->phase_at ? seen : e->phase_at;
}

void engine_flow_run(struct station *station)
{
    struct simulation *s = simulation_of(station);
    struct engine_thread *e = station->owner;
    time_ps now = station->now;
    station->cursor = station->wait_since; /* as the last pass left it */
    if (station->phase == FLOW_IDLE) {
        if (now > station->cursor) {
            station->books->idle += now - station->cursor;
            station->busy_until = station->busy_until > now ? station->busy_until : now;
            station->cursor = now;
        }
        enter(e, FLOW_INPUT, station->cursor);
        look(s, e, true);
    }
    engine_flow_pass(e, now);
    bool letters = station_letter(station, REQUESTS_INBOX, TIME_NEVER) != NULL;
    bool idle = station->phase == FLOW_IDLE;
    station->waiting = true;
    station->timed = false;
    station->wait_mask =
        idle ? 1U << REQUESTS_INBOX : 0; /* else engine_flow_arrival() sees to it */
    station->wait_until = idle ? TIME_NEVER : letters ? e->phase_at : next_seen(s, e);
}

void engine_flow_arrival(struct engine_thread *e)
{
    struct station *me = &e->station;
    struct scene *scene = me->scene;
    if (me->phase != FLOW_IDLE) {
        engine_flow_pass(e, scene->now - 1);
    }
    if (me->phase != FLOW_IDLE) {
        me->wait_mask = 0;
        me->wait_until = e->phase_at;
        event_queue_set(&scene->queue, me->entity, e->phase_at);
    }
}

enum status engine_flow_open(struct simulation *s, struct engine_thread *e, struct error *error)
{
    struct engine_core_options options = s->options.engine;
    options.engine_index = e->index;
    options.clients_count = s->options.api_servers_count;
    options.pipeline_stages = 1;
    options.wave = (struct wave_options){0};
    TRY(arena_create(tally_arena_bytes(&options), &e->arena, error));
    tally_create(&e->arena, &options, &e->tally);
    e->station.run = engine_flow_run;
    e->station.books_waits = true;
    enter(e, FLOW_IDLE, TIME_NEVER);
    return STATUS_OK;
}
