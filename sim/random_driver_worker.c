/* random_driver_worker.c - the model worker and the model clients of random_driver_model.h. */
#include <string.h>

#include "engine/base/hash.h"
#include "sim/random_driver_model.h"

void driver_digest(struct driver *d, uint64_t value)
{
    d->report->digest = random_at(d->report->digest, value);
}

static struct driver_request *owner_of(struct driver *d, uint64_t sample_key)
{
    for (uint32_t i = 0; i < d->requests_count; i++) {
        if (d->requests[i].added && d->requests[i].sample_key == sample_key) {
            return &d->requests[i];
        }
    }
    return NULL;
}

/* ---- worker ---- */

static bool introduce(struct driver *d, const struct step_plan *plan, const struct step_seq *seq)
{
    struct driver_request *owner = owner_of(d, seq->sample_key);
    DRIVER_REQUIRE(d, owner != NULL, "plan %lu: unknown sample key", (unsigned long)plan->step);
    struct driver_slot *slot = &d->slots[seq->slot];
    DRIVER_REQUIRE(d, slot->owner == NULL || slot->owner == owner,
                   "%s given the slot of an unfinished request", owner->id);
    slot->owner = owner;
    slot->computed = seq->computed_tokens;
    slot->blocks_count = 0;
    d->report->hit_tokens_count += seq->computed_tokens;
    uint32_t known = owner->request.prompt_tokens_count + owner->delivered;
    DRIVER_REQUIRE(d, seq->computed_tokens < known, "%s: prefix hit covers the last token",
                   owner->id);
    if (owner->request.prompt_token_ids == NULL) {
        DRIVER_REQUIRE(d, seq->tokens_count == 0, "%s: tokens out of nowhere", owner->id);
        return true;
    }
    DRIVER_REQUIRE(d, seq->tokens_count == known, "%s: %u of %u known tokens in the plan",
                   owner->id, seq->tokens_count, known);
    const uint32_t *tokens = plan->token_ids + seq->tokens_first;
    uint32_t prompt = owner->request.prompt_tokens_count;
    bool equal = memcmp(tokens, owner->prompt, prompt * sizeof *tokens) == 0 &&
                 memcmp(tokens + prompt, owner->expected, owner->delivered * sizeof *tokens) == 0;
    DRIVER_REQUIRE(d, equal, "%s: wrong token ids in the plan", owner->id);
    return true;
}

static bool slot_has(const struct driver_slot *slot, uint32_t block)
{
    for (uint32_t i = 0; i < slot->blocks_count; i++) {
        if (slot->blocks[i] == block) {
            return true;
        }
    }
    return false;
}

/* The ended request for which a step in flight still writes `block`, NULL if none. */
static const struct driver_request *writer_of(const struct driver *d, uint32_t block)
{
    for (uint32_t s = 0; s < d->in_flight_count; s++) {
        const struct driver_step *step = &d->in_flight[s];
        for (uint32_t i = 0; i < step->plan->seqs_count; i++) {
            const struct driver_request *owner = step->owners[i];
            const struct driver_slot *slot = &d->slots[step->plan->seqs[i].slot];
            if (owner->ended && slot->owner == owner && slot_has(slot, block)) {
                return owner;
            }
        }
    }
    return NULL;
}

static bool take_blocks(struct driver *d, const struct step_plan *plan, const struct step_seq *seq)
{
    struct driver_slot *slot = &d->slots[seq->slot];
    for (uint32_t i = 0; i < seq->blocks_count; i++) {
        uint32_t block = plan->block_ids[seq->blocks_first + i];
        DRIVER_REQUIRE(d, block > 0 && block < d->options.num_gpu_blocks, "block %u in a plan",
                       block);
        DRIVER_REQUIRE(d, slot->blocks_count < DRIVER_MODEL_LEN_MAX, "too many blocks");
        slot->blocks[slot->blocks_count++] = block;
    }
    return true;
}

