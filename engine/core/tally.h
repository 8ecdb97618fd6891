/*
 * tally.h - one engine core as counts: what engine_core.h plans, completes and publishes, without
 * saying which slots and which blocks. A step takes the same time whatever the number of sequences,
 * and steps that bring nothing new can be taken many at once.
 *
 * For engine cores whose steps are countable (tally_fits()): alone (no lock-step, no pipeline),
 * first come first served, without prefix cache, and for requests that end by their length alone,
 * so that the step in which one ends is known when its first token is planned. Everything else is
 * as in engine_core.h, to whose loop this is driven: add, turn, complete. What it says must be
 * equal to what an engine core says; tests/core/tally_test.c holds the two against each other.
 *
 * Sans-IO (law 1): no clock, no thread, no allocation after creation.
 */
#ifndef ENGINE_CORE_TALLY_H
#define ENGINE_CORE_TALLY_H

#include "engine/core/engine_core.h"

struct tally_request {
    uint64_t number; /* the caller's; rows name it */
    uint32_t prompt_tokens;
    uint32_t max_tokens;
    uint32_t client_index;
};

/* As struct step_plan, and what struct step_load needs. */
struct tally_plan {
    uint64_t step;
    uint32_t seqs_count;
    uint32_t tokens_count;
    uint32_t sampled_count;
    uint32_t blocks_count;  /* newly given */
    uint32_t clients_count; /* whose requests sample */
    uint64_t kv_read_tokens;
    uint64_t attention_pairs;
};

/* A request's first output, its last, or both in one. Outputs in between have no row. */
struct tally_row {
    uint64_t number;
    uint32_t client_index;
    uint32_t new_tokens_count; /* since its row before this */
    uint32_t preemptions_count;
    bool first;
    bool last; /* it ended, by its length */
    time_ps queued_at;
    time_ps scheduled_at;
};

/* Rows in the order of an engine core's outputs; borrowed until the next completion. */
struct tally_result {
    const struct tally_plan *plan; /* that was completed */
    const struct tally_row *rows;
    uint32_t rows_count;
    uint32_t finished_count;
};

struct tally;

bool tally_fits(const struct engine_core_options *options);
size_t tally_arena_bytes(const struct engine_core_options *options);
/* Options must be valid for an engine core, and fit. */
void tally_create(struct arena *arena, const struct engine_core_options *options,
                  struct tally **out);

/* As engine_core_add(). The prompt is shorter than max_model_len, and the client is known. */
MUST_CHECK enum status tally_add(struct tally *t, const struct tally_request *request, time_ps now,
                                 struct error *error);
bool tally_has_work(const struct tally *t);
uint32_t tally_unfinished(const struct tally *t);
uint32_t tally_waiting(const struct tally *t);
/* As engine_core_turn(). The plan is borrowed until it is completed. */
enum engine_turn tally_turn(struct tally *t, time_ps now, const struct tally_plan **plan);
/* The oldest submitted plan is done. */
void tally_complete(struct tally *t, struct tally_result *result);
/* As engine_core_counts_changed(). */
bool tally_counts_changed(struct tally *t, struct scheduler_stats *stats);
void tally_stats(const struct tally *t, struct scheduler_stats *stats);
uint64_t tally_used_blocks(const struct tally *t);
uint32_t tally_preemptions(const struct tally *t);

/*
 * Steps from now on, while the caller waits for a result (ENGINE_TURN_AWAIT), in each of which the
 * oldest plan is completed without a row and another one is planned in which every running request
 * computes a token: nobody comes or goes, no count changes.
 */
struct tally_quiet {
    uint64_t steps_count; /* 0: none */
    uint64_t next_row;    /* tally_next_row() */
    uint64_t next_step;   /* to be planned */
    uint32_t seqs_count;  /* of each plan, from this one on */
    uint32_t clients_count;
    uint64_t kv_read_tokens;     /* of the next plan; each one behind it reads seqs_count more */
    const uint32_t *step_blocks; /* a step takes step_blocks[step % block_tokens] */
};

void tally_quiet(const struct tally *t, struct tally_quiet *quiet);
/* As so many of them, at most steps_count. */
void tally_advance(struct tally *t, uint64_t steps);
/* The step whose completion, if no request comes, is the first that has a row or changes a count;
 * never too late, but perhaps too early. */
uint64_t tally_next_row(const struct tally *t);

/* Invariants, for tests. NULL: all hold. */
const char *tally_check(const struct tally *t);

#endif
