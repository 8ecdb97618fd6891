/*
 * protocol_model.h - the state of protocol_driver.c: actors, links, rendezvous, and what the
 * invariants are held against. Private to protocol_*.c.
 */
#ifndef SIM_PROTOCOL_MODEL_H
#define SIM_PROTOCOL_MODEL_H

#include "engine/base/random.h"
#include "engine/core/coordinator.h"
#include "engine/core/engine_core.h"
#include "engine/core/frontend.h"
#include "engine/core/startup.h"
#include "sim/protocol_driver.h"

enum {
    PROTOCOL_ITEMS_MAX = 160,
    PROTOCOL_SEQS_MAX = 6,
    PROTOCOL_MODEL_LEN = 32,
    PROTOCOL_VOCABULARY = 40, /* small, so that stop tokens hit */
    PROTOCOL_MESSAGES_MAX = 4096,
    PROTOCOL_FORWARDS_OPEN = 16, /* ranks are at most a few forwards apart */
    PROTOCOL_EVENTS_MAX = 400000,
    PROTOCOL_EVENTS_KEPT = 1024,
    PROTOCOL_GRACE_MS = 5000, /* from the first death to the last */
    PROTOCOL_KILL_MS = 4500,  /* what does not end by itself is killed */
};

static inline uint32_t process_of_client(uint32_t client)
{
    return PROTOCOL_RANKS_MAX + client;
}

/* ---- messages and links ---- */

enum protocol_message_kind {
    MESSAGE_ADD,
    MESSAGE_ABORT,
    MESSAGE_PAUSE,
    MESSAGE_RESUME,
    MESSAGE_OUTPUTS,
    MESSAGE_REPLY, /* to a pause or a resume */
    MESSAGE_STATE,
    MESSAGE_START_WAVE,
    MESSAGE_READY,
    MESSAGE_SUBSCRIBE,
    MESSAGE_FIRST_REQUEST,
    MESSAGE_ENGINE,    /* engine core -> coordinator */
    MESSAGE_HANDSHAKE, /* HELLO and READY, engine core -> launcher */
    MESSAGE_INIT,
    MESSAGE_GREETING, /* engine core -> client: it is there */
    MESSAGE_BOUND,    /* client -> launcher: its sockets are bound */
    MESSAGE_SERVING,  /* client -> launcher: all engine cores are there */
    MESSAGE_DEAD,     /* engine core -> client, the last thing it says */
};

struct protocol_output {
    uint32_t request;
    uint32_t token;
    enum finish_reason finish;
    int32_t stop_token_id;
    bool first;
};

struct protocol_outputs {
    uint32_t engine;
    uint32_t outputs_count;
    uint32_t finished_count;
    bool has_stats;
    struct scheduler_stats stats;
    struct protocol_output outputs[PROTOCOL_SEQS_MAX];
    uint16_t finished[PROTOCOL_REQUESTS_MAX];
};

struct protocol_message {
    struct protocol_message *next;
    time_ps at;
    enum protocol_message_kind kind;
    union {
        struct {
            uint32_t request; /* PROTOCOL_REQUESTS_MAX: an id that nobody has */
            uint32_t wave;
        } add; /* and ABORT */
        struct {
            enum pause_mode mode;
            uint32_t client;
        } admin; /* PAUSE, RESUME, REPLY */
        struct protocol_outputs outputs;
        struct {
            struct coordinator_state state;
            struct engine_counts counts[PROTOCOL_RANKS_MAX];
        } state;
        struct start_wave start;
        struct first_request first;
        struct {
            uint32_t engine;
            bool has_stats;
            struct scheduler_stats stats;
            int64_t wave_complete;
            int64_t start_wave;
        } engine;
        struct {
            uint32_t rank;
            struct startup_message message;
        } handshake; /* and GREETING */
    };
};

struct protocol_link {
    struct protocol_message *head;
    struct protocol_message *tail;
    time_ps last_at; /* nothing may arrive before what was sent earlier */
    time_ps delay_mean;
    uint32_t delay_shape; /* 0: always the mean; 1: uniform; 2: exponential */
    bool cut;             /* one end is dead: nothing is sent any more */
    uint8_t from;         /* processes */
    uint8_t to;
};

/* ---- requests and the workload ---- */