static bool compute(struct driver *d, const struct step_seq *seq)
{
    struct driver_slot *slot = &d->slots[seq->slot];
    const struct driver_request *owner = slot->owner;
    uint32_t block_tokens = d->options.block_tokens;
    uint32_t end = seq->computed_tokens + seq->scheduled_tokens;
    DRIVER_REQUIRE(d, end <= slot->blocks_count * block_tokens, "%s: tokens without a block",
                   owner->id);
    DRIVER_REQUIRE(d, end <= owner->request.prompt_tokens_count + owner->expected_count,
                   "%s: computed beyond its last token", owner->id);
    for (uint32_t p = seq->computed_tokens; p < end; p++) {
        d->content[slot->blocks[p / block_tokens]][p % block_tokens] = owner->content[p];
    }
    for (uint32_t p = 0; p < end; p++) {
        uint64_t found = d->content[slot->blocks[p / block_tokens]][p % block_tokens];
        DRIVER_REQUIRE(d, found == owner->content[p],
                       "%s: KV entry %u in block %u is not its own (hits or reuse are wrong)",
                       owner->id, p, slot->blocks[p / block_tokens]);
    }
    slot->computed = end;
    return true;
}

/* Steps in flight that sample a token of `owner`. */
static uint32_t sampling_steps(const struct driver *d, const struct driver_request *owner)
{
    uint32_t count = 0;
    for (uint32_t s = 0; s < d->in_flight_count; s++) {
        const struct driver_step *step = &d->in_flight[s];
        for (uint32_t i = 0; i < step->plan->seqs_count; i++) {
            count +=
                step->owners[i] == owner && (step->plan->seqs[i].flags & STEP_SEQ_SAMPLES) != 0;
        }
    }
    return count;
}

static bool execute_seq(struct driver *d, struct driver_step *step, uint32_t index)
{
    const struct step_plan *plan = step->plan;
    const struct step_seq *seq = &plan->seqs[index];
    DRIVER_REQUIRE(d, seq->slot < d->options.requests_max, "slot %u out of range", seq->slot);
    struct driver_slot *slot = &d->slots[seq->slot];
    if ((seq->flags & STEP_SEQ_NEW) != 0 && !introduce(d, plan, seq)) {
        return false;
    }
    const struct driver_request *owner = slot->owner;
    DRIVER_REQUIRE(d, owner != NULL && owner->sample_key == seq->sample_key,
                   "plan %lu: slot %u was not introduced", (unsigned long)plan->step, seq->slot);
    DRIVER_REQUIRE(d, !owner->ended, "%s scheduled after its end", owner->id);
    DRIVER_REQUIRE(d, seq->computed_tokens == slot->computed, "%s: computed %u, worker has %u",
                   owner->id, seq->computed_tokens, slot->computed);
    bool ignores = owner->request.sampling.eos_token_id == TOKEN_NONE;
    DRIVER_REQUIRE(d, ((seq->flags & STEP_SEQ_IGNORE_EOS) != 0) == ignores, "%s: wrong eos flag",
                   owner->id);
    step->owners[index] = slot->owner;
    if (!take_blocks(d, plan, seq) || !compute(d, seq)) {
        return false;
    }
    if ((seq->flags & STEP_SEQ_SAMPLES) == 0) {
        DRIVER_REQUIRE(d, d->options.chunked_prefill || d->options.long_prefill_token_threshold > 0,
                       "%s: prompt split without chunked prefill", owner->id);
        d->report->chunks_count++;
        return true;
    }
    DRIVER_REQUIRE(d, sampling_steps(d, owner) < d->options.async_depth,
                   "%s samples in too many steps at once", owner->id);
    uint32_t position = slot->computed - owner->request.prompt_tokens_count;
    DRIVER_REQUIRE(d, seq->position == position, "%s samples position %u, want %u", owner->id,
                   seq->position, position);
    step->tokens[step->tokens_count++] = driver_token(seq->sample_key, position);
    return true;
}

static bool check_given_block(struct driver *d, uint32_t block)
{
    const struct driver_request *writer = writer_of(d, block);
    DRIVER_REQUIRE(d, writer == NULL, "block %u reused while a step of ended %s is in flight",
                   block, writer->id);
    return true;
}

/*
 * Blocks that the plan gives to be written: those of a new request after its hits, all of the
 * others. In a pipeline a request may have been preempted with steps in flight, before it ended:
 * its blocks are free at once, because stages work in order, and from here that looks the same.
 */
