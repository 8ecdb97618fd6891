/*
 * simulation_state.h - the parts of a simulation, as they know each other. Private to the files of
 * simulation.h:
 *
 *     simulation.c           creation, the run, what can be read
 *     simulation_options.c   defaults and checks
 *     station.c              threads, letters, cores
 *     parcel.c               memory of requests and messages in flight
 *     client_thread.c        sends requests, reads tokens
 *     api_thread.c           an API server
 *     coordinator_thread.c   the coordinator
 *     engine_thread.c        an engine core's main thread
 *     engine_flow.c          the same, by counts alone
 *     engine_steady.c        many steps of it at once
 *     engine_io_thread.c     its input and output threads
 *     worker_flow.c          a step on its workers, as one computation
 *     worker_thread.c        a worker's two threads
 *     launch.c               launches, GPUs
 *
 * Each file of a thread follows the loop of the process of the same name in engine/node, piece by
 * piece, so that batching under load is the same.
 */
#ifndef SIM_SIMULATION_STATE_H
#define SIM_SIMULATION_STATE_H

#include "engine/core/coordinator.h"
#include "engine/core/frontend.h"
#include "engine/core/tally.h"
#include "engine/device/gpu_share.h"
#include "sim/station.h"

enum {
    FLIGHTS_MAX = 16,     /* plans and dummies submitted and not taken: depth 2, a plan in each
                             further stage of a pipeline, and a dummy; a power of two */
    TICKET_ID_BYTES = 12, /* "r-0000002a" */
    TICKET_DIGITS_AT = 2,
    TICKET_CHUNK = 256,
    CACHE_LINE_BYTES = 64,
    PARCEL_CLASSES = 32,
};

#define GPU_SUBMIT_LATENCY (3 * PS_PER_US) /* SUBMIT_LATENCY_NS of engine/device/launch_cost.h */

enum {
    HTTP_INBOX = 0, /* API server: tickets */
    OUTPUTS_INBOX,  /* messages of engine cores */
    STATE_INBOX,    /* of the coordinator */

    REQUESTS_INBOX = 0, /* engine core: ADD and START_DP_WAVE, from thread to thread */
    RESULTS_INBOX,      /* of workers */

    FRONT_INBOX = 0, /* coordinator: FIRST_REQ */
    COUNTS_INBOX,    /* what engine cores say */

    ONLY_INBOX = 0,
};

enum letter_kind {
    LETTER_PLAIN,
    LETTER_PARCEL,
    LETTER_ADD,
    LETTER_START_WAVE,
};

/* A request in flight, from the client's decision to send it to the read of its last event. What
 * every token needs stands first, in one cache line. */
struct ticket {
    _Alignas(CACHE_LINE_BYTES) char id[TICKET_ID_BYTES];
    uint32_t index;
    uint32_t read_tokens;
    /* in the API server: what is to be written */
    uint32_t unwritten_tokens;
    bool unwritten;
    bool unwritten_first;
    bool unwritten_last;
    bool failed;
    time_ps first;
    uint64_t withheld_steps; /* of its engine core, when an output of it was sent last */
    struct simulation_request request;
    struct engine_request add; /* as the API server sent it */
    time_ps sent;
    time_ps hops[SIMULATION_HOPS_COUNT];
    uint32_t api_server;
    uint32_t engine;
    uint32_t cached_tokens;
    uint32_t next_free;
};

/* Memory of one message; a typed struct begins with it. */
struct parcel {
    struct parcel *next_free;
    uint32_t size_class;
    uint32_t references;
};

struct outputs_parcel {
    struct parcel parcel;
    int32_t client; /* COORDINATOR_CLIENT: counts */
    struct engine_outputs outputs;
    struct scheduler_stats stats;
    struct engine_output rows[];
};

struct state_parcel {
    struct parcel parcel;
    struct coordinator_state state;
    struct engine_counts counts[];
};

