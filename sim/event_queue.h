/*
 * event_queue.h - when each entity of a simulation next wants to be called: an indexed binary heap
 * with one entry for each entity that wants to, never one for each request or token, so that it
 * stays small whatever is in flight.
 *
 * The order is total: by time, then by the entity's number. An entity has one time, so nothing else
 * can be equal. Entities are numbered by class and then by index where they are created.
 */
#ifndef SIM_EVENT_QUEUE_H
#define SIM_EVENT_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/base/time.h"

struct event_queue {
    struct event_queue_entry {
        time_ps at;
        uint32_t entity;
    } * entries;        /* the heap; behind it TIME_NEVER */
    uint32_t *places;   /* entity -> index in entries, of the last one if it is not in the heap */
    uint32_t count;     /* of entities */
    uint32_t due_count; /* of them in the heap: those with a time */
};

/* All entities at TIME_NEVER. */
MUST_CHECK enum status event_queue_create(uint32_t entities_count, struct event_queue *out,
                                          struct error *error);
void event_queue_destroy(struct event_queue *q);
void event_queue_set(struct event_queue *q, uint32_t entity, time_ps at);

static inline time_ps event_queue_of(const struct event_queue *q, uint32_t entity)
{
    return q->entries[q->places[entity]].at;
}

/* Who is next; TIME_NEVER: nobody. */
static inline time_ps event_queue_next(const struct event_queue *q, uint32_t *entity)
{
    *entity = q->entries[0].entity;
    return q->entries[0].at;
}

/* Does `entity`, which was next, stay before all others if it moves to `at`? */
static inline bool event_queue_stays(const struct event_queue *q, uint32_t entity, time_ps at)
{
    return q->entries[0].entity == entity && at < q->entries[1].at && at < q->entries[2].at;
}

#endif
