/*
 * helper_samples.c - in C, the objects of make_golden.py. What a name's bytes in golden.txt mean is
 * said here a second time, by hand, so that neither the encoder nor the decoder is its own judge.
 */
#include "tests/wire/helper.h"

#define ID         "cmpl-x-0-0a1b2c3d"
#define ARRIVAL_NS 1790000000500000000
#define COUNT(a)   (sizeof(a) / sizeof((a)[0]))
#define SECOND_1_5 (3 * PS_PER_S / 2)

static const uint32_t prompt[] = {1, 2, 300};
static const uint32_t prompt_rich[] = {0, 127, 128, 255, 256, 65535, 65536, 4294967295};
static const uint32_t token_7[] = {7};
static const uint32_t token_42[] = {42};
static const uint32_t token_stop[] = {128009};
static const uint32_t tokens_two[] = {1, 70000};
static const char *const ids_abort[] = {"a-1", "b-2"};
static const char *const ids_finished[] = {ID};
static const char *const tasks[] = {"generate"};

#define SAMPLING_BASIC                                                                     \
    {                                                                                      \
        .max_tokens = 4, .eos_token_id = 2, .output_kind = 1, .n = 1, .temperature = 1.0F, \
        .top_p = 1.0F, .repetition_penalty = 1.0F                                          \
    }

#define REQUEST_BASIC                                                                           \
    .id = ID, .prompt_token_ids = prompt, .prompt_tokens_count = COUNT(prompt),                 \
    .sampling = SAMPLING_BASIC, .arrival_wall_ns = ARRIVAL_NS, .data_parallel_rank = RANK_NONE, \
    .external_id = "cmpl-x-0"

#define OUTPUT_OF(tokens)                                                                \
    .new_token_ids = (tokens), .new_tokens_count = COUNT(tokens), .finish = FINISH_NONE, \
    .stop_token_id = TOKEN_NONE

static const struct engine_output output_token[] = {{.id = ID, OUTPUT_OF(token_42)}};
static const struct engine_output output_length[] = {{.id = ID,
                                                      .new_token_ids = token_7,
                                                      .new_tokens_count = 1,
                                                      .finish = FINISH_LENGTH,
                                                      .stop_token_id = TOKEN_NONE}};
static const struct engine_output output_stop[] = {{.id = ID,
                                                    .new_token_ids = token_stop,
                                                    .new_tokens_count = 1,
                                                    .finish = FINISH_STOP,
                                                    .stop_token_id = 128009},
                                                   {.id = "b", OUTPUT_OF(tokens_two)}};
static const struct engine_output output_first[] = {
    {.id = ID,
     OUTPUT_OF(token_42),
     .first = true,
     .queued_at = 5 * PS_PER_S / 4,
     .scheduled_at = SECOND_1_5,
     .preemptions_count = 1,
     .prefill = {.prompt_tokens = 300, .computed_tokens = 172, .cached_tokens = 128}}};

static const struct scheduler_stats stats_full = {
    .running_count = 3,
    .waiting_count = 200,
    .skipped_waiting_count = 1,
    .step_counter = 70000,
    .current_wave = 4,
    .kv_cache_usage = 0.5,
    .prefix_cache = {.requests_count = 2, .queries_tokens = 300, .hits_tokens = 128},
};
static const struct scheduler_stats stats_counts = {
    .running_count = 2, .waiting_count = 1, .kv_cache_usage = 0.25};

static const struct utility_reply reply_void = {.call_id = 7};
static const struct utility_reply reply_tasks = {
    .call_id = 7, .kind = UTILITY_STRINGS, .strings = tasks, .strings_count = 1};
static const struct utility_reply reply_true = {
    .call_id = 0xf123456789abcdef, .kind = UTILITY_BOOL, .boolean = true};
static const struct utility_reply reply_false = {.call_id = 8, .kind = UTILITY_BOOL};
static const struct utility_reply reply_failure = {.call_id = 7, .failure = "no"};

static const struct engine_counts counts[] = {{.running = 1, .kv_usage = 0.25},
                                              {.waiting = 2, .running = 3, .kv_usage = 0.5}};

#define OUTPUTS_WITH .kind = MESSAGE_OUTPUTS, .outputs = {.wave_complete = -1, .start_wave = -1,

