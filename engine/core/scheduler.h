/*
 * scheduler.h - decides what each step of one engine core computes, and takes in what it gave.
 *
 * A step first serves the running requests in order, preempting the last one (or the least
 * important) when blocks run out, then admits waiting requests in order while the budgets last; the
 * first that does not fit holds up those behind it. What a step schedules counts as computed at
 * once, so the next step can be planned before this one is done: a token that is not known yet has
 * its place already. Rules are vLLM V1's for dense models.
 *
 * Driven by engine_core.c only, which owns ids, messages and the order of steps.
 */
#ifndef ENGINE_CORE_SCHEDULER_H
#define ENGINE_CORE_SCHEDULER_H

#include "engine/core/block_pool.h"
#include "engine/core/request_table.h"
#include "engine/core/wait_queue.h"

/* Memory of one plan; plan.* point into it. */
struct step_buffer {
    struct step_plan plan;
    struct step_seq *seqs;    /* [max_num_seqs] */
    uint32_t *block_ids;      /* [max_num_seqs][blocks of a request] */
    uint32_t *token_ids;      /* [max_num_seqs][max_model_len] */
    uint32_t *finished_slots; /* [requests_max] */
};

struct scheduler {
    struct engine_core_options options;
    struct request_table *table;
    struct block_pool pool;
    struct wait_queue waiting;
    uint32_t *running; /* slots in the order they are served */
    uint32_t running_count;
    uint32_t running_finished_count; /* of them ended since scheduler_commit_end() */
    uint32_t *worker_finished;       /* slots to name in the next plan */
    uint32_t worker_finished_count;
    uint32_t *unreported; /* ended requests whose client was not told yet */
    uint32_t unreported_count;
    uint32_t *quiet_blocks; /* [block_tokens] of scheduler_quiet(): blocks by step */
    uint32_t *quiet_first;  /* [block_tokens + 1] of scheduler_advance(): its events by step */
    uint32_t *quiet_events; /* [2 x max_num_seqs] */
    uint32_t *refs_scratch; /* [num_gpu_blocks], of scheduler_check() only */
    uint32_t watermark_blocks;
    uint32_t preemptions_count;
    uint32_t passes_count; /* of scheduler_schedule(); wraps */
    struct prefix_cache_stats prefix_cache;
    enum pause_state pause;
};

/* What scheduler_commit() says of one sequence of a finished step. */
struct commit_outcome {
    enum finish_reason finish; /* FINISH_NONE: goes on */
    int32_t stop_token_id;
};

size_t scheduler_arena_bytes(const struct engine_core_options *options);
void scheduler_init(struct scheduler *s, struct arena *arena,
                    const struct engine_core_options *options, struct request_table *table);
size_t step_buffer_arena_bytes(const struct engine_core_options *options);
void step_buffer_init(struct step_buffer *buffer, struct arena *arena,
                      const struct engine_core_options *options);

/* The request in `slot` waits from now on. */
void scheduler_add(struct scheduler *s, uint32_t slot);
/* Ends an unfinished request now. Its blocks stay held while a step that uses them is in flight. */
void scheduler_abort(struct scheduler *s, uint32_t slot);

/* Plans a step into `buffer` (its number stays the caller's). Slots to forget are added when it is
 * submitted. */
void scheduler_schedule(struct scheduler *s, time_ps now, struct step_buffer *buffer);
/* Moves the slots that ended since the last submitted plan into this one. */
void scheduler_attach_finished(struct scheduler *s, struct step_buffer *buffer);

/*
 * One sequence of the oldest submitted plan is done; `token` counts if it samples. True: the
 * request has a new token for its client. Afterwards, once a step: scheduler_commit_end().
 */
bool scheduler_commit(struct scheduler *s, const struct step_seq *seq, uint32_t token,
                      struct commit_outcome *outcome);
/*
 * The same for what most sequences of most steps are: a request `r` that goes on, whose token ids
 * nobody knows, with nothing but counts to change. False: nothing was done.
 */
static inline bool scheduler_commit_plain(struct request *r, const struct step_seq *seq)
{
    uint32_t tokens_count = r->tokens_count + 1;
    if (r->state != REQUEST_RUNNING || (seq->flags & STEP_SEQ_SAMPLES) == 0 || r->has_prompt ||
        tokens_count >= r->stop_from_tokens ||
        r->computed_tokens - r->placeholders + 1 >= r->register_at_tokens) {
        return false;
    }
    ASSERT(r->in_flight > 0);
    r->in_flight--;
    r->tokens_count = tokens_count;
    r->placeholders--;
    return true;
}
void scheduler_commit_end(struct scheduler *s);

/*
 * Steps from now on in which every running request has `in_flight` steps submitted and one token
 * computed, samples, and does not end, and in which nobody waits or gives way: what
 * engine_core_quiet() says, apart from clients and published counts.
 */
void scheduler_quiet(struct scheduler *s, uint32_t in_flight, struct engine_core_quiet *quiet);
/* `steps` of them were planned, and as many committed. */
void scheduler_advance(struct scheduler *s, uint64_t steps);

/* The client of unreported[i], for all i, was told: forgets them and frees the slots that no step
 * in flight uses. */
void scheduler_reported(struct scheduler *s);

/* Unfinished requests that a pause does not hold back. */
static inline uint32_t scheduler_active(const struct scheduler *s)
{
    if (s->pause == PAUSED_ALL) {
        return 0;
    }
    return s->running_count + (s->pause == PAUSED_NEW ? 0 : s->waiting.count);
}

/* Something to compute, or an end that workers or clients have not heard of. */
static inline bool scheduler_wants_step(const struct scheduler *s)
{
    return scheduler_active(s) + s->worker_finished_count + s->unreported_count > 0;
}

static inline uint32_t scheduler_unfinished(const struct scheduler *s)
{
    return s->running_count + s->waiting.count;
}

/* NULL, or the invariant that is broken. Call between events. O(slots + blocks), for tests. */
const char *scheduler_check(const struct scheduler *s);

#endif
