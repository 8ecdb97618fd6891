/*
 * validate.c - drives the simulator with a measured run's requests and fits the device to it
 * (validate.h). The fit is a search without derivatives (Subplex of NLopt) over the logarithms of
 * the coefficients, so that none becomes negative; one evaluation is one simulation. Driven by
 * `harness validate`; prints nothing.
 */
#include "harness/run/validate.h"

#include <math.h>
#include <nlopt.h>
#include <stdlib.h>
#include <string.h>

enum {
    N = VALIDATE_COEFFICIENTS_COUNT,
    METRICS = 3,
    GROUP_RESIDUALS = 10 * METRICS, /* of ten requests */
    FIT_REQUESTS_MIN = 10,
    SEARCHES = 6,
    SIMULATIONS_MAX = 600 /* of one search */
};

/* Of the logarithms of the coefficients, which start at 0, the roofline's. */
#define RANGE      4.0 /* a factor of 55 either way */
#define FIRST_STEP 0.3
#define LAST_STEP  1e-3
/*
 * Relative error of one latency of one request that moving a coefficient by a factor of e counts
 * as: keeps those of which a run tells nothing where they are plausible.
 */
#define PRIOR         0.03
#define JACOBIAN_STEP 0.03 /* for the intervals: averages over a latency's jumps */
#define FIRST_DELAY   PS_PER_MS

void validate_measured(const struct measured_run *run, struct validate_times *out)
{
    for (uint32_t i = 0; i < run->count; i++) {
        const struct measured_request *r = &run->requests[i];
        double decode_s = (double)(r->last_ns - r->first_ns) / 1e9;
        out[i] = (struct validate_times){
            .ttft_s = (double)(r->first_ns - r->arrival_ns) / 1e9,
            .tpot_s = r->output_tokens > 1 ? decode_s / (r->output_tokens - 1) : (double)NAN,
            .e2el_s = (double)(r->last_ns - r->arrival_ns) / 1e9,
        };
    }
}

/* ---- a simulation ---- */

struct replay {
    const struct measured_run *run;
    time_ps delay;
    uint32_t next;
    struct validate_times *out;
};

static bool next_request(void *ctx, struct simulation_request *request)
{
    struct replay *replay = ctx;
    if (replay->next == replay->run->count) {
        return false;
    }
    const struct measured_request *r = &replay->run->requests[replay->next];
    *request = (struct simulation_request){
        .number = replay->next,
        .at = ps_from_ns(r->arrival_ns) + replay->delay,
        .prompt_tokens = r->prompt_tokens,
        .output_tokens = r->output_tokens,
        .prompt_hash = replay->next + 1,
    };
    replay->next++;
    return true;
}

static void request_ended(void *ctx, const struct simulation_end *end)
{
    struct replay *replay = ctx;
    uint64_t number = end->request->number;
    double arrival_s = (double)replay->run->requests[number].arrival_ns / 1e9;
    double first_s = (double)end->hops[SIMULATION_HOP_ENGINE_FIRST_TOKEN] / 1e12;
    double last_s = (double)end->hops[SIMULATION_HOP_ENGINE_LAST_TOKEN] / 1e12;
    uint32_t tokens = end->output_tokens;
    replay->out[number] = (struct validate_times){
        .ttft_s = first_s - arrival_s,
        .tpot_s = tokens > 1 ? (last_s - first_s) / (tokens - 1) : (double)NAN,
        .e2el_s = last_s - arrival_s,
    };
}

static struct simulation_options options_of(const struct validate_system *system,
                                            const struct measured_run *run)
{
    struct simulation_options options = simulation_options_default();
    uint32_t longest = 0;
    for (uint32_t i = 0; i < run->count; i++) {
        uint32_t tokens = run->requests[i].prompt_tokens + run->requests[i].output_tokens;
        longest = tokens > longest ? tokens : longest;
    }
    options.model = system->model;
    options.gpu = system->gpu;
    options.costs = simulation_costs_none();
    options.engine.max_num_seqs = system->max_num_seqs;
    options.engine.max_num_batched_tokens = system->max_num_batched_tokens;
    options.engine.max_model_len = longest + 1;
    options.engine.async_depth = system->async_depth;
    options.engine.requests_max = run->count;
    return options;
}

