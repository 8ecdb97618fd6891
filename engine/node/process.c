/*
 * process.c - owns what all processes of the serving system have in common: arguments, name, tie to
 * the parent, ledger, lines to the parent. Called first in each main and once a turn of each loop.
 * Must not hold state of its own.
 */
#include "engine/node/process.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/hash.h"
#include "engine/base/time.h"
#include "engine/device/gpu.h"

enum {
    CPU_SAMPLE_NS = 50000000,
    WARNING_GAP_NS = 1000000000,
    WARNING_BYTES = 1024
};

static enum status parse_number(const char *text, long max, long *out, struct error *error)
{
    char *end = NULL;
    errno = 0;
    long value = text != NULL ? strtol(text, &end, 10) : -1;
    if (text == NULL || errno != 0 || end == text || *end != '\0' || value < 0 || value > max) {
        return error_set(error, STATUS_INVALID, "want a number 0..%ld, got '%s'", max,
                         text != NULL ? text : "");
    }
    *out = value;
    return STATUS_OK;
}

static enum status parse_arguments(int argc, char **argv, struct process *p, long *parent,
                                   struct error *error)
{
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--index") == 0) {
            long index = 0;
            TRY(parse_number(value, INT_MAX, &index, error));
            p->index = (int32_t)index;
        } else if (strcmp(argv[i], "--node") == 0) {
            long node = 0;
            TRY(parse_number(value, TOPOLOGY_NODES_MAX - 1, &node, error));
            p->node = (uint32_t)node;
        } else if (strcmp(argv[i], "--parent") == 0) {
            TRY(parse_number(value, INT_MAX, parent, error));
        } else {
            return error_set(error, STATUS_INVALID, "unknown argument '%s'", argv[i]);
        }
    }
    return STATUS_OK;
}

/* The signal is only sent for deaths after this call, hence the look at the parent afterwards. */
static void die_with_parent(long parent)
{
    (void)prctl(PR_SET_PDEATHSIG, (unsigned long)SIGKILL, 0UL, 0UL, 0UL);
    if (parent > 0 && getppid() != (pid_t)parent) {
        _exit(EXIT_FAILURE);
    }
}

enum status process_take_node(struct process *p, uint32_t node, struct error *error)
{
    uint32_t count = p->topology->nodes_count > 0 ? p->topology->nodes_count : 1;
    if (node >= count || count > TOPOLOGY_NODES_MAX) {
        return error_set(error, STATUS_INVALID, "node %u: the topology has %u", node, count);
    }
    p->node = node;
    p->own = topology_node(p->topology, node);
    if (p->own.engines_first + p->own.engines_count > p->topology->engines_count ||
        p->own.api_servers_first + p->own.api_servers_count > p->topology->api_servers_count) {
        return error_set(error, STATUS_INVALID,
                         "node %u: starts more than the topology's %u engine cores and %u API "
                         "servers",
                         node, p->topology->engines_count, p->topology->api_servers_count);
    }
    return STATUS_OK;
}

enum status process_begin(int argc, char **argv, const char *name_format, struct process *out)
{
    struct error error;
    struct process p = {.index = PROCESS_INDEX_NONE};
    long parent = 0;
    enum status status = parse_arguments(argc, argv, &p, &parent, &error);
    if (status != STATUS_OK) {
        (void)process_fail(&error);
        return status;
    }
    die_with_parent(parent);
    char name[32];
    const char *mark = strstr(name_format, "%d");
    int prefix = mark != NULL ? (int)(mark - name_format) : (int)strlen(name_format);
    if (mark != NULL) {
        (void)snprintf(name, sizeof name, "%.*s%d", prefix, name_format, (int)p.index);
    } else {
        (void)snprintf(name, sizeof name, "%.*s", prefix, name_format);
    }
    (void)prctl(PR_SET_NAME, (unsigned long)(uintptr_t)name, 0UL, 0UL, 0UL);
    (void)signal(SIGPIPE, SIG_IGN);
    clock_precise_sleeps();
    status = ledger_open(LEDGER_FD, &p.ledger, &error);
    if (status != STATUS_OK) {
        (void)process_fail(&error);
        return status;
    }
    p.topology = p.ledger.topology;
    status = process_take_node(&p, p.node, &error);
    if (status != STATUS_OK) {
        (void)process_fail(&error);
        return status;
    }
    *out = p;
    return STATUS_OK;
}

