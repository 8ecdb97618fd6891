/*
 * Servers of others, seen from /proc, against processes that the test starts under names of its
 * own: what they say themselves of their CPU time, who spins, who ends, and who is whose child.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "harness/probe/foreign.h"

enum {
    WORKERS_MAX = 8,
    LOOK_NS = 600000000,
};

/* How a child spends its time. */
enum habit {
    SLEEPS, /* until `load` is set, then always works */
    SPINS,
    SELDOM, /* works 5 ms, sleeps 60 ms */
};

struct child {
    _Atomic int64_t cpu_ns; /* as it says itself */
    _Atomic int32_t pid;
    _Atomic int32_t sleeps_count;
};

struct shared {
    _Atomic uint32_t load;
    _Atomic uint32_t port;
    struct child of[WORKERS_MAX];
};

static struct shared *shared;
static int32_t test_pid; /* in all names: the test may run twice at the same time */

static void note_cpu(struct child *c)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    atomic_store(&c->cpu_ns, (int64_t)t.tv_sec * 1000000000 + t.tv_nsec);
}

static void burn(struct child *c, int64_t ns)
{
    int64_t until_ns = clock_now_ns() + ns;
    while (clock_now_ns() < until_ns) {
        note_cpu(c);
    }
}

/* Dies with whoever started it. */
static void begin_child(uint32_t index, const char *name)
{
    char own[16];
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)snprintf(own, sizeof own, "%d_%.6s", test_pid, name);
    (void)prctl(PR_SET_NAME, own);
    atomic_store(&shared->of[index].pid, getpid());
}

static _Noreturn void live(uint32_t index, const char *name, enum habit habit)
{
    struct child *c = &shared->of[index];
    begin_child(index, name);
    for (;;) {
        if (habit != SLEEPS || atomic_load(&shared->load) != 0) {
            burn(c, 5000000);
        }
        if (habit != SPINS && (habit == SELDOM || atomic_load(&shared->load) == 0)) {
            atomic_fetch_add(&c->sleeps_count, 1);
            clock_sleep_until_ns(clock_now_ns() + (habit == SELDOM ? 60000000 : 15000000));
        }
    }
}

static pid_t start(uint32_t index, const char *name, enum habit habit)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        live(index, name, habit);
    }
    return pid;
}

static void wait_for(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        while (atomic_load(&shared->of[i].pid) == 0) {
            clock_sleep_until_ns(clock_now_ns() + 1000000);
        }
    }
}

static struct foreign_pattern pattern(const char *text)
{
    struct foreign_pattern p;
    char own[64];
    (void)snprintf(own, sizeof own, "%d_%s", test_pid, text);
    assert_true(foreign_pattern_parse(own, &p));
    return p;
}

static void end(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
}

static struct foreign_look look(const struct foreign_system *s)
{
    struct foreign_look l;
    struct error error;
    assert_int_equal(foreign_look(s, &l, &error), STATUS_OK);
    return l;
}

static int set_up(void **state)
{
    (void)state;
    test_pid = getpid();
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return shared == MAP_FAILED ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    return munmap(shared, sizeof *shared);
}

static void patterns_are_cut_at_the_last_equals(void **state)
{
    (void)state;
    struct foreign_pattern p;
    struct foreign_pattern known[FOREIGN_PATTERNS_MAX];
    char text[200];
    assert_true(foreign_pattern_parse("VLLM::APIServer*=api_server", &p));
    assert_string_equal(p.title, "VLLM::APIServer*");
    assert_string_equal(p.stage, "api_server");
    assert_true(foreign_pattern_parse("run --a=1=x", &p));
    assert_string_equal(p.title, "run --a=1");
    assert_false(foreign_pattern_parse("api_server", &p));
    assert_false(foreign_pattern_parse("=api_server", &p));
    assert_false(foreign_pattern_parse("a=", &p));
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    text[150] = '=';
    assert_false(foreign_pattern_parse(text, &p));
    assert_int_equal(foreign_patterns_known(known), 8);
    assert_string_equal(known[0].stage, "api_server");
}

/* Three processes of two kinds, and the four looks at them: half before the load. */
struct measured {
    pid_t pids[3];
    int64_t own_ns[3]; /* CPU time and sleeps in the window, as they say themselves */
    int32_t own_sleeps_count[3];
    struct foreign_pattern patterns[3];
    struct foreign_system system;
    struct foreign_look idle_from;
    struct foreign_look idle_to;
    struct foreign_look from;
    struct foreign_look to;
};

