/*
 * slot_queue.h - a first-in-first-out queue of slot numbers in which each slot stands at most once
 * and from which any slot can be removed at once. Links live in an array beside the slots; no
 * allocation after creation. Header-only.
 */
#ifndef ENGINE_CORE_SLOT_QUEUE_H
#define ENGINE_CORE_SLOT_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/arena.h"

#define SLOT_QUEUE_NONE UINT32_MAX

struct slot_queue {
    struct slot_queue_link {
        uint32_t prev;
        uint32_t next;
        bool queued;
    } * links;
    uint32_t head;
    uint32_t tail;
};

static inline size_t slot_queue_arena_bytes(uint32_t slots)
{
    return ARENA_BYTES(slots, struct slot_queue_link);
}

static inline void slot_queue_init(struct slot_queue *q, struct arena *arena, uint32_t slots)
{
    *q = (struct slot_queue){
        .links = ARENA_NEW(arena, struct slot_queue_link, slots),
        .head = SLOT_QUEUE_NONE,
        .tail = SLOT_QUEUE_NONE,
    };
}

/* Appends `slot` unless it is queued already. */
static inline void slot_queue_push(struct slot_queue *q, uint32_t slot)
{
    if (q->links[slot].queued) {
        return;
    }
    q->links[slot] =
        (struct slot_queue_link){.prev = q->tail, .next = SLOT_QUEUE_NONE, .queued = true};
    if (q->tail == SLOT_QUEUE_NONE) {
        q->head = slot;
    } else {
        q->links[q->tail].next = slot;
    }
    q->tail = slot;
}

/* Removes `slot` if it is queued. */
static inline void slot_queue_remove(struct slot_queue *q, uint32_t slot)
{
    struct slot_queue_link *link = &q->links[slot];
    if (!link->queued) {
        return;
    }
    if (link->prev == SLOT_QUEUE_NONE) {
        q->head = link->next;
    } else {
        q->links[link->prev].next = link->next;
    }
    if (link->next == SLOT_QUEUE_NONE) {
        q->tail = link->prev;
    } else {
        q->links[link->next].prev = link->prev;
    }
    link->queued = false;
}

/* The oldest slot, removed; SLOT_QUEUE_NONE when empty. */
static inline uint32_t slot_queue_pop(struct slot_queue *q)
{
    uint32_t slot = q->head;
    if (slot != SLOT_QUEUE_NONE) {
        struct slot_queue_link *link = &q->links[slot];
        q->head = link->next;
        if (q->head == SLOT_QUEUE_NONE) {
            q->tail = SLOT_QUEUE_NONE;
        } else {
            q->links[q->head].prev = SLOT_QUEUE_NONE;
        }
        link->queued = false;
    }
    return slot;
}

#endif
