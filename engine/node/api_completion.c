/*
 * api_completion.c - a completion from its HTTP request to its last event: drives
 * engine/core/frontend for the API server's process.
 *
 * Request: parse, render, tokenise, book the emulated cost; then for each of its n choices: open a
 * ledger record, submit to the front end, send ADD. Choices are requests of their own, routed one
 * by one. Answer: engine messages go into the front end; what comes out is written as SSE events,
 * or gathered into one answer.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/hash.h"
#include "engine/model/chat_template.h"
#include "engine/node/api_server.h"
#include "engine/node/sockets.h"

/* ---- request ---- */

static enum status encode_text(struct api_server *s, const char *text, size_t bytes,
                               uint32_t *count)
{
    size_t ids_count = 0;
    enum status status = s->tokenizer.encode(s->tokenizer.ctx, text, bytes, s->prompt_ids,
                                             s->limits.max_model_len + 1, &ids_count);
    *count = ids_count > UINT32_MAX ? UINT32_MAX : (uint32_t)ids_count;
    return status;
}

static enum status encode_messages(struct api_server *s, const struct openai_request *r,
                                   uint32_t *count)
{
    size_t bytes =
        chat_template_render(r->roles, r->contents, r->messages_count, r->add_generation_prompt,
                             s->prompt_text, s->prompt_text_cap);
    if (bytes > s->prompt_text_cap) {
        free(s->prompt_text);
        s->prompt_text = malloc(bytes);
        ASSERT(s->prompt_text != NULL);
        s->prompt_text_cap = bytes;
        (void)chat_template_render(r->roles, r->contents, r->messages_count,
                                   r->add_generation_prompt, s->prompt_text, bytes);
    }
    return encode_text(s, s->prompt_text, bytes, count);
}

/* The prompt as token ids. A prompt too long for the buffer is still counted: the answer names its
 * length. */
static const uint32_t *tokenise(struct api_server *s, const struct openai_request *r,
                                uint32_t *count)
{
    if (r->messages_count > 0) {
        (void)encode_messages(s, r, count);
        return s->prompt_ids;
    }
    if (r->prompt_text != NULL) {
        (void)encode_text(s, r->prompt_text, r->prompt_text_bytes, count);
        return s->prompt_ids;
    }
    *count = r->prompt_tokens_count;
    return r->prompt_token_ids;
}

/* "cmpl-" + the caller's X-Request-Id in printable ASCII, or a number of this server's own. */
static void name_request(struct connection *c, const char *caller_id)
{
    const char *prefix = c->request.kind == OPENAI_CHAT ? "chatcmpl" : "cmpl";
    if (caller_id == NULL || caller_id[0] == '\0') {
        (void)snprintf(c->id, sizeof c->id, "%s-%u-%llx", prefix, c->server->index,
                       (unsigned long long)clock_wall_ns());
        return;
    }
    (void)snprintf(c->id, sizeof c->id, "%s-%.64s", prefix, caller_id);
    for (char *at = c->id; *at != '\0'; at++) {
        *at = (char)(*at > ' ' && *at <= '~' ? *at : '_');
    }
}

/* The load client numbers its requests in X-Request-Id; other callers' ids stay unjoined. */
static uint64_t client_number(const char *caller_id)
{
    if (caller_id == NULL || !isdigit((unsigned char)caller_id[0])) {
        return 0;
    }
    char *end = NULL;
    errno = 0;
    unsigned long long number = strtoull(caller_id, &end, 10);
    return errno == 0 && end != caller_id && *end == '\0' ? number + 1 : 0;
}

static void begin_record(struct choice *choice, const char *caller_id, uint32_t prompt_tokens)
{
    const struct connection *c = choice->connection;
    struct api_server *s = c->server;
    choice->serial = ledger_record_begin(&s->process.ledger, s->index, s->requests_count++);
    choice->record = ledger_record_of_serial(&s->process.ledger, choice->serial);
    choice->record->prompt_tokens = prompt_tokens;
    ledger_stamp(choice->record, HOP_API_RECEIVED, c->arrival_ns);
    /* A client's number stands for its request: its first choice. */
    atomic_store_explicit(&choice->record->client_number,
                          choice->index == 0 ? client_number(caller_id) : 0, memory_order_release);
}

