/*
 * api_metrics.c - what an API server counts for /metrics, with vLLM's clocks: TTFT and end to end
 * on the front end's clock from the arrival of the request, everything between on the engine core's
 * own stamps.
 */
#include "engine/node/api_server.h"

static double seconds(time_ps from, time_ps to)
{
    return (double)(to - from) / (double)PS_PER_S;
}

/* Once for the whole request, when its last choice ends. */
static void observe_parent(const struct connection *c, struct metrics_engine *m)
{
    metrics_observe(m, METRICS_N, (double)c->choices_count);
    metrics_observe(m, METRICS_MAX_GENERATION_TOKENS, (double)c->output_tokens_max);
}

static void observe_finish(const struct connection *c, struct metrics_engine *m,
                           const struct frontend_delta *d, int64_t now_ns)
{
    metrics_observe(m, METRICS_E2E, (double)(now_ns - c->arrival_ns) / 1e9);
    metrics_observe(m, METRICS_PROMPT_TOKENS, (double)d->prompt_tokens_count);
    metrics_observe(m, METRICS_GENERATION_TOKENS, (double)d->output_tokens_count);
    metrics_observe(m, METRICS_MAX_TOKENS, (double)c->request.max_tokens);
    metrics_observe(m, METRICS_PREFILL_KV_TOKENS,
                    (double)d->prompt_tokens_count - (double)d->cached_tokens);
    if (c->open_choices == 0) {
        observe_parent(c, m);
    }
    if ((unsigned)d->finish < METRICS_FINISH_REASONS) {
        ledger_add(&m->success[d->finish], 1);
    }
    if (d->output_tokens_count == 0 || d->scheduled_at == 0) {
        return;
    }
    double decode_s = seconds(d->first_token_at, d->last_token_at);
    metrics_observe(m, METRICS_QUEUE, seconds(d->queued_at, d->scheduled_at));
    metrics_observe(m, METRICS_PREFILL, seconds(d->scheduled_at, d->first_token_at));
    metrics_observe(m, METRICS_INFERENCE, seconds(d->scheduled_at, d->last_token_at));
    metrics_observe(m, METRICS_DECODE, decode_s);
    if (d->output_tokens_count > 1) {
        metrics_observe(m, METRICS_TPOT, decode_s / (double)(d->output_tokens_count - 1));
    }
}

void api_metrics_finish(const struct choice *choice, const struct frontend_delta *delta,
                        int64_t now_ns)
{
    const struct connection *c = choice->connection;
    observe_finish(c, &c->server->metrics->engines[c->server->group_first + delta->engine], delta,
                   now_ns);
}

/* Per output, as vLLM: what a request is read by, streamed or whole, makes no difference. */
static void observe_output(struct api_server *s, struct metrics_engine *m,
                           const struct engine_output *o, time_ps at)
{
    int32_t handle = frontend_handle_of(s->frontend.frontend, o->id);
    struct choice *choice = handle != FRONTEND_HANDLE_NONE ? s->by_handle[handle] : NULL;
    if (choice == NULL || o->new_tokens_count == 0) {
        return;
    }
    const struct connection *c = choice->connection;
    ledger_add(&m->counters[METRICS_GENERATION_TOKENS_TOTAL], o->new_tokens_count);
    if (choice->prefilled) {
        metrics_observe(m, METRICS_ITL, seconds(choice->last_token_at, at));
    } else {
        metrics_observe(m, METRICS_TTFT, (double)(s->message_ns - c->arrival_ns) / 1e9);
        ledger_add(&m->counters[METRICS_PROMPT_TOKENS_TOTAL], c->prompt_tokens);
        ledger_add(&m->counters[METRICS_PROMPT_TOKENS_CACHED], o->prefill.cached_tokens);
        choice->prefilled = true;
    }
    choice->last_token_at = at;
}

void api_metrics_message(struct api_server *s, const struct engine_outputs *outputs)
{
    if (outputs->engine_index >= s->process.topology->engines_count - s->group_first) {
        return;
    }
    struct metrics_engine *m = &s->metrics->engines[s->group_first + outputs->engine_index];
    if (outputs->stats != NULL) {
        metrics_scheduler(m, outputs->stats, s->message_ns);
    }
    if (outputs->outputs_count > 0) {
        uint64_t tokens = 0;
        for (uint32_t i = 0; i < outputs->outputs_count; i++) {
            const struct engine_output *o = &outputs->outputs[i];
            tokens += o->new_tokens_count + (o->first ? o->prefill.prompt_tokens : 0);
            observe_output(s, m, o, outputs->timestamp);
        }
        metrics_observe(m, METRICS_ITERATION_TOKENS, (double)tokens);
    }
}
