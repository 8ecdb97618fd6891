/*
 * collective_transport.h - what collective.c has in common for all transports, and what each of
 * them (collective_shared.c, collective_star.c) does for it. For the files of this folder only.
 */
#ifndef ENGINE_COLLECTIVE_COLLECTIVE_TRANSPORT_H
#define ENGINE_COLLECTIVE_COLLECTIVE_TRANSPORT_H

#include "engine/collective/collective.h"

/* A rank's part in one call. */
struct collective_contribution {
    uint64_t tag;
    uint32_t op; /* enum collective_op */
    uint32_t count;
    int32_t values[COLLECTIVE_VALUES_MAX];
};

void collective_contribution_set(struct collective_contribution *own,
                                 const struct collective_call *call, const int32_t *values);
/* Replaces `values` by the reduction of all[0 .. ranks_count), or leaves them as they are: PROTOCOL
 * if another's call differs from this rank's, INVALID if a sum does not fit. */
MUST_CHECK enum status collective_reduce(const struct collective *c,
                                         const struct collective_contribution *const *all,
                                         int32_t *values, struct error *error);
/* The ranks of a bit mask as "1, 3 (never joined)". */
void collective_name_ranks(uint64_t missing, uint64_t joined, char out[300]);
enum status collective_timed_out(const struct collective *c, const struct collective_call *call,
                                 const char *missing, struct error *error);

/* One all-reduce: c->calls_count is its number already. */
MUST_CHECK enum status shared_run_call(struct collective *c, const struct collective_call *call,
                                       int32_t *values, struct error *error);
void shared_break_off(struct collective *c);
void shared_close(struct collective *c);

MUST_CHECK enum status star_run_call(struct collective *c, const struct collective_call *call,
                                     int32_t *values, struct error *error);
/* `why`: what ended this rank's call, which it tells the others. */
void star_break_off(struct collective *c, const struct error *why);
void star_close(struct collective *c);

#endif
