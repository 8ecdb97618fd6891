/*
 * wait_queue.h - the waiting requests of one engine core, in the order in which they may be
 * admitted: first come, first served as a linked list, or by (priority, arrival time, order of
 * arrival) as a heap. Driven by the scheduler.
 */
#ifndef ENGINE_CORE_WAIT_QUEUE_H
#define ENGINE_CORE_WAIT_QUEUE_H

#include "engine/core/request_table.h"

struct wait_queue {
    struct request_detail *details;
    uint32_t *heap; /* PRIORITY */
    uint32_t head;  /* FCFS: slots, WAIT_QUEUE_NONE when empty */
    uint32_t tail;
    uint32_t count;
    enum scheduling_policy policy;
};

#define WAIT_QUEUE_NONE 0xffffffffU

size_t wait_queue_arena_bytes(const struct engine_core_options *options);
void wait_queue_init(struct wait_queue *queue, struct arena *arena,
                     const struct engine_core_options *options, struct request_detail *details);
/* A new request. */
void wait_queue_append(struct wait_queue *queue, uint32_t slot);
/* A preempted request: before all others, or where its priority puts it. */
void wait_queue_prepend(struct wait_queue *queue, uint32_t slot);
/* The next to be admitted; the queue must not be empty. */
uint32_t wait_queue_peek(const struct wait_queue *queue);
void wait_queue_remove(struct wait_queue *queue, uint32_t slot);
/* True if `a` runs before `b` under PRIORITY. */
bool request_before(const struct request_detail *a, const struct request_detail *b);
/* NULL, or what is wrong: links, heap order, or a member that is not WAITING. O(waiting), for
 * tests. */
const char *wait_queue_check(const struct wait_queue *queue, const struct request *requests);

#endif
