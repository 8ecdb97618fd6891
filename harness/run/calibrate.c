/*
 * calibrate.c - owns the order of a calibration: trials, set-ups, fit, and what follows from them
 * for ZeroMQ (calibrate.h). Driven by `harness calibrate`.
 */
#include "harness/run/calibrate.h"

#include <math.h>
#include <stdlib.h>

/* Until something is measured: the built-in values. */
static void begin(struct calibrate_result *out)
{
    const struct simulation_costs built_in = simulation_costs_default();
    *out = (struct calibrate_result){.others_cores = STATS_UNKNOWN};
    for (uint32_t i = 0; i < CALIBRATION_TERMS_COUNT; i++) {
        enum calibration_term term = (enum calibration_term)i;
        *calibration_cost(&out->calibration.costs, term) = calibration_cost_of(&built_in, term);
    }
}

static time_ps link_of(double stamps_ns, time_ps receiver)
{
    time_ps left = llround(stamps_ns * 1e3) - receiver;
    return left > 0 ? left : 0;
}

/* Between the two stamps lie the link, a wake-up and the input thread's work. */
void calibrate_ipc(const struct calibrate_windows *w, struct calibrate_result *out)
{
    struct simulation_costs *c = &out->calibration.costs;
    struct calibration_interval *interval = &out->calibration.intervals[CALIBRATION_IPC];
    time_ps receiver = c->wake + c->wake_cpu + c->engine_input.call +
                       llround((double)c->engine_input.token * w->ipc_prompt_tokens);
    if (isnan(w->ipc_ns.value)) {
        return;
    }
    c->ipc = link_of(w->ipc_ns.value, receiver);
    interval->known = !isnan(w->ipc_ns.lo) && !isnan(w->ipc_ns.hi);
    if (interval->known) {
        interval->lo = link_of(w->ipc_ns.lo, receiver);
        interval->hi = link_of(w->ipc_ns.hi, receiver);
    }
    out->source[CALIBRATION_IPC] = CALIBRATE_MEASURED;
}

static void tell(const struct calibrate_options *options, uint32_t index)
{
    uint32_t count = calibrate_setups_count();
    const struct calibrate_progress progress = {
        .setup = calibrate_setup_name(index),
        .done_count = index,
        .all_count = count,
        .left_s = (count - index) * calibrate_setup_s(options),
    };
    if (options->progress != NULL) {
        options->progress(options->ctx, &progress);
    }
}

enum status calibrate_run(const struct calibrate_options *options, struct calibrate_result *out,
                          struct error *error)
{
    struct calibrate_windows windows = {.ipc_ns = {.value = STATS_UNKNOWN},
                                        .others_cores = STATS_UNKNOWN};
    struct mechanics *mechanics = calloc(1, sizeof *mechanics);
    windows.rows = calloc(CALIBRATE_WINDOWS_MAX, sizeof *windows.rows);
    begin(out);
    ASSERT(mechanics != NULL && windows.rows != NULL);
    enum status status = mechanics_measure(mechanics, error);
    if (status == STATUS_OK) {
        calibrate_mechanics(mechanics, out);
    }
    if (status == STATUS_OK) {
        status = calibrate_device(options, &out->calibration.device, error);
    }
    for (uint32_t i = 0; i < calibrate_setups_count() && status == STATUS_OK; i++) {
        tell(options, i);
        status = calibrate_setup_run(options, i, &windows, error);
    }
    if (status == STATUS_OK && windows.count == 0) {
        status = error_set(error, STATUS_IO, "no CPU time of a thread could be read below /proc");
    }
    if (status == STATUS_OK) {
        calibrate_waits(windows.rows, windows.count, options->seed, out);
        calibrate_fit(windows.rows, windows.count, options->seed, out);
        calibrate_ipc(&windows, out);
        out->others_cores = windows.others_cores;
    }
    free(windows.rows);
    free(mechanics);
    return status;
}