static void measure(struct measured *m)
{
    struct error error;
    m->pids[0] = start(0, "api_0", SLEEPS);
    m->pids[1] = start(1, "eng_0", SELDOM);
    m->pids[2] = start(2, "eng_1", SPINS);
    wait_for(3);
    m->patterns[0] = pattern("api_*=api_server");
    m->patterns[1] = pattern("eng_1=spinner");
    m->patterns[2] = pattern("eng_*=engine_core");
    assert_int_equal(foreign_by_title(m->patterns, 3, &m->system, &error), STATUS_OK);
    assert_int_equal(m->system.processes_count, 3);
    assert_false(m->system.by_order);

    m->idle_from = look(&m->system);
    clock_sleep_until_ns(clock_now_ns() + LOOK_NS);
    m->idle_to = look(&m->system);
    atomic_store(&shared->load, 1);
    m->from = look(&m->system);
    for (int i = 0; i < 3; i++) {
        m->own_ns[i] = atomic_load(&shared->of[i].cpu_ns);
        m->own_sleeps_count[i] = atomic_load(&shared->of[i].sleeps_count);
    }
    clock_sleep_until_ns(clock_now_ns() + LOOK_NS);
    m->to = look(&m->system);
    for (int i = 0; i < 3; i++) {
        m->own_ns[i] = atomic_load(&shared->of[i].cpu_ns) - m->own_ns[i];
        m->own_sleeps_count[i] = atomic_load(&shared->of[i].sleeps_count) - m->own_sleeps_count[i];
    }
}

static void free_looks(struct measured *m)
{
    foreign_look_free(&m->idle_from);
    foreign_look_free(&m->idle_to);
    foreign_look_free(&m->from);
    foreign_look_free(&m->to);
}

/* CPU time by stage is what the processes say of themselves. */
static void stages_are_found_by_name_and_measured(void **state)
{
    (void)state;
    static const int child_of[] = {0, 2, 1};
    struct measured m;
    struct foreign_stage stages[FOREIGN_STAGES_MAX];
    measure(&m);
    struct foreign_looks looks = {
        .idle_from = &m.idle_from, .idle_to = &m.idle_to, .from = &m.from, .to = &m.to};
    assert_int_equal(foreign_stages(&m.system, &looks, stages), 3);
    double wall_ns = (double)(m.to.at_ns - m.from.at_ns);
    for (int i = 0; i < 3; i++) {
        double cores = (double)m.own_ns[child_of[i]] / wall_ns;
        assert_int_equal(stages[i].processes_count, 1);
        assert_int_equal(stages[i].threads_count, 1);
        assert_int_equal(stages[i].busiest_pid, m.pids[child_of[i]]);
        /* A busy machine may stop this process between a look and the stamps. */
        assert_true(fabs(stages[i].cores - cores) < 0.2 + 0.2 * cores);
        assert_true(fabs(stages[i].use_frac - stages[i].max_frac) < 1e-9);
        double sleeps = m.own_sleeps_count[child_of[i]];
        assert_true(fabs(stages[i].voluntary_per_s * wall_ns / 1e9 - sleeps) <= 5 + 0.4 * sleeps);
    }
    assert_string_equal(stages[0].stage, "api_server");
    assert_non_null(strstr(stages[0].busiest_comm, "_api_0"));
    double pressure = foreign_pressure_frac(&m.from, &m.to);
    assert_true(isnan(pressure) || (pressure >= 0 && pressure < 1.1));

    /* A process that ends is told, and when all have there is nothing to look at. */
    struct error error;
    struct foreign_look none;
    end(m.pids[1]);
    foreign_look_free(&m.to);
    m.to = look(&m.system);
    assert_int_equal(foreign_stages(&m.system, &looks, stages), 3);
    assert_int_equal(stages[2].quality, FOREIGN_ENDED);
    assert_int_equal(stages[2].processes_count, 0);
    assert_int_not_equal(stages[1].quality, FOREIGN_ENDED);
    end(m.pids[0]);
    end(m.pids[2]);
    assert_int_equal(foreign_look(&m.system, &none, &error), STATUS_NOT_FOUND);
    assert_int_equal(foreign_by_title(m.patterns, 3, &m.system, &error), STATUS_NOT_FOUND);
    free_looks(&m);
}

