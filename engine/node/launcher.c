/*
 * launcher.c - starts a serving system, or one node's part of it, in vLLM's order, watches it, and
 * ends it as one.
 *
 * Order: bind the HTTP socket (reserves the port); ROUTER of the handshake; coordinator (D > 1)
 * until it reported its addresses; engine cores (they say HELLO and wait); API servers until all
 * reported their sockets; only then INIT to the engine cores; READY of all; "ready" of all API
 * servers (each has heard every engine core); then "ready PORT" to the harness. From then on the
 * death of any process ends all of them: SIGTERM to API servers, engine cores, coordinator, one
 * deadline for everything, then SIGKILL. The reason is the first line that went up: "died NAME
 * ...".
 *
 * Of several nodes the first has the coordinator and waits for the engine cores of all; each ends
 * by itself when its processes lose those of another.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>
#include <zmq.h>

#include "engine/base/clock.h"
#include "engine/collective/collective.h"
#include "engine/device/gpu_shared.h"
#include "engine/node/engine_lockstep.h"
#include "engine/node/handshake.h"
#include "engine/node/process.h"
#include "engine/node/spawn.h"

enum {
    START_DEADLINE_MS = 600 * 1000,
    START_REMINDER_MS = 10 * 1000,
    COORDINATOR_DEADLINE_MS = 120 * 1000,
    PATH_BYTES = 384,
};

struct launcher {
    struct process process;
    uv_loop_t loop;
    uv_signal_t sigterm;
    uv_signal_t sigint;
    uv_timer_t deadline;
    uv_timer_t reminder;
    uv_poll_t handshake_polls[HANDSHAKE_FDS];
    struct handshake handshake;
    struct spawn coordinator;
    struct spawn engines[TOPOLOGY_ENGINES_MAX];
    struct spawn api_servers[TOPOLOGY_API_SERVERS_MAX];
    uint32_t engines_up; /* that said to be ready, of this node */
    uint32_t live_count; /* children */
    bool stopping;       /* no more waiting: end everything */
    bool failed;         /* and the exit status is not 0 */
    bool expired;        /* the deadline timer fired */
    int listen_fd;
    uint32_t port;
    struct collective step;   /* lock-step: what ranks agree on before a forward, */
    struct collective finish; /* and whether a wave is over */
    struct gpu_shared *gpus;  /* [topology_gpus] if engine cores share them, else NULL */
};

/* The first reason is the one that counts; what follows is its consequence. */
static void give_up(struct launcher *l, const char *word, const char *text)
{
    if (!l->stopping) {
        process_event("%s %s", word, text);
        l->failed = true;
        l->stopping = true;
    }
}

static bool is_engine(const struct launcher *l, const struct spawn *child)
{
    return child >= l->engines && child < l->engines + TOPOLOGY_ENGINES_MAX;
}

static void note_about(const struct launcher *l, enum event_kind what, const struct spawn *child,
                       struct event_note note)
{
    note.about = true;
    note.kind = is_engine(l, child) ? THREAD_ENGINE_MAIN : THREAD_API_MAIN;
    note.instance = child->index;
    if (child == &l->coordinator) {
        note.kind = THREAD_COORDINATOR_MAIN;
        note.instance = l->process.node;
    }
    process_note(&l->process, what, &note);
}

/* ---- HTTP socket ---- */

static enum status bind_http(struct launcher *l, struct error *error)
{
    const struct topology *t = l->process.topology;
    const char *host =
        t->listen_host[0] != '\0' ? t->listen_host : process_host(&l->process, l->process.node);
    uint32_t port = l->process.own.listen_port;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        return error_set(error, STATUS_INVALID, "listen: want an IPv4 address, got '%s'", host);
    }
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    if (fd < 0) {
        return error_set(error, STATUS_IO, "socket: %s", strerror(errno));
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    socklen_t bytes = sizeof address;
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &bytes) != 0) {
        enum status status =
            error_set(error, STATUS_IO, "cannot listen at %s:%u: %s", host, port, strerror(errno));
        (void)close(fd);
        return status;
    }
    /* Only now: at a port that another system serves with SO_REUSEPORT the bind would succeed and
     * both share it. */
    if (t->accept == ACCEPT_REUSEPORT) {
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    }
    l->listen_fd = fd;
    l->port = ntohs(address.sin_port);
    process_note(&l->process, EVENT_HTTP_BOUND, &(struct event_note){.value = {l->port}});
    return STATUS_OK;
}

