/*
 * calibrate_device.c - owns the fit of a device's step times (calibrate.h): medians of each cell of
 * the grid that harness-node measured, a linear model on four fifths of the cells, its error on the
 * others. Driven by `harness calibrate`.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/run/calibrate.h"
#include "harness/run/child.h"

enum {
    ROUNDS_MAX = 100,
    CELLS_MAX = 256,
    HELD_OUT_EVERY = 5,
    TERMS = CALIBRATION_STEP_TERMS_COUNT,
    STOP_NS = 1000000000,
    LINE_BYTES = 256,
    PATH_BYTES = 512,
};

struct cell {
    uint32_t seqs;
    uint32_t context;
    uint32_t prompt;
    double ns[ROUNDS_MAX];
    uint32_t count;
};

struct cells {
    struct cell cells[CELLS_MAX];
    uint32_t count;
};

/* ---- the grid ---- */

static void add_step(struct cells *c, const struct cell *step, double ns)
{
    uint32_t i = 0;
    while (i < c->count &&
           (c->cells[i].seqs != step->seqs || c->cells[i].context != step->context ||
            c->cells[i].prompt != step->prompt)) {
        i++;
    }
    if (i == CELLS_MAX) {
        return;
    }
    if (i == c->count) {
        c->cells[c->count++] = *step;
    }
    if (c->cells[i].count < ROUNDS_MAX) {
        c->cells[i].ns[c->cells[i].count++] = ns;
    }
}

/* Lines up to the one that says that all are there. */
static enum status read_steps(FILE *in, struct cells *out, struct error *error)
{
    char line[LINE_BYTES];
    while (fgets(line, sizeof line, in) != NULL) {
        struct cell step = {.count = 0};
        double ns = 0;
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "failed ", 7) == 0) {
            return error_set(error, STATUS_DIED, "device: %s", line + 7);
        }
        if (strcmp(line, "done") == 0) {
            return STATUS_OK;
        }
        if (sscanf(line, "%u %u %u %lf", &step.seqs, &step.context, &step.prompt, &ns) != 4) {
            return error_set(error, STATUS_PROTOCOL, "device: cannot read '%.60s'", line);
        }
        add_step(out, &step, ns);
    }
    return error_set(error, STATUS_DIED, "device: its process ended early");
}

static enum status start(const struct calibrate_options *o, int write_fd, pid_t *pid,
                         struct error *error)
{
    char path[PATH_BYTES];
    char role[] = "device";
    char gpu[64];
    char model[64];
    char rounds[16];
    char *arguments[] = {path, role, gpu, model, rounds, NULL};
    const struct child_options child = {.path = path,
                                        .arguments = arguments,
                                        .fd3 = -1,
                                        .fd4 = write_fd,
                                        .stderr_fd = o->log_fd,
                                        .death_signal = SIGKILL};
    child_program_folder(path, sizeof path - 16);
    (void)strcat(path, "/harness-node"); // NOLINT: room was left above
    (void)snprintf(gpu, sizeof gpu, "%s", o->gpu);
    (void)snprintf(model, sizeof model, "%s", o->model);
    (void)snprintf(rounds, sizeof rounds, "%d", o->quick ? 1 : 5);
    return child_start(&child, pid, error);
}

static enum status measure(const struct calibrate_options *o, struct cells *out,
                           struct error *error)
{
    int ends[2];
    pid_t pid = -1;
    int ended = 0;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return error_set(error, STATUS_IO, "no pipe: %s", strerror(errno));
    }
    enum status status = start(o, ends[1], &pid, error);
    (void)close(ends[1]);
    FILE *in = fdopen(ends[0], "r");
    ASSERT(in != NULL);
    if (status == STATUS_OK) {
        status = read_steps(in, out, error);
        child_stop(pid, SIGTERM, STOP_NS, &ended);
    }
    (void)fclose(in);
    return status;
}

/* ---- the fit ---- */

