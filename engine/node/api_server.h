/*
 * api_server.h - the parts of an API server's process, all on one thread round a libuv loop:
 *
 *   api_server.c      start-up, the loop's turns, sockets to engine cores and coordinator
 *   api_connection.c  HTTP connections: bytes to requests, answers to bytes, time limits
 *   api_completion.c  a completion and its choices from the HTTP request to the last event
 *   api_utility.c     routes that ask all engine cores to do something
 *   api_metrics.c     what /metrics counts
 */
#ifndef ENGINE_NODE_API_SERVER_H
#define ENGINE_NODE_API_SERVER_H

#include <uv.h>

#include "engine/http/http_parser.h"
#include "engine/http/openai.h"
#include "engine/http/sse.h"
#include "engine/ledger/metrics.h"
#include "engine/model/tokenizer.h"
#include "engine/node/occupancy.h"
#include "engine/node/peers.h"
#include "engine/node/process.h"
#include "engine/tape/tape_frontend.h"
#include "engine/wire/wire.h"

enum {
    API_REQUESTS_MAX = 16384, /* open at once in one API server; more get 503 */
    API_OUT_BYTES_MAX =
        64 << 20, /* unsent bytes after which a client that does not read is dropped */
    API_KEEP_ALIVE_S = 600,
};

/* One of a completion's n texts: a request of its own to the engine cores. */
struct choice {
    struct connection *connection;
    int32_t handle; /* FRONTEND_HANDLE_NONE: it is over */
    uint32_t index;
    uint32_t serial;
    struct ledger_record *record; /* NULL: none, or overwritten */
    bool first_unwritten;         /* the first event is in `out`: stamp it when it leaves */
    bool last_unwritten;
    bool prefilled;        /* its first token came */
    time_ps last_token_at; /* engine's time of the previous token, for inter-token latency */
    /* without `stream`: what waits for the other choices */
    struct http_buffer text;
    enum finish_reason finish;
    bool stopped; /* by stop_string */
    char stop_string[FRONTEND_STOP_BYTES_MAX];
    int32_t stop_token_id;
};

/* A utility call to all engine cores that a connection waits for. */
struct api_call {
    const struct api_utility *utility; /* NULL: none */
    uint64_t first_id;                 /* call id of engine core 0; the others follow */
    uint32_t waiting_count;
    bool all_true;
    bool any_true;
    char failure[160]; /* "" if none failed */
};

struct connection {
    uv_tcp_t tcp;
    struct api_server *server;
    struct connection *next; /* of all connections */
    struct connection **previous;
    struct http_server_parser *parser;
    struct http_buffer held; /* bytes that came while a request was being served */
    struct http_buffer out;
    uv_write_t write;
    struct http_buffer writing; /* what uv_write() holds */
    bool write_pending;
    bool closing;
    bool close_after_write;
    bool dirty; /* in the server's list of connections with something to write */
    struct connection *next_dirty;
    int64_t active_ns; /* last byte in, or end of the last answer */
    int64_t begun_ns;  /* first byte of the request that is coming in */

    struct api_call call;

    /* the completion being served; open_choices 0: none */
    struct choice *choices; /* [choices_count] */
    uint32_t choices_count;
    uint32_t choices_cap;
    uint32_t open_choices;
    bool keep_alive;
    bool stream;
    bool begun; /* something of the stream was written */
    struct openai_request request;
    struct sse_writer sse;
    char id[96]; /* as the client sees it */
    int64_t created_s;
    bool unstamped; /* a choice has something in `out` to stamp when it leaves */
    int64_t arrival_ns;
    uint32_t prompt_tokens;
    uint64_t output_tokens; /* of the choices that are over */
    uint32_t output_tokens_max;
};

