/*
 * client.c - the load client's loop: set-up, phases, arrivals, and the end. One thread; after
 * set-up it allocates nothing for an event. Sockets are connection.c's, servers target.c's, answers
 * response.c's, records account.c's.
 */
#include "harness/load/client.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "harness/load/client_state.h"

enum {
    DESCRIPTORS_BESIDE_CONNECTIONS = 32,
    TIMEOUT_SCAN_NS = 50000000,
    SPIN_NS_MAX = 50000,
    BALANCE_TRIES_EACH_CONNECTION = 50,
    BALANCE_TRIES_EACH_SERVER = 200,
};

#define CONNECT_TIMEOUT_NS ((int64_t)10000000000)
#define EVENT_TIMER        UINT64_MAX
#define EVENT_SIGNAL       (UINT64_MAX - 1)

void client_fail(struct client *c, enum status status, const char *fmt, ...)
{
    if (c->failure != STATUS_OK) {
        return;
    }
    char text[400];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    c->failure = error_set(&c->failure_error, status, "%s", text);
}

/* ---- requests ---- */

static void prepare(struct client *c)
{
    while (c->prepared_count < CLIENT_PREPARED_COUNT && !c->schedule_ended) {
        struct prepared *p =
            &c->prepared[(c->prepared_first + c->prepared_count) % CLIENT_PREPARED_COUNT];
        if (!schedule_next(&c->schedule, &p->item)) {
            c->schedule_ended = true;
            return;
        }
        if (!c->over) {
            request_write(&p->bytes, c->options, c->trace_used, &p->item);
        }
        if (p->bytes.failed) {
            client_fail(c, STATUS_NOMEM, "load: out of memory");
            return;
        }
        c->prepared_count++;
    }
}

/* The next request, NULL when there is none left. Stays valid until prepare() is called after
 * pop(). */
static const struct prepared *peek(struct client *c)
{
    if (c->prepared_count == 0) {
        prepare(c);
    }
    return c->prepared_count == 0 ? NULL : &c->prepared[c->prepared_first];
}

static void pop(struct client *c)
{
    c->prepared_first = (c->prepared_first + 1) % CLIENT_PREPARED_COUNT;
    c->prepared_count--;
    c->head_was_full = false;
}

/* The user's next request; NULL when there is none left. */
static const struct prepared *peek_of_user(struct client *c, const struct conn *conn)
{
    struct prepared *p = &c->session_next;
    if (!load_has_sessions(c->options)) {
        return peek(c);
    }
    if (!schedule_of_user(&c->schedule, conn->index, conn->rank, &p->item)) {
        return NULL;
    }
    request_write(&p->bytes, c->options, NULL, &p->item);
    if (p->bytes.failed) {
        client_fail(c, STATUS_NOMEM, "load: out of memory");
        return NULL;
    }
    return p;
}

/* What peek() or peek_of_user() gave has been used. */
static void take_request(struct client *c, uint32_t connection)
{
    if (load_has_sessions(c->options)) {
        c->conns[connection].rank++;
    } else {
        pop(c);
    }
}

static void start_request(struct client *c, struct conn *conn, const struct prepared *p,
                          int64_t t_sched_ns)
{
    conn->record = account_begin(&c->account, &p->item, conn->index, t_sched_ns);
    conn->state = CONN_BUSY;
    response_begin(conn);
    struct load_record *record = conn->record;
    if (conn_send(conn, p->bytes.data, p->bytes.bytes)) {
        account_sent(&c->account, record, clock_now_ns());
    }
    take_request(c, conn->index);
}

/* A request that has no connection to go out on. */
static void refuse_request(struct client *c, const struct prepared *p, enum load_outcome outcome,
                           uint32_t connection, int64_t t_sched_ns)
{
    struct load_record *record = account_begin(&c->account, &p->item, connection, t_sched_ns);
    account_end(&c->account, record, outcome, clock_now_ns());
    take_request(c, connection);
}

