/*
 * engine_queue.c - owns the queues between the three threads of an engine core: items that carry
 * copies of messages, put in one by one, taken out all at once. Called by any of these threads.
 * Must not keep pointers into a message's memory, which its sender reuses.
 */
#include "engine/node/engine_queue.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/clock.h"

void queue_init(struct queue *q)
{
    pthread_condattr_t attributes;
    *q = (struct queue){.first = NULL};
    q->last = &q->first;
    (void)pthread_mutex_init(&q->lock, NULL);
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&q->filled, &attributes);
    (void)pthread_condattr_destroy(&attributes);
}

void queue_push(struct queue *q, struct queue_item *item)
{
    item->next = NULL;
    item->pushed_ns = clock_now_ns();
    (void)pthread_mutex_lock(&q->lock);
    bool was_empty = q->first == NULL;
    *q->last = item;
    q->last = &item->next;
    q->count++;
    q->count_max = q->count > q->count_max ? q->count : q->count_max;
    (void)pthread_mutex_unlock(&q->lock);
    if (was_empty) {
        (void)pthread_cond_signal(&q->filled);
    }
}

struct queue_item *queue_take_all(struct queue *q, int64_t wait_ns)
{
    (void)pthread_mutex_lock(&q->lock);
    if (q->first == NULL && wait_ns > 0) {
        int64_t until_ns = clock_now_ns() + wait_ns;
        struct timespec until = {.tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000};
        int rc = 0;
        while (q->first == NULL && rc == 0) {
            rc = pthread_cond_timedwait(&q->filled, &q->lock, &until);
        }
    }
    struct queue_item *items = q->first;
    q->first = NULL;
    q->last = &q->first;
    q->count = 0;
    (void)pthread_mutex_unlock(&q->lock);
    return items;
}

uint32_t queue_count_max(struct queue *q)
{
    (void)pthread_mutex_lock(&q->lock);
    uint32_t most = q->count_max;
    (void)pthread_mutex_unlock(&q->lock);
    return most;
}

int64_t queue_waited_ns(const struct queue_item *item, int64_t now_ns)
{
    return now_ns > item->pushed_ns ? now_ns - item->pushed_ns : 0;
}

/* A block being filled: the item first, then whatever it points to. */
struct block {
    char *next;
};

static void *block_take(struct block *b, size_t bytes)
{
    void *at = b->next;
    b->next += (bytes + 7) / 8 * 8;
    return at;
}

static const void *block_copy(struct block *b, const void *data, size_t bytes)
{
    if (data == NULL || bytes == 0) {
        return NULL;
    }
    void *at = block_take(b, bytes);
    memcpy(at, data, bytes);
    return at;
}

static const char *block_text(struct block *b, const char *text)
{
    return text != NULL ? block_copy(b, text, strlen(text) + 1) : NULL;
}

static size_t text_bytes(const char *text)
{
    return text != NULL ? (strlen(text) + 8) / 8 * 8 : 0;
}

static size_t padded(size_t bytes)
{
    return (bytes + 7) / 8 * 8;
}

static struct queue_item *item_new(size_t bytes, struct block *b)
{
    struct queue_item *item = malloc(padded(sizeof *item) + bytes);
    ASSERT(item != NULL);
    b->next = (char *)item + padded(sizeof *item);
    return item;
}

struct queue_item *queue_item_request(const struct engine_request *request)
{
    size_t prompt_bytes = (size_t)request->prompt_tokens_count * sizeof(uint32_t);
    struct block b;
    struct queue_item *item = item_new(text_bytes(request->id) + text_bytes(request->cache_salt) +
                                           text_bytes(request->external_id) + padded(prompt_bytes),
                                       &b);
    item->kind = ITEM_ADD;
    item->as.request = *request;
    item->as.request.id = block_text(&b, request->id);
    item->as.request.cache_salt = block_text(&b, request->cache_salt);
    item->as.request.external_id = block_text(&b, request->external_id);
    item->as.request.prompt_token_ids = block_copy(&b, request->prompt_token_ids, prompt_bytes);
    return item;
}

struct queue_item *queue_item_abort(const char *id)
{
    struct block b;
    struct queue_item *item = item_new(text_bytes(id), &b);
    item->kind = ITEM_ABORT;
    item->as.abort_id = block_text(&b, id);
    return item;
}