static bool check_given_blocks(struct driver *d, const struct step_plan *plan)
{
    if (d->options.pipeline_stages > 1) {
        return true;
    }
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        const struct step_seq *seq = &plan->seqs[i];
        uint32_t hits = 0;
        if ((seq->flags & STEP_SEQ_NEW) != 0) {
            hits = seq->computed_tokens / d->options.block_tokens;
        }
        for (uint32_t b = hits; b < seq->blocks_count; b++) {
            if (!check_given_block(d, plan->block_ids[seq->blocks_first + b])) {
                return false;
            }
        }
    }
    return true;
}

bool driver_execute(struct driver *d, const struct step_plan *plan)
{
    DRIVER_REQUIRE(d, plan->step == d->next_step, "step %lu, want %lu", (unsigned long)plan->step,
                   (unsigned long)d->next_step);
    DRIVER_REQUIRE(d, plan->seqs_count <= d->options.max_num_seqs, "more than max_num_seqs");
    DRIVER_REQUIRE(d,
                   plan->tokens_count + plan->finished_slots_count > 0 || d->in_flight_count == 0,
                   "an empty step behind one in flight");
    if (!check_given_blocks(d, plan)) {
        return false;
    }
    for (uint32_t i = 0; i < plan->finished_slots_count; i++) {
        struct driver_slot *slot = &d->slots[plan->finished_slots[i]];
        DRIVER_REQUIRE(d, slot->owner != NULL && slot->owner->ended,
                       "slot %u forgotten before its request ended, or twice",
                       plan->finished_slots[i]);
        slot->owner = NULL;
    }
    struct driver_step *step = &d->in_flight[d->in_flight_count];
    *step = (struct driver_step){.plan = plan};
    uint32_t tokens = 0;
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        if (!execute_seq(d, step, i)) {
            return false;
        }
        tokens += plan->seqs[i].scheduled_tokens;
    }
    DRIVER_REQUIRE(d, tokens == plan->tokens_count && tokens <= d->options.max_num_batched_tokens,
                   "%u tokens scheduled, plan says %u, budget %u", tokens, plan->tokens_count,
                   d->options.max_num_batched_tokens);
    /* Preempting the one it was serving makes an empty step, but not endlessly. */
    d->empty_steps_count = tokens == 0 && d->unfinished_count > 0 ? d->empty_steps_count + 1 : 0;
    DRIVER_REQUIRE(d, d->empty_steps_count < 2 * DRIVER_SEQS_MAX,
                   "no progress: one empty step after the other while requests wait");
    step->plan_hash = hash64(plan->seqs, plan->seqs_count * sizeof *plan->seqs, 0);
    driver_digest(d, tokens);
    d->next_step++;
    d->in_flight_count++;
    d->report->steps_count++;
    d->report->zero_token_steps_count += tokens == 0;
    d->report->overlapped_count += d->in_flight_count > 1;
    return true;
}

/* ---- clients ---- */

static struct driver_request *request_by_id(struct driver *d, const char *id)
{
    for (uint32_t i = 0; i < d->requests_count; i++) {
        if (strcmp(d->requests[i].id, id) == 0) {
            return &d->requests[i];
        }
    }
    return NULL;
}

static bool check_first(struct driver *d, const struct driver_request *q,
                        const struct engine_output *output)
{
    DRIVER_REQUIRE(d, output->first == (q->delivered == 0), "%s: wrong mark of the first output",
                   q->id);
    if (!output->first) {
        return true;
    }
    const struct prefill_stats *prefill = &output->prefill;
    DRIVER_REQUIRE(d, output->queued_at == q->added_at && output->scheduled_at >= q->added_at,
                   "%s: wrong stamps", q->id);
    DRIVER_REQUIRE(d,
                   prefill->prompt_tokens == q->request.prompt_tokens_count &&
                       prefill->cached_tokens < prefill->prompt_tokens &&
                       prefill->computed_tokens + prefill->cached_tokens == prefill->prompt_tokens,
                   "%s: prefill statistics do not add up", q->id);
    return true;
}

