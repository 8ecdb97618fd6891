/*
 * launcher.c - starts a serving system in vLLM's order, watches it, and ends it as one.
 *
 * Order: bind the HTTP socket (reserves the port); coordinator (D > 1) until it reported its
 * addresses; ROUTER of the handshake; engine cores (they say HELLO and wait); API servers until all
 * reported their sockets; only then INIT to the engine cores; READY of all; "ready" of all API
 * servers (each has heard every engine core); then "ready PORT" to the harness. From then on the
 * death of any process ends all of them: SIGTERM to API servers, engine cores, coordinator, one
 * deadline for everything, then SIGKILL. The reason is the first line that went up: "died NAME
 * ...".
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
#include "engine/node/process.h"
#include "engine/node/sockets.h"
#include "engine/node/spawn.h"
#include "engine/wire/wire.h"

enum {
    START_DEADLINE_MS = 600 * 1000,
    COORDINATOR_DEADLINE_MS = 120 * 1000,
    ADDRESS_MAX = 256,
};

enum engine_state {
    ENGINE_NEW,
    ENGINE_CONNECTED,
    ENGINE_READY
};

struct launcher {
    struct process process;
    uv_loop_t loop;
    uv_signal_t sigterm;
    uv_signal_t sigint;
    uv_timer_t deadline;
    uv_poll_t handshake_poll;
    void *handshake; /* ROUTER */
    struct wire_decoder *decoder;
    struct spawn coordinator;
    struct spawn engines[TOPOLOGY_ENGINES_MAX];
    struct spawn api_servers[TOPOLOGY_API_SERVERS_MAX];
    char front[ADDRESS_MAX]; /* coordinator's addresses */
    char counts[ADDRESS_MAX];
    char back[ADDRESS_MAX];
    char inputs[TOPOLOGY_API_SERVERS_MAX][ADDRESS_MAX];
    char outputs[TOPOLOGY_API_SERVERS_MAX][ADDRESS_MAX];
    enum engine_state engine_states[TOPOLOGY_ENGINES_MAX];
    uint32_t addressed_count; /* API servers that reported their sockets */
    uint32_t serving_count;   /* API servers that hear all engine cores */
    uint32_t ready_count;     /* engine cores */
    uint32_t live_count;      /* children */
    bool inits_sent;
    bool stopping; /* no more waiting: end everything */
    bool failed;   /* and the exit status is not 0 */
    bool expired;  /* the deadline timer fired */
    int listen_fd;
    uint32_t port;
    struct collective step;   /* lock-step: what ranks agree on before a forward, */
    struct collective finish; /* and whether a wave is over */
    struct gpu_shared *gpus;  /* [topology_gpus] if engine cores share them, else NULL */
    char parallel_hash[PARALLEL_HASH_BYTES];
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

/* ---- HTTP socket ---- */

static enum status bind_http(struct launcher *l, struct error *error)
{
    const struct topology *t = l->process.topology;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)t->listen_port)};
    if (inet_pton(AF_INET, t->listen_host, &address.sin_addr) != 1) {
        return error_set(error, STATUS_INVALID, "listen: want an IPv4 address, got '%s'",
                         t->listen_host);
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
        enum status status = error_set(error, STATUS_IO, "cannot listen at %s:%u: %s",
                                       t->listen_host, t->listen_port, strerror(errno));
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
    return STATUS_OK;
}

/* ---- handshake ---- */

static void send_init(struct launcher *l, uint32_t rank)
{
    const struct topology *t = l->process.topology;
    struct wire_init init = {.clients_count = t->api_servers_count};
    for (uint32_t i = 0; i < t->api_servers_count; i++) {
        init.inputs[i] = l->inputs[i];
        init.outputs[i] = l->outputs[i];
    }
    if (t->engines_count > 1) {
        init.coordinator_input = l->back;
        init.coordinator_output = l->counts;
        init.frontend_stats_address = l->front;
    }
    if (topology_lockstep(t)) {
        init.has_parallel_config = true;
        init.master_ip = t->listen_host;
        init.master_port = l->port;
        init.data_parallel_size = t->engines_count;
    }
    struct wire_buffer buffer = {0};
    struct error error;
    unsigned char identity[2];
    wire_identity(rank, identity);
    wire_encode_init(&buffer, &init);
    if (socket_send(l->handshake, identity, sizeof identity, true, &error) != STATUS_OK ||
        socket_send(l->handshake, buffer.data, buffer.bytes, false, &error) != STATUS_OK) {
        give_up(l, "failed", error.text);
    }
    wire_buffer_free(&buffer);
}

static void send_inits_when_known(struct launcher *l)
{
    const struct topology *t = l->process.topology;
    if (l->addressed_count < t->api_servers_count) {
        return;
    }
    l->inits_sent = true;
    for (uint32_t i = 0; i < t->engines_count; i++) {
        if (l->engine_states[i] == ENGINE_CONNECTED) {
            send_init(l, i);
        }
    }
}