enum status process_pin(const struct topology *t, enum topology_pin pin, struct error *error)
{
    const struct topology_cpus *cpus = &t->pins[pin];
    char list[128];
    cpu_set_t set;
    if (topology_cpus_count(cpus) == 0) {
        return STATUS_OK;
    }
    CPU_ZERO(&set);
    for (uint32_t cpu = 0; cpu < TOPOLOGY_CPUS_MAX; cpu++) {
        if (topology_cpus_has(cpus, cpu)) {
            CPU_SET(cpu, &set);
        }
    }
    if (sched_setaffinity(0, sizeof set, &set) != 0) {
        topology_cpus_text(cpus, list, sizeof list);
        return error_set(error, STATUS_INVALID, "pin: cannot run the %s on CPUs %s: %s",
                         topology_pin_name(pin), list, strerror(errno));
    }
    return STATUS_OK;
}

void process_take_lane(struct process *p, enum ledger_thread_kind kind, uint32_t instance)
{
    const struct event_note note = {.value = {getpid()}};
    p->lane = ledger_lane(&p->ledger, kind, instance);
    process_note(p, EVENT_STARTED, &note);
}

void process_note(const struct process *p, enum event_kind what, const struct event_note *note)
{
    if (p->lane != NULL) {
        ledger_note(p->lane, what, note);
    }
}

static void tape_lost(const struct error *why)
{
    process_event("unrecorded %s", why->text);
}

struct tape *process_tape(const struct process *p, enum tape_kind kind, uint32_t index)
{
    const struct topology *t = p->topology;
    char path[TOPOLOGY_PATH_BYTES + 32];
    struct tape *tape = NULL;
    struct error error;
    if (t->record_dir[0] == '\0') {
        return NULL;
    }
    (void)snprintf(path, sizeof path, "%s/%s-%u.rec", t->record_dir, tape_kind_name(kind), index);
    struct tape_options options = {
        .path = path,
        .owner = {.kind = (uint32_t)kind, .index = index, .revision = t->revision},
        .lost = tape_lost};
    if (tape_create(&options, &tape, &error) != STATUS_OK) {
        tape_lost(&error);
    }
    return tape;
}

void process_event(const char *fmt, ...)
{
    char line[PIPE_BUF];
    va_list args;
    va_start(args, fmt);
    int bytes = vsnprintf(line, sizeof line - 1, fmt, args);
    va_end(args);
    if (bytes < 0) {
        return;
    }
    size_t used = (size_t)bytes < sizeof line - 1 ? (size_t)bytes : sizeof line - 2;
    for (size_t i = 0; i < used; i++) {
        if (line[i] == '\n') {
            line[i] = ' ';
        }
    }
    line[used] = '\n';
    /* At most PIPE_BUF bytes: the write is whole or not at all. The parent may be gone; then nobody
     * needs the line. */
    if (write(EVENT_FD, line, used + 1) < 0) {
        return;
    }
}

void process_warning(const char *fmt, ...)
{
    static _Atomic int64_t last_ns;
    static _Atomic uint32_t held_back;
    int64_t now = clock_now_ns();
    int64_t last = atomic_load(&last_ns);
    if (now - last < WARNING_GAP_NS || !atomic_compare_exchange_strong(&last_ns, &last, now)) {
        (void)atomic_fetch_add(&held_back, 1);
        return;
    }
    char text[WARNING_BYTES];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    uint32_t others = atomic_exchange(&held_back, 0);
    if (others > 0) {
        process_event("warning %s (and %u more since the last warning)", text, others);
    } else {
        process_event("warning %s", text);
    }
}

