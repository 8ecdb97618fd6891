/*
 * collective_star.h - what a rank keeps of a collective over TCP: rank 0 a connection to each other
 * rank, the others one to rank 0. collective_join.c makes it, collective_star.c calls through it.
 */
#ifndef ENGINE_COLLECTIVE_COLLECTIVE_STAR_H
#define ENGINE_COLLECTIVE_COLLECTIVE_STAR_H

#include <poll.h>

#include "engine/collective/collective_link.h"

struct collective_member {
    struct collective_link link;
    struct collective_contribution contribution; /* at rank 0 */
};

struct collective_star {
    uint32_t wait; /* enum wait_mode */
    uint32_t members_count;
    uint64_t came;   /* ranks, a bit each: in this call, or joined; at others as rank 0 told */
    uint64_t told;   /* at rank 0: what the others know of it */
    int64_t tell_ns; /* at rank 0: when they may be told again */
    struct collective_member members[]; /* rank 0: of all ranks, its own unused; others: rank 0 */
};

/* At rank 0: a new call (or the joining) begins, and nobody else has come. */
void star_begin(struct collective *c);
/* At rank 0: takes in what rank r has sent. An error: it can take no part any more. */
MUST_CHECK enum status star_hear(struct collective *c, uint32_t r, struct error *error);
/* At rank 0: tells those that came who came, from time to time. Returns when to call again at the
 * latest, but no later than the deadline. */
int64_t star_tell(struct collective *c, int64_t deadline_ns);
void star_send_all(struct collective *c, const struct collective_frame *frame, int64_t deadline_ns);
/* At others: the end that rank 0 announced, or that its connection had. */
enum status star_ended(const struct collective *c, const struct collective_frame *frame,
                       struct error *error);
/* Until something happens on one of the descriptors, or it is time; may return early. */
void star_pause(uint32_t wait, struct pollfd *items, uint32_t count, int64_t until_ns);
uint64_t star_all_ranks(const struct collective *c);

#endif