static bool receive_output(struct driver *d, uint32_t client, const struct engine_output *output)
{
    struct driver_request *q = request_by_id(d, output->id);
    DRIVER_REQUIRE(d, q != NULL && q->added, "output of an unknown request");
    DRIVER_REQUIRE(d, q->request.client_index == client, "%s: output to client %u", q->id, client);
    DRIVER_REQUIRE(d, !q->ended, "%s: output after its end", q->id);
    DRIVER_REQUIRE(d, output->new_tokens_count == 1, "%s: %u tokens in one output", q->id,
                   output->new_tokens_count);
    if (!check_first(d, q, output)) {
        return false;
    }
    DRIVER_REQUIRE(d, q->delivered < q->expected_count, "%s: more tokens than expected", q->id);
    DRIVER_REQUIRE(d, output->new_token_ids[0] == q->expected[q->delivered],
                   "%s: token %u is %u, want %u", q->id, q->delivered, output->new_token_ids[0],
                   q->expected[q->delivered]);
    driver_digest(d, output->new_token_ids[0]);
    q->delivered++;
    d->report->tokens_count++;
    bool last = q->delivered == q->expected_count;
    DRIVER_REQUIRE(d, output->finish == (last ? q->expected_finish : FINISH_NONE),
                   "%s: finish %d after %u tokens, want %d after %u", q->id, (int)output->finish,
                   q->delivered, (int)q->expected_finish, q->expected_count);
    DRIVER_REQUIRE(d, output->stop_token_id == (last ? q->expected_stop : TOKEN_NONE),
                   "%s: wrong stop token", q->id);
    q->ended = last;
    return true;
}

static bool receive_message(struct driver *d, const struct engine_client_message *message)
{
    const struct engine_outputs *outputs = &message->outputs;
    DRIVER_REQUIRE(d, message->client_index < d->options.clients_count, "unknown client");
    DRIVER_REQUIRE(d, outputs->timestamp == d->now, "message stamped at another time");
    DRIVER_REQUIRE(
        d, outputs->outputs_count + outputs->finished_ids_count > 0 || outputs->stats != NULL,
        "empty message");
    for (uint32_t i = 0; i < outputs->outputs_count; i++) {
        if (!receive_output(d, message->client_index, &outputs->outputs[i])) {
            return false;
        }
    }
    for (uint32_t i = 0; i < outputs->finished_ids_count; i++) {
        struct driver_request *q = request_by_id(d, outputs->finished_ids[i]);
        DRIVER_REQUIRE(d, q != NULL && q->ended && !q->reported,
                       "id of an unknown, unfinished or already reported request");
        DRIVER_REQUIRE(d, q->request.client_index == message->client_index,
                       "%s: end reported to client %u", q->id, message->client_index);
        q->reported = true;
    }
    return true;
}

uint64_t driver_messages_hash(const struct engine_core_messages *messages)
{
    uint64_t hash = messages->count;
    for (uint32_t i = 0; i < messages->count; i++) {
        const struct engine_outputs *outputs = &messages->items[i].outputs;
        for (uint32_t j = 0; j < outputs->outputs_count; j++) {
            const struct engine_output *output = &outputs->outputs[j];
            hash = hash64(output->id, strlen(output->id), hash);
            hash = random_at(hash, output->new_token_ids[0]);
        }
        for (uint32_t j = 0; j < outputs->finished_ids_count; j++) {
            hash = hash64(outputs->finished_ids[j], strlen(outputs->finished_ids[j]), hash);
        }
    }
    return hash;
}

bool driver_receive(struct driver *d, const struct engine_core_messages *messages)
{
    bool seen[DRIVER_CLIENTS_MAX] = {false};
    DRIVER_REQUIRE(d, messages->count > 0, "a step without any message");
    for (uint32_t i = 0; i < messages->count; i++) {
        const struct engine_client_message *message = &messages->items[i];
        if (!receive_message(d, message)) {
            return false;
        }
        DRIVER_REQUIRE(d, !seen[message->client_index], "two messages for client %u",
                       message->client_index);
        seen[message->client_index] = true;
        DRIVER_REQUIRE(d, (message->outputs.stats != NULL) == (i == 0),
                       "statistics must be on the first message only");
    }
    const struct scheduler_stats *stats = messages->items[0].outputs.stats;
    d->last_stats_idle =
        stats->running_count == 0 && stats->waiting_count == 0 && !(stats->kv_cache_usage > 0.0);
    d->report->preemptions_count = stats->preemptions_count;
    driver_digest(d, (uint64_t)stats->running_count << 32 | stats->waiting_count);
    for (uint32_t i = 0; i < d->requests_count; i++) {
        const struct driver_request *q = &d->requests[i];
        DRIVER_REQUIRE(d, q->reported == q->ended, "%s: its end was not reported at once", q->id);
    }
    return true;
}