enum status validate_simulate(const struct validate_system *system, const struct measured_run *run,
                              time_ps delay, struct validate_times *out, struct error *error)
{
    struct replay replay = {.run = run, .delay = delay, .out = out};
    struct simulation_options options = options_of(system, run);
    struct simulation_source source = {.ctx = &replay, .next = next_request};
    struct simulation_observer observer = {.ctx = &replay, .ended = request_ended};
    struct simulation *simulation = NULL;
    TRY(simulation_create(&options, &source, &observer, &simulation, error));
    enum status status = simulation_run(simulation, TIME_NEVER, error);
    simulation_destroy(simulation);
    return status;
}

/* ---- the fit ---- */

struct problem {
    const struct validate_system *system;
    const struct measured_run *run;
    uint32_t count; /* requests whose latencies are fitted to; the others are only served */
    struct validate_times *measured;
    struct validate_times *predicted;
    struct validate_times mean;
    struct step_fit first; /* the roofline's coefficients, where the fit starts */
    double *residuals;     /* [count x METRICS]: relative errors of the latencies */
    double *jacobian;      /* [N][count x METRICS] */
    double *moved;         /* as residuals */
    uint32_t simulations_count;
    nlopt_opt optimizer; /* to be stopped when a simulation fails */
    enum status status;
    struct error *error;
};

/* Coefficients that give about the roofline's times: what a step reads and computes besides. */
static struct step_fit roofline_fit(const struct gpu_shape *gpu, const struct model_shape *model)
{
    double byte = 1e12 / gpu->bytes_per_s;
    double flop = 1e12 / gpu->flops_per_s;
    double gaps = (double)(model_step_kernels(model) * gpu->kernel_gap);
    return (struct step_fit){
        .base = (double)model_step_weight_bytes(model) * byte + gaps,
        .sequence = 10e6,
        .kv_token = (double)model_kv_token_bytes(model) * byte,
        .prompt_token = 2.0 * (double)model_active_parameters(model) * flop,
        .prompt_pair = (double)model_pair_flops(model) * flop,
    };
}

static void coefficients_of(const struct problem *p, const double *x, struct step_fit *step,
                            time_ps *delay)
{
    *step = (struct step_fit){
        .base = p->first.base * exp(x[0]),
        .sequence = p->first.sequence * exp(x[1]),
        .kv_token = p->first.kv_token * exp(x[2]),
        .prompt_token = p->first.prompt_token * exp(x[3]),
        .prompt_pair = p->first.prompt_pair * exp(x[4]),
    };
    *delay = llround((double)FIRST_DELAY * exp(x[5]));
}

static int residuals_count(const struct problem *p)
{
    return (int)p->count * METRICS;
}

/* False: the simulation failed, p->status says how. */
static bool residuals_of(struct problem *p, const double *x, double *residuals)
{
    struct step_fit step;
    time_ps delay = 0;
    coefficients_of(p, x, &step, &delay);
    struct gpu_shape gpu = *p->system->gpu;
    struct validate_system system = *p->system;
    gpu.fit = &step;
    system.gpu = &gpu;
    p->simulations_count++;
    if (p->system->progress != NULL) {
        p->system->progress(p->simulations_count);
    }
    p->status = validate_simulate(&system, p->run, delay, p->predicted, p->error);
    for (uint32_t i = 0; i < p->count && p->status == STATUS_OK; i++) {
        const struct validate_times *got = &p->predicted[i];
        const struct validate_times *want = &p->measured[i];
        double tpot_s = isnan(want->tpot_s) ? 0.0 : got->tpot_s - want->tpot_s;
        residuals[METRICS * i] = (got->ttft_s - want->ttft_s) / p->mean.ttft_s;
        residuals[METRICS * i + 1] = tpot_s / p->mean.tpot_s;
        residuals[METRICS * i + 2] = (got->e2el_s - want->e2el_s) / p->mean.e2el_s;
    }
    return p->status == STATUS_OK;
}

/* What is made least: squared errors, and the prior's. */
static double cost_of(unsigned count, const double *x, double *gradient, void *problem)
{
    struct problem *p = problem;
    double sum = 0;
    (void)gradient; /* none is asked for */
    if (!residuals_of(p, x, p->residuals)) {
        (void)nlopt_force_stop(p->optimizer);
        return HUGE_VAL;
    }
    for (int i = 0; i < residuals_count(p); i++) {
        sum += p->residuals[i] * p->residuals[i];
    }
    for (unsigned k = 0; k < count; k++) {
        sum += PRIOR * PRIOR * x[k] * x[k];
    }
    return sum;
}