/* Ranks that were configured differently would not take the same steps. */
static enum status check_parallel_hash(const struct launcher *l, uint32_t rank,
                                       const struct wire_hello *hello, struct error *error)
{
    const char *got = hello->parallel_config_hash;
    if (topology_lockstep(l->process.topology) &&
        (got == NULL || strcmp(got, l->parallel_hash) != 0)) {
        return error_set(error, STATUS_PROTOCOL,
                         "handshake: engine core %u is configured differently (parallel config "
                         "%.40s, want %s)",
                         rank, got != NULL ? got : "not sent", l->parallel_hash);
    }
    return STATUS_OK;
}

static enum status handshake_message(struct launcher *l, const struct socket_message *m,
                                     struct error *error)
{
    if (m->frames_count != 2) {
        return error_set(error, STATUS_PROTOCOL, "handshake: want 2 frames, got %u",
                         m->frames_count);
    }
    uint32_t rank;
    struct wire_hello hello;
    TRY(wire_identity_rank(m->frames[0].data, m->frames[0].bytes, &rank, error));
    TRY(wire_decode_hello(l->decoder, m->frames[1].data, m->frames[1].bytes, &hello, error));
    if (rank >= l->process.topology->engines_count) {
        return error_set(error, STATUS_PROTOCOL, "handshake: unknown engine core %u", rank);
    }
    if (!hello.local || hello.headless) {
        return error_set(error, STATUS_PROTOCOL,
                         "handshake: engine core %u says it is not of this launcher", rank);
    }
    if (hello.status == WIRE_HELLO && l->engine_states[rank] == ENGINE_NEW) {
        l->engine_states[rank] = ENGINE_CONNECTED;
        if (l->inits_sent) {
            send_init(l, rank);
        }
        return STATUS_OK;
    }
    if (hello.status == WIRE_READY && l->engine_states[rank] == ENGINE_CONNECTED) {
        TRY(check_parallel_hash(l, rank, &hello, error));
        l->engine_states[rank] = ENGINE_READY;
        l->ready_count++;
        return STATUS_OK;
    }
    return error_set(error, STATUS_PROTOCOL, "handshake: engine core %u sent %s in state %d", rank,
                     hello.status == WIRE_HELLO ? "HELLO" : "READY", (int)l->engine_states[rank]);
}

static void drain_handshake(struct launcher *l)
{
    struct socket_message m;
    while (socket_receive(l->handshake, &m)) {
        struct error error;
        if (handshake_message(l, &m, &error) != STATUS_OK) {
            give_up(l, "failed", error.text);
        }
        socket_message_free(&m);
    }
}

static void on_handshake(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    drain_handshake(poll->data);
}

static enum status open_handshake(struct launcher *l, struct error *error)
{
    char address[128];
    void *context = zmq_ctx_new();
    ASSERT(context != NULL);
    struct socket_options options = {
        .type = ZMQ_ROUTER, .bind = true, .linger_ms = LINGER_STATS_MS};
    process_address(&l->process, "handshake", 0, address);
    TRY(wire_decoder_create(&l->decoder, error));
    TRY(socket_open(context, &options, address, &l->handshake, error));
    int fd;
    size_t bytes = sizeof fd;
    int rc = zmq_getsockopt(l->handshake, ZMQ_FD, &fd, &bytes);
    ASSERT(rc == 0);
    (void)uv_poll_init(&l->loop, &l->handshake_poll, fd);
    l->handshake_poll.data = l;
    (void)uv_poll_start(&l->handshake_poll, UV_READABLE, on_handshake);
    return STATUS_OK;
}

/* Once all are ready nobody has anything to say there any more. */
static void close_handshake(struct launcher *l)
{
    char address[128];
    (void)uv_poll_stop(&l->handshake_poll);
    (void)zmq_close(l->handshake);
    l->handshake = NULL;
    process_address(&l->process, "handshake", 0, address);
    (void)unlink(address + strlen("ipc://")); /* libzmq leaves it */
}

/* ---- children ---- */

static void take_addresses(struct launcher *l, const struct spawn *child, const char *text)
{
    if (child == &l->coordinator) {
        if (sscanf(text, "%255s %255s %255s", l->front, l->counts, l->back) != 3) {
            give_up(l, "failed", "the coordinator reported no addresses");
        }
        return;
    }
    uint32_t i = child->index;
    if (sscanf(text, "%255s %255s", l->inputs[i], l->outputs[i]) != 2) {
        give_up(l, "failed", "an API server reported no addresses");
        return;
    }
    l->addressed_count++;
    send_inits_when_known(l);
}

