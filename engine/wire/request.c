/*
 * request.c - what a front end sends an engine core: ADD, ABORT, UTILITY. Knows the order of
 * EngineCoreRequest's elements: written as 0..17 (0..19 when abort_immediately is set), read from 9
 * upwards. Requests that need what no engine core here has (images, embeddings, LoRA, pooling) are
 * STATUS_UNSUPPORTED. Holds no state.
 */
#include "engine/base/hash.h"
#include "engine/wire/reader.h"
#include "engine/wire/sampling.h"
#include "engine/wire/writer.h"

enum request_field {
    REQUEST_ID,
    REQUEST_PROMPT_TOKEN_IDS,
    REQUEST_MM_FEATURES,
    REQUEST_SAMPLING_PARAMS,
    REQUEST_POOLING_PARAMS,
    REQUEST_ARRIVAL_TIME,
    REQUEST_LORA_REQUEST,
    REQUEST_CACHE_SALT,
    REQUEST_DATA_PARALLEL_RANK,
    REQUEST_PROMPT_EMBEDS,
    REQUEST_PROMPT_IS_TOKEN_IDS,
    REQUEST_CLIENT_INDEX,
    REQUEST_CURRENT_WAVE,
    REQUEST_PRIORITY,
    REQUEST_TRACE_HEADERS,
    REQUEST_RESUMABLE,
    REQUEST_EXTERNAL_REQ_ID,
    REQUEST_REASONING_ENDED,
    REQUEST_REASONING_PARSER_KWARGS,
    REQUEST_ABORT_IMMEDIATELY,
    REQUEST_FIELDS_MIN = REQUEST_DATA_PARALLEL_RANK + 1,
};

void wire_encode_request(struct wire_buffer *b, const struct engine_request *request)
{
    ASSERT(request->prompt_token_ids != NULL || request->prompt_tokens_count == 0);
    uint32_t count =
        request->abort_immediately ? REQUEST_ABORT_IMMEDIATELY + 1 : REQUEST_REASONING_ENDED + 1;
    wire_put_array(b, count);
    wire_put_string(b, request->id);
    wire_put_uints(b, request->prompt_token_ids, request->prompt_tokens_count);
    wire_put_nil(b); /* mm_features */
    wire_put_sampling(b, &request->sampling);
    wire_put_nil(b); /* pooling_params */
    wire_put_wall(b, request->arrival_wall_ns);
    wire_put_nil(b); /* lora_request */
    wire_put_string(b, request->cache_salt);
    if (request->data_parallel_rank == RANK_NONE) {
        wire_put_nil(b);
    } else {
        wire_put_int(b, request->data_parallel_rank);
    }
    wire_put_nils(b, 2); /* prompt_embeds, prompt_is_token_ids */
    wire_put_uint(b, request->client_index);
    wire_put_uint(b, request->current_wave);
    wire_put_int(b, request->priority);
    wire_put_nil(b);         /* trace_headers */
    wire_put_bool(b, false); /* resumable */
    wire_put_string(b, request->external_id);
    wire_put_nil(b); /* reasoning_ended */
    if (request->abort_immediately) {
        wire_put_nil(b); /* reasoning_parser_kwargs */
        wire_put_bool(b, true);
    }
}

static void refuse_unless_nil(struct wire_reader *r, const char *field)
{
    if (!wire_get_nil(r)) {
        wire_skip(r, field, 1);
        wire_reader_fail(r, STATUS_UNSUPPORTED, field, "only nil is served");
    }
}

static void get_prompt(struct wire_reader *r, struct engine_request *q)
{
    if (wire_get_nil(r)) {
        wire_reader_fail(r, STATUS_UNSUPPORTED, "prompt_token_ids", "a prompt without token ids");
        return;
    }
    q->prompt_token_ids = wire_get_uints(r, "prompt_token_ids", &q->prompt_tokens_count);
}

static void get_sampling_params(struct wire_reader *r, struct engine_request *q)
{
    if (wire_get_nil(r)) {
        wire_reader_fail(r, STATUS_UNSUPPORTED, "sampling_params", "pooling is not served");
        return;
    }
    wire_get_sampling(r, &q->sampling);
}

static void get_field(struct wire_reader *r, uint32_t index, struct engine_request *q)
{
    switch (index) {
    case REQUEST_ID:
        q->id = wire_get_id(r, "request_id");
        break;
    case REQUEST_PROMPT_TOKEN_IDS:
        get_prompt(r, q);
        break;
    case REQUEST_MM_FEATURES:
        refuse_unless_nil(r, "mm_features");
        break;
    case REQUEST_SAMPLING_PARAMS:
        get_sampling_params(r, q);
        break;
    case REQUEST_POOLING_PARAMS:
        refuse_unless_nil(r, "pooling_params");
        break;
    case REQUEST_ARRIVAL_TIME:
        q->arrival_wall_ns = wire_get_wall(r, "arrival_time");
        break;
    case REQUEST_LORA_REQUEST:
        refuse_unless_nil(r, "lora_request");
        break;
    case REQUEST_CACHE_SALT:
        q->cache_salt = wire_get_string_or_nil(r, "cache_salt");
        break;
    case REQUEST_DATA_PARALLEL_RANK:
        q->data_parallel_rank = wire_get_nil(r)
                                    ? RANK_NONE
                                    : (int32_t)wire_get_uint(r, "data_parallel_rank", INT32_MAX);
        break;
    case REQUEST_PROMPT_EMBEDS:
        refuse_unless_nil(r, "prompt_embeds");
        break;
    case REQUEST_CLIENT_INDEX:
        q->client_index = (uint32_t)wire_get_uint(r, "client_index", WIRE_CLIENTS_MAX - 1);
        break;
    case REQUEST_CURRENT_WAVE:
        q->current_wave = wire_get_u32(r, "current_wave");
        break;
    case REQUEST_PRIORITY:
        q->priority = (int32_t)wire_get_int(r, "priority", INT32_MIN, INT32_MAX);
        break;
    case REQUEST_EXTERNAL_REQ_ID:
        q->external_id = wire_get_string_or_nil(r, "external_req_id");
        break;
    case REQUEST_ABORT_IMMEDIATELY:
        q->abort_immediately = wire_get_bool(r, "abort_immediately");
        break;
    default:
        wire_skip(r, "an ignored element", 1);
    }
}