struct protocol_request {
    struct frontend_request request;
    struct engine_request sent; /* as its front end sent it */
    char id[16];
    uint64_t sample_key;
    uint32_t client;
    uint32_t expected_count;
    enum finish_reason expected_finish;
    int32_t handle;
    uint32_t engine;
    bool left_out; /* by the plan */
    bool submitted;
    bool cancelled;    /* by its client: nobody waits any more */
    bool abort_seen;   /* an ABORT or an aborting pause reached its engine core while held */
    bool held;         /* added, and neither finished nor aborted at its engine core */
    bool added;        /* its engine core has it, or had it */
    bool finished_out; /* its last output was sent */
    bool last_seen;    /* its last output arrived */
    bool id_sent;      /* its engine core reported its end */
    bool id_back;      /* its id came back to the client */
    bool delta_finished;
    uint32_t sent_count; /* tokens that its engine core put out */
    uint32_t delivered_count;
    uint32_t taken_count;
};

enum protocol_item_kind {
    ITEM_SUBMIT,
    ITEM_CANCEL,
    ITEM_STRANGE_ABORT, /* of an unknown id, or of any request behind its front end's back */
    ITEM_PAUSE,
    ITEM_RESUME,
    ITEM_STALL, /* a client stops reading for a while */
};

struct protocol_item {
    time_ps at;
    enum protocol_item_kind kind;
    uint32_t client;
    uint32_t value; /* request, pause mode, or milliseconds */
};

/* ---- actors ---- */

/* Where an engine core's main thread goes on. */
enum rank_stage {
    RANK_START,  /* before HELLO */
    RANK_HELLO,  /* waits for INIT */
    RANK_LOADED, /* greets the clients and subscribes */
    RANK_BOOT,   /* waits for READY */
    RANK_DRAIN,
    RANK_RESUMED,
    RANK_TURN,
    RANK_COMPLETE,
    RANK_WAVE,
    RANK_CHECKED,
};

enum rank_wait {
    RANK_RUNNABLE, /* at resume_at */
    RANK_IDLE,     /* until a message arrives */
    RANK_IN_FORWARD,
    RANK_IN_ALLREDUCE,
};

struct rank_step {
    const struct step_plan *plan; /* NULL: a dummy */
    uint32_t tokens[PROTOCOL_SEQS_MAX];
    uint16_t requests[PROTOCOL_SEQS_MAX]; /* of which token n is */
    uint32_t tokens_count;
    bool collective;
    uint64_t forward; /* its number, if it is a collective */
    time_ps done_at;  /* if it is not */
};

struct protocol_rank {
    struct engine_core *engine;
    enum rank_stage stage;
    enum rank_wait wait;
    time_ps resume_at;
    time_ps free_at; /* when its device has done everything that is not a collective */
    struct rank_step steps[2];
    uint32_t steps_count;
    struct rank_step dummy;
    uint64_t forwards_count; /* submitted */
    uint64_t reduces_count;  /* entered */
    struct engine_core_messages messages;
    bool pause_asked[PROTOCOL_CLIENTS_MAX]; /* replies owed */
    uint32_t resume_client;
    bool resume_waits; /* for the end of a pause that is pending */
    /* What the invariants are held against. */
    uint32_t held_count;
    uint32_t wave_steps; /* forwards of this wave */
    uint32_t loop_forwards;
    uint32_t loop_checks;
    uint32_t last_wave;
    bool last_running;       /* after the last event */
    bool loop_began_running; /* when the loop before ended */
    bool pending_pause;
    bool paused_by_all;
    bool may_announce;    /* a start of its own: a stale request or, with that option, any cause */
    bool start_noticed;   /* in this loop */
    int64_t complete_due; /* wave whose end must be told, -1: none */
    bool usage_left;      /* the last statistics say idle, but blocks are used */
    uint32_t slow;        /* its steps and its main thread take so many times longer */
    time_ps slow_until;
    uint32_t told_count;           /* of the following */
    struct engine_outputs told[2]; /* its last notices, the older one first */
    bool subscribed;
};

enum client_stage {
    CLIENT_START,  /* before its sockets are bound */
    CLIENT_BOUND,  /* waits for the engine cores */
    CLIENT_OPEN,   /* takes requests */
    CLIENT_FAILED, /* heard that the system is over */
};