/* ---- handshake ---- */

/* Its engine cores speak to node 0 only. */
static bool headless(const struct launcher *l)
{
    return process_joins(&l->process) && !process_serves_own_only(&l->process);
}

static void give_up_with(struct launcher *l, const struct error *error)
{
    give_up(l, error->status == STATUS_DIED ? "died" : "failed", error->text);
}

static void turn_handshake(struct launcher *l)
{
    struct error error;
    if (l->handshake.socket != NULL && handshake_turn(&l->handshake, &error) != STATUS_OK) {
        give_up_with(l, &error);
    }
}

static void on_handshake(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    turn_handshake(poll->data);
}

static enum status open_handshake(struct launcher *l, struct error *error)
{
    if (headless(l)) {
        return STATUS_OK;
    }
    int fds[HANDSHAKE_FDS];
    TRY(handshake_open(&l->handshake, &l->process, error));
    handshake_fds(&l->handshake, fds);
    for (uint32_t i = 0; i < HANDSHAKE_FDS; i++) {
        (void)uv_poll_init(&l->loop, &l->handshake_polls[i], fds[i]);
        l->handshake_polls[i].data = l;
        (void)uv_poll_start(&l->handshake_polls[i], UV_READABLE, on_handshake);
    }
    if (l->handshake.port != 0) {
        process_event("joinable %s:%u", process_host(&l->process, 0), l->handshake.port);
    }
    return STATUS_OK;
}

static void close_handshake(struct launcher *l)
{
    if (l->handshake.socket != NULL) {
        for (uint32_t i = 0; i < HANDSHAKE_FDS; i++) {
            (void)uv_poll_stop(&l->handshake_polls[i]);
        }
        handshake_close(&l->handshake);
    }
}

/* ---- children ---- */

static void take_addresses(struct launcher *l, const struct spawn *child, const char *text)
{
    struct handshake *h = &l->handshake;
    char input[HANDSHAKE_ADDRESS_BYTES];
    char output[HANDSHAKE_ADDRESS_BYTES];
    struct error error;
    note_about(l, EVENT_ADDRESSES_HEARD, child, (struct event_note){0});
    if (child == &l->coordinator) {
        if (sscanf(text, "%255s %255s %255s", h->front, h->counts, h->back) != 3) {
            give_up(l, "failed", "the coordinator reported no addresses");
        }
    } else if (sscanf(text, "%255s %255s", input, output) != 2) {
        give_up(l, "failed", "an API server reported no addresses");
    } else if (handshake_api_server(h, child->index - l->process.own.api_servers_first, input,
                                    output, &error) != STATUS_OK) {
        give_up_with(l, &error);
    }
}

static void take_ready(struct launcher *l, const struct spawn *child)
{
    struct error error;
    if (!is_engine(l, child) || headless(l)) { /* else its READY over the handshake was noted */
        note_about(l, EVENT_READY_HEARD, child, (struct event_note){0});
    }
    if (is_engine(l, child)) {
        l->engines_up++;
    } else if (tape_startup_api_server_ready(&l->handshake.startup, &error) != STATUS_OK) {
        give_up_with(l, &error);
    }
}

static void on_line(struct spawn *child, const char *line)
{
    struct launcher *l = child->owner;
    if (strncmp(line, "addresses ", 10) == 0) {
        take_addresses(l, child, line + 10);
    } else if (strcmp(line, "ready") == 0) {
        take_ready(l, child);
    } else if (strncmp(line, "died ", 5) == 0) {
        give_up(l, "died", line + 5);
    } else if (strncmp(line, "failed ", 7) == 0) {
        char text[SPAWN_LINE_MAX];
        (void)snprintf(text, sizeof text, "%s: %s", child->name, line + 7);
        give_up(l, "failed", text);
    } else {
        process_event("%s", line);
    }
}

