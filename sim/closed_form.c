/*
 * closed_form.c - owns the formulas of closed_form.h. Driven by the reports. Pure: no clock, no
 * memory, no state.
 */
#include "sim/closed_form.h"

#include <math.h>
#include <stddef.h>

#include "engine/device/cost.h"
#include "engine/device/gpu_share.h"

enum {
    GRAPH_SEQS_MAX = 512, /* the emulated device has no graph for more */
    BISECTIONS = 60,
};

struct parts {
    const struct closed_form_system *system;
    const struct closed_form_load *load;
    const struct gpu_shape *gpu;
    const struct model_shape *model;
    double context_tokens; /* mean of a decoding sequence */
};

/* A step, or the mean of several kinds of steps. Times in us. */
struct step {
    double period_us;
    double alone_us; /* the period without others on the GPU */
    double gpu_us;
    double host_us;
    double launch_us;
    double kernels; /* launched by one thread */
    double graphs;
    double gpu_taken_us; /* of a GPU's time, switching included, when it is shared */
};

static double microseconds(time_ps t)
{
    return (double)t / (double)PS_PER_US;
}

const char *closed_form_limit_name(enum closed_form_limit limit)
{
    static const char *const names[] = {"gpu",        "scheduler",  "launch",
                                        "host + gpu", "api_server", "load"};
    return names[limit];
}

double closed_form_api_server(const struct host_profile *host, double prompt_tokens,
                              double output_tokens, double batch_seqs)
{
    double request_us =
        microseconds(host->api_request) + prompt_tokens * microseconds(host->api_prompt_token);
    double token_us = microseconds(host->api_output_token) + request_us / output_tokens +
                      microseconds(host->api_message) / batch_seqs;
    return token_us > 0 ? 1e6 / token_us : (double)INFINITY;
}

/* ---- one step ---- */

static struct step_cost gpu_cost(const struct parts *p, uint32_t decodes, uint32_t prompts)
{
    const struct closed_form_system *s = p->system;
    struct step_load load = {0};
    struct step_cost cost;
    uint32_t context = (uint32_t)llround(fmax(1, p->context_tokens));
    uint32_t prompt = (uint32_t)llround(fmax(1, p->load->prompt_tokens));
    for (uint32_t i = 0; i < decodes; i++) {
        step_load_add(&load, context - 1, 1, true);
    }
    for (uint32_t i = 0; i < prompts; i++) {
        step_load_add(&load, 0, prompt, true);
    }
    struct step_ranks ranks = {.tp = s->tp,
                               .ep = p->model->experts_count > 0 ? s->engines_count : 1};
    ranks.all_tokens = (uint64_t)ranks.ep * load.tokens_count;
    if (s->lockstep && prompts > 0) { /* unpadded: the others go on with a token a sequence */
        uint64_t others = decodes + prompts;
        ranks.all_tokens = load.tokens_count + (ranks.ep - 1) * others;
    }
    cost_step_ranks(p->gpu, p->model, &ranks, &load, &cost);
    return cost;
}

static struct gpu_share_options sharing_of(const struct closed_form_system *s)
{
    return gpu_share_defaults(s->side_by_side ? GPU_SHARE_SIDE_BY_SIDE : GPU_SHARE_TIME_SLICED,
                              s->engines_per_gpu);
}

/* Of the GPU's time, what one of several contexts takes by a step. */
static double taken_us(const struct closed_form_system *s, const struct gpu_share_op *op)
{
    enum {
        MANY = 1000
    };
    struct gpu_share_options options = sharing_of(s);
    return microseconds(gpu_share_period(&options, MANY, 0, op)) / MANY;
}

/* `contexts`: engine cores at work on one GPU. */
static struct step step_of(const struct parts *p, uint32_t decodes, uint32_t prompts, bool graph,
                           uint32_t contexts)
{
    const struct closed_form_system *s = p->system;
    struct step_cost cost = gpu_cost(p, decodes, prompts);
    uint32_t kernels = model_step_kernels(p->model);
    time_ps extra = s->launch_extra;
    time_ps work = graph ? p->gpu->graph_launch + extra + p->gpu->graph_node * (time_ps)kernels
                         : (p->gpu->launch + extra) * (time_ps)kernels;
    time_ps launch = p->gpu->launch + extra + work; /* a copy goes first */
    time_ps host = s->host.engine_step + s->host.engine_seq * (time_ps)(decodes + prompts);
    time_ps longest = launch > cost.time ? launch : cost.time;
    time_ps alone;
    if (s->async) {
        time_ps own = s->workers ? host : host + launch;
        alone = own > longest ? own : longest;
    } else {
        alone = host + (graph ? launch + cost.time : longest);
    }
    struct step out = {.gpu_us = microseconds(cost.time),
                       .host_us = microseconds(host),
                       .launch_us = microseconds(launch),
                       .kernels = graph ? 0 : kernels,
                       .graphs = graph ? 1 : 0};
    time_ps period = alone;
    if (s->engines_per_gpu > 1) {
        struct gpu_share_options options = sharing_of(s);
        struct gpu_share_op op = {
            .work = cost.time, .sm_ppm = cost.sm_ppm, .bandwidth_ppm = cost.bandwidth_ppm};
        period = gpu_share_period(&options, contexts, alone - cost.time, &op);
        out.gpu_taken_us = taken_us(s, &op);
    }
    out.period_us = microseconds(period);
    out.alone_us = microseconds(alone);
    return out;
}