const struct sample helper_samples[] = {
    {"hello", {.kind = MESSAGE_HELLO, .hello = {.status = WIRE_HELLO, .headless = true}}},
    {"hello_ready", {.kind = MESSAGE_HELLO, .hello = {.status = WIRE_READY, .headless = true}}},
    {"hello_hash",
     {.kind = MESSAGE_HELLO,
      .hello = {.status = WIRE_READY,
                .local = true,
                .parallel_config_hash =
                    "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"}}},
    {"init",
     {.kind = MESSAGE_INIT,
      .init = {.clients_count = 1,
               .inputs = {"tcp://10.0.0.1:5001"},
               .outputs = {"tcp://10.0.0.1:5002"},
               .coordinator_input = "tcp://10.0.0.1:5003",
               .coordinator_output = "tcp://10.0.0.1:5004",
               .frontend_stats_address = "ipc:///run/h/stats"}}},
    {"init_alone",
     {.kind = MESSAGE_INIT,
      .init = {.clients_count = 2,
               .inputs = {"ipc:///a", "ipc:///b"},
               .outputs = {"ipc:///c", "ipc:///d"}}}},
    {"init_lockstep",
     {.kind = MESSAGE_INIT,
      .init = {.clients_count = 1,
               .inputs = {"ipc:///a"},
               .outputs = {"ipc:///c"},
               .coordinator_input = "ipc:///e",
               .coordinator_output = "ipc:///f",
               .has_parallel_config = true,
               .master_ip = "127.0.0.1",
               .master_port = 29501,
               .master_ports_count = 2,
               .master_ports = {29502, 29503},
               .data_parallel_size = 4}}},
    {"ready",
     {.kind = MESSAGE_READY,
      .ready = {131072, 27000, 16, "ipc:///run/h/stats", "bfloat16", "0.29.0", 2, 1, 2, 1, 3, 256,
                8192, "1790000000000000000", 432000}}},
    {"ready_bare",
     {.kind = MESSAGE_READY,
      .ready = {131072, 27000, 16, NULL, "bfloat16", "0.29.0", 2, 1, 2, 1, 3, 256, 8192,
                "1790000000000000000", 0}}},
    {"add", {.kind = MESSAGE_REQUEST, .request = {REQUEST_BASIC}}},
    {"add_aborted",
     {.kind = MESSAGE_REQUEST, .request = {REQUEST_BASIC, .abort_immediately = true}}},
    {"add_rich",
     {.kind = MESSAGE_REQUEST,
      .request = {.id = "chatcmpl-7-00ff00ff",
                  .prompt_token_ids = prompt_rich,
                  .prompt_tokens_count = COUNT(prompt_rich),
                  .sampling = {.max_tokens = 16,
                               .min_tokens = 3,
                               .has_seed = true,
                               .seed = -7,
                               .eos_token_id = TOKEN_NONE,
                               .stop_token_ids_count = 1,
                               .stop_token_ids = {128009},
                               .output_kind = 2,
                               .n = 2,
                               .temperature = 0.0F,
                               .top_p = 0.875F,
                               .top_k = 40,
                               .min_p = 0.125F,
                               .presence_penalty = 0.5F,
                               .frequency_penalty = -0.5F,
                               .repetition_penalty = 1.25F},
                  .arrival_wall_ns = ARRIVAL_NS,
                  .cache_salt = "pepper",
                  .data_parallel_rank = 3,
                  .client_index = 2,
                  .current_wave = 5,
                  .priority = -10,
                  .external_id = "chatcmpl-7"}}},
    {"add_rust",
     {.kind = MESSAGE_REQUEST,
      .request = {.id = ID,
                  .prompt_token_ids = prompt,
                  .prompt_tokens_count = COUNT(prompt),
                  .sampling = {.max_tokens = 300,
                               .min_tokens = 2,
                               .eos_token_id = TOKEN_NONE,
                               .stop_token_ids_count = 2,
                               .stop_token_ids = {11, 12},
                               .n = 1,
                               .temperature = 0.5F,
                               .top_p = 0.75F,
                               .top_k = -1,
                               .presence_penalty = -0.25F,
                               .frequency_penalty = 0.25F,
                               .repetition_penalty = 1.125F},
                  .arrival_wall_ns = 1500000000,
                  .data_parallel_rank = RANK_NONE,
                  .client_index = 1,
                  .external_id = "cmpl-x-0"}}},
    {"abort", {.kind = MESSAGE_ABORT, .abort = {ids_abort, COUNT(ids_abort)}}},
    {"utility_tasks",
     {.kind = MESSAGE_UTILITY,
      .utility = {.client_index = 1, .call_id = 7, .method = "get_supported_tasks"}}},
    {"utility_mm_cache",
     {.kind = MESSAGE_UTILITY,
      .utility = {.call_id = 0x1122334455667788, .method = "reset_mm_cache"}}},
    {"utility_prefix_cache",
     {.kind = MESSAGE_UTILITY,
      .utility = {.call_id = 0x0123456789abcdef,
                  .method = "reset_prefix_cache",
                  .arguments_count = 2,
                  .arguments = {{.kind = UTILITY_ARGUMENT_BOOL},
                                {.kind = UTILITY_ARGUMENT_BOOL}}}}},
    {"utility_pause",
     {.kind = MESSAGE_UTILITY,
      .utility = {.client_index = 3,
                  .call_id = 0xf123456789abcdef,
                  .method = "pause_scheduler",
                  .arguments_count = 2,
                  .arguments = {{.kind = UTILITY_ARGUMENT_STRING, .string = "wait"},
                                {.kind = UTILITY_ARGUMENT_BOOL, .boolean = true}}}}},
    {"utility_sleep",
     {.kind = MESSAGE_UTILITY,
      .utility = {.client_index = 1,
                  .call_id = 9,
                  .method = "sleep",
                  .arguments_count = 2,
                  .arguments = {{.kind = UTILITY_ARGUMENT_INT, .integer = 2},
                                {.kind = UTILITY_ARGUMENT_STRING, .string = "abort"}}}}},
    {"utility_wake_up",
     {.kind = MESSAGE_UTILITY,
      .utility = {.call_id = 10,
                  .method = "wake_up",
                  .arguments_count = 1,
                  .arguments = {{.kind = UTILITY_ARGUMENT_NIL}}}}},
    {"utility_numbers",
     {.kind = MESSAGE_UTILITY,
      .utility = {.call_id = 11,
                  .method = "numbers",
                  .arguments_count = 4,
                  .arguments = {{.kind = UTILITY_ARGUMENT_INT, .integer = -1},
                                {.kind = UTILITY_ARGUMENT_INT, .integer = -200},
                                {.kind = UTILITY_ARGUMENT_INT, .integer = 70000},
                                {.kind = UTILITY_ARGUMENT_INT, .integer = INT64_MAX}}}}},
    {"utility_list_full",
     {.kind = MESSAGE_UTILITY,
      .utility = {.call_id = 12,
                  .method = "collective_rpc",
                  .arguments_count = 4,
                  .arguments = {{.kind = UTILITY_ARGUMENT_STRING, .string = "f"}}}}},
    {"outputs_token",
     {OUTPUTS_WITH.outputs = output_token, .outputs_count = 1, .timestamp = SECOND_1_5}}},
{
    "outputs_length",
    {
        OUTPUTS_WITH.outputs = output_length, .outputs_count = 1, .timestamp = SECOND_1_5,
        .finished_ids = ids_finished, .finished_ids_count = 1
    }
}
}
,
{
    "outputs_stop_token",
    {
        OUTPUTS_WITH.engine_index = 1, .outputs = output_stop, .outputs_count = 2,
        .stats = &stats_full, .timestamp = 5 * PS_PER_S / 2, .finished_ids = ids_finished,
        .finished_ids_count = 1
    }
}
}
,
{
    "outputs_first",
    {
        OUTPUTS_WITH.engine_index = 258, .outputs = output_first, .outputs_count = 1,
        .timestamp = 7 * PS_PER_S / 4
    }
}
}
,
{
    "outputs_aborted",
    {
        OUTPUTS_WITH.timestamp = SECOND_1_5, .finished_ids = ids_abort, .finished_ids_count = 1
    }
}
}
,
{
    "outputs_stats",
    {
        OUTPUTS_WITH.stats = &stats_full, .timestamp = SECOND_1_5
    }
}
}
,
{
    "reply_void",
    {
        OUTPUTS_WITH.engine_index = 1, .timestamp = SECOND_1_5, .utility = &reply_void
    }
}
}
,
{
    "reply_tasks",
    {
        OUTPUTS_WITH.engine_index = 1, .timestamp = SECOND_1_5, .utility = &reply_tasks
    }
}
}
,
{
    "reply_true",
    {
        OUTPUTS_WITH.engine_index = 1, .timestamp = SECOND_1_5, .utility = &reply_true
    }
}
}
,
{
    "reply_false",
    {
        OUTPUTS_WITH.engine_index = 1, .timestamp = SECOND_1_5, .utility = &reply_false
    }
}
}
,
{
    "reply_failure",
    {
        OUTPUTS_WITH.engine_index = 1, .timestamp = SECOND_1_5, .utility = &reply_failure
    }
}
}
,
    {"wave_complete",
     {.kind = MESSAGE_OUTPUTS,
      .outputs = {.timestamp = SECOND_1_5, .wave_complete = 300, .start_wave = -1}}},
    {"start_wave",
     {.kind = MESSAGE_OUTPUTS,
      .outputs = {.engine_index = 2, .timestamp = SECOND_1_5, .wave_complete = -1}}},
    {"counts",
     {.kind = MESSAGE_COUNTS,
      .outputs = {.engine_index = 1,
                  .stats = &stats_counts,
                  .timestamp = SECOND_1_5,
                  .wave_complete = -1,
                  .start_wave = -1}}},
    {"state", {.kind = MESSAGE_STATE, .state = {counts, COUNT(counts), 4, false}}},
    {"state_wave", {.kind = MESSAGE_STATE, .state = {NULL, 0, 4, true}}},
    {"first_request", {.kind = MESSAGE_FIRST_REQUEST, .first = {1, 3}}},
    {"first_request_bytes", {.kind = MESSAGE_FIRST_REQUEST, .first = {1, 3}}},
    {"start_dp_wave", {.kind = MESSAGE_START_WAVE, .start = {3, RANK_NONE}}},
    {"start_dp_wave_int", {.kind = MESSAGE_START_WAVE, .start = {3, 1}}},
    {"start_dp_wave_bytes", {.kind = MESSAGE_START_WAVE, .start = {3, 1}}},
}
;
const size_t helper_samples_count = COUNT(helper_samples);
