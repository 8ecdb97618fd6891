/*
 * collective_star.c - owns a call over TCP: every rank sends its values to rank 0, which reduces
 * them and sends the result to all. Driven by collective.c. Must not wait without a bound, nor
 * believe that a rank takes part in the call before its frame says so.
 *
 * A rank has one call under way at most, so no more than that ever waits in a connection, and
 * writing does not block in practice. While rank 0 waits it tells those that wait with it who has
 * come, so that each can name the missing ones when its own time is up.
 */
#include "engine/collective/collective_star.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/clock.h"

static const int64_t tell_interval_ns = 20000000;

uint64_t star_all_ranks(const struct collective *c)
{
    return UINT64_MAX >> (COLLECTIVE_RANKS_MAX - c->ranks_count);
}

void star_pause(uint32_t wait, struct pollfd *items, uint32_t count, int64_t until_ns)
{
    int64_t left_ns = wait == (uint32_t)WAIT_SPIN ? 0 : until_ns - clock_now_ns();
    left_ns = left_ns > 0 ? left_ns : 0;
    struct timespec span = {.tv_sec = left_ns / 1000000000, .tv_nsec = left_ns % 1000000000};
    if (ppoll(items, count, &span, NULL) <= 0) {
        for (uint32_t i = 0; i < count; i++) { /* an interrupted call leaves them as they were */
            items[i].revents = 0;
        }
        if (wait == (uint32_t)WAIT_SPIN) {
            (void)sched_yield();
        }
    }
}

/* ---- ends ---- */

static enum status end_of(const struct collective *c, uint32_t rank, const char *how,
                          struct error *error)
{
    if (c->calls_count == 0) {
        return error_set(error, STATUS_DIED, "%s: rank %u %s before all had joined", c->name, rank,
                         how);
    }
    return error_set(error, STATUS_DIED, "%s: rank %u %s before call %u", c->name, rank, how,
                     c->calls_count);
}

/* A time-out was the other's own: what this rank sees is that it will not come. */
static enum status broke_off(const struct collective *c, uint32_t rank,
                             const struct collective_frame *frame, struct error *error)
{
    if (frame->as.end.status == STATUS_TIMEOUT) {
        return error_set(error, STATUS_DIED, "%s: rank %u broke off: %s", c->name, rank,
                         frame->as.end.text);
    }
    return error_set(error, frame->as.end.status, "%s", frame->as.end.text);
}

static enum status unexpected(const struct collective *c, uint32_t rank,
                              const struct collective_frame *frame, struct error *error)
{
    return error_set(error, STATUS_PROTOCOL,
                     "%s: rank %u sent a frame of kind %d and number %u in call %u of rank %u",
                     c->name, rank, (int)frame->kind, frame->number, c->calls_count, c->rank);
}

static enum status no_frame(const struct collective *c, uint32_t rank, const char *why,
                            struct error *error)
{
    return error_set(error, STATUS_PROTOCOL, "%s: rank %u sent %s", c->name, rank, why);
}

enum status star_ended(const struct collective *c, const struct collective_frame *frame,
                       struct error *error)
{
    if (frame == NULL) {
        return end_of(c, 0, "died", error);
    }
    if (frame->kind == FRAME_LEAVE) {
        return end_of(c, 0, "has left", error);
    }
    if (frame->kind == FRAME_BREAK) {
        return broke_off(c, 0, frame, error);
    }
    return unexpected(c, 0, frame, error);
}

/* ---- rank 0 ---- */

void star_begin(struct collective *c)
{
    c->star->came = 1;
    c->star->told = 1;
    c->star->tell_ns = clock_now_ns() + tell_interval_ns;
}