/* Two are always running or waiting to: one of them did so without load, too. */
static void who_spins_is_told_from_who_works(void **state)
{
    (void)state;
    struct measured m;
    struct foreign_stage stages[FOREIGN_STAGES_MAX];
    measure(&m);
    struct foreign_looks looks = {
        .idle_from = &m.idle_from, .idle_to = &m.idle_to, .from = &m.from, .to = &m.to};
    assert_int_equal(foreign_stages(&m.system, &looks, stages), 3);
    for (int i = 0; i < 3; i++) {
        end(m.pids[i]);
    }
    if (!m.to.exact) {
        assert_int_equal(stages[0].quality, FOREIGN_TICKS);
        free_looks(&m);
        return;
    }
    assert_int_equal(stages[0].quality, FOREIGN_GOOD);
    assert_true(stages[0].idle_frac < 0.5);
    assert_int_equal(stages[1].quality, FOREIGN_SPINS);
    assert_int_equal(stages[2].quality, FOREIGN_GOOD);
    assert_true(stages[0].max_frac + stages[0].wait_frac > 0.6);
    assert_true(stages[2].voluntary_per_s > stages[1].voluntary_per_s);
    /* Without looks before the load who never sleeps is suspect. */
    looks.idle_from = looks.idle_to = NULL;
    assert_int_equal(foreign_stages(&m.system, &looks, stages), 3);
    assert_int_equal(stages[0].quality, FOREIGN_SPINS);
    assert_int_equal(stages[2].quality, FOREIGN_GOOD);
    assert_true(isnan(stages[2].idle_frac));
    free_looks(&m);
}

/* A launcher with two API servers, an engine core with its worker, and a coordinator. */
static _Noreturn void live_launcher(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t bytes = sizeof address;
    begin_child(0, "launch");
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, bytes) != 0 || listen(fd, 8) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &bytes) != 0) {
        _exit(1);
    }
    for (uint32_t i = 1; i <= 4; i++) {
        if (fork() != 0) {
            continue;
        }
        if (i >= 3) {
            (void)close(fd);
        }
        if (i == 3 && fork() == 0) {
            live(5, "worker", SLEEPS);
        }
        live(i, "child", SLEEPS);
    }
    atomic_store(&shared->port, ntohs(address.sin_port));
    for (;;) {
        (void)pause();
    }
}

static const char *stage_of(const struct foreign_system *s, uint32_t index)
{
    int32_t pid = atomic_load(&shared->of[index].pid);
    for (size_t i = 0; i < s->processes_count; i++) {
        if (s->processes[i].pid == pid) {
            return s->stages[s->processes[i].stage];
        }
    }
    return "nowhere";
}

static void stages_are_guessed_from_port_and_descent(void **state)
{
    (void)state;
    struct foreign_system s;
    struct error error;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        live_launcher();
    }
    wait_for(6);
    uint32_t port = 0;
    while ((port = atomic_load(&shared->port)) == 0) {
        clock_sleep_until_ns(clock_now_ns() + 1000000);
    }
    assert_int_equal(foreign_by_port(port, NULL, 0, &s, &error), STATUS_OK);
    assert_true(s.by_order);
    assert_int_equal(s.processes_count, 6);
    static const char *const expected[] = {"launcher",    "api_server", "api_server",
                                           "engine_core", "other",      "worker"};
    for (uint32_t i = 0; i < 6; i++) {
        assert_string_equal(stage_of(&s, i), expected[i]);
    }
    /* Names that fit win over the order, and only those of this system are looked at. */
    struct foreign_pattern patterns[2];
    struct foreign_system by_title;
    pid_t stranger = start(6, "worker", SLEEPS);
    wait_for(7);
    patterns[0] = pattern("work*=worker");
    patterns[1] = pattern("launch=top");
    assert_int_equal(foreign_by_port(port, patterns, 2, &by_title, &error), STATUS_OK);
    assert_false(by_title.by_order);
    assert_int_equal(by_title.processes_count, 6);
    assert_string_equal(stage_of(&by_title, 0), "top");
    assert_string_equal(stage_of(&by_title, 1), "other");
    assert_string_equal(stage_of(&by_title, 5), "worker");
    assert_string_equal(stage_of(&by_title, 6), "nowhere");
    /* An API server without a title is who listens, if API servers are looked for. */
    patterns[1] = pattern("nobody=api_server");
    assert_int_equal(foreign_by_port(port, patterns, 2, &by_title, &error), STATUS_OK);
    assert_string_equal(stage_of(&by_title, 0), "other");
    assert_string_equal(stage_of(&by_title, 1), "api_server");
    end(stranger);
    struct foreign_look l = look(&s);
    assert_int_equal(l.processes_count, 6);
    assert_int_equal(l.threads_count, 6);
    foreign_look_free(&l);
    end(pid);
    /* Its children die with it, and with the last of them the port is free. */
    for (int i = 0; i < 1000 && foreign_by_port(port, NULL, 0, &s, &error) == STATUS_OK; i++) {
        clock_sleep_until_ns(clock_now_ns() + 5000000);
    }
    assert_int_equal(foreign_by_port(port, NULL, 0, &s, &error), STATUS_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_are_cut_at_the_last_equals),
        cmocka_unit_test_setup_teardown(stages_are_found_by_name_and_measured, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_spins_is_told_from_who_works, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stages_are_guessed_from_port_and_descent, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