/* What an API server writes to one connection. */
struct api_write {
    struct ticket *ticket;
    time_ps at;
    uint32_t tokens;
    bool first;
    bool last;
};

struct writes_parcel {
    struct parcel parcel;
    uint32_t count;
    struct api_write writes[];
};

struct client_thread {
    struct station station;
    struct simulation_request *pending; /* heap by (at, user, number): what is to be sent */
    uint32_t pending_count;
    uint32_t pending_capacity;
    bool exhausted; /* the source has no more requests, or no user has */
    uint32_t users_left;
    uint64_t inflight;
    time_ps last_at; /* of the source */
};

struct api_thread {
    struct station station;
    uint32_t index;
    bool heard_coordinator;
    struct arena arena;
    struct frontend *frontend;
    uint32_t turn_messages; /* taken in this turn */
    bool slept;
    uint32_t http_left; /* connections that were readable when this turn looked */
    struct ticket *submitting;
    struct first_request first;
    bool first_request;
    const struct outputs_parcel *message; /* in work */
    time_ps message_at;
    struct ticket **dirty; /* connections with something to write, in this order */
    uint32_t dirty_count;
    uint32_t dirty_capacity;
};

struct coordinator_thread {
    struct station station;
    struct arena arena;
    struct coordinator *coordinator;
    bool front_ready;
    bool counts_ready;
    uint64_t told_count;             /* messages, when it published last */
    struct state_parcel *publishing; /* leaves when its time is over; NULL: none */
};

/* One submitted plan or dummy. */
struct flight {
    uint64_t step; /* the engine core's; 0: a dummy */
    time_ps submitted;
    uint32_t seqs_count;
    uint32_t sampled_count;
    bool launches; /* something runs on the GPU */
    bool graph;
    uint32_t kernels_count;
    time_ps copy_time;
    time_ps gpu_time;
    time_ps kernel_time; /* of each kernel but the last, if it is no graph */
    uint32_t sm_ppm;
    uint32_t bandwidth_ppm;
    uint32_t workers_launched; /* of the last stage of a pipeline */
    time_ps done;              /* on the last of them; a GPU of its own only */
    uint64_t needs;    /* a pipeline: the flight that samples what this one begins with; 0: none */
    time_ps handover;  /* from one stage's end to the next one's begin */
    time_ps result_at; /* worker_flow.c, engine_steady.c: the main thread can read it */
    uint32_t clients_count;
};

/* A flight in a stage of a pipeline. */
struct stage {
    uint32_t launched_count; /* workers */
    time_ps done;            /* on the last of them */
};

struct worker {
    struct station station; /* of a process of its own */
    struct station output;
    struct engine_thread *engine;
    struct simulation_thread *books; /* of the launching thread */
    uint32_t index;
    uint32_t stage_index;
    const struct stage *awaited; /* it waits until all workers of it have launched; NULL: it does
                                    not */
    time_ps not_before;          /* what the flight begins with is there; 0: it is */
    uint64_t launching;          /* flight */
    uint32_t next_launch;
    time_ps flight_done[FLIGHTS_MAX];
    /* its own GPU */
    time_ps gpu_gap; /* idle since the last kernel or graph; negative: there was none yet */
    time_ps gpu_end;
    time_ps gpu_ready;
    time_ps *queue_ends; /* [queue_depth] ring of the ends of what is queued or running */
    uint32_t queue_first;
    uint32_t queue_count;
    /* a shared GPU */
    struct gpu_share *share;
    uint32_t context;
};