static void fill_sampling(const struct api_server *s, const struct openai_request *r,
                          struct sampling_params *p)
{
    *p = (struct sampling_params){
        .max_tokens = r->max_tokens,
        .min_tokens = r->min_tokens,
        .has_seed = r->has_seed,
        .seed = r->seed,
        .eos_token_id = r->ignore_eos ? TOKEN_NONE : (int32_t)s->tokenizer.eos_token_id,
        .stop_token_ids_count = r->stop_token_ids_count,
        .output_kind = r->stream ? 1 : 2,
        .n = 1,
        .temperature = (float)r->temperature,
        .top_p = (float)r->top_p,
        .top_k = r->top_k,
        .min_p = (float)r->min_p,
        .presence_penalty = (float)r->presence_penalty,
        .frequency_penalty = (float)r->frequency_penalty,
        .repetition_penalty = (float)r->repetition_penalty,
    };
    memcpy(p->stop_token_ids, r->stop_token_ids, sizeof p->stop_token_ids);
}

static enum status send_add(struct api_server *s, const struct frontend_send *send,
                            struct error *error)
{
    wire_buffer_reset(&s->buffer);
    wire_encode_request(&s->buffer, &send->request);
    TRY(api_send_request(s, send->engine, WIRE_ADD, error));
    if (!send->first_request || s->stats == NULL) {
        return STATUS_OK;
    }
    struct first_request first = {.engine = send->engine, .wave = send->wave};
    wire_buffer_reset(&s->buffer);
    wire_encode_first_request(&s->buffer, &first);
    return socket_send(s->stats, s->buffer.data, s->buffer.bytes, false, error);
}

static void open_answer(struct connection *c)
{
    c->stream = c->request.stream;
    c->begun = false;
    c->unstamped = false;
    c->output_tokens = 0;
    c->output_tokens_max = 0;
    if (!c->stream) {
        return;
    }
    struct sse_stream_options options = {
        .chat = c->request.kind == OPENAI_CHAT,
        .id = c->id,
        .model = c->server->limits.model_name,
        .created_s = c->created_s,
        .include_usage = c->request.include_usage,
        .continuous_usage = c->request.continuous_usage,
    };
    sse_writer_open(&c->sse, &options);
}

/* All choices of the last completion are over: nobody points at them. */
static void open_choices(struct connection *c, uint32_t count)
{
    ASSERT(c->open_choices == 0);
    if (count > c->choices_cap) {
        struct choice *choices = realloc(c->choices, count * sizeof *choices);
        ASSERT(choices != NULL);
        memset(choices + c->choices_cap, 0, (count - c->choices_cap) * sizeof *choices);
        c->choices = choices;
        c->choices_cap = count;
    }
    c->choices_count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct http_buffer text = c->choices[i].text;
        http_buffer_clear(&text);
        c->choices[i] = (struct choice){.connection = c,
                                        .handle = FRONTEND_HANDLE_NONE,
                                        .index = i,
                                        .finish = FINISH_NONE,
                                        .text = text};
    }
}

/* Several choices: each has its index before the id, and its own seed if there is one. */
static enum status submit_choice(struct choice *choice, const struct http_request *http,
                                 const struct frontend_request *common, struct error *error)
{
    struct connection *c = choice->connection;
    struct api_server *s = c->server;
    char id[sizeof c->id + 16];
    struct frontend_request request = *common;
    begin_record(choice, http->request_id, request.prompt_tokens_count);
    request.serial = choice->serial;
    if (c->choices_count > 1) {
        (void)snprintf(id, sizeof id, "%u_%s", choice->index, c->id);
        request.external_id = id;
        /* Seeds wrap round as unsigned numbers do. */
        request.sampling.seed = (int64_t)((uint64_t)c->request.seed + choice->index);
    }
    struct frontend_send send;
    TRY(tape_frontend_submit(&s->frontend, &request, process_now(&s->process), &send, error));
    choice->handle = send.handle;
    c->open_choices++;
    s->by_handle[send.handle] = choice;
    choice->record->engine = c->server->group_first + send.engine;
    occupancy_settle(&s->occupancy);
    ledger_stamp(choice->record, HOP_API_SENT,
                 clock_now_ns()); /* before: the engine core may be faster */
    TRY(send_add(s, &send, error));
    ledger_add(&s->thread->requests_count, 1);
    ledger_add(&s->thread->prompt_tokens, request.prompt_tokens_count);
    return STATUS_OK;
}