struct queue_item *queue_item_utility(const struct utility_call *call)
{
    struct block b;
    size_t bytes = text_bytes(call->method);
    for (uint32_t i = 0; i < call->arguments_count; i++) {
        bytes += text_bytes(call->arguments[i].string);
    }
    struct queue_item *item = item_new(bytes, &b);
    item->kind = ITEM_UTILITY;
    item->as.utility = *call;
    item->as.utility.method = block_text(&b, call->method);
    for (uint32_t i = 0; i < call->arguments_count; i++) {
        item->as.utility.arguments[i].string = block_text(&b, call->arguments[i].string);
    }
    return item;
}

static size_t outputs_bytes(const struct engine_outputs *o)
{
    size_t bytes = padded(o->outputs_count * sizeof *o->outputs) +
                   padded(o->finished_ids_count * sizeof *o->finished_ids) +
                   padded(sizeof *o->stats) + padded(sizeof *o->utility);
    for (uint32_t i = 0; i < o->outputs_count; i++) {
        bytes += text_bytes(o->outputs[i].id) +
                 padded(o->outputs[i].new_tokens_count * sizeof(uint32_t));
    }
    for (uint32_t i = 0; i < o->finished_ids_count; i++) {
        bytes += text_bytes(o->finished_ids[i]);
    }
    if (o->utility != NULL) {
        bytes += text_bytes(o->utility->failure) +
                 padded(o->utility->strings_count * sizeof *o->utility->strings);
        for (uint32_t i = 0; i < o->utility->strings_count; i++) {
            bytes += text_bytes(o->utility->strings[i]);
        }
    }
    return bytes;
}

static const char *const *copy_texts(struct block *b, const char *const *texts, uint32_t count)
{
    const char **copies = block_take(b, count * sizeof *copies);
    for (uint32_t i = 0; i < count; i++) {
        copies[i] = block_text(b, texts[i]);
    }
    return copies;
}

struct queue_item *queue_item_outputs(int32_t client, const struct engine_outputs *outputs)
{
    struct block b;
    struct queue_item *item = item_new(outputs_bytes(outputs), &b);
    item->kind = ITEM_OUTPUTS;
    item->client = client;
    item->as.outputs = *outputs;
    struct engine_outputs *o = &item->as.outputs;
    struct engine_output *rows = block_take(&b, o->outputs_count * sizeof *rows);
    for (uint32_t i = 0; i < o->outputs_count; i++) {
        rows[i] = outputs->outputs[i];
        rows[i].id = block_text(&b, rows[i].id);
        rows[i].new_token_ids =
            block_copy(&b, rows[i].new_token_ids, rows[i].new_tokens_count * sizeof(uint32_t));
    }
    o->outputs = rows;
    o->finished_ids = copy_texts(&b, outputs->finished_ids, outputs->finished_ids_count);
    o->stats = block_copy(&b, outputs->stats, sizeof *outputs->stats);
    if (outputs->utility != NULL) {
        struct utility_reply *reply = block_take(&b, sizeof *reply);
        *reply = *outputs->utility;
        reply->failure = block_text(&b, reply->failure);
        reply->strings = copy_texts(&b, outputs->utility->strings, reply->strings_count);
        o->utility = reply;
    }
    return item;
}

struct queue_item *queue_item_refusal(uint32_t rank, uint32_t client, const char *id, time_ps now)
{
    struct engine_output output = {.id = id, .finish = FINISH_ERROR, .stop_token_id = TOKEN_NONE};
    struct engine_outputs outputs = {
        .engine_index = rank,
        .outputs = &output,
        .outputs_count = 1,
        .timestamp = now,
        .finished_ids = &id,
        .finished_ids_count = 1,
        .wave_complete = -1,
        .start_wave = -1,
    };
    return queue_item_outputs((int32_t)client, &outputs);
}

struct queue_item *queue_item_plain(enum queue_item_kind kind)
{
    struct block b;
    struct queue_item *item = item_new(0, &b);
    item->kind = kind;
    return item;
}

struct queue_item *queue_item_start_wave(const struct start_wave *start)
{
    struct queue_item *item = queue_item_plain(ITEM_START_WAVE);
    item->as.start = *start;
    return item;
}