struct engine_thread {
    struct station station;
    struct station input;
    struct station output;
    struct interpreter interpreter;
    uint32_t index;
    struct arena arena;
    struct engine_core *core;
    struct worker *workers; /* [pp x tp], those of a stage behind each other */
    struct flight flights[FLIGHTS_MAX];
    struct stage *stages; /* [FLIGHTS_MAX x pp] of a pipeline, else NULL */
    uint64_t *sampled_by; /* [slot] the last flight that samples a token of it; likewise */
    uint64_t submitted;
    uint64_t received;
    uint64_t taken;
    const struct step_plan *plan; /* being submitted; NULL: a dummy */
    bool worked;                  /* this turn submitted something */
    bool workers_flow;            /* worker_flow.c stands for its workers' threads */
    /* Level L1: quiet steps, which the engine core hears of when they end. */
    struct engine_core_quiet quiet; /* steps_count 0: it is not in them */
    uint64_t quiet_planned;         /* of them */
    uint64_t quiet_completed;
    uint64_t quiet_computed_tokens; /* before the step being planned */
    uint32_t quiet_blocks;          /* taken since the last stats */
    struct step_plan quiet_plan;    /* says no more than counts */
    uint64_t withheld_steps;        /* quiet ones so far: a token of every request that runs */
    /* engine_flow.c, in place of the engine core */
    struct tally *tally;      /* NULL: it has one */
    time_ps phase_at;         /* when its next phase begins */
    time_ps looked_at;        /* at its input, before the last quiet step that was submitted */
    struct tally_quiet ahead; /* quiet steps from here on, if they are known */
    bool ahead_known;
    struct cost_decodes decodes; /* of steps of so many sequences; 0: none yet */
    uint32_t decodes_seqs;
    bool decodes_fit;
    struct wave_ballot ballot;
    uint32_t wave_before;
    bool in_wave; /* its first forward was agreed on */
    /* its queues: requests without a place, messages that its output thread has not begun */
    uint32_t waiting_count;
    time_ps waiting_since;
    uint32_t output_taken_count; /* at once, when the output thread looked last */
    time_ps output_taken_at;
};

/* A meeting of all ranks. */
struct barrier {
    uint32_t arrived_count;
    time_ps latest;
    /* of a forward */
    struct wave_forward forward;
    uint64_t tokens;
    struct wave_forward agreed;
    uint64_t agreed_all_tokens;
    /* of a finish check */
    struct wave_ballot sum;
    struct wave_ballot checked;
};

struct gpu_shared_state {
    struct gpu_share share;
    struct gpu_share_state state;
};

struct simulation {
    struct simulation_options options;
    enum simulation_level level;
    struct simulation_source source;
    struct simulation_observer observer;
    struct scene scene;
    struct client_thread client;
    struct api_thread *apis;
    struct coordinator_thread *coordinator; /* NULL: D = 1 */
    struct engine_thread *engines;
    struct barrier step_barrier;
    struct barrier finish_barrier;
    struct gpu_shared_state *gpus; /* shared ones */
    uint32_t gpus_count;
    struct cost_model cost_model;
    struct worker *workers;
    uint32_t workers_count; /* launchers: D x pp x tp */
    struct simulation_thread *books;
    struct simulation_thread *shown;
    uint32_t threads_count;
    uint32_t *zero_tokens; /* [max_num_seqs] */
    uint32_t *prompt;      /* [max_model_len] */

    struct ticket **chunks;
    uint32_t chunks_count;
    uint32_t chunks_capacity;
    uint32_t free_ticket;
    struct parcel *free_parcels[PARCEL_CLASSES];
    struct simulation_totals totals;
    time_ps progress_at; /* a token was read */
    struct error error;  /* what ended the run */
};

/* parcel.c */
struct ticket *ticket_take(struct simulation *s);
void ticket_give(struct simulation *s, struct ticket *t);
static inline struct ticket *ticket_at(const struct simulation *s, uint32_t index)
{
    return &s->chunks[index / TICKET_CHUNK][index % TICKET_CHUNK];
}
/* Whose request an internal id names: its last 8 digits are the ticket's index. */
struct ticket *ticket_of_id(const struct simulation *s, const char *id);
/* At least so many bytes, the header included; one reference. */
struct parcel *parcel_take(struct simulation *s, size_t bytes);
void parcel_give(struct simulation *s, struct parcel *p);
void parcels_destroy(struct simulation *s);
/* A copy that outlives the engine core's memory. */
struct outputs_parcel *parcel_of_outputs(struct simulation *s, int32_t client,
                                         const struct engine_outputs *outputs);