static enum status submit(struct connection *c, const struct http_request *http,
                          const uint32_t *ids, uint32_t ids_count, struct error *error)
{
    const struct openai_request *r = &c->request;
    struct frontend_request request = {
        .external_id = c->id,
        .prompt_token_ids = ids,
        .prompt_tokens_count = ids_count,
        .prompt_hash = hash64(ids, ids_count * sizeof *ids, 0),
        .arrival_wall_ns = clock_wall_ns() - (clock_now_ns() - c->arrival_ns),
        .data_parallel_rank =
            http->data_parallel_rank == HTTP_RANK_NONE ? RANK_NONE : http->data_parallel_rank,
        .priority = r->priority,
        .cache_salt = r->cache_salt,
        .stream = r->stream,
        .stop_count = r->stop_count,
        .include_stop = r->include_stop,
    };
    fill_sampling(c->server, r, &request.sampling);
    memcpy(request.stop, r->stop, sizeof request.stop);
    c->prompt_tokens = ids_count;
    open_answer(c);
    open_choices(c, r->choices_count);
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < c->choices_count && status == STATUS_OK; i++) {
        status = submit_choice(&c->choices[i], http, &request, error);
    }
    if (status != STATUS_OK) {
        completion_cancel(c); /* no answer with some of its choices */
    }
    return status;
}

static void refuse(struct connection *c, int http_status, const char *text)
{
    struct openai_problem problem;
    openai_problem_set(&problem, http_status, NULL, "%s", text);
    ledger_add(&c->server->thread->failed_count, 1);
    connection_problem(c, &problem);
}

void completion_begin(struct connection *c, const struct http_request *http, enum openai_kind kind,
                      int64_t received_ns)
{
    struct api_server *s = c->server;
    const struct topology_host *host = &s->process.topology->host;
    struct openai_problem problem;
    if (s->dead || s->stopping) {
        refuse(c, 503, s->dead ? "the engine is dead" : "the server is shutting down");
        return;
    }
    c->arrival_ns = received_ns;
    c->created_s = clock_wall_ns() / 1000000000;
    occupancy_charge(&s->occupancy, host->api_request_ns);
    uint32_t ids_count = 0;
    const uint32_t *ids = NULL;
    enum status status = openai_parse(kind, http->body, http->body_bytes, &c->request, &problem);
    if (status == STATUS_OK) {
        status = openai_check_model(&c->request, &s->limits, &problem);
    }
    if (status == STATUS_OK) {
        ids = tokenise(s, &c->request, &ids_count);
        status = openai_validate(&c->request, &s->limits, ids_count, &problem);
    }
    if (status == STATUS_OK && c->request.stream && !http->chunked_allowed) {
        openai_problem_set(&problem, 400, "stream", "streaming needs HTTP/1.1");
        status = STATUS_UNSUPPORTED;
    }
    if (status != STATUS_OK) {
        ledger_add(&s->thread->failed_count, 1);
        connection_problem(c, &problem);
        openai_request_release(&c->request);
        return;
    }
    /* Only of a prompt that fits: a refused one must not occupy the server for its length. */
    occupancy_charge(&s->occupancy, host->api_prompt_token_ns * (int64_t)ids_count);
    struct error error;
    name_request(c, http->request_id);
    status = submit(c, http, ids, ids_count, &error);
    openai_request_release(&c->request);
    if (status != STATUS_OK) {
        refuse(c, status == STATUS_INVALID ? 400 : 503, error.text);
    }
}

void completion_cancel(struct connection *c)
{
    struct api_server *s = c->server;
    if (c->open_choices == 0) {
        return;
    }
    for (uint32_t i = 0; i < c->choices_count; i++) {
        struct choice *choice = &c->choices[i];
        if (choice->handle == FRONTEND_HANDLE_NONE) {
            continue;
        }
        tape_frontend_cancel(&s->frontend, choice->handle);
        s->by_handle[choice->handle] = NULL;
        choice->handle = FRONTEND_HANDLE_NONE;
        if (choice->record != NULL) {
            atomic_store_explicit(&choice->record->finish, FINISH_ABORT + 1, memory_order_release);
        }
    }
    c->open_choices = 0;
    completion_aborts(s);
}

/* ---- answer ---- */

static const char *finish_text(enum finish_reason finish)
{
    switch (finish) {
    case FINISH_STOP:
        return "stop";
    case FINISH_LENGTH:
        return "length";
    case FINISH_ABORT:
        return "abort";
    case FINISH_ERROR:
        return "error";
    case FINISH_REPETITION:
        return "repetition";
    case FINISH_NONE:
        break;
    }
    return NULL;
}

