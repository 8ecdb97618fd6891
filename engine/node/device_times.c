/*
 * device_times.c - the role `device`: times of single steps on a device over a grid of sequences,
 * contexts and prompts, for a calibration. Started by the harness; goes through device.h as an
 * engine core does, so that any device behind it is measured the same way. One line a step on
 * EVENT_FD, "SEQS CONTEXT PROMPT NS", and in the end "done", or "failed ..." if something went
 * wrong: lines without either are those of a process that was ended.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/device/device.h"
#include "engine/node/process.h"

enum {
    SEQS_MAX = 256,
    ROUNDS_MAX = 100,
    BLOCK_TOKENS = 16,
    SAMPLE_KEY = 1,
};

static const uint32_t seqs_grid[] = {1, 4, 16, 64, SEQS_MAX};
static const uint32_t contexts_grid[] = {32, 256, 1024};
static const uint32_t prompts_grid[] = {0, 128, 512, 1024,
                                        2048}; /* of one more sequence; 0: there is none */

enum {
    SEQS_COUNT = sizeof seqs_grid / sizeof seqs_grid[0],
    CONTEXTS_COUNT = sizeof contexts_grid / sizeof contexts_grid[0],
    PROMPTS_COUNT = sizeof prompts_grid / sizeof prompts_grid[0],
};

struct grid {
    struct device device;
    struct ledger_thread thread;
    struct step_seq seqs[SEQS_MAX + 1];
    uint64_t step;
    uint32_t tokens_max; /* that the device's memory holds */
    FILE *out;
};

static struct step_seq seq_of(const struct grid *g, uint32_t slot, uint32_t computed,
                              uint32_t scheduled)
{
    return (struct step_seq){.slot = slot,
                             .computed_tokens = computed,
                             .scheduled_tokens = scheduled,
                             .flags = STEP_SEQ_SAMPLES | STEP_SEQ_IGNORE_EOS,
                             .sample_key = SAMPLE_KEY,
                             .position = (uint32_t)g->step};
}

/* A step that decodes `seqs` tokens behind `context` others each, and computes one prompt. */
static enum status time_step(struct grid *g, uint32_t seqs, uint32_t context, uint32_t prompt,
                             struct error *error)
{
    struct device_result result;
    struct step_plan plan = {.step = ++g->step,
                             .seqs = g->seqs,
                             .seqs_count = seqs + (prompt > 0 ? 1 : 0),
                             .tokens_count = seqs + prompt};
    for (uint32_t i = 0; i < seqs; i++) {
        g->seqs[i] = seq_of(g, i, context, 1);
    }
    if (prompt > 0) {
        g->seqs[seqs] = seq_of(g, seqs, 0, prompt);
    }
    TRY(device_submit(&g->device, &plan, error));
    device_wait(&g->device, plan.step, &result);
    (void)fprintf(g->out, "%u %u %u %" PRId64 "\n", seqs, context, prompt,
                  result.done_ns - result.started_ns);
    return STATUS_OK;
}

static enum status time_grid(struct grid *g, struct error *error)
{
    for (uint32_t i = 0; i < SEQS_COUNT * CONTEXTS_COUNT * PROMPTS_COUNT; i++) {
        uint32_t seqs = seqs_grid[i / (CONTEXTS_COUNT * PROMPTS_COUNT)];
        uint32_t context = contexts_grid[i / PROMPTS_COUNT % CONTEXTS_COUNT];
        uint32_t prompt = prompts_grid[i % PROMPTS_COUNT];
        if ((uint64_t)seqs * (context + 1) + prompt <= g->tokens_max) {
            TRY(time_step(g, seqs, context, prompt, error));
        }
    }
    return fflush(g->out) == 0 ? STATUS_OK : error_set(error, STATUS_IO, "nobody reads");
}

static enum status time_rounds(struct grid *g, const struct topology *t, long rounds,
                               struct error *error)
{
    const struct device_options options = {.topology = t,
                                           .requests_max = SEQS_MAX + 1,
                                           .thread = &g->thread,
                                           .epoch_ns = clock_now_ns()};
    enum status status = STATUS_OK;
    TRY(device_open(&options, &g->device, error));
    g->tokens_max = (device_kv_blocks(&g->device) - 1) * BLOCK_TOKENS;
    for (long i = 0; i < rounds && status == STATUS_OK; i++) {
        status = time_grid(g, error);
    }
    device_close(&g->device);
    return status;
}

int device_times_main(int argc, char **argv)
{
    struct topology t = {.engines_count = 1,
                         .tp = 1,
                         .pp = 1,
                         .queue_depth = 1024,
                         .block_tokens = BLOCK_TOKENS,
                         .async_depth = 1,
                         .launch = LAUNCH_GRAPH};
    struct error error = {.text = "want GPU MODEL ROUNDS"};
    struct grid *g = calloc(1, sizeof *g);
    FILE *out = fdopen(EVENT_FD, "w");
    long rounds = argc == 4 ? strtol(argv[3], NULL, 10) : 0;
    int exit = EXIT_FAILURE;
    if (g != NULL && out != NULL && rounds > 0 && rounds <= ROUNDS_MAX &&
        strlen(argv[1]) < sizeof t.gpu && strlen(argv[2]) < sizeof t.model) {
        memcpy(t.gpu, argv[1], strlen(argv[1]) + 1);
        memcpy(t.model, argv[2], strlen(argv[2]) + 1);
        g->out = out;
        exit = time_rounds(g, &t, rounds, &error) == STATUS_OK ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    if (out != NULL) {
        (void)(exit == EXIT_SUCCESS ? fprintf(out, "done\n")
                                    : fprintf(out, "failed %s\n", error.text));
        (void)fclose(out);
    }
    free(g);
    return exit;
}