static enum status hear_frame(struct collective *c, uint32_t r,
                              const struct collective_frame *frame, struct error *error)
{
    struct collective_star *s = c->star;
    if (frame->kind == FRAME_LEAVE) {
        return end_of(c, r, "has left", error);
    }
    if (frame->kind == FRAME_BREAK) {
        return broke_off(c, r, frame, error);
    }
    if (frame->kind != FRAME_CALL || frame->number != c->calls_count || (s->came >> r & 1) != 0) {
        return unexpected(c, r, frame, error);
    }
    s->members[r].contribution = frame->as.call;
    s->came |= UINT64_C(1) << r;
    return STATUS_OK;
}

enum status star_hear(struct collective *c, uint32_t r, struct error *error)
{
    struct collective_frame frame;
    struct error why;
    for (;;) {
        switch (collective_link_read(&c->star->members[r].link, &frame, &why)) {
        case LINK_NOTHING:
            return STATUS_OK;
        case LINK_FRAME:
            TRY(hear_frame(c, r, &frame, error));
            break;
        case LINK_ENDED:
            return end_of(c, r, "died", error);
        case LINK_RUBBISH:
            return no_frame(c, r, why.text, error);
        }
    }
}

void star_send_all(struct collective *c, const struct collective_frame *frame, int64_t deadline_ns)
{
    struct collective_star *s = c->star;
    for (uint32_t i = 0; i < s->members_count; i++) {
        if (s->members[i].link.fd >= 0) {
            /* Who cannot be reached has ended: that is seen when it is read next. */
            (void)collective_link_write(&s->members[i].link, frame, deadline_ns);
        }
    }
}

int64_t star_tell(struct collective *c, int64_t deadline_ns)
{
    struct collective_star *s = c->star;
    int64_t now_ns = clock_now_ns();
    if (s->came != s->told && now_ns >= s->tell_ns) {
        struct collective_frame frame = {
            .kind = FRAME_WAITING, .number = c->calls_count, .as.came = s->came};
        for (uint32_t r = 1; r < c->ranks_count; r++) {
            if ((s->came >> r & 1) != 0) {
                (void)collective_link_write(&s->members[r].link, &frame, now_ns);
            }
        }
        s->told = s->came;
        s->tell_ns = now_ns + tell_interval_ns;
    }
    return s->came != s->told && s->tell_ns < deadline_ns ? s->tell_ns : deadline_ns;
}

static enum status hear_all(struct collective *c, const struct pollfd *items, struct error *error)
{
    for (uint32_t r = 1; r < c->ranks_count; r++) {
        if (items[r - 1].revents != 0) {
            TRY(star_hear(c, r, error));
        }
    }
    return STATUS_OK;
}

static enum status gather(struct collective *c, const struct collective_call *call,
                          int64_t deadline_ns, struct error *error)
{
    struct collective_star *s = c->star;
    struct pollfd items[COLLECTIVE_RANKS_MAX];
    for (uint32_t r = 1; r < c->ranks_count; r++) {
        items[r - 1] =
            (struct pollfd){.fd = s->members[r].link.fd, .events = POLLIN, .revents = POLLIN};
    }
    for (;;) {
        TRY(hear_all(c, items, error));
        if (s->came == star_all_ranks(c)) {
            return STATUS_OK;
        }
        if (clock_now_ns() >= deadline_ns) {
            char names[300];
            collective_name_ranks(star_all_ranks(c) & ~s->came, UINT64_MAX, names);
            return collective_timed_out(c, call, names, error);
        }
        star_pause(s->wait, items, c->ranks_count - 1, star_tell(c, deadline_ns));
    }
}

static enum status call_as_root(struct collective *c, const struct collective_call *call,
                                int64_t deadline_ns, int32_t *values, struct error *error)
{
    struct collective_star *s = c->star;
    star_begin(c);
    TRY(gather(c, call, deadline_ns, error));
    collective_contribution_set(&s->members[0].contribution, call, values);
    const struct collective_contribution *all[COLLECTIVE_RANKS_MAX];
    for (uint32_t r = 0; r < c->ranks_count; r++) {
        all[r] = &s->members[r].contribution;
    }
    TRY(collective_reduce(c, all, values, error));
    struct collective_frame frame = {.kind = FRAME_RESULT, .number = c->calls_count};
    collective_contribution_set(&frame.as.call, call, values);
    star_send_all(c, &frame, deadline_ns);
    return STATUS_OK;
}