/* Whether the user may send: it does not think, and the load goes on. */
static bool user_is_due(const struct client *c, const struct conn *conn, int64_t now_ns)
{
    return c->loading && !c->stop_asked && !conn->thinking && now_ns < c->account.window_end_ns;
}

static void start_user(struct client *c, struct conn *conn, int64_t now_ns)
{
    const struct prepared *p = user_is_due(c, conn, now_ns) ? peek_of_user(c, conn) : NULL;
    if (p != NULL) {
        start_request(c, conn, p, conn->slot_free_ns);
    }
}

/* Users who have thought long enough. One whose connection is being opened again sends when it is
 * open. Returns when the next one will have. */
static int64_t wake_users(struct client *c)
{
    int64_t now_ns = clock_now_ns();
    struct conn *conn;
    while (c->failure == STATUS_OK && (conn = think_take(c, now_ns)) != NULL) {
        if (conn->state == CONN_IDLE && conn_is_open(conn)) {
            start_user(c, conn, now_ns);
        }
    }
    return think_next_ns(c);
}

void client_conn_ready(struct client *c, struct conn *conn, int64_t now_ns)
{
    if (c->options->mode == LOAD_CLOSED) {
        start_user(c, conn, now_ns);
    } else {
        target_put_idle(conn);
    }
}

void client_connect_failed(struct client *c, struct conn *conn, int64_t now_ns)
{
    if (c->options->mode != LOAD_CLOSED || !user_is_due(c, conn, now_ns)) {
        return;
    }
    const struct prepared *p = peek_of_user(c, conn);
    if (p != NULL) {
        uint64_t number = p->item.number;
        refuse_request(c, p, LOAD_OUTCOME_CONNECT, conn->index, conn->slot_free_ns);
        think_begin(c, conn, number, now_ns);
    }
}

/* One arrival whose time has come; false when it must wait for a connection. */
static bool start_arrival(struct client *c, const struct prepared *p, int64_t t_sched_ns)
{
    struct conn *conn = target_take_idle(c);
    if (conn != NULL) {
        start_request(c, conn, p, t_sched_ns);
        return true;
    }
    if (c->open_count == 0) {
        refuse_request(c, p, LOAD_OUTCOME_CONNECT, UINT32_MAX, t_sched_ns);
        return true;
    }
    if (!c->head_was_full) {
        c->head_was_full = true;
        load_add(&c->header->full_count, 1);
    }
    if (c->options->on_full == LOAD_FULL_DROP) {
        refuse_request(c, p, LOAD_OUTCOME_DROPPED, UINT32_MAX, t_sched_ns);
        return true;
    }
    return false;
}

/* Sends what is due. Returns when the next arrival must be looked at, INT64_MAX if no time decides
 * that. */
static int64_t dispatch(struct client *c)
{
    const int64_t spin_ns =
        c->options->pace_spin_ns < SPIN_NS_MAX ? c->options->pace_spin_ns : SPIN_NS_MAX;
    while (c->failure == STATUS_OK && !c->arrivals_ended) {
        const struct prepared *p = peek(c);
        int64_t t_sched_ns = p == NULL ? INT64_MAX : c->account.start_ns + p->item.offset_ns;
        if (p == NULL || t_sched_ns >= c->account.window_end_ns) {
            c->arrivals_ended = true;
            break;
        }
        int64_t now_ns = clock_now_ns();
        if (t_sched_ns - now_ns > spin_ns) {
            return t_sched_ns - spin_ns;
        }
        while (now_ns < t_sched_ns) {
            now_ns = clock_now_ns();
        }
        if (!start_arrival(c, p, t_sched_ns)) {
            break;
        }
    }
    return INT64_MAX;
}

/* ---- the loop ---- */

