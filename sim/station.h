/*
 * station.h - a thread of the modelled system: one server with its letters, its CPU time, its
 * emulated occupancy and its waits, on a machine with a given number of cores.
 *
 * A thread's loop is cut into segments. A segment begins when the thread has a core (run() is
 * called with the time), does one piece of work through the objects of engine/core, moves the
 * thread's cursor by the CPU time that this takes, and sends letters stamped with the cursor. It
 * ends with one of
 *
 *     station_again(s)           look again at the cursor
 *     station_continue(s)        the same, and nothing that others do until then matters to it
 *     station_sleep(s, until)    a timed sleep, without a core; then as station_continue()
 *     station_wait(s, ...)       until a letter is there, or a time has come
 *
 * Occupancy (decisions 17): station_charge() moves busy_until by the cost; the CPU time of the work
 * runs inside; results leave when both are over. busy_until is set to the present only when the
 * thread wakes from a wait that really blocked.
 *
 * Order: entities run in order of (time, entity). With as many cores as threads a segment that only
 * continues the one before it runs on at once, and a thread that is fed by one other thread alone
 * (in_line) runs when its letter is sent, ahead of the clock: nobody else can see the difference.
 * Its owner may also work out what its segments do, without them (station_pass_wait()). A
 * thread that takes no time may be told by a call in place of a letter (station_hears()).
 */
#ifndef SIM_STATION_H
#define SIM_STATION_H

#include "sim/event_queue.h"
#include "sim/simulation.h"

enum {
    INBOXES_MAX = 3,
    CORE_NONE = -1,
};

struct parcel;
struct station;

/* What one thread sends another. */
struct letter {
    time_ps at; /* readable */
    uint32_t from;
    uint32_t kind; /* as its receiver understands it */
    union {
        struct parcel *parcel;
        uint64_t number;
    } as;
};

/* Letters in order of (at, from), those of one sender as sent. */
struct inbox {
    struct letter *letters; /* ring */
    uint32_t capacity;      /* a power of two */
    uint32_t first;
    uint32_t count;
};

/* The interpreter lock of one engine core: engine/node/occupancy.h says how it is modelled. */
struct interpreter {
    time_ps busy_until;
    uint32_t awake_count;
};

struct station {
    void (*run)(struct station *s);
    struct scene *scene;
    void *owner;
    struct simulation_thread *books;
    uint32_t entity;
    uint32_t phase; /* of its loop; the owner's */
    bool in_line;
    bool takes_no_time;  /* in all that it ever does */
    bool waits_spinning; /* in waits for results; its other waits block */
    bool books_waits;    /* its owner does what the end of a wait does */

    time_ps now;    /* when this segment began */
    time_ps cursor; /* now + CPU time so far */
    /* how the segment ended */
    bool private_next;
    bool waiting;
    bool spinning; /* this wait */
    bool timed;    /* what ends this wait is a timer */
    uint32_t wait_mask;
    time_ps next_at; /* not waiting: the next segment */
    time_ps wait_since;
    time_ps wait_until;
    time_ps *wait_books;
    time_ps waited;   /* the last wait */
    time_ps rest_min; /* this wait moves busy_until if it was longer */

    time_ps busy_until;
    struct interpreter *interpreter;
    bool resting;

    int32_t core;
    bool queued;
    bool displaced; /* it spins without a core: another thread has it */
    time_ps runnable_since;
    time_ps spin_since;
    struct station *next_runnable;

    uint32_t letters_count; /* in all inboxes */
    struct inbox inboxes[INBOXES_MAX];
};

struct core {
    struct station *holder;
    const struct station *last;
    time_ps until;
    bool spinning;
};

/* The machine: its clock, its cores, its run queue. */
struct scene {
    struct simulation *simulation; /* whose it is: for the owners of its threads */
    struct event_queue queue;
    struct station **stations; /* [entities_count], NULL: not a thread */
    const struct simulation_costs *costs;
    time_ps now;
    uint32_t latest_entity; /* that ran at this time, in their order */
    uint64_t events_count;
    uint64_t log_hash;
    uint32_t cores_count; /* 0: no limit */
    struct core *cores;
    struct station *runnable; /* FIFO */
    struct station **runnable_last;
    uint32_t displaced_count;
};

enum {
    SCENE_CORES_ENTITY = 0, /* before all threads: a core that is free at t is free for them */
};

MUST_CHECK enum status scene_create(uint32_t entities_count, uint32_t cores_count,
                                    const struct simulation_costs *costs, struct scene *out,
                                    struct error *error);