enum status wire_decode_request(struct wire_decoder *d, const void *data, size_t bytes,
                                struct engine_request *out, struct error *error)
{
    struct wire_reader r = {.message = "ADD", .error = error};
    struct engine_request request = {.data_parallel_rank = RANK_NONE};
    wire_reader_start(&r, d, data, bytes);
    uint32_t count = wire_get_array(&r, "message", REQUEST_FIELDS_MIN);
    for (uint32_t i = 0; i < count && wire_reader_ok(&r); i++) {
        get_field(&r, i, &request);
    }
    TRY(wire_reader_finish(&r));
    request.prompt_hash =
        hash64(request.prompt_token_ids,
               (size_t)request.prompt_tokens_count * sizeof *request.prompt_token_ids, 0);
    *out = request;
    return STATUS_OK;
}

enum status wire_decode_request_id(struct wire_decoder *d, const void *data, size_t bytes,
                                   const char **id, struct error *error)
{
    struct wire_reader r = {.message = "ADD", .error = error};
    wire_reader_start(&r, d, data, bytes);
    (void)wire_get_array(&r, "message", 1);
    *id = wire_get_id(&r, "request_id");
    return r.status;
}

void wire_encode_abort(struct wire_buffer *b, const char *const *ids, uint32_t count)
{
    wire_put_strings(b, ids, count);
}

enum status wire_decode_abort(struct wire_decoder *d, const void *data, size_t bytes,
                              const char *const **ids, uint32_t *count, struct error *error)
{
    struct wire_reader r = {.message = "ABORT", .error = error};
    uint32_t ids_count = 0;
    wire_reader_start(&r, d, data, bytes);
    const char *const *decoded = wire_get_ids(&r, "request_id", &ids_count);
    TRY(wire_reader_finish(&r));
    *ids = decoded;
    *count = ids_count;
    return STATUS_OK;
}

enum {
    UTILITY_FIELDS_COUNT = 4
}; /* client_index, call_id, method, args */

static void put_argument(struct wire_buffer *b, const struct utility_argument *argument)
{
    switch (argument->kind) {
    case UTILITY_ARGUMENT_NIL:
        wire_put_nil(b);
        break;
    case UTILITY_ARGUMENT_BOOL:
        wire_put_bool(b, argument->boolean);
        break;
    case UTILITY_ARGUMENT_INT:
        wire_put_int(b, argument->integer);
        break;
    case UTILITY_ARGUMENT_STRING:
        wire_put_string(b, argument->string);
        break;
    }
}

void wire_encode_utility(struct wire_buffer *b, const struct utility_call *call)
{
    wire_put_array(b, UTILITY_FIELDS_COUNT);
    wire_put_uint(b, call->client_index);
    wire_put_uint(b, call->call_id);
    wire_put_string(b, call->method);
    wire_put_array(b, call->arguments_count);
    for (uint32_t i = 0; i < call->arguments_count; i++) {
        put_argument(b, &call->arguments[i]);
    }
}

static void get_argument(struct wire_reader *r, struct utility_argument *argument)
{
    if (wire_next_is_bool(r)) {
        argument->kind = UTILITY_ARGUMENT_BOOL;
        argument->boolean = wire_get_bool(r, "args");
    } else if (wire_next_is_string(r)) {
        argument->kind = UTILITY_ARGUMENT_STRING;
        argument->string = wire_get_string(r, "args");
    } else if (wire_next_is_int(r)) {
        argument->kind = UTILITY_ARGUMENT_INT;
        argument->integer = wire_get_int(r, "args", INT64_MIN, INT64_MAX);
    } else {
        wire_skip(r, "args", 1);
    }
}

enum status wire_decode_utility(struct wire_decoder *d, const void *data, size_t bytes,
                                struct utility_call *out, struct error *error)
{
    struct wire_reader r = {.message = "UTILITY", .error = error};
    struct utility_call call = {0};
    wire_reader_start(&r, d, data, bytes);
    uint32_t count = wire_get_array(&r, "message", UTILITY_FIELDS_COUNT);
    call.client_index = (uint32_t)wire_get_uint(&r, "client_index", WIRE_CLIENTS_MAX - 1);
    call.call_id = wire_get_uint(&r, "call_id", UINT64_MAX);
    call.method = wire_get_string(&r, "method");
    uint32_t args_count = wire_get_array(&r, "args", 0);
    while (call.arguments_count < args_count && call.arguments_count < UTILITY_ARGUMENTS_MAX &&
           wire_reader_ok(&r)) {
        get_argument(&r, &call.arguments[call.arguments_count++]);
    }
    wire_skip(&r, "args", args_count - call.arguments_count);
    wire_skip_rest(&r, count, UTILITY_FIELDS_COUNT);
    TRY(wire_reader_finish(&r));
    *out = call;
    return STATUS_OK;
}