static void arm(struct client *c, int64_t deadline_ns)
{
    if (deadline_ns == c->armed_ns) {
        return;
    }
    c->armed_ns = deadline_ns;
    struct itimerspec when = {0};
    if (deadline_ns != INT64_MAX) {
        int64_t at_ns = deadline_ns > 1 ? deadline_ns : 1; /* zero would disarm */
        when.it_value.tv_sec = at_ns / 1000000000;
        when.it_value.tv_nsec = at_ns % 1000000000;
    }
    (void)timerfd_settime(c->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void take_signal(struct client *c)
{
    struct signalfd_siginfo info;
    if (read(c->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == (uint32_t)LOAD_WINDOW_SIGNAL) {
            c->window_asked = c->loading;
            return;
        }
        bool drains = info.ssi_signo == (uint32_t)LOAD_DRAIN_SIGNAL && c->loading;
        c->drain_asked = c->drain_asked || drains;
        c->stop_asked = c->stop_asked || !drains;
        atomic_store(&c->header->stopped, 1);
    }
}

static void turn(struct client *c, int64_t deadline_ns)
{
    struct epoll_event events[CLIENT_EVENTS_MAX];
    arm(c, deadline_ns);
    int count = epoll_wait(c->epoll_fd, events, CLIENT_EVENTS_MAX, -1);
    if (count < 0 && errno != EINTR) {
        client_fail(c, STATUS_IO, "load: epoll_wait: %s", strerror(errno));
    }
    load_add(&c->header->turns_count, 1);
    for (int i = 0; i < count; i++) {
        uint64_t data = events[i].data.u64;
        if (data == EVENT_TIMER) {
            c->armed_ns = 0; /* it has fired: the same time may be asked for again */
        } else if (data == EVENT_SIGNAL) {
            take_signal(c);
        } else {
            struct conn *conn = &c->conns[(uint32_t)data];
            if (conn->generation == (uint32_t)(data >> 32) && conn->state != CONN_CLOSED) {
                conn_event(conn, events[i].events);
            }
        }
    }
}

/* Opens closed connections whose time has come. */
static void reopen(struct client *c, int64_t now_ns, uint32_t connecting_max)
{
    if (c->closed_count == 0 || now_ns < c->next_retry_ns) {
        return;
    }
    c->next_retry_ns = INT64_MAX;
    for (uint32_t i = 0; i < c->conns_count && c->failure == STATUS_OK; i++) {
        struct conn *conn = &c->conns[i];
        if (conn->state != CONN_CLOSED) {
            continue;
        }
        if (conn->retry_at_ns <= now_ns && c->connecting_count < connecting_max) {
            conn_open(conn, now_ns);
        } else if (conn->retry_at_ns < c->next_retry_ns) {
            c->next_retry_ns = conn->retry_at_ns;
        }
    }
}

/* ---- before the load ---- */

static void fail_balance(struct client *c)
{
    char counts[200] = "";
    size_t at = 0;
    for (uint32_t i = 0; i < c->options->api_servers_count && at + 16 < sizeof counts; i++) {
        at += (size_t)snprintf(counts + at, sizeof counts - at, " %u", c->balanced[i]);
    }
    client_fail(
        c, STATUS_TIMEOUT,
        "load: %u connections could not be spread evenly over %u API servers: after %u tries "
        "they have%s",
        c->conns_count, c->options->api_servers_count, c->tries_count, counts);
}

static void check_connect_limits(struct client *c, int64_t deadline_ns)
{
    const struct load_options *o = c->options;
    uint64_t tries_max = (uint64_t)BALANCE_TRIES_EACH_CONNECTION * c->conns_count +
                         (uint64_t)BALANCE_TRIES_EACH_SERVER * o->api_servers_count;
    bool late = clock_now_ns() >= deadline_ns;
    if (o->balance && (c->tries_count > tries_max || (late && c->tries_count > 0))) {
        fail_balance(c);
    } else if (late) {
        const struct load_target *target = &o->targets[c->failed_target];
        const char *problem =
            c->connect_error.text[0] != '\0' ? c->connect_error.text : "no answer";
        client_fail(c, STATUS_TIMEOUT, "load: connecting to %s port %u: %u of %u connections: %s",
                    target->host, target->port, c->open_count, c->conns_count, problem);
    }
}

static void connect_all(struct client *c)
{
    atomic_store(&c->header->phase, LOAD_PHASE_CONNECT);
    int64_t timeout_ns =
        c->options->connect_timeout_ns > 0 ? c->options->connect_timeout_ns : CONNECT_TIMEOUT_NS;
    int64_t deadline_ns = clock_now_ns() + timeout_ns;
    uint32_t connecting_max = c->options->balance ? CLIENT_PROBES_MAX : CLIENT_CONNECTS_MAX;
    c->next_retry_ns = 0;
    while (c->open_count < c->conns_count && c->failure == STATUS_OK && !c->stop_asked) {
        check_connect_limits(c, deadline_ns);
        reopen(c, clock_now_ns(), connecting_max);
        /* With the connecting ones at their limit the next wake-up is an answer, not a retry. */
        bool at_limit = c->connecting_count >= connecting_max;
        int64_t retry_ns = at_limit || c->closed_count == 0 ? INT64_MAX : c->next_retry_ns;
        turn(c, retry_ns < deadline_ns ? retry_ns : deadline_ns);
    }
}

/* ---- phases ---- */

static void publish(_Atomic int64_t *field, int64_t at_ns)
{
    atomic_store_explicit(field, at_ns, memory_order_relaxed);
}

static void begin_load(struct client *c)
{
    const struct load_options *o = c->options;
    c->account.trace = c->trace_used;
    account_start(&c->account, clock_now_ns());
    c->loading = true;
    atomic_store(&c->header->phase, LOAD_PHASE_WARMUP);
    for (uint32_t i = 0; o->mode == LOAD_CLOSED && i < c->conns_count; i++) {
        think_begin(c, &c->conns[i], SCHEDULE_BEFORE_FIRST + i, c->account.start_ns);
        if (c->conns[i].state == CONN_IDLE) {
            start_user(c, &c->conns[i], c->account.start_ns);
        }
    }
}

static void end_load(struct client *c, enum load_outcome outcome)
{
    int64_t now_ns = clock_now_ns();
    c->loading = false;
    c->over = true;
    for (uint32_t i = 0; i < c->conns_count; i++) {
        struct conn *conn = &c->conns[i];
        if (conn->record != NULL) {
            struct load_record *record = conn->record;
            conn->record = NULL;
            account_end(&c->account, record, outcome, now_ns);
        }
        if (conn->state != CONN_CLOSED) {
            conn_close(conn, INT64_MAX);
        }
    }
    /* Arrivals whose time had come and that never had a connection. */
    outcome = c->stop_asked ? LOAD_OUTCOME_CANCELLED : LOAD_OUTCOME_DROPPED;
    const struct prepared *p = c->options->mode == LOAD_CLOSED ? NULL : peek(c);
    while (p != NULL) {
        int64_t t_sched_ns = c->account.start_ns + p->item.offset_ns;
        if (t_sched_ns >= c->account.window_end_ns || t_sched_ns >= now_ns) {
            break;
        }
        refuse_request(c, p, outcome, UINT32_MAX, t_sched_ns);
        p = peek(c);
    }
    account_inflight(&c->account, 0, now_ns);
}

static void enter_window(struct client *c)
{
    publish(&c->header->cpu_window_start_ns, clock_thread_cpu_ns());
    atomic_store(&c->header->phase, LOAD_PHASE_WINDOW);
}

/* Asked to end early: the window and the arrivals end now, and the drain begins. */
static void begin_drain(struct client *c, int64_t now_ns)
{
    c->drain_asked = false;
    if (now_ns < c->account.window_end_ns) {
        account_cut(&c->account, now_ns);
        publish(&c->header->drain_end_ns,
                now_ns + (c->options->mode == LOAD_CLOSED ? 0 : c->options->drain_ns));
    }
    c->arrivals_ended = true;
}

static bool is_exhausted(struct client *c)
{
    if (c->account.inflight > 0) {
        return false;
    }
    uint64_t requests_max = c->options->requests_max;
    return load_has_sessions(c->options)
               ? requests_max > 0 && load_get(&c->header->offered_count) >= requests_max
               : peek(c) == NULL;
}

/* Takes the phases that are due; false when the load is over. */
static bool advance(struct client *c, int64_t now_ns)
{
    enum load_phase phase = atomic_load_explicit(&c->header->phase, memory_order_relaxed);
    if (phase == LOAD_PHASE_WARMUP && now_ns >= c->account.window_start_ns) {
        enter_window(c);
        phase = LOAD_PHASE_WINDOW;
    }
    if (phase != LOAD_PHASE_DRAIN && is_exhausted(c)) {
        return false;
    }
    if (phase == LOAD_PHASE_WINDOW && account_extend_window(&c->account, now_ns)) {
        c->arrivals_ended = false; /* those past the old end are not past the new one */
    }
    if (phase == LOAD_PHASE_WINDOW && now_ns >= c->account.window_end_ns) {
        publish(&c->header->cpu_window_end_ns, clock_thread_cpu_ns());
        atomic_store(&c->header->phase, LOAD_PHASE_DRAIN);
        phase = LOAD_PHASE_DRAIN;
    }
    if (phase != LOAD_PHASE_DRAIN) {
        return true;
    }
    bool drained = c->arrivals_ended && c->account.inflight == 0;
    return !drained && now_ns < atomic_load(&c->header->drain_end_ns);
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t phase_deadline(const struct client *c)
{
    switch ((enum load_phase)atomic_load_explicit(&c->header->phase, memory_order_relaxed)) {
    case LOAD_PHASE_WARMUP:
        return c->account.window_start_ns;
    case LOAD_PHASE_WINDOW:
        return earlier(c->account.window_end_ns, c->account.cycles_look_ns);
    case LOAD_PHASE_INIT:
    case LOAD_PHASE_CONNECT:
    case LOAD_PHASE_DRAIN:
    case LOAD_PHASE_DONE:
        break;
    }
    return atomic_load_explicit(&c->header->drain_end_ns, memory_order_relaxed);
}

static void scan_timeouts(struct client *c, int64_t now_ns)
{
    if (c->options->request_timeout_ns == 0 || now_ns < c->next_timeout_scan_ns) {
        return;
    }
    c->next_timeout_scan_ns = now_ns + TIMEOUT_SCAN_NS;
    for (uint32_t i = 0; i < c->conns_count; i++) {
        struct conn *conn = &c->conns[i];
        if (conn->record != NULL &&
            now_ns - conn->record->t_sent_ns >= c->options->request_timeout_ns) {
            struct load_record *record = conn->record;
            conn->record = NULL;
            think_begin(c, conn, record_number(record), now_ns);
            account_end(&c->account, record, LOAD_OUTCOME_TIMEOUT, now_ns);
            conn_close(conn, now_ns);
        }
    }
}

/* True when there has been no connection for so long that the server must be gone. */
static bool is_server_lost(struct client *c, int64_t now_ns)
{
    if (c->open_count > 0) {
        c->lost_since_ns = 0;
        return false;
    }
    if (c->lost_since_ns == 0) {
        c->lost_since_ns = now_ns;
    }
    if (now_ns - c->lost_since_ns < CLIENT_LOST_AFTER_NS) {
        return false;
    }
    const struct load_target *target = &c->options->targets[c->failed_target];
    atomic_store(&c->header->server_lost, 1);
    client_fail(c, STATUS_DIED, "load: no connection to %s port %u for 2 s: %s", target->host,
                target->port,
                c->connect_error.text[0] != '\0' ? c->connect_error.text : "closed by the server");
    return true;
}

/* What the loop sleeps until if no socket wakes it. */
static int64_t next_deadline(const struct client *c, int64_t arrival_ns)
{
    int64_t deadline_ns = earlier(arrival_ns, phase_deadline(c));
    if (c->closed_count > 0 && c->connecting_count < CLIENT_CONNECTS_MAX) {
        deadline_ns = earlier(deadline_ns, c->next_retry_ns);
    }
    if (c->options->request_timeout_ns > 0) {
        deadline_ns = earlier(deadline_ns, c->next_timeout_scan_ns);
    }
    if (c->open_count == 0 && c->lost_since_ns != 0) {
        deadline_ns = earlier(deadline_ns, c->lost_since_ns + CLIENT_LOST_AFTER_NS);
    }
    return deadline_ns;
}

static void run_load(struct client *c)
{
    begin_load(c);
    while (c->failure == STATUS_OK && !c->stop_asked) {
        int64_t arrival_ns = c->options->mode == LOAD_CLOSED ? wake_users(c) : dispatch(c);
        int64_t now_ns = clock_now_ns();
        if (c->window_asked) {
            c->window_asked = false;
            account_begin_window(&c->account, now_ns);
        }
        if (c->drain_asked) {
            begin_drain(c, now_ns);
        }
        if (!advance(c, now_ns) || is_server_lost(c, now_ns)) {
            break;
        }
        scan_timeouts(c, now_ns);
        reopen(c, now_ns, CLIENT_CONNECTS_MAX);
        prepare(c);
        turn(c, next_deadline(c, arrival_ns));
    }
    account_cut(&c->account, clock_now_ns());
    if (atomic_load(&c->header->cpu_window_end_ns) == 0) {
        publish(&c->header->cpu_window_end_ns, clock_thread_cpu_ns());
    }
    if (atomic_load(&c->header->cpu_window_start_ns) == 0) {
        publish(&c->header->cpu_window_start_ns, atomic_load(&c->header->cpu_window_end_ns));
    }
    bool waited = c->options->mode != LOAD_CLOSED && c->options->drain_ns > 0 && !c->stop_asked &&
                  c->failure == STATUS_OK;
    enum load_outcome outcome = waited ? LOAD_OUTCOME_TIMEOUT : LOAD_OUTCOME_CANCELLED;
    end_load(c, c->failure == STATUS_DIED ? LOAD_OUTCOME_RESET : outcome);
}

/* ---- set-up ---- */

static enum status raise_descriptor_limit(uint32_t connections, struct error *error)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t)connections + DESCRIPTORS_BESIDE_CONNECTIONS;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) {
        return STATUS_OK;
    }
    struct rlimit raised = {.rlim_cur = wanted, .rlim_max = limit.rlim_max};
    if (wanted > limit.rlim_max || setrlimit(RLIMIT_NOFILE, &raised) != 0) {
        return error_set(error, STATUS_FULL,
                         "load: %u connections need %llu file descriptors, the limit is %llu "
                         "(ulimit -n)",
                         connections, (unsigned long long)wanted,
                         (unsigned long long)limit.rlim_max);
    }
    return STATUS_OK;
}

