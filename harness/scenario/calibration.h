/*
 * calibration.h - a calibration file: what the pieces of work of this code cost on one machine,
 * with intervals, and which machine that was. `harness calibrate` writes it, [simulation] costs =
 * FILE names it. Its text is that of scenarios: sections, keys, comments.
 */
#ifndef HARNESS_SCENARIO_CALIBRATION_H
#define HARNESS_SCENARIO_CALIBRATION_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "harness/scenario/scenario.h"
#include "sim/simulation.h"

/* X(ID, field of struct simulation_costs): every cost that a simulation knows and a machine has; a
 * field's name is its key. */
#define CALIBRATION_TERMS(X)                          \
    X(CLIENT_REQUEST, client_request.call)            \
    X(CLIENT_REQUEST_TOKEN, client_request.token)     \
    X(CLIENT_READ, client_read.call)                  \
    X(CLIENT_READ_TOKEN, client_read.token)           \
    X(API_REQUEST, api_request.call)                  \
    X(API_REQUEST_TOKEN, api_request.token)           \
    X(API_MESSAGE, api_message.call)                  \
    X(API_MESSAGE_ITEM, api_message.item)             \
    X(API_OUTPUT, api_output.call)                    \
    X(API_WRITE, api_write.call)                      \
    X(API_STATE, api_state.call)                      \
    X(COORDINATOR_MESSAGE, coordinator_message.call)  \
    X(COORDINATOR_PUBLISH, coordinator_publish.call)  \
    X(COORDINATOR_RECEIVER, coordinator_publish.item) \
    X(ENGINE_INPUT, engine_input.call)                \
    X(ENGINE_INPUT_TOKEN, engine_input.token)         \
    X(ENGINE_ADD, engine_add.call)                    \
    X(ENGINE_ADD_TOKEN, engine_add.token)             \
    X(ENGINE_STEP, engine_step.call)                  \
    X(ENGINE_STEP_SEQ, engine_step.item)              \
    X(ENGINE_COMMIT, engine_commit.call)              \
    X(ENGINE_COMMIT_OUTPUT, engine_commit.item)       \
    X(ENGINE_OUTPUT, engine_output.call)              \
    X(ENGINE_OUTPUT_ITEM, engine_output.item)         \
    X(WORKER_PLAN, worker_plan.call)                  \
    X(WORKER_PLAN_SEQ, worker_plan.item)              \
    X(WORKER_RESULT, worker_result.call)              \
    X(WORKER_RESULT_TOKEN, worker_result.token)       \
    X(WAKE, wake)                                     \
    X(WAKE_CPU, wake_cpu)                             \
    X(SLEEP_LATE, sleep_late)                         \
    X(SLEEP_CPU, sleep_cpu)                           \
    X(POLL, poll)                                     \
    X(CONTEXT_SWITCH, context_switch)                 \
    X(TCP, tcp)                                       \
    X(IPC, ipc)                                       \
    X(RING, ring)                                     \
    X(COLLECTIVE, collective)

enum calibration_term {
#define X(id, field) CALIBRATION_##id,
    CALIBRATION_TERMS(X)
#undef X
    CALIBRATION_TERMS_COUNT
};

/* What costs depend on. */
struct calibration_machine {
    char cpu_model[96];
    uint32_t cores_count;
    char kernel[96];
    char governor[24]; /* "": the host does not say */
    char compiler[96];
    char device[64];
};

struct calibration_interval {
    bool known; /* false: the cost was not measured, or its interval is not known */
    time_ps lo; /* 95 % */
    time_ps hi;
};

/* X(field of struct step_fit): times of a step's parts, in ps. */
#define CALIBRATION_STEP_TERMS(X) X(base) X(sequence) X(kv_token) X(prompt_token) X(prompt_pair)

enum {
    CALIBRATION_STEP_TERMS_COUNT = 5,
};

/* A device's steps, as they were measured over a grid of sequences, contexts and prompts. */
struct calibration_device {
    char gpu[32]; /* "": none was measured */
    char model[64];
    double value[CALIBRATION_STEP_TERMS_COUNT]; /* in the order of struct step_fit */
    double lo[CALIBRATION_STEP_TERMS_COUNT];    /* 95 % */
    double hi[CALIBRATION_STEP_TERMS_COUNT];
    double condition;
    double held_out_error; /* greatest relative one of the cells that were not fitted to */
};

struct calibration {
    char path[SCENARIO_TEXT_BYTES]; /* "": from no file */
    char date[32];
    char revision[48]; /* of the harness */
    struct calibration_machine machine;
    struct simulation_costs costs;
    struct calibration_interval intervals[CALIBRATION_TERMS_COUNT];
    struct calibration_device device;
};

const char *calibration_term_name(enum calibration_term term);
time_ps *calibration_cost(struct simulation_costs *costs, enum calibration_term term);
time_ps calibration_cost_of(const struct simulation_costs *costs, enum calibration_term term);

/* A file that calibration_read() gives back as it was. */
void calibration_write(const struct calibration *c, FILE *out);
/* INVALID: everything that is wrong with it became a problem. */
MUST_CHECK enum status calibration_read(const char *path,
                                        const struct scenario_environment *environment,
                                        struct calibration *out,
                                        struct scenario_problems *problems);

/* One line for each thing in which the machines differ: "cpu_model: 'X' there, 'Y' here". Returns
 * how many. */
uint32_t calibration_differences(const struct calibration_machine *there,
                                 const struct calibration_machine *here, FILE *out);

#endif