/* (1 - w) a + w b */
static struct step mix(const struct step *a, const struct step *b, double w)
{
    return (struct step){
        .period_us = a->period_us + w * (b->period_us - a->period_us),
        .alone_us = a->alone_us + w * (b->alone_us - a->alone_us),
        .gpu_us = a->gpu_us + w * (b->gpu_us - a->gpu_us),
        .host_us = a->host_us + w * (b->host_us - a->host_us),
        .launch_us = a->launch_us + w * (b->launch_us - a->launch_us),
        .kernels = a->kernels + w * (b->kernels - a->kernels),
        .graphs = a->graphs + w * (b->graphs - a->graphs),
        .gpu_taken_us = a->gpu_taken_us + w * (b->gpu_taken_us - a->gpu_taken_us),
    };
}

static bool decodes_by_graph(const struct closed_form_system *s, uint32_t seqs, double streams)
{
    bool dummies = s->lockstep && streams < s->engines_count;
    return s->graphs && seqs <= GRAPH_SEQS_MAX && (!dummies || s->dummy_graphs);
}

static uint32_t contexts_of(const struct closed_form_system *s, double streams)
{
    double busy = fmin(s->engines_count, fmax(1, streams)) * s->engines_per_gpu / s->engines_count;
    return (uint32_t)fmax(1, ceil(busy));
}

/* Mean over the steps of an engine core that has `seqs` sequences in each. */
static struct step step_with(const struct parts *p, uint32_t seqs, double streams)
{
    const struct closed_form_system *s = p->system;
    uint32_t contexts = contexts_of(s, streams);
    double per_step = seqs / p->load->output_tokens; /* prompts */
    if (s->lockstep) {                               /* any rank's prompt delays all */
        per_step = streams / p->load->output_tokens;
    }
    bool graph = decodes_by_graph(s, seqs, streams);
    if (per_step > 1) {
        uint32_t prompts = (uint32_t)llround(fmin(per_step, seqs));
        return step_of(p, seqs - prompts, prompts, false, contexts);
    }
    struct step decode = step_of(p, seqs, 0, graph, contexts);
    struct step prefill = step_of(p, seqs - 1, 1, false, contexts);
    return mix(&decode, &prefill, per_step);
}

/* ---- the whole system ---- */

static double batch_of(const struct closed_form_system *s, double streams)
{
    return fmax(1, streams / s->engines_count);
}

static struct step step_at(const struct parts *p, double streams)
{
    double batch = batch_of(p->system, streams);
    uint32_t more = (uint32_t)ceil(batch);
    struct step fullest = step_with(p, more, streams);
    if (p->system->lockstep || (double)more <= batch) {
        return fullest;
    }
    struct step emptiest = step_with(p, more - 1, streams);
    return mix(&emptiest, &fullest, batch - (more - 1));
}

static double engines_rate(const struct parts *p, double streams)
{
    struct step step = step_at(p, streams);
    return streams * 1e6 / step.period_us;
}

static double api_rate(const struct parts *p, double streams)
{
    double servers = p->system->api_servers_count;
    double message = fmax(1, batch_of(p->system, streams) / servers);
    return servers * closed_form_api_server(&p->system->host, p->load->prompt_tokens,
                                            p->load->output_tokens, message);
}

/* What the rest of the system takes off the engine cores, with so many sequences in progress. */
static double demand(const struct parts *p, double streams)
{
    double offered = p->load->users_count > 0 ? (double)INFINITY
                                              : p->load->requests_per_s * p->load->output_tokens;
    return fmin(offered, api_rate(p, streams));
}

/* Sequences in progress, at most `most`: as many as give what is taken. */
static double balance(const struct parts *p, double most)
{
    double lo = 0;
    double hi = most;
    if (engines_rate(p, most) <= demand(p, most)) {
        return most;
    }
    for (int i = 0; i < BISECTIONS; i++) {
        double middle = (lo + hi) / 2;
        if (engines_rate(p, middle) < demand(p, middle)) {
            lo = middle;
        } else {
            hi = middle;
        }
    }
    return hi;
}