static enum status load_trace(struct client *c, struct error *error)
{
    const struct load_options *o = c->options;
    if (o->trace_path[0] == '\0') {
        return STATUS_OK;
    }
    struct trace_limits limits = {.requests_max = o->mode == LOAD_TRACE ? o->requests_max : 0,
                                  .max_model_len = o->max_model_len,
                                  .timed = o->mode == LOAD_TRACE};
    TRY(trace_read(o->trace_path, (enum trace_format)o->trace_format, &limits, &c->trace, error));
    c->trace_used = &c->trace;
    load_add(&c->header->trace_requests_count, c->trace.requests_count);
    load_add(&c->header->trace_refused_zero_count, c->trace.refused_zero_count);
    load_add(&c->header->trace_refused_length_count, c->trace.refused_length_count);
    load_add(&c->header->trace_refused_unsorted_count, c->trace.refused_unsorted_count);
    return STATUS_OK;
}

static enum status open_descriptors(struct client *c, struct error *error)
{
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, LOAD_DRAIN_SIGNAL);
    (void)sigaddset(&signals, LOAD_WINDOW_SIGNAL);
    c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    c->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    c->signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    if (c->epoll_fd < 0 || c->timer_fd < 0 || c->signal_fd < 0) {
        return error_set(error, STATUS_IO, "load: epoll, timer or signal descriptor: %s",
                         strerror(errno));
    }
    /* Edge-triggered: an expired timer needs no read. */
    struct epoll_event timer = {.events = EPOLLIN | EPOLLET, .data.u64 = EVENT_TIMER};
    struct epoll_event signal_event = {.events = EPOLLIN, .data.u64 = EVENT_SIGNAL};
    if (epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, c->timer_fd, &timer) != 0 ||
        epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, c->signal_fd, &signal_event) != 0) {
        return error_set(error, STATUS_IO, "load: epoll_ctl: %s", strerror(errno));
    }
    return STATUS_OK;
}