/* ---- the others ---- */

static bool answers(const struct collective_frame *frame, const struct collective *c,
                    const struct collective_call *call)
{
    return frame->kind == FRAME_RESULT && frame->number == c->calls_count &&
           frame->as.call.tag == call->tag && frame->as.call.op == (uint32_t)call->op &&
           frame->as.call.count == call->count;
}

/* Everything that rank 0 has sent, up to the result. */
static enum status hear_root(struct collective *c, const struct collective_call *call,
                             int32_t *values, bool *done, struct error *error)
{
    struct collective_frame frame;
    struct error why;
    for (;;) {
        switch (collective_link_read(&c->star->members[0].link, &frame, &why)) {
        case LINK_NOTHING:
            return STATUS_OK;
        case LINK_ENDED:
            return star_ended(c, NULL, error);
        case LINK_RUBBISH:
            return no_frame(c, 0, why.text, error);
        case LINK_FRAME:
            if (answers(&frame, c, call)) {
                memcpy(values, frame.as.call.values, call->count * sizeof values[0]);
                *done = true;
                return STATUS_OK;
            }
            if (frame.kind != FRAME_WAITING || frame.number != c->calls_count) {
                return star_ended(c, &frame, error);
            }
            c->star->came = frame.as.came;
            break;
        }
    }
}

static enum status call_as_other(struct collective *c, const struct collective_call *call,
                                 int64_t deadline_ns, int32_t *values, struct error *error)
{
    struct collective_link *link = &c->star->members[0].link;
    struct collective_frame frame = {.kind = FRAME_CALL, .number = c->calls_count};
    collective_contribution_set(&frame.as.call, call, values);
    /* If it cannot go out, what came in says why. */
    (void)collective_link_write(link, &frame, deadline_ns);
    c->star->came = star_all_ranks(c) & ~UINT64_C(1); /* of the others nothing is known */
    struct pollfd item = {.fd = link->fd, .events = POLLIN};
    bool done = false;
    for (;;) {
        TRY(hear_root(c, call, values, &done, error));
        if (done) {
            return STATUS_OK;
        }
        if (clock_now_ns() >= deadline_ns) {
            char names[300];
            collective_name_ranks(star_all_ranks(c) & ~c->star->came, UINT64_MAX, names);
            return collective_timed_out(c, call, names, error);
        }
        star_pause(c->star->wait, &item, 1, deadline_ns);
    }
}

/* ---- for collective.c ---- */

enum status star_run_call(struct collective *c, const struct collective_call *call, int32_t *values,
                          struct error *error)
{
    int64_t deadline_ns = clock_now_ns() + call->timeout_ns;
    return c->rank == 0 ? call_as_root(c, call, deadline_ns, values, error)
                        : call_as_other(c, call, deadline_ns, values, error);
}

void star_break_off(struct collective *c, const struct error *why)
{
    struct collective_frame frame = {.kind = FRAME_BREAK, .as.end.status = why->status};
    (void)snprintf(frame.as.end.text, sizeof frame.as.end.text, "%.*s", FRAME_TEXT_MAX, why->text);
    for (char *at = frame.as.end.text; *at != '\0'; at++) {
        if (*at < ' ' || *at > '~') {
            *at = '?';
        }
    }
    star_send_all(c, &frame, clock_now_ns());
}

void star_close(struct collective *c)
{
    struct collective_frame leave = {.kind = FRAME_LEAVE};
    if (c->broken == STATUS_OK) {
        star_send_all(c, &leave, clock_now_ns());
    }
    for (uint32_t i = 0; i < c->star->members_count; i++) {
        collective_link_close(&c->star->members[i].link);
    }
    free(c->star);
}
