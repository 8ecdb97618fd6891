/*
 * parcel.c - owns the memory of what is in flight: requests (tickets) and messages (parcels). It
 * grows with the most that was ever in flight and is given out again last in, first out. Driven by
 * the threads of a simulation. Must not look into a message beyond copying it.
 */
#include <stdlib.h>
#include <string.h>

#include "sim/simulation_state.h"

#define TICKET_NONE UINT32_MAX

enum {
    PARCEL_MIN_BYTES = 256
};

static void grow_tickets(struct simulation *s)
{
    if (s->chunks_count == s->chunks_capacity) {
        s->chunks_capacity = s->chunks_capacity == 0 ? 16 : 2 * s->chunks_capacity;
        s->chunks = realloc(s->chunks, s->chunks_capacity * sizeof(struct ticket *));
        ASSERT(s->chunks != NULL);
    }
    struct ticket *chunk = aligned_alloc(CACHE_LINE_BYTES, TICKET_CHUNK * sizeof *chunk);
    ASSERT(chunk != NULL);
    memset(chunk, 0, TICKET_CHUNK * sizeof *chunk);
    s->chunks[s->chunks_count] = chunk;
    for (uint32_t i = TICKET_CHUNK; i > 0; i--) {
        chunk[i - 1].index = s->chunks_count * TICKET_CHUNK + i - 1;
        chunk[i - 1].next_free = i < TICKET_CHUNK ? chunk[i].index : TICKET_NONE;
    }
    s->free_ticket = chunk[0].index;
    s->chunks_count++;
}

struct ticket *ticket_take(struct simulation *s)
{
    if (s->chunks_count == 0 || s->free_ticket == TICKET_NONE) {
        grow_tickets(s);
    }
    struct ticket *t = ticket_at(s, s->free_ticket);
    uint32_t index = t->index;
    s->free_ticket = t->next_free;
    *t = (struct ticket){.index = index, .next_free = TICKET_NONE};
    return t;
}

void ticket_give(struct simulation *s, struct ticket *t)
{
    t->next_free = s->free_ticket;
    s->free_ticket = t->index;
}

/* Eight hexadecimal digits at once: their values to nibbles, nibbles to bytes, bytes together. */
struct ticket *ticket_of_id(const struct simulation *s, const char *id)
{
    uint64_t text;
    memcpy(&text, id + TICKET_DIGITS_AT, sizeof text);
    uint64_t digits = (text & 0x0f0f0f0f0f0f0f0fULL) + 9 * (text >> 6 & 0x0101010101010101ULL);
    uint64_t bytes = (digits << 4 | digits >> 8) & 0x00ff00ff00ff00ffULL;
    uint64_t words = (bytes << 8 | bytes >> 16) & 0x0000ffff0000ffffULL;
    return ticket_at(s, (uint32_t)(words << 16 | words >> 32));
}

struct parcel *parcel_take(struct simulation *s, size_t bytes)
{
    uint32_t size_class = 0;
    while ((size_t)PARCEL_MIN_BYTES << size_class < bytes) {
        size_class++;
    }
    struct parcel *p = s->free_parcels[size_class];
    if (p != NULL) {
        s->free_parcels[size_class] = p->next_free;
    } else {
        p = malloc((size_t)PARCEL_MIN_BYTES << size_class);
        ASSERT(p != NULL);
    }
    *p = (struct parcel){.size_class = size_class, .references = 1};
    return p;
}

void parcel_give(struct simulation *s, struct parcel *p)
{
    p->references--;
    if (p->references == 0) {
        p->next_free = s->free_parcels[p->size_class];
        s->free_parcels[p->size_class] = p;
    }
}

static void free_letters(struct station *station)
{
    for (uint32_t i = 0; i < INBOXES_MAX; i++) {
        struct inbox *b = &station->inboxes[i];
        for (uint32_t k = 0; k < b->count; k++) {
            const struct letter *letter = &b->letters[(b->first + k) & (b->capacity - 1)];
            struct parcel *p = letter->kind == LETTER_PARCEL ? letter->as.parcel : NULL;
            if (p != NULL && --p->references == 0) {
                free(p);
            }
        }
    }
}

void parcels_destroy(struct simulation *s)
{
    for (uint32_t i = 0; s->scene.stations != NULL && i < s->scene.queue.count; i++) {
        if (s->scene.stations[i] != NULL) {
            free_letters(s->scene.stations[i]);
        }
    }
    for (uint32_t i = 0; i < PARCEL_CLASSES; i++) {
        while (s->free_parcels[i] != NULL) {
            struct parcel *p = s->free_parcels[i];
            s->free_parcels[i] = p->next_free;
            free(p);
        }
    }
    for (uint32_t i = 0; i < s->chunks_count; i++) {
        free(s->chunks[i]);
    }
    free(s->chunks);
}

struct outputs_parcel *parcel_of_outputs(struct simulation *s, int32_t client,
                                         const struct engine_outputs *outputs)
{
    size_t rows = outputs->outputs_count;
    size_t ids = outputs->finished_ids_count;
    struct outputs_parcel *p = (struct outputs_parcel *)parcel_take(
        s, sizeof *p + rows * sizeof *p->rows + ids * sizeof(const char *));
    p->client = client;
    p->outputs = *outputs;
    for (size_t i = 0; i < rows; i++) {
        p->rows[i] = outputs->outputs[i];
        p->rows[i].id = NULL; /* its tag names it, and nobody asks which tokens */
        p->rows[i].new_token_ids = NULL;
    }
    uint64_t withheld_steps = s->engines[outputs->engine_index].withheld_steps;
    for (size_t i = 0; i < rows && withheld_steps > 0; i++) {
        struct ticket *t = ticket_at(s, frontend_tag_serial(p->rows[i].tag));
        p->rows[i].new_tokens_count += (uint32_t)(withheld_steps - t->withheld_steps);
        t->withheld_steps = withheld_steps;
    }
    const char **finished = (const char **)&p->rows[rows];
    for (size_t i = 0; i < ids; i++) {
        finished[i] = ticket_of_id(s, outputs->finished_ids[i])->id;
    }
    p->outputs.outputs = p->rows;
    p->outputs.finished_ids = finished;
    if (outputs->stats != NULL) {
        p->stats = *outputs->stats;
        p->outputs.stats = &p->stats;
    }
    return p;
}