static enum status set_up(struct client *c, struct error *error)
{
    c->conns_count = load_connections_count(c->options);
    TRY(raise_descriptor_limit(c->conns_count, error));
    TRY(targets_create(c, error));
    TRY(load_trace(c, error));
    TRY(open_descriptors(c, error));
    c->read_buffer = malloc(CLIENT_READ_BYTES);
    c->conns = calloc(c->conns_count, sizeof *c->conns);
    if (c->read_buffer == NULL || c->conns == NULL) {
        return error_set(error, STATUS_NOMEM, "load: out of memory");
    }
    for (uint32_t i = 0; i < c->conns_count; i++) {
        TRY(conn_create(c, i, error));
    }
    request_write_health(&c->health);
    TRY(think_create(c, error));
    schedule_init(&c->schedule, c->options, c->trace_used);
    c->schedule_ended = load_has_sessions(c->options); /* each user has its own */
    prepare(c);
    return STATUS_OK;
}

static void tear_down(struct client *c)
{
    for (uint32_t i = 0; c->conns != NULL && i < c->conns_count; i++) {
        if (c->conns[i].client != NULL) {
            conn_destroy(&c->conns[i]);
        }
    }
    for (uint32_t i = 0; i < CLIENT_PREPARED_COUNT; i++) {
        http_buffer_free(&c->prepared[i].bytes);
    }
    const int fds[] = {c->epoll_fd, c->timer_fd, c->signal_fd};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
        }
    }
    http_buffer_free(&c->session_next.bytes);
    http_buffer_free(&c->health);
    free(c->thinkers);
    trace_free(&c->trace);
    free(c->conns);
    targets_destroy(c);
    free(c->read_buffer);
}

