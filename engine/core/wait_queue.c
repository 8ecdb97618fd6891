/* wait_queue.c - the two orders of wait_queue.h. */
#include "engine/core/wait_queue.h"

size_t wait_queue_arena_bytes(const struct engine_core_options *options)
{
    return ARENA_BYTES(options->requests_max, uint32_t);
}

void wait_queue_init(struct wait_queue *queue, struct arena *arena,
                     const struct engine_core_options *options, struct request_detail *details)
{
    *queue = (struct wait_queue){
        .details = details,
        .heap = ARENA_NEW(arena, uint32_t, options->requests_max),
        .head = WAIT_QUEUE_NONE,
        .tail = WAIT_QUEUE_NONE,
        .policy = options->policy,
    };
}

bool request_before(const struct request_detail *a, const struct request_detail *b)
{
    if (a->priority != b->priority) {
        return a->priority < b->priority;
    }
    if (a->arrival_wall_ns != b->arrival_wall_ns) {
        return a->arrival_wall_ns < b->arrival_wall_ns;
    }
    return a->order < b->order;
}

/* ---- heap ---- */

static void heap_place(struct wait_queue *queue, uint32_t index, uint32_t slot)
{
    queue->heap[index] = slot;
    queue->details[slot].heap_index = index;
}

static void heap_up(struct wait_queue *queue, uint32_t index, uint32_t slot)
{
    while (index > 0) {
        uint32_t parent = (index - 1) / 2;
        if (!request_before(&queue->details[slot], &queue->details[queue->heap[parent]])) {
            break;
        }
        heap_place(queue, index, queue->heap[parent]);
        index = parent;
    }
    heap_place(queue, index, slot);
}

static void heap_down(struct wait_queue *queue, uint32_t index, uint32_t slot)
{
    for (;;) {
        uint32_t child = 2 * index + 1;
        if (child >= queue->count) {
            break;
        }
        if (child + 1 < queue->count && request_before(&queue->details[queue->heap[child + 1]],
                                                       &queue->details[queue->heap[child]])) {
            child++;
        }
        if (!request_before(&queue->details[queue->heap[child]], &queue->details[slot])) {
            break;
        }
        heap_place(queue, index, queue->heap[child]);
        index = child;
    }
    heap_place(queue, index, slot);
}

static void heap_remove(struct wait_queue *queue, uint32_t slot)
{
    uint32_t index = queue->details[slot].heap_index;
    ASSERT(index < queue->count && queue->heap[index] == slot);
    queue->count--;
    uint32_t moved = queue->heap[queue->count];
    if (moved == slot) {
        return;
    }
    heap_down(queue, index, moved);
    if (queue->heap[index] == moved) {
        heap_up(queue, index, moved);
    }
}

/* ---- both ---- */

void wait_queue_append(struct wait_queue *queue, uint32_t slot)
{
    if (queue->policy == POLICY_PRIORITY) {
        queue->count++;
        heap_up(queue, queue->count - 1, slot);
        return;
    }
    struct request_detail *d = &queue->details[slot];
    d->queue_prev = queue->tail;
    d->queue_next = WAIT_QUEUE_NONE;
    if (queue->tail != WAIT_QUEUE_NONE) {
        queue->details[queue->tail].queue_next = slot;
    } else {
        queue->head = slot;
    }
    queue->tail = slot;
    queue->count++;
}

void wait_queue_prepend(struct wait_queue *queue, uint32_t slot)
{
    if (queue->policy == POLICY_PRIORITY) {
        wait_queue_append(queue, slot);
        return;
    }
    struct request_detail *d = &queue->details[slot];
    d->queue_prev = WAIT_QUEUE_NONE;
    d->queue_next = queue->head;
    if (queue->head != WAIT_QUEUE_NONE) {
        queue->details[queue->head].queue_prev = slot;
    } else {
        queue->tail = slot;
    }
    queue->head = slot;
    queue->count++;
}

uint32_t wait_queue_peek(const struct wait_queue *queue)
{
    ASSERT(queue->count > 0);
    return queue->policy == POLICY_PRIORITY ? queue->heap[0] : queue->head;
}

void wait_queue_remove(struct wait_queue *queue, uint32_t slot)
{
    if (queue->policy == POLICY_PRIORITY) {
        heap_remove(queue, slot);
        return;
    }
    const struct request_detail *d = &queue->details[slot];
    if (d->queue_prev != WAIT_QUEUE_NONE) {
        queue->details[d->queue_prev].queue_next = d->queue_next;
    } else {
        queue->head = d->queue_next;
    }
    if (d->queue_next != WAIT_QUEUE_NONE) {
        queue->details[d->queue_next].queue_prev = d->queue_prev;
    } else {
        queue->tail = d->queue_prev;
    }
    queue->count--;
}

static const char *check_heap(const struct wait_queue *queue, const struct request *requests)
{
    for (uint32_t i = 0; i < queue->count; i++) {
        uint32_t slot = queue->heap[i];
        if (requests[slot].state != REQUEST_WAITING || queue->details[slot].heap_index != i) {
            return "waiting heap: a member is not waiting or is misplaced";
        }
        if (i > 0 &&
            request_before(&queue->details[slot], &queue->details[queue->heap[(i - 1) / 2]])) {
            return "waiting heap: order broken";
        }
    }
    return NULL;
}

const char *wait_queue_check(const struct wait_queue *queue, const struct request *requests)
{
    if (queue->policy == POLICY_PRIORITY) {
        return check_heap(queue, requests);
    }
    uint32_t n = 0;
    uint32_t prev = WAIT_QUEUE_NONE;
    for (uint32_t slot = queue->head; slot != WAIT_QUEUE_NONE;
         slot = queue->details[slot].queue_next) {
        if (requests[slot].state != REQUEST_WAITING || queue->details[slot].queue_prev != prev ||
            n >= queue->count) {
            return "waiting list: broken link, or a member that is not waiting";
        }
        prev = slot;
        n++;
    }
    return n == queue->count && queue->tail == prev ? NULL : "waiting list: wrong length or tail";
}
