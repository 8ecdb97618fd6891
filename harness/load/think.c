/*
 * think.c - users of a closed loop between an answer and their next request: a binary heap by the
 * time at which they are done thinking. A user stands in it at most once. Driven by client.c and
 * response.c; allocates once.
 */
#include <stdlib.h>

#include "harness/load/client_state.h"

enum status think_create(struct client *c, struct error *error)
{
    if (c->options->mode != LOAD_CLOSED || c->options->think_mean_ns == 0) {
        return STATUS_OK;
    }
    c->thinkers = calloc(c->conns_count, sizeof *c->thinkers);
    return c->thinkers != NULL ? STATUS_OK : error_set(error, STATUS_NOMEM, "load: out of memory");
}

void think_begin(struct client *c, struct conn *conn, uint64_t number, int64_t now_ns)
{
    conn->slot_free_ns = now_ns;
    if (c->thinkers == NULL) {
        return;
    }
    ASSERT(!conn->thinking);
    conn->thinking = true;
    conn->slot_free_ns += schedule_think_ns(c->options, number);
    uint32_t at = c->thinkers_count++;
    while (at > 0 && c->thinkers[(at - 1) / 2].until_ns > conn->slot_free_ns) {
        c->thinkers[at] = c->thinkers[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    c->thinkers[at] = (struct thinker){.until_ns = conn->slot_free_ns, .conn = conn->index};
}

struct conn *think_take(struct client *c, int64_t now_ns)
{
    if (think_next_ns(c) > now_ns) {
        return NULL;
    }
    struct conn *taken = &c->conns[c->thinkers[0].conn];
    struct thinker last = c->thinkers[--c->thinkers_count];
    uint32_t at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child + 1 < c->thinkers_count &&
            c->thinkers[child + 1].until_ns < c->thinkers[child].until_ns) {
            child++;
        }
        if (child >= c->thinkers_count || c->thinkers[child].until_ns >= last.until_ns) {
            break;
        }
        c->thinkers[at] = c->thinkers[child];
        at = child;
    }
    c->thinkers[at] = last;
    taken->thinking = false;
    return taken;
}

int64_t think_next_ns(const struct client *c)
{
    return c->thinkers_count > 0 ? c->thinkers[0].until_ns : INT64_MAX;
}