enum status load_run(const struct load_options *options, struct load_shared *shared,
                     struct error *error)
{
    TRY(load_options_check(options, error));
    struct client c = {.options = options,
                       .shared = shared,
                       .header = shared->header,
                       .account = {.shared = shared},
                       .epoll_fd = -1,
                       .timer_fd = -1,
                       .signal_fd = -1};
    atomic_store(&c.header->pid, getpid());
    clock_precise_sleeps();
    sigset_t signals;
    sigset_t signals_before;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, LOAD_DRAIN_SIGNAL);
    (void)sigaddset(&signals, LOAD_WINDOW_SIGNAL);
    (void)pthread_sigmask(SIG_BLOCK, &signals, &signals_before);
    struct error problem = {0};
    enum status status = set_up(&c, &problem);
    if (status == STATUS_OK) {
        connect_all(&c);
        if (c.failure == STATUS_OK && !c.stop_asked) {
            run_load(&c);
        }
        status = c.failure;
        if (status != STATUS_OK) {
            problem = c.failure_error;
        }
    }
    atomic_store(&c.header->status, status);
    if (status != STATUS_OK) {
        memcpy(c.header->error_text, problem.text, sizeof c.header->error_text);
    }
    publish(&c.header->end_ns, clock_now_ns());
    atomic_store(&c.header->phase, LOAD_PHASE_DONE);
    tear_down(&c);
    (void)pthread_sigmask(SIG_SETMASK, &signals_before, NULL);
    if (status != STATUS_OK && error != NULL) {
        *error = problem;
    }
    return status;
}