static void on_exit_of(struct spawn *child, const char *how)
{
    struct launcher *l = child->owner;
    char text[128];
    l->live_count--;
    note_about(l, EVENT_EXITED, child,
               (struct event_note){.value = {child->exit_status, child->term_signal}});
    (void)snprintf(text, sizeof text, "%s (pid %d) %s", child->name, (int)child->pid, how);
    give_up(l, "died", text);
}

/* What engine cores share besides the ledger. */
static enum status create_shared(struct launcher *l, struct error *error)
{
    const struct topology *t = l->process.topology;
    if (topology_lockstep(t) && !lockstep_spans_nodes(t)) {
        uint32_t ranks_count = topology_data_parallel_size(t);
        struct collective_options step = {
            .name = "step", .ranks_count = ranks_count, .wait = t->wait};
        struct collective_options finish = {
            .name = "finish check", .ranks_count = ranks_count, .wait = t->wait};
        TRY(collective_create(&step, &l->step, error));
        TRY(collective_create(&finish, &l->finish, error));
    }
    if (t->gpu_sharing == (uint32_t)GPU_OWN) {
        return STATUS_OK;
    }
    if (l->process.own.engines_first % topology_engines_per_gpu(t) != 0) {
        return error_set(error, STATUS_INVALID,
                         "node %u begins with engine core %u, which shares a GPU with another "
                         "node's: %u on each",
                         l->process.node, l->process.own.engines_first,
                         topology_engines_per_gpu(t));
    }
    uint32_t gpus_count = topology_gpus(t);
    struct gpu_share_options options = gpu_shared_options(t);
    l->gpus = calloc(gpus_count, sizeof *l->gpus);
    ASSERT(l->gpus != NULL);
    for (uint32_t i = 0; i < gpus_count; i++) {
        TRY(gpu_shared_create(&options, &l->gpus[i], error));
    }
    return STATUS_OK;
}

static enum status start_child(struct launcher *l, struct spawn *child,
                               const struct spawn_options *options, struct error *error)
{
    child->owner = l;
    child->on_line = on_line;
    child->on_exit = on_exit_of;
    int64_t before_ns = clock_now_ns();
    TRY(spawn_start(&l->loop, child, options, error));
    l->live_count++;
    /* The child may run before this process does again. */
    note_about(l, EVENT_SPAWNED, child,
               (struct event_note){.at_ns = before_ns, .value = {child->pid}});
    return STATUS_OK;
}

static enum status start_engine(struct launcher *l, uint32_t rank, struct error *error)
{
    const struct topology *t = l->process.topology;
    bool lockstep = topology_lockstep(t) && !lockstep_spans_nodes(t);
    int fds[PROCESS_FDS_END - COLLECTIVE_STEP_FD] = {lockstep ? l->step.fd : -1,
                                                     lockstep ? l->finish.fd : -1};
    uint32_t fds_count = GPU_FD - COLLECTIVE_STEP_FD;
    for (uint32_t i = 0; l->gpus != NULL && i < t->tp * t->pp; i++) {
        fds[fds_count++] = l->gpus[topology_gpu_of(t, rank, i)].fd;
    }
    struct spawn_options options = {.role = "engine_core",
                                    .index = rank,
                                    .node = l->process.node,
                                    .listen_fd = -1,
                                    .fds = fds,
                                    .fds_count = fds_count};
    return start_child(l, &l->engines[rank], &options, error);
}

static enum status start_api_server(struct launcher *l, uint32_t index, struct error *error)
{
    struct spawn_options options = {
        .role = "api_server", .index = index, .node = l->process.node, .listen_fd = l->listen_fd};
    return start_child(l, &l->api_servers[index], &options, error);
}

/* ---- main sequence ---- */

static void on_deadline(uv_timer_t *timer)
{
    struct launcher *l = timer->data;
    l->expired = true;
}