static void answer_error(struct connection *c)
{
    const struct api_server *s = c->server;
    struct openai_problem problem;
    if (s->dead) {
        openai_problem_set(&problem, 500, NULL, "the engine core that served this request died");
    } else if (s->stopping) {
        openai_problem_set(&problem, 503, NULL, "the server is shutting down");
    } else {
        openai_problem_set(&problem, 400, NULL, "the engine core refused the request");
    }
    ledger_add(&c->server->thread->failed_count, 1);
    c->keep_alive = false;
    if (!c->begun) {
        connection_problem(c, &problem);
        return;
    }
    struct http_buffer body = {0};
    openai_write_error(&body, &problem);
    sse_write_event(&c->out, body.data, body.bytes);
    http_buffer_free(&body);
    sse_write_done(&c->out);
    connection_mark(c);
    connection_answered(c);
}

static void write_stream(struct choice *choice, const struct frontend_delta *d)
{
    struct connection *c = choice->connection;
    if (!c->begun) {
        c->begun = true;
        sse_write_head(&c->out, (int32_t)c->server->index, c->keep_alive);
        for (uint32_t i = 0; i < c->choices_count; i++) {
            sse_write_role(&c->sse, &c->out, i, d->prompt_tokens_count);
        }
    }
    struct sse_delta delta = {
        .index = choice->index,
        .text = d->text,
        .text_bytes = d->text_bytes,
        .finish_reason = finish_text(d->finish),
        .stop_string = d->stop_string,
        .stop_token_id = d->stop_token_id,
        .prompt_tokens = d->prompt_tokens_count,
        .completion_tokens = d->output_tokens_count,
    };
    sse_write_delta(&c->sse, &c->out, &delta);
    connection_mark(c);
}

/* Without `stream` the front end gives one delta, at the end; its text lives no longer than this
 * call. */
static void keep_whole(struct choice *choice, const struct frontend_delta *d)
{
    http_buffer_append(&choice->text, d->text, d->text_bytes);
    choice->finish = d->finish;
    choice->stop_token_id = d->stop_token_id;
    choice->stopped = d->stop_string != NULL;
    if (choice->stopped) {
        (void)snprintf(choice->stop_string, sizeof choice->stop_string, "%s", d->stop_string);
    }
}

static void write_whole(struct connection *c)
{
    struct openai_answer answer = {
        .kind = c->request.kind,
        .id = c->id,
        .model = c->server->limits.model_name,
        .created_s = c->created_s,
        .prompt_tokens = c->prompt_tokens,
        .completion_tokens = c->output_tokens,
    };
    struct http_buffer body = {0};
    struct http_response response = {
        .http_status = 200, .api_server = (int32_t)c->server->index, .keep_alive = c->keep_alive};
    openai_write_begin(&body, &answer);
    for (uint32_t i = 0; i < c->choices_count; i++) {
        struct choice *choice = &c->choices[i];
        struct openai_choice text = {
            .text = choice->text.data != NULL ? choice->text.data : "",
            .text_bytes = choice->text.bytes,
            .finish_reason = finish_text(choice->finish),
            .stop_string = choice->stopped ? choice->stop_string : NULL,
            .stop_token_id = choice->stop_token_id,
        };
        body.failed |= choice->text.failed;
        openai_write_choice(&body, c->request.kind, i, &text);
        http_buffer_free(&choice->text);
    }
    openai_write_end(&body, &answer);
    response.body = body.data;
    response.body_bytes = body.bytes;
    http_write_response(&c->out, &response);
    c->out.failed |= body.failed;
    http_buffer_free(&body);
}

/* Its last choice is over. */
static void end_answer(struct connection *c)
{
    if (c->stream) {
        sse_write_usage(&c->sse, &c->out, c->prompt_tokens, c->output_tokens);
        sse_write_done(&c->out);
    } else {
        write_whole(c);
    }
    connection_mark(c);
    connection_answered(c);
}