void calibrate_device_columns(uint32_t seqs, uint32_t context, uint32_t prompt, double x[TERMS])
{
    struct step_load load = {.seqs_count = 0};
    for (uint32_t i = 0; i < seqs; i++) {
        step_load_add(&load, context, 1, true);
    }
    if (prompt > 0) {
        step_load_add(&load, 0, prompt, true);
    }
    x[0] = 1;
    x[1] = load.seqs_count;
    x[2] = (double)load.kv_read_tokens;
    x[3] = load.tokens_count - load.seqs_count;
    x[4] = (double)(load.attention_pairs - load.kv_read_tokens);
}

/* Each to nine digits, as the file has it. */
static double rounded(double value)
{
    char text[40];
    (void)snprintf(text, sizeof text, "%.9g", value);
    return strtod(text, NULL);
}

/* One of five, by turns another one: the grid's last dimension has five values, too. */
static bool is_held_out(uint32_t i)
{
    return (i + i / HELD_OUT_EVERY) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1;
}

void calibrate_device_fit(const double *x, const double *y, uint32_t count, uint64_t seed,
                          struct calibration_device *out)
{
    double *fit_x = calloc((size_t)count * TERMS + 1, sizeof *fit_x);
    double *fit_y = calloc((size_t)count + 1, sizeof *fit_y);
    struct regression fit;
    size_t rows = 0;
    ASSERT(fit_x != NULL && fit_y != NULL);
    for (uint32_t i = 0; i < count; i++) {
        if (!is_held_out(i)) {
            memcpy(&fit_x[rows * TERMS], &x[(size_t)i * TERMS], TERMS * sizeof *x);
            fit_y[rows++] = y[i];
        }
    }
    const struct regression_rows regression = {
        .x = fit_x, .y = fit_y, .size = fit_y, .rows_count = rows, .terms_count = TERMS};
    regression_fit(&regression, seed, &fit);
    out->held_out_error = STATS_UNKNOWN;
    for (uint32_t i = 0; i < count; i++) {
        double predicted = regression_of(&fit, &x[(size_t)i * TERMS], TERMS);
        double off = is_held_out(i) ? fabs(predicted / y[i] - 1) : STATS_UNKNOWN;
        out->held_out_error = fmax(out->held_out_error, off); /* of what is known */
    }
    out->held_out_error = rounded(out->held_out_error);
    out->condition = rounded(fit.condition);
    for (int i = 0; i < TERMS; i++) {
        out->value[i] = rounded(fit.terms[i].value);
        out->lo[i] = rounded(fit.terms[i].lo);
        out->hi[i] = rounded(fit.terms[i].hi);
    }
    free(fit_x);
    free(fit_y);
}

/* A memory that hardly holds the model leaves too little of the grid. */
static enum status check_fit(const struct calibrate_options *options,
                             const struct calibration_device *d, struct error *error)
{
    bool known = !isnan(d->held_out_error);
    for (int i = 0; i < TERMS; i++) {
        known = known && !isnan(d->value[i]);
    }
    return known ? STATUS_OK
                 : error_set(error, STATUS_INVALID,
                             "device: %s with %s has memory for too few of the steps to be timed",
                             options->gpu, options->model);
}

enum status calibrate_device(const struct calibrate_options *options,
                             struct calibration_device *out, struct error *error)
{
    struct cells *cells = calloc(1, sizeof *cells);
    double *x = calloc((size_t)CELLS_MAX * TERMS, sizeof *x);
    double *y = calloc(CELLS_MAX, sizeof *y);
    ASSERT(cells != NULL && x != NULL && y != NULL);
    enum status status = measure(options, cells, error);
    for (uint32_t i = 0; i < cells->count && status == STATUS_OK; i++) {
        struct cell *c = &cells->cells[i];
        calibrate_device_columns(c->seqs, c->context, c->prompt, &x[(size_t)i * TERMS]);
        stats_sort(c->ns, c->count);
        y[i] = stats_quantile(c->ns, c->count, 0.5) * 1e3;
    }
    if (status == STATUS_OK) {
        calibrate_device_fit(x, y, cells->count, options->seed, out);
        status = check_fit(options, out, error);
    }
    if (status == STATUS_OK) {
        (void)snprintf(out->gpu, sizeof out->gpu, "%s", options->gpu);
        (void)snprintf(out->model, sizeof out->model, "%s", options->model);
    }
    free(cells);
    free(x);
    free(y);
    return status;
}