static struct validate_times mean_of(const struct validate_times *times, uint32_t count)
{
    struct validate_times sum = {0};
    uint32_t tpots_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum.ttft_s += times[i].ttft_s / count;
        sum.e2el_s += times[i].e2el_s / count;
        if (!isnan(times[i].tpot_s)) {
            sum.tpot_s += times[i].tpot_s;
            tpots_count++;
        }
    }
    sum.tpot_s /= tpots_count > 0 ? tpots_count : 1;
    return sum;
}

/* Central differences: what a unit of each coefficient moves each residual by; and the residuals.
 */
static enum status differentiate(struct problem *p, const double *x)
{
    int count = residuals_count(p);
    for (int k = 0; k < N; k++) {
        double *column = &p->jacobian[k * count];
        double at[N];
        memcpy(at, x, sizeof at);
        at[k] = x[k] + JACOBIAN_STEP;
        bool ok = residuals_of(p, at, column);
        at[k] = x[k] - JACOBIAN_STEP;
        if (!ok || !residuals_of(p, at, p->moved)) {
            return p->status;
        }
        for (int i = 0; i < count; i++) {
            column[i] = (column[i] - p->moved[i]) / (2 * JACOBIAN_STEP);
        }
    }
    (void)residuals_of(p, x, p->residuals);
    return p->status;
}

static void swap_rows(double a[N][N], int i, int k)
{
    double row[N];
    memcpy(row, a[i], sizeof row);
    memcpy(a[i], a[k], sizeof row);
    memcpy(a[k], row, sizeof row);
}

/* a[i] -= times * a[k] */
static void subtract_row(double a[N][N], int i, double times, int k)
{
    for (int c = 0; c < N; c++) {
        a[i][c] -= times * a[k][c];
    }
}

/* Gauss-Jordan, greatest pivot first. False: singular. `a` is destroyed. */
static bool invert(double a[N][N], double out[N][N])
{
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < N; k++) {
            out[i][k] = i == k ? 1 : 0;
        }
    }
    for (int k = 0; k < N; k++) {
        int pivot = k;
        for (int i = k + 1; i < N; i++) {
            pivot = fabs(a[i][k]) > fabs(a[pivot][k]) ? i : pivot;
        }
        if (!(fabs(a[pivot][k]) > 0)) {
            return false;
        }
        swap_rows(a, k, pivot);
        swap_rows(out, k, pivot);
        double rest = (a[k][k] - 1) / a[k][k];
        subtract_row(out, k, rest, k);
        subtract_row(a, k, rest, k);
        for (int i = 0; i < N; i++) {
            double times = i == k ? 0 : a[i][k];
            subtract_row(a, i, times, k);
            subtract_row(out, i, times, k);
        }
    }
    return true;
}

static double norm_1(double a[N][N])
{
    double greatest = 0;
    for (int k = 0; k < N; k++) {
        double sum = 0;
        for (int i = 0; i < N; i++) {
            sum += fabs(a[i][k]);
        }
        greatest = fmax(greatest, sum);
    }
    return greatest;
}

/* J'J, and the sum over groups g of neighbouring requests of J_g' r_g r_g' J_g. */
static void products_of(const struct problem *p, double normal[N][N], double scattered[N][N])
{
    int count = residuals_count(p);
    double group[N] = {0};
    memset(normal, 0, N * sizeof normal[0]);
    memset(scattered, 0, N * sizeof scattered[0]);
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < N; k++) {
            double slope = p->jacobian[k * count + i];
            group[k] += slope * p->residuals[i];
            for (int c = 0; c < N; c++) {
                normal[k][c] += slope * p->jacobian[c * count + i];
            }
        }
        if (i + 1 < count && (i + 1) % GROUP_RESIDUALS != 0) {
            continue;
        }
        for (int k = 0; k < N; k++) {
            for (int c = 0; c < N; c++) {
                scattered[k][c] += group[k] * group[c];
            }
        }
        memset(group, 0, sizeof group);
    }
}

