/*
 * client_state.h - the load client's state and the functions its files call in each other (private
 * to harness/load): client.c owns the loop and the phases, connection.c the sockets, target.c which
 * server is next, response.c what comes back, account.c what is recorded.
 */
#ifndef HARNESS_LOAD_CLIENT_STATE_H
#define HARNESS_LOAD_CLIENT_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "engine/http/http_parser.h"
#include "engine/http/sse.h"
#include "harness/load/account.h"
#include "harness/load/client.h"
#include "harness/load/request.h"
#include "harness/load/schedule.h"
#include "harness/load/shared.h"
#include "harness/load/trace.h"

enum {
    CLIENT_READ_BYTES = 256 << 10,
    CLIENT_EVENTS_MAX = 256,
    CLIENT_PREPARED_COUNT = 16, /* requests rendered ahead */
    CLIENT_PROBES_MAX = 32,     /* connections being balanced at the same time */
    CLIENT_CONNECTS_MAX = 1024, /* connections being opened at the same time */
};

#define CLIENT_RETRY_FIRST_NS ((int64_t)50000000)
#define CLIENT_RETRY_MAX_NS   ((int64_t)1000000000)
#define CLIENT_LOST_AFTER_NS  ((int64_t)2000000000)

enum conn_state {
    CONN_CLOSED,
    CONN_CONNECTING,
    CONN_PROBING, /* GET /health is under way */
    CONN_IDLE,
    CONN_BUSY
};

struct client;

struct conn {
    struct client *client;
    uint32_t index;
    uint32_t target;     /* of options->targets */
    uint32_t generation; /* tells events of an earlier socket of this connection apart */
    int fd;
    enum conn_state state;
    bool wants_write; /* EPOLLOUT is on */
    bool in_idle_ring;
    uint32_t api_server;
    int64_t connect_start_ns;
    int64_t retry_at_ns;
    int64_t retry_delay_ns;
    int64_t slot_free_ns; /* closed loop: when this user sends its next request, or could have */
    bool thinking;        /* stands among client.thinkers */
    uint64_t rank;        /* sessions: of this user's next request */
    struct http_client_parser *parser;
    struct http_buffer unsent; /* what send() did not take */
    size_t unsent_at;

    /* the request under way */
    struct load_record *record;
    struct sse_scanner scanner;
    struct http_buffer body; /* of an answer that is no stream */
    bool is_stream;
    bool saw_done;
    bool saw_finish;
    bool saw_error;
    bool malformed;
    uint32_t read_content_count; /* content events in the read being handled */
};

/* A user who thinks. */
struct thinker {
    int64_t until_ns;
    uint32_t conn;
};

struct prepared {
    struct schedule_item item;
    struct http_buffer bytes;
};

struct client_target {
    struct sockaddr_storage address;
    socklen_t address_bytes;
    uint32_t *idle; /* open modes: ring of its idle connections, least recently used first */
    uint32_t idle_first;
    uint32_t idle_count;
};

struct client {
    const struct load_options *options;
    struct load_shared *shared;
    struct load_header *header;
    struct trace trace;
    const struct trace *trace_used; /* NULL: none */
    struct schedule schedule;
    struct prepared prepared[CLIENT_PREPARED_COUNT];
    uint32_t prepared_first;
    uint32_t prepared_count;
    bool schedule_ended;
    struct prepared session_next; /* sessions: rendered when its user is ready */
    struct thinker *thinkers;     /* [conns_count], a heap by until_ns; NULL: nobody thinks */
    uint32_t thinkers_count;
    bool head_was_full; /* the waiting arrival has been counted in full_count */

    struct client_target targets[LOAD_TARGETS_MAX];
    uint32_t next_target;   /* whose turn the next arrival is */
    uint32_t failed_target; /* of connect_error */
    struct conn *conns;
    uint32_t conns_count;
    uint32_t open_count; /* idle or busy */
    uint32_t closed_count;
    uint32_t connecting_count;
    uint32_t balanced[LOAD_API_SERVERS_MAX];
    uint32_t tries_count;

    int epoll_fd;
    int timer_fd;
    int signal_fd;
    char *read_buffer;
    struct http_buffer health;
    int64_t read_ns;  /* when the read that is being handled returned */
    int64_t armed_ns; /* what the timer is set to */
    int64_t next_retry_ns;
    int64_t next_timeout_scan_ns;
    int64_t lost_since_ns; /* 0: there is a connection */
    bool stop_asked;
    bool drain_asked;
    bool window_asked;   /* to begin it: the warm-up is over */
    bool arrivals_ended; /* open: all that belong to the window have been taken */

    struct account account;
    bool over;    /* nothing is sent any more: what is still due needs no bytes */
    bool loading; /* between the start of the load and its end */

    enum status failure; /* set by callbacks; ends the run */
    struct error failure_error;
    struct error connect_error; /* why the last connect failed */
};

/* client.c */
void client_fail(struct client *c, enum status status, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* A connection is ready for its next request: closed loop sends it, open modes queue the
 * connection. */
void client_conn_ready(struct client *c, struct conn *conn, int64_t now_ns);
/* A connection could not be opened. */
void client_connect_failed(struct client *c, struct conn *conn, int64_t now_ns);

/* think.c */
MUST_CHECK enum status think_create(struct client *c, struct error *error);
/* The user's request `number` has ended: says when its next one is due, and if that is later than
 * now, puts the user among those who think. */
void think_begin(struct client *c, struct conn *conn, uint64_t number, int64_t now_ns);
/* Takes a user who has thought long enough; NULL: there is none. */
struct conn *think_take(struct client *c, int64_t now_ns);
/* When the next one has; INT64_MAX: nobody thinks. */
int64_t think_next_ns(const struct client *c);

/* connection.c */
/* An idle connection that the server has closed (keep-alive ended) but whose event was not read yet
 * is closed here, so that no request is lost on it. */
bool conn_is_open(struct conn *conn);
MUST_CHECK enum status conn_create(struct client *c, uint32_t index, struct error *error);
void conn_destroy(struct conn *conn);
void conn_open(struct conn *conn, int64_t now_ns);
/* Closes the socket; the connection may be opened again from `retry_at_ns`. */
void conn_close(struct conn *conn, int64_t retry_at_ns);
void conn_event(struct conn *conn, uint32_t events);
/* Sends the prepared bytes; false when the connection was lost in doing so (it is closed then). */
bool conn_send(struct conn *conn, const char *data, size_t bytes);
/* The answer to GET /health is complete. */
void conn_probed(struct conn *conn, int64_t now_ns);

/* target.c */
/* After conns_count is known. */
MUST_CHECK enum status targets_create(struct client *c, struct error *error);
void targets_destroy(struct client *c);
/* Connections of one target. */
uint32_t target_conns_count(const struct client *c, uint32_t target);
/* The connection waits for an arrival. */
void target_put_idle(struct conn *conn);
/* An idle connection of the target whose turn it is, or of the next that has one; NULL: none has.
 */
struct conn *target_take_idle(struct client *c);

/* response.c */
struct http_client_handlers response_handlers(struct conn *conn);
void response_begin(struct conn *conn);
void response_feed(struct conn *conn, const char *data, size_t bytes, int64_t now_ns);
void response_eof(struct conn *conn, int64_t now_ns);
void response_reset(struct conn *conn, int64_t now_ns);

#endif