static inline void letter_send(struct station *from, struct station *to, uint32_t inbox,
                               struct letter letter)
{
    letter.from = from->entity;
    station_send(to, inbox, &letter);
}

/* client_thread.c */
MUST_CHECK enum status client_open(struct simulation *s, struct error *error);
void client_run(struct station *station);
/* Above L0, where reading takes no time, as it is written; false: it has to be sent. */
bool client_reads(struct simulation *s, const struct api_write *w);
void client_destroy(struct client_thread *c);

/* api_thread.c */
MUST_CHECK enum status api_open(struct simulation *s, struct api_thread *a, struct error *error);
void api_run(struct station *station);
/* Outputs and requests where that takes no time; false: they have to be sent. */
bool api_hears(struct simulation *s, struct api_thread *a, struct outputs_parcel *p, time_ps at);
bool api_hears_request(struct simulation *s, struct api_thread *a, struct ticket *t, time_ps at);
void api_destroy(struct api_thread *a);

/* coordinator_thread.c */
MUST_CHECK enum status coordinator_open(struct simulation *s, struct error *error);
void coordinator_run(struct station *station);
/* An engine core's counts, where that takes no time; false: they have to be sent. */
bool coordinator_hears(struct simulation *s, uint32_t engine, const struct scheduler_stats *stats,
                       time_ps at);
void coordinator_destroy(struct coordinator_thread *c);

/* engine_thread.c */
MUST_CHECK enum status engine_open(struct simulation *s, struct engine_thread *e,
                                   struct error *error);
void engine_run(struct station *station);
/* The client of a request that the engine core refuses must not wait for ever. */
void engine_refuse(struct engine_thread *e, const struct ticket *t);

/* engine_flow.c */
MUST_CHECK enum status engine_flow_open(struct simulation *s, struct engine_thread *e,
                                        struct error *error);
void engine_flow_run(struct station *station);
/* It has got a request: its next look comes with its next phase. */
void engine_flow_arrival(struct engine_thread *e);
/* What it does by this time, which no event comes before. */
void engine_flow_pass(struct engine_thread *e, time_ps until);

/* engine_steady.c */
/* What steps cost in which so many sequences compute a token each and sample;
 * NULL: that is not all there is to them. */
const struct cost_decodes *engine_decodes(struct engine_thread *e, uint32_t seqs_count);
/* Takes some of up to `steps_max` quiet steps, those whose look at the input comes
 * by `until`, of which *plan is the next one, and books them; 0: they have to be gone through. */
uint64_t engine_steady_pass(struct engine_thread *e, const struct tally_quiet *quiet,
                            struct tally_plan *plan, uint64_t steps_max, time_ps until);

/* engine_io_thread.c */
void engine_input_run(struct station *station);
void engine_output_run(struct station *station);
/* A request, where the input thread takes no time; false: it has to be sent. */
bool engine_hears(struct engine_thread *e, struct ticket *t, time_ps at);
/* From the main thread, at its cursor. */
void engine_send(struct engine_thread *e, int32_t client, const struct engine_outputs *outputs);

/* worker_flow.c */
bool worker_flow_fits(const struct simulation *s);
/* launch_begin() and launch_more() with a queue that never fills up. */
void worker_flow_launch(struct worker *w, struct station *on, struct flight *f);
/* The step, submitted at the main thread's cursor, goes through all workers: result_at. */
void worker_flow_step(struct engine_thread *e, struct flight *f);

/* worker_thread.c */
void worker_run(struct station *station);
void worker_output_run(struct station *station);

static inline uint32_t workers_per_engine(const struct simulation *s)
{
    return s->options.tp * s->options.pp;
}
static inline struct flight *flight_of(struct engine_thread *e, uint64_t number)
{
    return &e->flights[number % FLIGHTS_MAX];
}
static inline struct stage *stage_of(const struct simulation *s, const struct engine_thread *e,
                                     uint64_t flight, uint32_t stage)
{
    return &e->stages[flight % FLIGHTS_MAX * s->options.pp + stage];
}