/* Of an engine core that always has a full batch: what is busy nearly all of its period. */
static enum closed_form_limit step_limit(const struct closed_form_system *s, const struct step *t)
{
    const double nearly = 0.95;
    double engine_us = s->workers ? t->host_us : t->host_us + t->launch_us;
    enum closed_form_limit engine =
        t->launch_us > t->host_us && !s->workers ? CLOSED_FORM_LAUNCH : CLOSED_FORM_HOST;
    double busiest_us = fmax(t->gpu_us, fmax(engine_us, t->launch_us));
    if (t->period_us > t->alone_us) {
        return CLOSED_FORM_GPU; /* others have it */
    }
    if (busiest_us < nearly * t->period_us) {
        return CLOSED_FORM_TURNS;
    }
    if (t->gpu_us >= busiest_us) {
        return CLOSED_FORM_GPU;
    }
    return t->launch_us >= busiest_us ? CLOSED_FORM_LAUNCH : engine;
}

static enum closed_form_limit limit_of(const struct parts *p, double streams, double most,
                                       const struct step *full)
{
    if (streams < most) {
        double offered = p->load->requests_per_s * p->load->output_tokens;
        bool open = !(p->load->users_count > 0);
        return open && offered <= api_rate(p, streams) ? CLOSED_FORM_LOAD : CLOSED_FORM_API_SERVER;
    }
    double places = (double)p->system->engines_count * p->system->max_num_seqs;
    return most < places ? CLOSED_FORM_LOAD : step_limit(p->system, full);
}

static void describe_step(const struct closed_form_system *s, const struct step *step,
                          struct closed_form *out)
{
    out->step_us = step->period_us;
    out->gpu_us = step->gpu_us;
    out->host_us = step->host_us;
    out->launch_us = step->launch_us;
    out->token_gap_ms = step->period_us / 1e3;
    out->rank_steps_per_tok =
        s->lockstep ? s->engines_count / fmax(1, out->streams_count) : 1 / out->batch_seqs;
    out->steps_per_s = out->tok_per_s * out->rank_steps_per_tok;
    out->kernels_per_s = out->steps_per_s * s->tp * step->kernels;
    out->graphs_per_s = out->steps_per_s * s->tp * step->graphs;
    double launches = 1 + step->kernels + step->graphs; /* a copy goes first */
    double own_us = s->workers || !s->async ? 0 : step->host_us;
    out->critical_launch_us = (step->gpu_us - own_us) / launches;
}

static void describe_alone(const struct closed_form_load *load,
                           const struct closed_form_system *system, const struct parts *p,
                           struct closed_form *out)
{
    struct closed_form_system one = *system;
    struct parts alone = *p;
    one.engines_per_gpu = 1;
    one.lockstep = false;
    alone.system = &one;
    alone.load = load;
    struct step step = step_with(&alone, one.max_num_seqs, one.engines_count);
    out->alone_tok_per_s = one.max_num_seqs * 1e6 / step.period_us;
    if (system->engines_per_gpu > 1) {
        struct step shared = step_with(p, one.max_num_seqs, one.engines_count);
        out->gpu_knee_engines = step.period_us / shared.gpu_taken_us;
    }
}

bool closed_form_predict(const struct closed_form_system *system,
                         const struct closed_form_load *load, struct closed_form *out)
{
    struct parts p = {.system = system,
                      .load = load,
                      .gpu = gpu_shape_find(system->gpu),
                      .model = model_shape_find(system->model)};
    if (p.gpu == NULL || p.model == NULL || system->max_num_seqs == 0 ||
        system->engines_count == 0 || !(load->output_tokens >= 1) ||
        !(load->users_count > 0 || load->requests_per_s > 0)) {
        return false;
    }
    /* A sequence seen at a random step is a long one rather than a short one. */
    double squares = load->output_variance_tokens + load->output_tokens * load->output_tokens;
    p.context_tokens = load->prompt_tokens + squares / load->output_tokens / 2;
    double places = (double)system->engines_count * system->max_num_seqs;
    double most = load->users_count > 0 ? fmin(places, load->users_count) : places;
    double streams = balance(&p, most);
    struct step full = step_at(&p, most);
    struct step step = step_at(&p, streams);
    *out = (struct closed_form){
        .tok_per_s = fmin(engines_rate(&p, streams), demand(&p, streams)),
        .limit = limit_of(&p, streams, most, &full),
        .engines_tok_per_s = engines_rate(&p, places),
        .api_tok_per_s = api_rate(&p, streams),
        .streams_count = streams,
        .batch_seqs = batch_of(system, streams),
    };
    describe_step(system, &step, out);
    describe_alone(load, system, &p, out);
    return true;
}