static void record_delta(struct choice *choice, const struct frontend_delta *d)
{
    struct connection *c = choice->connection;
    /* A very long request may have lost its record to a later one. */
    if (choice->record != NULL) {
        choice->record = ledger_record_of_serial(&c->server->process.ledger, choice->serial);
    }
    struct ledger_record *record = choice->record;
    struct ledger_thread *thread = c->server->thread;
    ledger_add(&thread->output_tokens, d->new_tokens_count);
    if (record == NULL) {
        return;
    }
    if (d->first) {
        ledger_stamp(record, HOP_API_FIRST_OUTPUT, c->server->message_ns);
        ledger_add_wait(thread, record, HOP_ENGINE_FIRST_TOKEN, c->server->message_ns);
        record->cached_tokens = d->cached_tokens;
        choice->first_unwritten = true;
        c->unstamped = true;
    }
    atomic_store_explicit(&record->output_tokens, d->output_tokens_count, memory_order_relaxed);
    if (d->finish != FINISH_NONE) {
        ledger_stamp(record, HOP_API_LAST_OUTPUT, c->server->message_ns);
        ledger_add_wait(thread, record, HOP_ENGINE_LAST_TOKEN, c->server->message_ns);
        choice->last_unwritten = true;
        c->unstamped = true;
        atomic_store_explicit(&record->finish, (uint32_t)d->finish + 1, memory_order_release);
    }
}

/* The front end has given its last delta: the handle is free. */
static void close_choice(struct choice *choice, const struct frontend_delta *d)
{
    struct connection *c = choice->connection;
    c->server->by_handle[choice->handle] = NULL;
    choice->handle = FRONTEND_HANDLE_NONE;
    c->open_choices--;
    c->output_tokens += d->output_tokens_count;
    if (d->output_tokens_count > c->output_tokens_max) {
        c->output_tokens_max = d->output_tokens_count;
    }
}

static void deliver(struct choice *choice, const struct frontend_delta *d)
{
    struct connection *c = choice->connection;
    record_delta(choice, d);
    if (d->finish != FINISH_NONE) {
        close_choice(choice, d);
        api_metrics_finish(choice, d, clock_now_ns());
    }
    if (d->finish == FINISH_ERROR) {
        completion_cancel(c); /* its other choices */
        answer_error(c);
        return;
    }
    if (c->stream) {
        write_stream(choice, d);
    } else {
        keep_whole(choice, d);
    }
    if (d->finish != FINISH_NONE) {
        ledger_add(&c->server->thread->finished_count, 1);
        if (c->open_choices == 0) {
            end_answer(c);
        }
    }
}

void completion_deliver(struct api_server *s)
{
    int64_t token_ns = s->process.topology->host.api_output_token_ns;
    struct frontend_delta delta;
    while (tape_frontend_take(&s->frontend, &delta)) {
        struct choice *choice = s->by_handle[delta.handle];
        if (choice != NULL && choice->connection->stream) {
            occupancy_charge(&s->occupancy, token_ns * (int64_t)delta.new_tokens_count);
            s->charged_tokens += delta.new_tokens_count;
        }
        if (choice != NULL) {
            deliver(choice, &delta);
        }
        if (token_ns > 0 && occupancy_due(&s->occupancy, clock_now_ns())) {
            api_flush(s);
        }
    }
}

/*
 * Tokens are detokenised as they come, also those of answers that are not streamed: what the
 * streams of this message did not book is booked at its end.
 */
void completion_message(struct api_server *s, const struct engine_outputs *outputs)
{
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < outputs->outputs_count; i++) {
        tokens += outputs->outputs[i].new_tokens_count;
    }
    s->charged_tokens = 0;
    api_metrics_message(s, outputs);
    tape_frontend_outputs_begin(&s->frontend, outputs);
    while (tape_frontend_outputs_slice(&s->frontend, process_now(&s->process)) > 0) {
        completion_deliver(s);
    }
    completion_deliver(s); /* requests that ended without an output of their own */
    if (tokens > s->charged_tokens) {
        occupancy_charge(&s->occupancy, s->process.topology->host.api_output_token_ns *
                                            (int64_t)(tokens - s->charged_tokens));
    }
}

void completion_aborts(struct api_server *s)
{
    struct frontend_abort abort_request;
    while (tape_frontend_take_abort(&s->frontend, &abort_request)) {
        struct error error;
        wire_buffer_reset(&s->buffer);
        wire_encode_abort(&s->buffer, &abort_request.id, 1);
        if (api_send_request(s, abort_request.engine, WIRE_ABORT, &error) != STATUS_OK) {
            process_warning("ApiServer_%u cannot abort: %s", s->index, error.text);
        }
    }
}

void completion_fail_all(struct api_server *s)
{
    tape_frontend_fail_all(&s->frontend);
    completion_deliver(s);
    api_flush(s);
}