/* launch.c */
MUST_CHECK enum status launch_open(struct simulation *s, struct worker *w, struct error *error);
/* Fills in what the plan being submitted takes on each GPU of the engine core. */
void launch_plan(const struct engine_thread *e, struct flight *f, const struct wave_forward *agreed,
                 uint64_t all_tokens);
/* Is it known when the stage before, or what samples the first one's tokens, is done with it? If
 * not, the segment ends with waiting for that. */
bool launch_await(struct worker *w, struct station *on, uint64_t flight);
void launch_begin(struct worker *w, struct station *on, uint64_t flight);
/* Launches on the thread `on` as far as the queue has room. False: it is full, and the segment ends
 * with waiting for room. */
bool launch_more(struct worker *w, struct station *on);
/* Is the flight done, on this worker's GPU or (all) on those of all workers? If not, and all of
 * them have launched it, the segment ends with waiting for that. */
bool launch_done(struct worker *w, struct station *on, uint64_t flight, bool all);

static inline struct simulation *simulation_of(const struct station *s)
{
    return s->scene->simulation;
}

/* Requests without a place wait in the scheduler's own list: to be called whenever its length may
 * have changed, with what it is now. */
static inline void engine_count_waiting(struct engine_thread *e, uint32_t waiting_count,
                                        time_ps now)
{
    struct simulation_thread *books = e->station.books;
    books->queue_length += (time_ps)e->waiting_count * (now - e->waiting_since);
    e->waiting_count = waiting_count;
    e->waiting_since = now;
    books->queue_max = waiting_count > books->queue_max ? waiting_count : books->queue_max;
}

/* CPU time of launching a graph. */
static inline time_ps graph_launch_time(const struct simulation_options *o, uint32_t kernels_count)
{
    return o->gpu->graph_launch + o->gpu->graph_node * kernels_count + o->launch_extra;
}

/* A worker's own GPU gets work at `now`, and begins it when it is free: when that is. */
static inline time_ps gpu_take(struct worker *w, time_ps now, time_ps work)
{
    struct simulation_thread *books = w->books;
    time_ps begin = now + GPU_SUBMIT_LATENCY;
    begin = begin > w->gpu_end ? begin : w->gpu_end;
    time_ps late_since = w->gpu_end > w->gpu_ready ? w->gpu_end : w->gpu_ready;
    late_since = late_since < begin ? late_since : begin;
    books->gpu_idle_late += begin - late_since;
    books->gpu_idle_absent += late_since - w->gpu_end;
    books->gpu_busy += work;
    w->gpu_end = begin + work;
    return begin;
}

/* For the witness, if there is one. */
static inline void tell_spans(const struct simulation *s, const struct simulation_thread *books,
                              enum simulation_span what, time_ps time, uint32_t count)
{
    const struct simulation_witness *w = s->options.witness;
    if (w != NULL) {
        w->lasted(w->ctx, (uint32_t)(books - s->books), what, time, count);
    }
}

/* A wait since a hop; none without that stamp. */
static inline void tell_wait(const struct station *s, time_ps since, time_ps until)
{
    if (since > 0) {
        tell_spans(simulation_of(s), s->books, SIMULATION_SPAN_WAIT, until - since, 1);
    }
}

static inline void tell_event(const struct station *s, enum simulation_event_kind kind,
                              int64_t first, int64_t second)
{
    const struct simulation_witness *w = simulation_of(s)->options.witness;
    if (w != NULL) {
        const struct simulation_event event = {.kind = kind,
                                               .by = s->books->kind,
                                               .instance = s->books->instance,
                                               .at = s->cursor,
                                               .value = {first, second}};
        w->happened(w->ctx, &event);
    }
}

#endif