void scene_destroy(struct scene *scene);
/* The next event, which must not be after `until` or at TIME_NEVER, and those of the same thread
 * that come before anybody else's. */
void scene_step(struct scene *scene, time_ps until);

/* Enters it into the scene, waiting for its first letter in any inbox; what else is in *s stays. */
void station_open(struct scene *scene, struct station *s, uint32_t entity);
void station_close(struct station *s);

/* CPU time. */
static inline void station_work(struct station *s, time_ps cpu)
{
    s->cursor += cpu;
    s->books->cpu += cpu;
}

static inline time_ps station_cost(const struct simulation_cost *c, uint64_t items, uint64_t tokens)
{
    return c->call + c->item * (time_ps)items + c->token * (time_ps)tokens;
}

/* Emulated host time. */
void station_occupy(struct station *s, time_ps cost); /* some */
static inline void station_charge(struct station *s, time_ps cost)
{
    if (cost > 0) {
        station_occupy(s, cost);
    }
}

static inline bool station_owes(const struct station *s)
{
    return s->busy_until > s->cursor;
}

static inline void station_again(struct station *s)
{
    s->next_at = s->cursor;
}

static inline void station_continue(struct station *s)
{
    s->next_at = s->cursor;
    s->private_next = true;
}

/* Not if the time is over already. */
static inline void station_sleep(struct station *s, time_ps until)
{
    s->private_next = true;
    s->next_at = s->cursor;
    if (until > s->cursor) {
        s->next_at = until + s->scene->costs->sleep_late;
        station_work(s, s->scene->costs->sleep_cpu);
        s->next_at = s->next_at > s->cursor ? s->next_at : s->cursor;
    }
}

/* Until a letter in an inbox of the mask is readable. The time is booked in *books (NULL: nowhere).
 * Letters that are readable at the cursor end the wait at once: then it does not block. */
void station_wait(struct station *s, uint32_t inboxes_mask, time_ps *books);
/* After station_wait(): as the system waits for results, spinning or not. */
static inline void station_wait_spins(struct station *s)
{
    s->spinning = s->waits_spinning;
}
/* After that: not longer than until this time. */
void station_wait_until(struct station *s, time_ps until);
/* Ends a wait from outside: what it waits for is there at `at`. */
void station_release(struct station *s, time_ps at);

/* Of a thread with a core of its own and no interpreter lock, whose segments somebody works out at
 * once: it waits since wait_since, for something that is there at `at` or for that time, and runs
 * on. */
static inline void station_pass_wait(struct station *s, time_ps at, bool timed, time_ps *books)
{
    const struct simulation_costs *costs = s->scene->costs;
    time_ps since = s->wait_since;
    s->now = since;
    s->cursor = since;
    if (at <= since) {
        return;
    }
    s->now = at + (s->spinning ? costs->poll : timed ? costs->sleep_late : costs->wake);
    s->cursor = s->now;
    s->busy_until = s->busy_until > s->now ? s->busy_until : s->now;
    *books += s->now - since;
    if (s->spinning) {
        s->books->cpu += s->now - since;
    } else {
        station_work(s, timed ? costs->sleep_cpu : costs->wake_cpu);
    }
}
/* It waits again from its cursor on. */
static inline void station_pass_on(struct station *s, bool spinning)
{
    s->wait_since = s->cursor;
    s->spinning = spinning;
}

/* A letter from the station `from`. Of one sender they must be sent in order of `at`. */
void station_send(struct station *to, uint32_t inbox, const struct letter *letter);

/* May a thread that takes no time, and waits, be told now what is readable at `at` by a call in
 * place of a letter? If so its wait is over; at the end of the call it waits again. */
static inline bool station_hears(struct station *s, time_ps at)
{
    if (!s->takes_no_time || at != s->scene->now || !s->waiting || s->letters_count > 0) {
        return false;
    }
    *s->wait_books += at - s->wait_since;
    s->now = s->cursor = s->busy_until = s->wait_since = at;
    return true;
}

/* The oldest letter if it is readable by `by`; NULL: none is. */
static inline const struct letter *station_letter(const struct station *s, uint32_t inbox,
                                                  time_ps by)
{
    const struct inbox *b = &s->inboxes[inbox];
    const struct letter *letter = b->letters + (b->first & (b->capacity - 1));
    return b->count > 0 && letter->at <= by ? letter : NULL;
}

/* Removes the oldest letter. */
static inline void station_drop(struct station *s, uint32_t inbox)
{
    s->inboxes[inbox].first++;
    s->inboxes[inbox].count--;
    s->letters_count--;
}

#endif