struct api_server {
    struct process process;
    uint32_t index;         /* of all API servers */
    uint32_t client_index;  /* of those that its engine cores know */
    uint32_t group_first;   /* the engine core that is rank 0 of its data-parallel group */
    uint32_t engines_first; /* ranks in the group that it routes to */
    uint32_t engines_count;
    uv_loop_t loop;
    uv_tcp_t listener;
    uv_poll_t output_poll;
    uv_poll_t stats_poll;
    uv_poll_t peers_poll;
    uv_idle_t more; /* runs while engine messages wait, so that the loop does not block */
    uv_prepare_t before_wait;
    uv_check_t after_wait;
    uv_timer_t sweep;
    uv_signal_t sigterm;
    void *input;  /* ROUTER to engine cores */
    void *output; /* PULL from engine cores */
    void *stats;  /* XSUB to the coordinator, NULL if there is none */
    void *context;
    struct peers peers;                      /* engine cores of other nodes; none if all are here */
    bool engine_ready[TOPOLOGY_ENGINES_MAX]; /* by rank: they announced themselves, */
    int engine_connections[TOPOLOGY_ENGINES_MAX]; /* over these */
    struct wire_decoder *decoder;
    struct wire_buffer buffer;
    struct arena arena;
    struct tape_frontend frontend;
    struct tokenizer tokenizer;
    struct detokenizer detokenizer;
    struct openai_limits limits;
    struct ledger_thread *thread;
    struct occupancy occupancy;
    struct metrics_block *metrics;
    struct connection *connections;
    struct connection *dirty;
    struct connection **dirty_last;
    struct choice **by_handle; /* [API_REQUESTS_MAX] */
    uint32_t *prompt_ids;      /* [max_model_len + 1]: of the request being tokenised */
    char *prompt_text;
    size_t prompt_text_cap;
    char *metrics_text;
    size_t metrics_text_cap;
    uint64_t requests_count;
    uint64_t calls_count;    /* utility calls so far: call ids are 1, 2, ... */
    uint64_t charged_tokens; /* of the engine message in work */
    int64_t message_ns;      /* when the engine message in work was decoded */
    bool heard_coordinator;
    bool slept;      /* emulated host time was slept off in this turn: HTTP is next */
    bool will_block; /* the loop is about to wait with nothing left to do */
    int64_t block_ns;
    bool dead; /* an engine core died: nothing can be served any more */
    bool stopping;
};

/* The first thing every callback does: books the wait that just ended. */
void api_wake(struct api_server *s);

/* api_connection.c */
void api_on_connection(uv_stream_t *listener, int status);
/* Something was appended to connection->out: written at the next api_flush(). */
void connection_mark(struct connection *c);
/* The answer in `out` is complete: the connection serves its next request, or closes. */
void connection_answered(struct connection *c);
void connection_respond(struct connection *c, int http_status, const char *content_type,
                        const char *body, size_t bytes);
void connection_problem(struct connection *c, const struct openai_problem *problem);
/* Waits until what was charged is over, then writes all marked connections. */
void api_flush(struct api_server *s);
/* 408 for slow requests, end of idle keep-alive. */
void api_sweep(struct api_server *s, int64_t now_ns);

/* api_completion.c */
void completion_begin(struct connection *c, const struct http_request *http, enum openai_kind kind,
                      int64_t received_ns);
/* The client went away in mid-answer. */
void completion_cancel(struct connection *c);
/* Takes all deltas that are ready to their connections; flushes whenever a slice is owed. */
void completion_deliver(struct api_server *s);
/* One EngineCoreOutputs. */
void completion_message(struct api_server *s, const struct engine_outputs *outputs);
/* Sends the ABORTs that are due. */
void completion_aborts(struct api_server *s);
/* All open requests end with an error. */
void completion_fail_all(struct api_server *s);

/* api_utility.c */
/* False: no route of this file. */
bool api_utility_route(struct connection *c, const struct http_request *request);
/* A reply of one engine core. */
void api_utility_reply(struct api_server *s, const struct utility_reply *reply);
/* All calls that wait end with an error. */
void api_utility_fail_all(struct api_server *s);

/* api_metrics.c */
void api_metrics_finish(const struct choice *choice, const struct frontend_delta *delta,
                        int64_t now_ns);
/* Before the front end is given the message. */
void api_metrics_message(struct api_server *s, const struct engine_outputs *outputs);

/* api_server.c */
/* `engine`: rank in the group. */
MUST_CHECK enum status api_send_request(struct api_server *s, uint32_t engine,
                                        enum wire_request_type type, struct error *error);
void api_engine_died(struct api_server *s);

#endif