static void set_deadline(struct launcher *l, uint64_t ms)
{
    l->expired = false;
    (void)uv_timer_start(&l->deadline, on_deadline, ms, 0);
}

static enum status start_coordinator(struct launcher *l, struct error *error)
{
    if (topology_data_parallel_size(l->process.topology) < 2 || process_joins(&l->process)) {
        return STATUS_OK;
    }
    struct spawn_options options = {
        .role = "coordinator", .node = l->process.node, .listen_fd = -1};
    TRY(start_child(l, &l->coordinator, &options, error));
    set_deadline(l, COORDINATOR_DEADLINE_MS);
    while (l->handshake.front[0] == '\0' && !l->stopping && !l->expired) {
        (void)uv_run(&l->loop, UV_RUN_ONCE);
    }
    if (l->expired) {
        return error_set(error, STATUS_TIMEOUT, "the coordinator reported no address in 120 s");
    }
    return STATUS_OK;
}

static bool all_ready(const struct launcher *l)
{
    return headless(l) ? l->engines_up == l->process.own.engines_count
                       : startup_serving(l->handshake.startup.startup);
}

/* As vLLM's: whoever has to start another node learns what is missing. */
static void on_reminder(uv_timer_t *timer)
{
    const struct launcher *l = timer->data;
    char missing[256];
    handshake_missing(&l->handshake, missing, sizeof missing);
    if (missing[0] != '\0') {
        process_event("warning waiting for %s", missing);
    }
}

static enum status start_expired(const struct launcher *l, struct error *error)
{
    char missing[256] = "engine cores";
    uint32_t servers = 0;
    if (!headless(l)) {
        handshake_missing(&l->handshake, missing, sizeof missing);
        servers = l->process.own.api_servers_count -
                  startup_api_servers_ready(l->handshake.startup.startup);
    }
    return error_set(error, STATUS_TIMEOUT, "not ready in 600 s: %s%s%u API servers", missing,
                     missing[0] != '\0' ? ", " : "", servers);
}

static enum status start_all(struct launcher *l, struct error *error)
{
    const struct topology_node *own = &l->process.own;
    if (own->api_servers_count > 0) {
        TRY(bind_http(l, error));
    }
    TRY(create_shared(l, error));
    TRY(open_handshake(l, error));
    TRY(start_coordinator(l, error));
    for (uint32_t i = 0; i < own->engines_count; i++) {
        TRY(start_engine(l, own->engines_first + i, error));
    }
    for (uint32_t i = 0; i < own->api_servers_count; i++) {
        TRY(start_api_server(l, own->api_servers_first + i, error));
    }
    set_deadline(l, START_DEADLINE_MS);
    if (!headless(l)) {
        (void)uv_timer_start(&l->reminder, on_reminder, START_REMINDER_MS, START_REMINDER_MS);
    }
    while (!all_ready(l) && !l->stopping && !l->expired) {
        (void)uv_run(&l->loop, UV_RUN_ONCE);
        turn_handshake(l); /* a ZMQ descriptor signals edges: look again after each turn */
    }
    (void)uv_timer_stop(&l->reminder);
    if (l->expired) {
        return start_expired(l, error);
    }
    if (!l->stopping) {
        close_handshake(l);
    }
    return STATUS_OK;
}

static void signal_group(const struct launcher *l, struct spawn *children, uint32_t count,
                         int signal_number)
{
    for (uint32_t i = 0; i < count; i++) {
        if (children[i].live && uv_process_kill(&children[i].process, signal_number) == 0) {
            note_about(l, EVENT_SIGNAL_SENT, &children[i],
                       (struct event_note){.value = {signal_number}});
        }
    }
}

static void signal_all(struct launcher *l, int signal_number)
{
    signal_group(l, l->api_servers, TOPOLOGY_API_SERVERS_MAX, signal_number);
    signal_group(l, l->engines, TOPOLOGY_ENGINES_MAX, signal_number);
    signal_group(l, &l->coordinator, 1, signal_number);
}

static bool group_live(const struct spawn *children, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (children[i].live) {
            return true;
        }
    }
    return false;
}

