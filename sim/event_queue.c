/*
 * event_queue.c - owns the heap of a simulation's entities. Driven by the simulation alone. Must
 * not know what an entity is.
 */
#include "sim/event_queue.h"

#include <stdlib.h>

enum {
    BEHIND = 3 /* entries that no heap reaches: the sons of a lonely first one, and nowhere */
};

static uint32_t nowhere(const struct event_queue *q)
{
    return q->count + BEHIND - 1;
}

enum status event_queue_create(uint32_t entities_count, struct event_queue *out,
                               struct error *error)
{
    struct event_queue q = {.count = entities_count};
    uint32_t entries_count = entities_count + BEHIND;
    q.entries = calloc(entries_count, sizeof *q.entries);
    q.places = calloc(entities_count, sizeof *q.places);
    if (q.entries == NULL || q.places == NULL) {
        event_queue_destroy(&q);
        return error_set(error, STATUS_NOMEM, "simulation: no memory for %u entities",
                         entities_count);
    }
    for (uint32_t i = 0; i < entries_count; i++) {
        q.entries[i].at = TIME_NEVER;
    }
    for (uint32_t i = 0; i < entities_count; i++) {
        q.places[i] = nowhere(&q);
    }
    *out = q;
    return STATUS_OK;
}

void event_queue_destroy(struct event_queue *q)
{
    free(q->entries);
    free(q->places);
    *q = (struct event_queue){.count = 0};
}

static bool before(const struct event_queue_entry *a, const struct event_queue_entry *b)
{
    return a->at < b->at || (a->at == b->at && a->entity < b->entity);
}

static void put(struct event_queue *q, uint32_t place, const struct event_queue_entry *entry)
{
    q->entries[place] = *entry;
    q->places[entry->entity] = place;
}

static uint32_t rise(struct event_queue *q, uint32_t place, const struct event_queue_entry *entry)
{
    while (place > 0 && before(entry, &q->entries[(place - 1) / 2])) {
        put(q, place, &q->entries[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    return place;
}

static uint32_t sink(struct event_queue *q, uint32_t place, const struct event_queue_entry *entry)
{
    for (;;) {
        uint32_t child = 2 * place + 1;
        if (child >= q->due_count) {
            return place;
        }
        child += before(&q->entries[child + 1], &q->entries[child]) ? 1 : 0;
        if (!before(&q->entries[child], entry)) {
            return place;
        }
        put(q, place, &q->entries[child]);
        place = child;
    }
}

/* The last entry takes the place of the one that leaves. */
static void leave(struct event_queue *q, uint32_t place)
{
    struct event_queue_entry leaving = q->entries[place];
    struct event_queue_entry last = q->entries[--q->due_count];
    q->entries[q->due_count] = (struct event_queue_entry){.at = TIME_NEVER};
    q->places[leaving.entity] = nowhere(q);
    if (place < q->due_count) {
        place = before(&last, &leaving) ? rise(q, place, &last) : sink(q, place, &last);
        put(q, place, &last);
    }
}

void event_queue_set(struct event_queue *q, uint32_t entity, time_ps at)
{
    uint32_t place = q->places[entity];
    time_ps was = q->entries[place].at;
    struct event_queue_entry entry = {.at = at, .entity = entity};
    if (at == was) {
        return;
    }
    if (at == TIME_NEVER) {
        leave(q, place);
        return;
    }
    if (at < was) {
        place = rise(q, was == TIME_NEVER ? q->due_count++ : place, &entry);
    } else {
        place = sink(q, place, &entry);
    }
    put(q, place, &entry);
}
