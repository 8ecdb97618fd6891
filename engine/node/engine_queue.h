/*
 * engine_queue.h - the two queues inside an engine core's process: input thread -> main thread,
 * main thread -> output thread. Unbounded like vLLM's (no back-pressure on the request path); the
 * ledger keeps the high-water mark.
 *
 * An item is one heap block that holds everything it points to, so that it can outlive the buffers
 * it was made from and is freed with one free().
 */
#ifndef ENGINE_NODE_ENGINE_QUEUE_H
#define ENGINE_NODE_ENGINE_QUEUE_H

#include <pthread.h>

#include "engine/core/message.h"
#include "engine/ledger/ledger.h"

enum queue_item_kind {
    ITEM_ADD,
    ITEM_ABORT,
    ITEM_UTILITY,
    ITEM_START_WAVE, /* lock-step */
    ITEM_OUTPUTS,
    ITEM_DEAD,   /* output thread: tell every client ENGINE_CORE_DEAD, then end */
    ITEM_FAILED, /* worker monitor: a worker died */
    ITEM_LOST,   /* input thread: an API server or the coordinator of another node is gone */
};

struct queue_item {
    struct queue_item *next;
    enum queue_item_kind kind;
    int32_t client; /* outputs: whose; COORDINATOR_CLIENT for counts */
    int64_t pushed_ns;
    union {
        struct engine_request request;
        const char *abort_id;
        struct utility_call utility;
        struct engine_outputs outputs;
        struct start_wave start;
    } as;
};

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct queue_item *first;
    struct queue_item **last;
    uint32_t count;
    uint32_t count_max; /* high-water mark; its reader puts it into its ledger slot */
};

void queue_init(struct queue *q);
void queue_push(struct queue *q, struct queue_item *item);
/*
 * All that is queued, as a list in order; waits at most wait_ns for the first item, NULL if none
 * came. The caller frees the items.
 */
struct queue_item *queue_take_all(struct queue *q, int64_t wait_ns);
uint32_t queue_count_max(struct queue *q);
/* How long the item was queued until its turn came. Summed over items it is the integral of the
 * queue's length. */
int64_t queue_waited_ns(const struct queue_item *item, int64_t now_ns);

/* Deep copies. */
struct queue_item *queue_item_request(const struct engine_request *request);
struct queue_item *queue_item_abort(const char *id);
struct queue_item *queue_item_utility(const struct utility_call *call);
struct queue_item *queue_item_outputs(int32_t client, const struct engine_outputs *outputs);
/* The answer of engine core `rank` to a request that it will not serve: ended by an error. */
struct queue_item *queue_item_refusal(uint32_t rank, uint32_t client, const char *id, time_ps now);
struct queue_item *queue_item_start_wave(const struct start_wave *start);
struct queue_item *queue_item_plain(enum queue_item_kind kind);

#endif