/* API servers first: they end their clients' requests with an error before the engine cores go. */
static void stop_all(struct launcher *l)
{
    set_deadline(l, (uint64_t)(l->process.topology->shutdown_grace_ns / 1000000));
    signal_group(l, l->api_servers, TOPOLOGY_API_SERVERS_MAX, SIGTERM);
    while (group_live(l->api_servers, TOPOLOGY_API_SERVERS_MAX) && !l->expired) {
        (void)uv_run(&l->loop, UV_RUN_ONCE);
    }
    signal_all(l, SIGTERM);
    while (l->live_count > 0 && !l->expired) {
        (void)uv_run(&l->loop, UV_RUN_ONCE);
    }
    signal_all(l, SIGKILL);
    while (l->live_count > 0) {
        (void)uv_run(&l->loop, UV_RUN_ONCE);
    }
}

/* The harness removes its folder of sockets. If it died, this process is what survives it. */
static void remove_sockets(const struct launcher *l)
{
    const char *folder_path = l->process.topology->socket_dir;
    DIR *folder = opendir(folder_path);
    if (folder == NULL) {
        return;
    }
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        char path[PATH_BYTES];
        (void)snprintf(path, sizeof path, "%s/%s", folder_path, entry->d_name);
        if (entry->d_name[0] != '.') {
            (void)unlink(path);
        }
    }
    (void)closedir(folder);
    (void)rmdir(folder_path);
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    struct launcher *l = handle->data;
    l->stopping = true;
}

/* Each client connection is a descriptor of an API server: the soft limit goes up to the hard one,
 * for all children. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void watch_signals(struct launcher *l)
{
    l->sigterm.data = l;
    l->sigint.data = l;
    (void)uv_signal_init(&l->loop, &l->sigterm);
    (void)uv_signal_start(&l->sigterm, on_signal, SIGTERM);
    (void)uv_signal_init(&l->loop, &l->sigint);
    (void)uv_signal_start(&l->sigint, on_signal, SIGINT);
    /* Unlike its children the launcher cleans up when its parent dies, so it is asked to end
     * instead of killed. */
    (void)prctl(PR_SET_PDEATHSIG, (unsigned long)SIGTERM, 0UL, 0UL, 0UL);
}

int launcher_main(int argc, char **argv)
{
    static struct launcher l;
    struct error error = {0};
    if (process_begin(argc, argv, "launcher", &l.process) != STATUS_OK) {
        return EXIT_FAILURE;
    }
    uint32_t node = l.process.index > 0 ? (uint32_t)l.process.index : 0;
    if (process_take_node(&l.process, node, &error) != STATUS_OK ||
        process_pin(l.process.topology, PIN_SYSTEM, &error) != STATUS_OK) {
        return process_fail(&error);
    }
    pid_t parent = getppid();
    process_take_lane(&l.process, THREAD_LAUNCHER_MAIN, node);
    (void)uv_loop_init(&l.loop);
    (void)uv_timer_init(&l.loop, &l.deadline);
    l.deadline.data = &l;
    (void)uv_timer_init(&l.loop, &l.reminder);
    l.reminder.data = &l;
    watch_signals(&l);
    raise_descriptor_limit();
    struct ledger_thread *thread =
        ledger_thread_claim(&l.process.ledger, THREAD_LAUNCHER_MAIN, node, 0);
    if (start_all(&l, &error) != STATUS_OK) {
        give_up(&l, "failed", error.text);
    }
    if (!l.stopping) {
        (void)uv_timer_stop(&l.deadline);
        process_note(&l.process, EVENT_SERVING, &(struct event_note){.value = {l.port}});
        process_event("ready %u", l.port);
    }
    while (!l.stopping) {
        process_turn(thread, clock_now_ns());
        (void)uv_run(&l.loop, UV_RUN_ONCE);
    }
    stop_all(&l);
    ledger_thread_end(thread);
    process_note(&l.process, EVENT_DONE, NULL);
    process_event("stopped");
    if (getppid() != parent) {
        remove_sockets(&l);
    }
    return l.failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
