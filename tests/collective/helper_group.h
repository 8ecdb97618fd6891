/*
 * helper_group.h - a collective of either transport for tests: made once, joined by each rank.
 */
#ifndef TESTS_COLLECTIVE_HELPER_GROUP_H
#define TESTS_COLLECTIVE_HELPER_GROUP_H

#include <sys/types.h>

#include "engine/collective/collective.h"

static const int64_t long_ns = 60000000000; /* what never passes */

enum transport {
    TRANSPORT_SHARED,
    TRANSPORT_TCP
};

struct group {
    enum transport transport;
    struct collective_options options;
    struct collective made; /* shared memory */
    uint32_t port;          /* TCP: kept by port_fd */
    int port_fd;
};

struct group group_create(enum transport transport, uint32_t ranks_count, enum wait_mode wait);
/* Another one of the same ranks; over TCP at the same port, to be joined after the first. */
struct group group_beside(const struct group *first);
/* Over TCP it waits for the others to join. */
bool group_join(const struct group *g, uint32_t rank, struct collective *out);
void group_close(struct group *g);

/* A process that joins as `rank` and exits with what the body returns; 100: it could not join. */
typedef int group_body(struct collective *c);
pid_t group_start(const struct group *g, uint32_t rank, group_body *body);
void assert_rank_exit(pid_t pid, int want);

/* All operations on random values. True if each gave what a serial reduction gives. */
bool group_run_calls(struct collective *c, uint32_t calls);
/* A sum of one value. */
enum status group_call(struct collective *c, uint64_t tag, int64_t timeout_ns, int32_t *value,
                       struct error *error);

#endif