/*
 * Neighbouring requests share steps, so that their errors are not independent: the variance is that
 * of groups of neighbours, (J'J)^-1 (sum of J_g' r_g r_g' J_g) (J'J)^-1.
 */
static void intervals_of(const struct problem *p, struct validate_fit *out)
{
    double normal[N][N];
    double scattered[N][N];
    double inverse[N][N];
    products_of(p, normal, scattered);
    double before = norm_1(normal);
    if (!invert(normal, inverse)) {
        out->condition = (double)INFINITY;
        for (int k = 0; k < N; k++) {
            out->factor_95[k] = (double)INFINITY;
        }
        return;
    }
    out->condition = sqrt(before * norm_1(inverse));
    for (int k = 0; k < N; k++) {
        double variance = 0;
        for (int i = 0; i < N; i++) {
            for (int c = 0; c < N; c++) {
                variance += inverse[k][i] * scattered[i][c] * inverse[c][k];
            }
        }
        out->factor_95[k] = exp(1.96 * sqrt(variance));
    }
}

/* Subplex: needs no derivatives, which a latency does not have where a request moves into another
 * step. */
static enum status search(struct problem *p, double *x)
{
    nlopt_opt optimizer = nlopt_create(NLOPT_LN_SBPLX, N);
    double least = 0;
    if (optimizer == NULL) {
        return error_set(p->error, STATUS_NOMEM, "out of memory");
    }
    p->optimizer = optimizer;
    bool ready = nlopt_set_min_objective(optimizer, cost_of, p) == NLOPT_SUCCESS &&
                 nlopt_set_lower_bounds1(optimizer, -RANGE) == NLOPT_SUCCESS &&
                 nlopt_set_upper_bounds1(optimizer, RANGE) == NLOPT_SUCCESS &&
                 nlopt_set_initial_step1(optimizer, FIRST_STEP) == NLOPT_SUCCESS &&
                 nlopt_set_xtol_abs1(optimizer, LAST_STEP) == NLOPT_SUCCESS &&
                 nlopt_set_maxeval(optimizer, SIMULATIONS_MAX) == NLOPT_SUCCESS;
    ASSERT(ready);
    /* A search that ended in a dent of the errors goes on with long steps, while that helps. */
    double before = HUGE_VAL;
    for (int i = 0; i < SEARCHES && p->status == STATUS_OK; i++) {
        (void)nlopt_optimize(optimizer, x, &least);
        if (!(least < 0.99 * before)) {
            break;
        }
        before = least;
    }
    nlopt_destroy(optimizer);
    return p->status;
}

static enum status solve(struct problem *p, struct validate_fit *out)
{
    double x[N] = {0};
    TRY(search(p, x));
    coefficients_of(p, x, &out->step, &out->delay);
    TRY(differentiate(p, x));
    intervals_of(p, out);
    out->simulations_count = p->simulations_count;
    return STATUS_OK;
}

enum status validate_fit(const struct validate_system *system, const struct measured_run *run,
                         uint32_t count, struct validate_fit *out, struct error *error)
{
    if (count < FIT_REQUESTS_MIN || count > run->count) {
        return error_set(error, STATUS_INVALID, "a fit wants %d to %u requests, got %u",
                         FIT_REQUESTS_MIN, run->count, count);
    }
    size_t errors_count = (size_t)count * METRICS;
    struct problem p = {
        .system = system,
        .run = run,
        .count = count,
        .measured = calloc(run->count, sizeof *p.measured),
        .predicted = calloc(run->count, sizeof *p.predicted),
        .residuals = calloc(errors_count, sizeof *p.residuals),
        .jacobian = calloc(errors_count * N, sizeof *p.jacobian),
        .moved = calloc(errors_count, sizeof *p.moved),
        .first = roofline_fit(system->gpu, system->model),
        .error = error,
    };
    enum status status = STATUS_OK;
    if (p.residuals == NULL || p.jacobian == NULL || p.moved == NULL || p.measured == NULL ||
        p.predicted == NULL) {
        status = error_set(error, STATUS_NOMEM, "out of memory");
    } else {
        validate_measured(run, p.measured);
        p.mean = mean_of(p.measured, count);
        status = solve(&p, out);
    }
    free(p.residuals);
    free(p.jacobian);
    free(p.moved);
    free(p.measured);
    free(p.predicted);
    return status;
}