struct protocol_client {
    struct frontend *frontend;
    enum client_stage stage;
    time_ps start_at;
    uint32_t greeted; /* by these ranks, a bit each */
    time_ps stalled_until;
    time_ps subscribe_at; /* what is published before does not reach it */
    time_ps lost_until;   /* nor what is published while its connection is away */
    bool subscribing;     /* subscribe_at is set */
    bool pausing;         /* a pause of its own is not answered */
    uint32_t last_wave;
    /* A second copy of what the router should know. */
    struct engine_counts counts[PROTOCOL_RANKS_MAX];
    uint32_t inflight[PROTOCOL_RANKS_MAX];
    uint32_t start;
    bool burst_clean; /* only zero counts seen, nothing ended, no rank asked for */
};

/* The rules of the coordinator's states, written a second time. */
struct coordinator_model {
    uint32_t wave;
    bool running;
    bool changed;
    int64_t last_wave;
    int64_t last_step;
    bool has_snapshot;
    struct engine_counts live[PROTOCOL_RANKS_MAX];
    struct engine_counts snapshot[PROTOCOL_RANKS_MAX];
    bool start_told; /* an engine core said that `wave` runs */
};

struct protocol_forward {
    uint32_t arrived;
    uint32_t wave;
    uint32_t step;
    time_ps last_submit;
    struct wave_forward own[PROTOCOL_RANKS_MAX];
    bool resolved;
    time_ps done_at;
};

struct protocol_reduce {
    uint32_t arrived;
    bool resume; /* of a resume, else of a check */
    uint32_t wave;
    uint32_t step;
    struct wave_ballot sum;
    bool any_unfinished;
};

/* What one process does wrong while the system starts. */
enum startup_fault {
    FAULT_NONE,
    FAULT_HASH,         /* another configuration */
    FAULT_HASH_MISSING, /* its configuration is not told */
    FAULT_READY_EARLY,  /* READY right after HELLO */
    FAULT_READY_TWICE,
    FAULT_HELLO_TWICE,
    FAULT_RANK, /* of a rank that does not exist */
    FAULT_LOCAL,
    FAULT_HEADLESS,
    FAULT_BOUND_TWICE, /* an API server */
};

/* The launcher, and the rules of its start-up a second time: sets of ranks, a bit each. */
struct protocol_launcher {
    struct startup *barrier;
    struct startup_options options;
    enum startup_fault fault;
    uint32_t faulty;  /* rank or client */
    bool early_users; /* come as soon as a client is open, else when the system serves */
    uint32_t greeted;
    uint32_t told;
    uint32_t ready;
    uint32_t bound_count;
    uint32_t serving_count;
    bool serving;
    bool refused;
};

enum admin_state {
    ADMIN_NONE,
    ADMIN_PAUSING,
    ADMIN_PAUSED,
    ADMIN_RESUMING
};

struct protocol_event {
    time_ps at;
    uint32_t kind;
    uint32_t args[4];
};

struct protocol {
    uint64_t seed;
    struct random config;
    struct random events;
    struct arena arena;
    time_ps now;
    struct protocol_report *report;
    char failure[300]; /* empty: none */

    /* The topology and its rules. */
    uint32_t ranks_count;
    uint32_t clients_count;
    bool lockstep;
    bool aborts_allowed;
    bool pauses_allowed;
    bool eager_aborts;
    bool chase; /* requests come when a wave ends */
    uint32_t lazy_consumer_percent;
    enum router_rule router_rule;
    struct engine_core_options engine_options;
    struct coordinator_options coordinator_options;
    time_ps step_time;
    time_ps coordinator_time;

    struct protocol_rank ranks[PROTOCOL_RANKS_MAX];
    struct protocol_client clients[PROTOCOL_CLIENTS_MAX];
    struct coordinator *coordinator;
    struct coordinator_model model;
    struct protocol_launcher launcher;
    bool users_open;           /* the workload has begun */
    struct protocol_plan plan; /* its faults in the order in which they begin */
    uint32_t next_fault;
    bool links_fail; /* some fault is of links */
    uint64_t sends_count;
    time_ps frozen_until[PROTOCOL_PROCESSES_MAX]; /* stopped before: handles nothing */
    bool stopping;                                /* a process died, or start-up failed */
    time_ps stopping_since;
    bool dead[PROTOCOL_PROCESSES_MAX];
    bool killed[PROTOCOL_PROCESSES_MAX];     /* without a chance to answer */
    time_ps stop_at[PROTOCOL_PROCESSES_MAX]; /* when it hears that it must end, then when it ends */
    time_ps coordinator_free_at;
    time_ps last_publish;
    time_ps last_coordinator_input;
    uint32_t subscribed_count;
    bool ready_sent;
    uint32_t quiet_publishes; /* since anything else happened */