static void on_line(struct spawn *child, const char *line)
{
    struct launcher *l = child->owner;
    if (strncmp(line, "addresses ", 10) == 0) {
        take_addresses(l, child, line + 10);
    } else if (strcmp(line, "ready") == 0) {
        l->serving_count++;
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
    (void)snprintf(text, sizeof text, "%s (pid %d) %s", child->name, (int)child->pid, how);
    give_up(l, "died", text);
}

/* What engine cores share besides the ledger. */
static enum status create_shared(struct launcher *l, struct error *error)
{
    const struct topology *t = l->process.topology;
    if (topology_lockstep(t)) {
        struct collective_options step = {
            .name = "step", .ranks_count = t->engines_count, .wait = t->wait};
        struct collective_options finish = {
            .name = "finish check", .ranks_count = t->engines_count, .wait = t->wait};
        TRY(collective_create(&step, &l->step, error));
        TRY(collective_create(&finish, &l->finish, error));
        process_parallel_hash(t, l->parallel_hash);
    }
    if (t->gpu_sharing == (uint32_t)GPU_OWN) {
        return STATUS_OK;
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
    TRY(spawn_start(&l->loop, child, options, error));
    l->live_count++;
    return STATUS_OK;
}

static enum status start_engine(struct launcher *l, uint32_t rank, struct error *error)
{
    const struct topology *t = l->process.topology;
    bool lockstep = topology_lockstep(t);
    int fds[PROCESS_FDS_END - COLLECTIVE_STEP_FD] = {lockstep ? l->step.fd : -1,
                                                     lockstep ? l->finish.fd : -1};
    uint32_t fds_count = GPU_FD - COLLECTIVE_STEP_FD;
    for (uint32_t i = 0; l->gpus != NULL && i < t->tp * t->pp; i++) {
        fds[fds_count++] = l->gpus[topology_gpu_of(t, rank, i)].fd;
    }
    struct spawn_options options = {
        .role = "engine_core", .index = rank, .listen_fd = -1, .fds = fds, .fds_count = fds_count};
    return start_child(l, &l->engines[rank], &options, error);
}

static enum status start_api_server(struct launcher *l, uint32_t index, struct error *error)
{
    struct spawn_options options = {
        .role = "api_server", .index = index, .listen_fd = l->listen_fd};
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
    if (l->process.topology->engines_count < 2) {
        return STATUS_OK;
    }
    struct spawn_options options = {.role = "coordinator", .listen_fd = -1};
    TRY(start_child(l, &l->coordinator, &options, error));
    set_deadline(l, COORDINATOR_DEADLINE_MS);
    while (l->front[0] == '\0' && !l->stopping && !l->expired) {
        (void)uv_run(&l->loop, UV_RUN_ONCE);
    }
    if (l->expired) {
        return error_set(error, STATUS_TIMEOUT, "the coordinator reported no address in 120 s");
    }
    return STATUS_OK;
}

static bool all_ready(const struct launcher *l)
{
    const struct topology *t = l->process.topology;
    return l->ready_count == t->engines_count && l->serving_count == t->api_servers_count;
}

static enum status start_all(struct launcher *l, struct error *error)
{
    const struct topology *t = l->process.topology;
    TRY(bind_http(l, error));
    TRY(create_shared(l, error));
    TRY(start_coordinator(l, error));
    TRY(open_handshake(l, error));
    for (uint32_t i = 0; i < t->engines_count; i++) {
        TRY(start_engine(l, i, error));
    }
    for (uint32_t i = 0; i < t->api_servers_count; i++) {
        TRY(start_api_server(l, i, error));
    }
    set_deadline(l, START_DEADLINE_MS);
    while (!all_ready(l) && !l->stopping && !l->expired) {
        (void)uv_run(&l->loop, UV_RUN_ONCE);
        drain_handshake(l); /* a ZMQ descriptor signals edges: look again after each turn */
    }
    if (l->expired) {
        return error_set(error, STATUS_TIMEOUT,
                         "not ready in 600 s: %u of %u engine cores, %u of %u API servers",
                         l->ready_count, t->engines_count, l->serving_count, t->api_servers_count);
    }
    if (!l->stopping) {
        close_handshake(l);
    }
    return STATUS_OK;
}

static void signal_group(struct spawn *children, uint32_t count, int signal_number)
{
    for (uint32_t i = 0; i < count; i++) {
        if (children[i].live) {
            (void)uv_process_kill(&children[i].process, signal_number);
        }
    }
}

static void signal_all(struct launcher *l, int signal_number)
{
    signal_group(l->api_servers, TOPOLOGY_API_SERVERS_MAX, signal_number);
    signal_group(l->engines, TOPOLOGY_ENGINES_MAX, signal_number);
    signal_group(&l->coordinator, 1, signal_number);
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
    signal_group(l->api_servers, TOPOLOGY_API_SERVERS_MAX, SIGTERM);
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
        char path[ADDRESS_MAX + 128];
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
    pid_t parent = getppid();
    (void)uv_loop_init(&l.loop);
    (void)uv_timer_init(&l.loop, &l.deadline);
    l.deadline.data = &l;
    watch_signals(&l);
    raise_descriptor_limit();
    struct ledger_thread *thread =
        ledger_thread_claim(&l.process.ledger, THREAD_LAUNCHER_MAIN, 0, 0);
    if (start_all(&l, &error) != STATUS_OK) {
        give_up(&l, "failed", error.text);
    }
    if (!l.stopping) {
        (void)uv_timer_stop(&l.deadline);
        process_event("ready %u", l.port);
    }
    while (!l.stopping) {
        process_turn(thread, clock_now_ns());
        (void)uv_run(&l.loop, UV_RUN_ONCE);
    }
    stop_all(&l);
    ledger_thread_end(thread);
    process_event("stopped");
    if (getppid() != parent) {
        remove_sockets(&l);
    }
    return l.failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
