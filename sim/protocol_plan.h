/*
 * protocol_plan.h - what goes wrong in one run of protocol_driver.h, and what of the seed's
 * topology and workload takes part: one line of text that a person can read, change and give back.
 * It must not know of the driver's objects: shrinking (protocol_shrink.h) works on plans alone.
 *
 *   delay rank 1 to coordinator by 25 at 130 for 400   messages sent then take 25 ms longer
 *   reorder by 40 at 130 for 400       each takes 0 to 40 ms longer: links overtake each other
 *   pause rank 2 at 130 for 40         handles nothing, what comes waits
 *   slow rank 1 x8 [at 130 for 400]    its steps and its main thread
 *   crash api 0 at 300
 *   rejoin rank 1 at 300               subscribes again, and what it last told comes again
 *   rejoin api 0 at 300 for 2000       hears nothing of the coordinator until it is back
 *   ranks 2; apis 1; requests 0,3; without pauses; end at 400     less than the seed has
 *
 * Clauses are separated by semicolons; times are milliseconds of virtual time, as in the event log.
 * No order is changed within a link: ZeroMQ keeps it.
 */
#ifndef SIM_PROTOCOL_PLAN_H
#define SIM_PROTOCOL_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

enum {
    PROTOCOL_RANKS_MAX = 4,
    PROTOCOL_CLIENTS_MAX = 4,
    PROTOCOL_REQUESTS_MAX = 32,
    PROTOCOL_FAULTS_MAX = 8,
    PROTOCOL_PLAN_BYTES = 1024, /* the longest plan as text */
};

/* Processes are numbered: ranks, API servers ("clients" of the ranks), then these. */
enum {
    PROCESS_COORDINATOR = PROTOCOL_RANKS_MAX + PROTOCOL_CLIENTS_MAX,
    PROCESS_LAUNCHER,
    PROTOCOL_PROCESSES_MAX,
};

enum protocol_fault_kind {
    PROTOCOL_DELAY,
    PROTOCOL_REORDER,
    PROTOCOL_PAUSE,
    PROTOCOL_SLOW,
    PROTOCOL_CRASH,
    PROTOCOL_REJOIN,
    PROTOCOL_FAULT_KINDS,
};

struct protocol_fault {
    enum protocol_fault_kind kind;
    uint32_t process; /* of DELAY the sender; not of REORDER */
    uint32_t to;      /* DELAY */
    uint32_t factor;  /* SLOW */
    uint32_t by_us;   /* DELAY, REORDER */
    uint32_t at_us;
    uint32_t for_us; /* 0: until the end */
};

/* Parts of the workload and start-up that can be left out, a bit each. */
enum protocol_part {
    PROTOCOL_CANCELS = 1,
    PROTOCOL_ABORTS = 2, /* of ids that are nobody's, or not the sender's */
    PROTOCOL_PAUSES = 4,
    PROTOCOL_STALLS = 8,
    PROTOCOL_BAD_START = 16,
};

struct protocol_plan {
    struct protocol_fault faults[PROTOCOL_FAULTS_MAX];
    uint32_t faults_count;
    uint32_t ranks_count;   /* at most; 0: as the seed says */
    uint32_t clients_count; /* the same */
    uint32_t requests;      /* that are sent, a bit each; 0: all */
    uint32_t without;       /* enum protocol_part */
    uint32_t end_us;        /* no request begins later; 0: no end */
};

/* "delay", "reorder", ... */
const char *protocol_fault_name(enum protocol_fault_kind kind);
/* "rank 2", "api 0", "coordinator", "launcher"; returns as snprintf() does. */
int protocol_process_write(uint32_t process, char *out, size_t cap);
/* "none" for an empty plan. */
void protocol_plan_write(const struct protocol_plan *plan, char out[PROTOCOL_PLAN_BYTES]);
/* STATUS_INVALID: the text names the clause and what is valid there. */
MUST_CHECK enum status protocol_plan_parse(const char *text, struct protocol_plan *out,
                                           struct error *error);

#endif