    struct protocol_link to_engine[PROTOCOL_CLIENTS_MAX][PROTOCOL_RANKS_MAX];
    struct protocol_link to_client[PROTOCOL_CLIENTS_MAX][PROTOCOL_RANKS_MAX];
    struct protocol_link engine_up[PROTOCOL_RANKS_MAX];
    struct protocol_link engine_down[PROTOCOL_RANKS_MAX];
    struct protocol_link client_up[PROTOCOL_CLIENTS_MAX];
    struct protocol_link client_down[PROTOCOL_CLIENTS_MAX];
    struct protocol_link handshake_up[PROTOCOL_RANKS_MAX];
    struct protocol_link handshake_down[PROTOCOL_RANKS_MAX];
    struct protocol_link greetings[PROTOCOL_CLIENTS_MAX][PROTOCOL_RANKS_MAX];
    struct protocol_link reports[PROTOCOL_CLIENTS_MAX];
    struct protocol_message *free_messages;
    uint32_t fresh_messages;
    uint32_t live_messages;

    struct protocol_forward forwards[PROTOCOL_FORWARDS_OPEN];
    uint64_t forwards_resolved;
    time_ps last_forward_done;
    struct protocol_reduce reduces[2];
    uint64_t reduces_resolved;

    struct protocol_request requests[PROTOCOL_REQUESTS_MAX];
    uint32_t requests_count;
    struct protocol_item items[PROTOCOL_ITEMS_MAX];
    uint32_t items_count;
    uint32_t next_item;
    enum admin_state admin;
    uint32_t replies_wanted;
    bool resume_wanted;

    struct protocol_event kept[PROTOCOL_EVENTS_KEPT];
    uint64_t kept_count;
    struct protocol_message messages[PROTOCOL_MESSAGES_MAX]; /* last: touched as far as needed */
};

