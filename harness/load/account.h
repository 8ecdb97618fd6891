/*
 * account.h - how what happens to requests becomes records, a timeline and the counters of the
 * window in a load region (shared.h). Driven by whoever carries a load out: the load client as it
 * sends and reads, a simulation as its virtual clock says. Keeps no clock and no connection.
 */
#ifndef HARNESS_LOAD_ACCOUNT_H
#define HARNESS_LOAD_ACCOUNT_H

#include "harness/load/schedule.h"
#include "harness/load/shared.h"

/* The only writer of a region. The owner sets `shared` and `trace`; account_start() the times. */
struct account {
    struct load_shared *shared;
    const struct trace *trace; /* NULL: none */
    int64_t start_ns;          /* copies of what the header says, for the hot path */
    int64_t window_start_ns;
    int64_t window_end_ns;
    int64_t batch_ns;
    int64_t cycles_look_ns; /* when the window's length is looked at; INT64_MAX: never */
    int64_t cycles_sum_ns;  /* of the times of requests due in the window that ended well */
    uint64_t cycles_count;  /* of these */
    int64_t inflight_changed_ns;
    uint64_t inflight;
};

/* The load begins: its window follows from the options. */
void account_start(struct account *a, int64_t now_ns);
/* window.c: the warm-up is over. The window begins LOAD_WINDOW_NOTICE_NS later, unless it was to
 * begin before that. */
void account_begin_window(struct account *a, int64_t now_ns);
/* window.c: from cycles_look_ns on: a window that is shorter than options.min_cycles_count mean
 * request times is made longer. False: it was not. */
bool account_extend_window(struct account *a, int64_t now_ns);
/* The load is over: a window that has not ended ends here. */
void account_cut(struct account *a, int64_t now_ns);

uint64_t record_number(const struct load_record *record);
struct load_record *account_begin(struct account *a, const struct schedule_item *item,
                                  uint32_t connection, int64_t t_sched_ns);
void account_sent(struct account *a, struct load_record *record, int64_t now_ns);
/* An event with content; `coalesced`: it came with an earlier one. */
void account_content(struct account *a, struct load_record *record, uint32_t tokens, bool coalesced,
                     int64_t now_ns);
/* Keeps an event with `choices`, if the options ask for it; tokens 0: without content. */
void account_event(struct account *a, const struct load_record *record, uint32_t tokens,
                   int64_t now_ns);
/* Tokens that no content event showed, e.g. named by the last usage only. */
void account_tokens(struct account *a, struct load_record *record, uint32_t tokens, int64_t now_ns);
void account_end(struct account *a, struct load_record *record, enum load_outcome outcome,
                 int64_t now_ns);
void account_inflight(struct account *a, int64_t change, int64_t now_ns);

#endif
