/*
 * protocol_links.c - messages on their way between the actors of protocol_driver.h, and the trace
 * of what happened. Driven by the other protocol_*.c; it must not know what a message means.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "sim/protocol_model.h"

/* ---- links ---- */

struct protocol_message *protocol_message_new(struct protocol *d, enum protocol_message_kind kind)
{
    struct protocol_message *message = d->free_messages;
    if (message != NULL) {
        d->free_messages = message->next;
    } else {
        ASSERT(d->fresh_messages < PROTOCOL_MESSAGES_MAX);
        message = &d->messages[d->fresh_messages++];
    }
    message->kind = kind;
    message->next = NULL;
    return message;
}

void protocol_message_free(struct protocol *d, struct protocol_message *message)
{
    message->next = d->free_messages;
    d->free_messages = message;
}

static time_ps draw_delay(struct protocol *d, const struct protocol_link *link)
{
    switch (link->delay_shape) {
    case 0:
        return link->delay_mean;
    case 1:
        return random_range(&d->events, 0, 2 * link->delay_mean);
    default:
        return (time_ps)((double)link->delay_mean * random_exponential(&d->events));
    }
}

void protocol_send(struct protocol *d, struct protocol_link *link, struct protocol_message *message)
{
    if (link->cut) {
        protocol_message_free(d, message);
        return;
    }
    time_ps at = d->now + draw_delay(d, link);
    if (d->links_fail) {
        at += protocol_fault_delay(d, link);
    }
    message->at = at > link->last_at ? at : link->last_at;
    link->last_at = message->at;
    if (link->tail != NULL) {
        link->tail->next = message;
    } else {
        link->head = message;
    }
    link->tail = message;
    d->live_messages++;
}

struct protocol_message *protocol_take(struct protocol *d, struct protocol_link *link)
{
    struct protocol_message *message = link->head;
    link->head = message->next;
    if (link->head == NULL) {
        link->tail = NULL;
    }
    d->live_messages--;
    return message;
}

void protocol_link_drop(struct protocol *d, struct protocol_link *link)
{
    while (link->head != NULL) {
        protocol_message_free(d, protocol_take(d, link));
    }
}

/* ---- trace ---- */

bool protocol_fail(struct protocol *d, const char *invariant, const char *fmt, ...)
{
    if (d->failure[0] == '\0') {
        (void)snprintf(d->report->invariant, sizeof d->report->invariant, "%s", invariant);
        va_list args;
        va_start(args, fmt);
        (void)vsnprintf(d->failure, sizeof d->failure, fmt, args);
        va_end(args);
    }
    return false;
}

void protocol_event(struct protocol *d, enum protocol_event_kind kind, const uint32_t args[4])
{
    struct protocol_event *event = &d->kept[d->kept_count % PROTOCOL_EVENTS_KEPT];
    d->kept_count++;
    *event = (struct protocol_event){
        .at = d->now, .kind = kind, .args = {args[0], args[1], args[2], args[3]}};
    uint64_t low = (uint64_t)args[0] << 32 | args[1];
    uint64_t high = (uint64_t)args[2] << 32 | args[3];
    uint64_t digest = random_at(d->report->digest + kind, (uint64_t)d->now);
    d->report->digest = random_at(digest, low ^ random_at(high, 1));
}

static const char *const event_names[][5] = {
#define X(name, text, a, b, c, e) {text, a, b, c, e},
    PROTOCOL_EVENTS(X)
#undef X
};

static int write_options(const struct protocol *d, char *out, size_t cap)
{
    const struct engine_core_options *e = &d->engine_options;
    const struct coordinator_options *c = &d->coordinator_options;
    const struct wave_options *w = &e->wave;
    char plan[PROTOCOL_PLAN_BYTES];
    protocol_plan_write(&d->plan, plan);
    return snprintf(
        out, cap,
        "seed %lu: ranks %u clients %u %s interval %u%s%s%s%s depth %u seqs %u "
        "budget %u blocks %u%s%s router %d graph %u%s%s fault %d\nplan: %s\n",
        (unsigned long)d->seed, d->ranks_count, d->clients_count,
        d->lockstep ? "lock-step" : "independent", w->check_interval_steps,
        w->check_first_step ? " first-step" : "", c->believe_engines_only ? " believe-engines" : "",
        w->announce_start ? " announce" : "",
        c->rule == PUBLISH_WHEN_DUE ? " when-due" : " when-quiet", e->async_depth, e->max_num_seqs,
        e->max_num_batched_tokens, e->num_gpu_blocks, d->aborts_allowed ? " aborts" : "",
        d->pauses_allowed ? " pauses" : "", (int)d->router_rule, w->graph_tokens_max,
        d->eager_aborts ? " eager" : "", d->chase ? " chase" : "", (int)d->launcher.fault, plan);
}

void protocol_write_trace(const struct protocol *d)
{
    char *out = d->report->trace;
    size_t cap = sizeof d->report->trace;
    size_t used = (size_t)write_options(d, out, cap);
    uint64_t first =
        d->kept_count > PROTOCOL_EVENTS_KEPT ? d->kept_count - PROTOCOL_EVENTS_KEPT : 0;
    for (uint64_t i = first; i < d->kept_count; i++) {
        const struct protocol_event *event = &d->kept[i % PROTOCOL_EVENTS_KEPT];
        char line[160];
        const char *const *names = event_names[event->kind];
        size_t bytes = (size_t)snprintf(line, sizeof line, "%.6f ms %s",
                                        (double)event->at / (double)PS_PER_MS, names[0]);
        for (uint32_t k = 0; k < 4 && names[k + 1][0] != '\0'; k++) {
            bytes += (size_t)snprintf(line + bytes, sizeof line - bytes, " %s %u", names[k + 1],
                                      event->args[k]);
        }
        if (used + bytes + 2 > cap) {
            break;
        }
        memcpy(out + used, line, bytes);
        out[used + bytes] = '\n';
        used += bytes + 1;
    }
    out[used] = '\0';
}