/* Keeps the first failure and the invariant's name; returns false. */
bool protocol_fail(struct protocol *d, const char *invariant, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

#define PROTOCOL_REQUIRE(d, invariant, cond, ...)                \
    do {                                                         \
        if (!(cond)) {                                           \
            return protocol_fail((d), (invariant), __VA_ARGS__); \
        }                                                        \
    } while (0)

/* X(name, names of up to four values). */
#define PROTOCOL_EVENTS(X)                                                   \
    X(SUBMIT, "submit", "client", "request", "rank", "wave")                 \
    X(CANCEL, "cancel", "client", "request", "", "")                         \
    X(STRANGE_ABORT, "strange-abort", "client", "request", "", "")           \
    X(PAUSE, "pause", "client", "mode", "", "")                              \
    X(RESUME, "resume", "client", "", "", "")                                \
    X(STALL, "stall", "client", "ms", "", "")                                \
    X(SUBSCRIBE, "subscribe", "rank", "count", "", "")                       \
    X(READY, "ready", "count", "", "", "")                                   \
    X(ADD, "add", "rank", "request", "stamp", "wave")                        \
    X(ABORT, "abort", "rank", "request", "held", "")                         \
    X(START, "start-wave", "rank", "wave", "exclude+1", "running")           \
    X(PAUSED, "paused", "rank", "client", "mode", "")                        \
    X(RESUMING, "resuming", "rank", "outcome", "unfinished", "")             \
    X(FORWARD, "forward", "rank", "number", "tokens", "step")                \
    X(COMPLETE, "complete", "rank", "step", "messages", "")                  \
    X(CHECK, "check", "rank", "step", "unfinished", "pausing")               \
    X(CHECKED, "checked", "rank", "wave", "running", "sum")                  \
    X(COMPLETE_NOTICE, "wave-complete", "rank", "wave", "", "")              \
    X(START_NOTICE, "start-notice", "rank", "wave", "", "")                  \
    X(COUNTS, "counts", "rank", "running", "waiting", "step")                \
    X(IDLE, "idle", "rank", "wave", "", "")                                  \
    X(FIRST, "first-request", "rank", "wave", "", "")                        \
    X(ENGINE_MESSAGE, "engine-message", "rank", "complete+1", "start+1", "") \
    X(BROADCAST_START, "broadcast-start", "wave", "exclude+1", "", "")       \
    X(WAVE_CHANGE, "wave-change", "wave", "running", "", "")                 \
    X(PUBLISH, "publish", "wave", "running", "snapshot", "")                 \
    X(STATE, "state", "client", "wave", "running", "counts")                 \
    X(OUTPUTS, "outputs", "client", "rank", "outputs", "finished")           \
    X(REPLY, "reply", "client", "rank", "", "")                              \
    X(QUIET, "quiet", "publishes", "wave", "", "")                           \
    X(HELLO, "hello", "rank", "bound", "refused", "")                        \
    X(INIT, "init", "rank", "", "", "")                                      \
    X(LOADED, "loaded", "rank", "", "", "")                                  \
    X(RANK_READY, "rank-ready", "rank", "count", "refused", "")              \
    X(BOUND, "bound", "count", "refused", "", "")                            \
    X(GREETED, "greeted", "client", "rank", "open", "")                      \
    X(SERVING, "serving", "clients", "ranks", "system", "")                  \
    X(FAULT, "fault", "kind", "process", "us", "factor")                     \
    X(DEATH, "death", "process", "", "", "")                                 \
    X(STOPPED, "stopped", "process", "", "", "")                             \
    X(FAILED, "failed", "client", "errors", "", "")

enum protocol_event_kind {
#define X(name, text, a, b, c, e) EVENT_##name,
    PROTOCOL_EVENTS(X)
#undef X
};

/* Keeps an event for the trace and enters it into the digest. */
void protocol_event(struct protocol *d, enum protocol_event_kind kind, const uint32_t args[4]);
#define PROTOCOL_EVENT(d, kind, ...) \
    protocol_event((d), EVENT_##kind, (const uint32_t[4]){__VA_ARGS__})
/* Options and kept events as text into the report. */
void protocol_write_trace(const struct protocol *d);

static inline uint32_t protocol_draw(struct random *r, uint32_t lo, uint32_t hi)
{
    return (uint32_t)random_range(r, lo, hi);
}

static inline bool protocol_chance(struct random *r, uint32_t percent)
{
    return protocol_draw(r, 0, 99) < percent;
}

/* ---- options and workload: protocol_options.c ---- */
void protocol_draw_topology(struct protocol *d);
void protocol_draw_workload(struct protocol *d);
uint32_t protocol_token(uint64_t sample_key, uint32_t position);

/* ---- links: protocol_links.c ---- */
/* What is on its way is lost. */
void protocol_link_drop(struct protocol *d, struct protocol_link *link);
/* A message to fill and send; asserts that there is one. */
struct protocol_message *protocol_message_new(struct protocol *d, enum protocol_message_kind kind);
void protocol_send(struct protocol *d, struct protocol_link *link,
                   struct protocol_message *message);
/* Takes the first message. */
struct protocol_message *protocol_take(struct protocol *d, struct protocol_link *link);
void protocol_message_free(struct protocol *d, struct protocol_message *message);
static inline time_ps protocol_link_next(const struct protocol_link *link)
{
    return link->head == NULL ? TIME_NEVER : link->head->at;
}

/* ---- actors: when they next want to run, and running one event of theirs ---- */
time_ps protocol_rank_next(const struct protocol *d, uint32_t rank);
bool protocol_rank_run(struct protocol *d, uint32_t rank);
time_ps protocol_client_next(const struct protocol *d, uint32_t client);
bool protocol_client_run(struct protocol *d, uint32_t client);
time_ps protocol_coordinator_next(const struct protocol *d);
bool protocol_coordinator_run(struct protocol *d);
/* The next item of the workload. */
bool protocol_item_run(struct protocol *d);
/* All replies to a pause or resume are in. */
void protocol_admin_replied(struct protocol *d);
/* The consumers of a client take what is ready. */
bool protocol_client_take(struct protocol *d, uint32_t client);
/* The request of an id that an engine core or a front end names; NULL: nobody's. */
struct protocol_request *protocol_find(struct protocol *d, const char *id);
/* Nothing can happen but the clock, the workload and publishing. */
bool protocol_is_quiet(const struct protocol *d);

/* ---- start-up: protocol_startup.c ---- */
void protocol_draw_startup(struct protocol *d);
/* An engine core's stages up to RANK_BOOT. */
bool protocol_rank_start(struct protocol *d, uint32_t rank);
/* Its next event while it starts. */
time_ps protocol_client_start_next(const struct protocol *d, uint32_t client);
bool protocol_client_start(struct protocol *d, uint32_t client);
time_ps protocol_launcher_next(const struct protocol *d);
bool protocol_launcher_run(struct protocol *d);
/* When the next item of the workload is due, TIME_NEVER while those that it is for start. */
time_ps protocol_item_next(const struct protocol *d);

/* ---- faults: protocol_faults.c ---- */
/* Draws the plan of a seed whose topology and workload are drawn. */
void protocol_draw_plan(struct protocol *d);
/* enum protocol_part: what there is that could be left out. */
uint32_t protocol_parts(const struct protocol *d);
/* Leaves out what the plan leaves out. STATUS_INVALID: it names what the seed does not have. */
MUST_CHECK enum status protocol_apply_plan(struct protocol *d, struct error *error);
/* The workload's times are known: leaves out what begins after the plan's end. */
void protocol_apply_end(struct protocol *d);
time_ps protocol_fault_next(const struct protocol *d);
/* The next fault begins. */
bool protocol_fault_run(struct protocol *d);
/* What faults add to the delay of a message that is sent now. */
time_ps protocol_fault_delay(struct protocol *d, const struct protocol_link *link);
static inline bool protocol_frozen(const struct protocol *d, uint32_t process)
{
    return d->frozen_until[process] > d->now;
}
static inline time_ps protocol_slowed(const struct protocol *d, uint32_t rank, time_ps duration)
{
    const struct protocol_rank *r = &d->ranks[rank];
    return r->slow_until > d->now ? duration * r->slow : duration;
}

/* ---- death: protocol_death.c ---- */
/* Which processes there are. */
void protocol_begin_life(struct protocol *d);
/* A process dies; the others hear of it one after the other. */
void protocol_die(struct protocol *d, uint32_t victim);
/* All processes are told to end. */
void protocol_stop_all(struct protocol *d);
time_ps protocol_stop_next(const struct protocol *d);
bool protocol_stop_run(struct protocol *d);
/* The client ends all its requests. */
bool protocol_client_fail(struct protocol *d, uint32_t client);
bool protocol_all_dead(const struct protocol *d);
/* After the last death. */
bool protocol_check_stopped(struct protocol *d);

/* ---- rendezvous: protocol_collectives.c ---- */
/* Enters a forward; its number is in step->forward. */
bool protocol_forward_enter(struct protocol *d, uint32_t rank, struct rank_step *step,
                            struct wave_forward own);
/* When it is done, TIME_NEVER while ranks are missing. */
time_ps protocol_forward_done(const struct protocol *d, uint64_t forward);
bool protocol_reduce_enter(struct protocol *d, uint32_t rank, const struct wave_ballot *ballot,
                           bool unfinished);
const struct protocol_reduce *protocol_reduce_result(const struct protocol *d, uint64_t reduce);

/* ---- invariants: protocol_check.c ---- */
/* What must hold after every stage of a rank's loop, and after its event of one or several. */
bool protocol_check_rank(struct protocol *d, uint32_t rank);
bool protocol_check_engine(struct protocol *d, uint32_t rank);
/* What must hold after every event of this actor. */
bool protocol_check_client(struct protocol *d, uint32_t client);
bool protocol_check_coordinator(struct protocol *d);
/* When no message is on its way and no rank can run. */
bool protocol_check_quiet(struct protocol *d);
/* After the workload: everything ended and drained. */
bool protocol_check_end(struct protocol *d);
/* The engine core that the router must choose; -1: not modelled for this rule. */
int32_t protocol_expected_engine(const struct protocol *d, uint32_t client, int32_t rank);

#endif