int process_fail(const struct error *error)
{
    process_event("failed %s", error->text);
    (void)fprintf(stderr, "%s\n", error->text);
    return EXIT_FAILURE;
}

time_ps process_run_time(const struct process *p, int64_t monotonic_ns)
{
    return ps_from_ns(monotonic_ns - ledger_epoch_ns(&p->ledger));
}

time_ps process_now(const struct process *p)
{
    return process_run_time(p, clock_now_ns());
}

void process_turn(struct ledger_thread *thread, int64_t now_ns)
{
    uint64_t waited = ledger_get(&thread->idle_ns) + ledger_get(&thread->sync_wait_ns) +
                      ledger_get(&thread->queue_full_ns);
    uint64_t lived = (uint64_t)now_ns - ledger_get(&thread->started_ns);
    ledger_set(&thread->busy_ns, lived > waited ? lived - waited : 0);
    if (ledger_get(&thread->prepare_ns) > 0) { /* it launches */
        gpu_thread_turn(thread, now_ns);
    }
    ledger_add(&thread->turns_count, 1);
    int64_t sampled = (int64_t)ledger_get(&thread->beat_ns);
    if (now_ns / CPU_SAMPLE_NS != sampled / CPU_SAMPLE_NS) {
        ledger_set(&thread->cpu_ns, (uint64_t)clock_thread_cpu_ns());
    }
    ledger_set(&thread->beat_ns, (uint64_t)now_ns);
}

void process_started(struct ledger_thread *thread)
{
    ledger_set(&thread->started_ns, (uint64_t)clock_now_ns());
    ledger_set(&thread->idle_ns, 0);
    ledger_set(&thread->sync_wait_ns, 0);
}

void process_parallel_hash(const struct topology *t, char out[PARALLEL_HASH_BYTES])
{
    char text[512];
    int bytes = snprintf(text, sizeof text, "%s|%u %u %u|%u %u %u|%u %u|%u %u %u", t->model,
                         t->engines_count, t->tp, t->pp, t->finish_check_steps,
                         t->finish_check_first, t->dummy_eager, t->launch, t->async_depth,
                         t->max_num_seqs, t->max_num_batched_tokens, t->block_tokens);
    ASSERT(bytes > 0 && (size_t)bytes < sizeof text);
    (void)snprintf(out, PARALLEL_HASH_BYTES, "%016llx",
                   (unsigned long long)hash64(text, (size_t)bytes, 0));
}

const char *process_host(const struct process *p, uint32_t index)
{
    const struct topology *t = p->topology;
    bool own = t->nodes_count > 0 && t->nodes[index].host[0] != '\0';
    return own ? t->nodes[index].host : t->listen_host;
}

void process_head_address(const struct process *p, uint32_t port, char out[128])
{
    (void)snprintf(out, 128, "tcp://%s:%u", process_host(p, 0), port);
}

bool process_joins(const struct process *p)
{
    return p->node > 0 && topology_spans_nodes(p->topology);
}

bool process_has_engine(const struct process *p, uint32_t rank)
{
    return rank >= p->own.engines_first && rank - p->own.engines_first < p->own.engines_count;
}

bool process_serves_own_only(const struct process *p)
{
    return p->topology->nodes_count > 1 && p->topology->balancing != (uint32_t)BALANCING_INTERNAL;
}

uint32_t process_group_first(const struct process *p)
{
    return topology_spans_nodes(p->topology) ? 0 : p->own.engines_first;
}

void process_address(const struct process *p, const char *name, uint32_t index, char out[128])
{
    (void)snprintf(out, 128, "ipc://%s/%s%u", p->topology->socket_dir, name, index);
}
