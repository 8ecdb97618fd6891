/*
 * sim_check.c - `harness sim --check`: the fault search. Many seeds of sim/protocol_driver.h, each
 * a random topology with a plan of faults, in worker processes, so that an assertion that ends one
 * is a finding and not the end of the search. The lowest seed that fails is made smaller
 * (sim/protocol_shrink.h) and printed as one line that runs it alone.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "harness/cli/cli.h"
#include "sim/protocol_shrink.h"

enum {
    OPTION_CHECK = CLI_OPTION_OWN,
    OPTION_SEEDS,
    OPTION_FIRST,
    OPTION_SEED,
    OPTION_PLAN,
    WORKERS_MAX = 256,
    CHUNK_SEEDS = 64,
    SEED_SECONDS_MAX = 60, /* a seed takes a millisecond: one that takes this long hangs */
    SHRINK_RUNS_MAX = 2000,
    POLL_MS = 200,
};

static const uint64_t seeds_max = 1000000000000000;

static const char help_text[] =
    "  --check        search for faults of the protocol: random topologies of the production\n"
    "                 engine cores, front ends and coordinator, with random plans of faults\n"
    "  --seeds N      how many (default 100,000)\n"
    "  --first S      from this one on (default 0)\n"
    "  -j N           worker processes (default 1)\n"
    "  --seed S       only this one, with its event log\n"
    "  --plan PLAN    with this plan of faults instead of the seed's own; needs --seed.\n"
    "                 \"none\", or clauses separated by semicolons, times in ms:\n"
    "                   delay PROCESS to PROCESS by MS [at MS] [for MS]\n"
    "                   reorder by MS [at MS] [for MS]       pause PROCESS [at MS] for MS\n"
    "                   slow rank N xFACTOR [at MS] [for MS] crash PROCESS [at MS]\n"
    "                   rejoin rank N [at MS]                rejoin api N [at MS] for MS\n"
    "                 PROCESS: rank N, api N, coordinator, launcher; and less of the seed:\n"
    "                   ranks N  apis N  requests N,N,...  end at MS\n"
    "                   without cancels|aborts|pauses|stalls|bad-start\n"
    "  Exit status: 0 nothing found, 1 an invariant broke. docs/planted-bugs.md lists them.\n";

struct check {
    uint64_t seeds_count;
    uint64_t first;
    uint64_t seed;
    unsigned long jobs;
    bool single;
    bool has_plan;
    struct protocol_plan plan;
};

/* What a worker tells, in memory that is shared. */
struct worker {
    pid_t pid;
    uint64_t seed; /* that it runs */
    bool failed;   /* that one did */
    uint64_t done_count;
    uint64_t events_count;
    uint64_t faults_count[PROTOCOL_FAULT_KINDS];
    char text[500];
};

struct pool {
    _Atomic uint64_t next;
    _Atomic uint64_t end; /* no seed from here on need be run */
    struct worker workers[WORKERS_MAX];
    struct protocol_report report; /* of a single run */
    enum status status;
    struct error error;
};

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    stopped = number;
}

static double seconds(void)
{
    return (double)clock_now_ns() / 1e9;
}

/* No seed from this one on need be run. */
static void lower_end(struct pool *pool, uint64_t seed)
{
    uint64_t end = atomic_load(&pool->end);
    while (seed < end && !atomic_compare_exchange_weak(&pool->end, &end, seed)) {
    }
}

/* ---- arguments ---- */

static bool take_number(const char *text, uint64_t low, uint64_t high, uint64_t *out)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || value < low || value > high) {
        return false;
    }
    *out = value;
    return true;
}

static int take_option(struct check *check, int option, const char *name)
{
    uint64_t *out = option == OPTION_SEEDS ? &check->seeds_count : &check->first;
    struct error error;
    switch (option) {
    case OPTION_CHECK:
        return EXIT_PASS;
    case OPTION_PLAN:
        check->has_plan = true;
        if (protocol_plan_parse(optarg, &check->plan, &error) != STATUS_OK) {
            return cli_usage_error("sim --check", error.text);
        }
        return EXIT_PASS;
    case 'j':
        if (!take_number(optarg, 1, WORKERS_MAX, &check->jobs)) {
            return cli_value_error("sim --check", "jobs", "1 to 256", optarg);
        }
        return EXIT_PASS;
    case OPTION_SEED:
        check->single = true;
        out = &check->seed;
        break;
    default:
        break;
    }
    if (!take_number(optarg, option == OPTION_SEEDS, seeds_max, out)) {
        return cli_value_error("sim --check", name, "a whole number, at most 10^15", optarg);
    }
    return EXIT_PASS;
}

static int parse(struct check *check, int argc, char **argv, bool *done)
{
    static const struct option options[] = {
        {"check", no_argument, NULL, OPTION_CHECK},
        {"seeds", required_argument, NULL, OPTION_SEEDS},
        {"first", required_argument, NULL, OPTION_FIRST},
        {"seed", required_argument, NULL, OPTION_SEED},
        {"plan", required_argument, NULL, OPTION_PLAN},
        {"jobs", required_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *name = NULL;
    int option = 0;
    while ((option = cli_option(argc, argv, "hj:", options, &name)) != -1) {
        if (option == 'h') {
            cli_help(stdout, "sim", help_text);
            *done = true;
            return EXIT_PASS;
        }
        int status = option == '?' ? EXIT_USAGE : take_option(check, option, name);
        if (status != EXIT_PASS) {
            return status;
        }
    }
    if (optind < argc) {
        return cli_usage_error("sim --check", "takes no file");
    }
    if (check->has_plan && !check->single) {
        return cli_usage_error("sim --check", "--plan is for one seed: add --seed S");
    }
    return EXIT_PASS;
}

/* ---- one run in a process of its own ---- */

/* False if no process can be started. What ended it, if it did not end by itself, is a failure. */
static bool run_apart(struct pool *pool, uint64_t seed, const struct protocol_plan *plan)
{
    pid_t pid = fork();
    if (pid < 0) {
        return false;
    }
    if (pid == 0) {
        (void)alarm(SEED_SECONDS_MAX);
        pool->status = protocol_driver_replay(seed, plan, &pool->report, &pool->error);
        _exit(0);
    }
    int how = 0;
    while (waitpid(pid, &how, 0) < 0 && errno == EINTR) {
    }
    if (!WIFEXITED(how) || WEXITSTATUS(how) != 0) {
        pool->status = STATUS_PROTOCOL;
        (void)snprintf(pool->report.invariant, sizeof pool->report.invariant, "crash");
        (void)snprintf(
            pool->error.text, sizeof pool->error.text, "seed %lu: %s", (unsigned long)seed,
            WIFSIGNALED(how) && WTERMSIG(how) == SIGALRM ? "it does not end" : "the process died");
    }
    return true;
}

/* ---- shrinking ---- */

struct shrink_user {
    struct pool *pool;
    uint64_t seed;
    char invariant[16];
};

static bool fails(void *user, const struct protocol_plan *plan)
{
    struct shrink_user *u = user;
    return stopped == 0 && run_apart(u->pool, u->seed, plan) &&
           u->pool->status == STATUS_PROTOCOL &&
           strcmp(u->pool->report.invariant, u->invariant) == 0;
}

/* A failing seed's plan as small as it gets, and how to run it. */
static void tell_failure(struct pool *pool, uint64_t seed)
{
    static struct protocol_report failed;
    struct shrink_user user = {.pool = pool, .seed = seed};
    struct protocol_shrink shrink = {.fails = fails, .user = &user, .runs_max = SHRINK_RUNS_MAX};
    char text[PROTOCOL_PLAN_BYTES];
    if (!run_apart(pool, seed, NULL) || pool->status == STATUS_OK) {
        (void)printf("not repeated: harness sim --check --seed %lu\n", (unsigned long)seed);
        return;
    }
    failed = pool->report;
    (void)snprintf(user.invariant, sizeof user.invariant, "%s", failed.invariant);
    struct protocol_plan plan = failed.plan;
    (void)fprintf(stderr, "making it smaller ...\n");
    protocol_shrink(&shrink, &failed, &plan);
    protocol_plan_write(&failed.plan, text);
    (void)printf("the seed's plan: %s\n", text);
    protocol_plan_write(&plan, text);
    if (run_apart(pool, seed, &plan)) {
        (void)printf("smallest after %u runs: %s\n", shrink.runs_count, pool->error.text);
    }
    (void)printf("reproduce: harness sim --check --seed %lu --plan \"%s\"\n", (unsigned long)seed,
                 text);
}

/* ---- the search ---- */

static void run_seed(struct pool *pool, struct worker *w, uint64_t seed,
                     struct protocol_report *report)
{
    struct error error;
    w->seed = seed;
    (void)alarm(SEED_SECONDS_MAX);
    if (protocol_driver_run(seed, report, &error) == STATUS_OK) {
        w->done_count++;
        w->events_count += report->events_count;
        for (uint32_t k = 0; k < PROTOCOL_FAULT_KINDS; k++) {
            w->faults_count[k] += report->faults_count[k];
        }
        return;
    }
    w->failed = true;
    (void)snprintf(w->text, sizeof w->text, "%s", error.text);
    lower_end(pool, seed);
}

_Noreturn static void work(const struct check *check, struct pool *pool, struct worker *w)
{
    static struct protocol_report report;
    uint64_t end = check->first + check->seeds_count;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGTERM, SIG_DFL);
    while (!w->failed) {
        uint64_t first = atomic_fetch_add(&pool->next, CHUNK_SEEDS);
        if (first >= atomic_load(&pool->end)) {
            break;
        }
        uint64_t last = first + CHUNK_SEEDS < end ? first + CHUNK_SEEDS : end;
        for (uint64_t seed = first; seed < last && !w->failed && seed < atomic_load(&pool->end);
             seed++) {
            run_seed(pool, w, seed, &report);
        }
    }
    _exit(0);
}

static uint64_t done_count(const struct check *check, const struct pool *pool)
{
    uint64_t done = 0;
    for (unsigned long i = 0; i < check->jobs; i++) {
        done += pool->workers[i].done_count;
    }
    return done;
}

static void show_progress(const struct check *check, const struct pool *pool, double begin)
{
    uint64_t done = done_count(check, pool);
    double elapsed = seconds() - begin;
    double rate = (double)done / elapsed;
    double left = rate > 0 ? (double)(check->seeds_count - done) / rate : 0;
    (void)fprintf(stderr, "%s%lu of %lu seeds, %.0f a second, %.0f s left   %s",
                  isatty(STDERR_FILENO) ? "\r" : "", (unsigned long)done,
                  (unsigned long)check->seeds_count, rate, left, isatty(STDERR_FILENO) ? "" : "\n");
}

/* A worker that died took its seed with it. */
static void note_death(struct pool *pool, struct worker *w, int how)
{
    if (WIFEXITED(how) && WEXITSTATUS(how) == 0) {
        return;
    }
    w->failed = true;
    (void)snprintf(w->text, sizeof w->text, "seed %lu, crash: %s", (unsigned long)w->seed,
                   WIFSIGNALED(how) && WTERMSIG(how) == SIGALRM ? "it does not end"
                                                                : "the process died");
    lower_end(pool, w->seed);
}

/* Until all workers have ended. */
static void watch(const struct check *check, struct pool *pool, unsigned long started)
{
    const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
    double begin = seconds();
    double shown = begin;
    double period = isatty(STDERR_FILENO) ? 0.5 : 10.0;
    while (started > 0) {
        int how = 0;
        pid_t pid = waitpid(-1, &how, WNOHANG);
        if (pid < 0 && errno == ECHILD) {
            break;
        }
        for (unsigned long i = 0; pid > 0 && i < check->jobs; i++) {
            if (pool->workers[i].pid == pid) {
                note_death(pool, &pool->workers[i], how);
                started--;
            }
        }
        if (stopped != 0) {
            lower_end(pool, 0);
        }
        if (pid <= 0) {
            (void)nanosleep(&pause, NULL);
        }
        if (seconds() - shown >= period) {
            show_progress(check, pool, begin);
            shown = seconds();
        }
    }
    show_progress(check, pool, begin);
    (void)fprintf(stderr, isatty(STDERR_FILENO) ? "\n" : "");
}

static void tell_counts(const struct check *check, const struct pool *pool)
{
    uint64_t events = 0;
    uint64_t faults[PROTOCOL_FAULT_KINDS] = {0};
    for (unsigned long i = 0; i < check->jobs; i++) {
        events += pool->workers[i].events_count;
        for (uint32_t k = 0; k < PROTOCOL_FAULT_KINDS; k++) {
            faults[k] += pool->workers[i].faults_count[k];
        }
    }
    (void)printf("%lu seeds hold: %lu events;", (unsigned long)done_count(check, pool),
                 (unsigned long)events);
    for (uint32_t k = 0; k < PROTOCOL_FAULT_KINDS; k++) {
        (void)printf(" %s %lu%s", protocol_fault_name((enum protocol_fault_kind)k),
                     (unsigned long)faults[k], k + 1 < PROTOCOL_FAULT_KINDS ? "," : "\n");
    }
}

static const struct worker *lowest_failure(const struct check *check, const struct pool *pool)
{
    const struct worker *lowest = NULL;
    for (unsigned long i = 0; i < check->jobs; i++) {
        const struct worker *w = &pool->workers[i];
        if (w->failed && (lowest == NULL || w->seed < lowest->seed)) {
            lowest = w;
        }
    }
    return lowest;
}

static int search(const struct check *check, struct pool *pool)
{
    unsigned long started = 0;
    atomic_store(&pool->next, check->first);
    atomic_store(&pool->end, check->first + check->seeds_count);
    for (; started < check->jobs; started++) {
        struct worker *w = &pool->workers[started];
        pid_t pid = fork();
        if (pid == 0) {
            work(check, pool, w);
        }
        if (pid < 0) {
            (void)fprintf(stderr, "harness sim --check: worker %lu: %s\n", started,
                          strerror(errno)); // NOLINT(concurrency-mt-unsafe): one thread
            break;
        }
        w->pid = pid; /* the memory is shared: the worker must not write its 0 */
    }
    watch(check, pool, started);
    if (started == 0) {
        return EXIT_SERVER;
    }
    tell_counts(check, pool);
    const struct worker *failure = lowest_failure(check, pool);
    if (failure != NULL) {
        (void)printf("%s\n", failure->text);
        (void)fflush(stdout);
        tell_failure(pool, failure->seed);
        return EXIT_REGRESSION;
    }
    return stopped == SIGINT ? EXIT_INTERRUPTED : stopped != 0 ? EXIT_TERMINATED : EXIT_PASS;
}

static int replay(const struct check *check, struct pool *pool)
{
    if (!run_apart(pool, check->seed, check->has_plan ? &check->plan : NULL)) {
        (void)fprintf(stderr, "harness sim --check: no process can be started\n");
        return EXIT_SERVER;
    }
    if (pool->status == STATUS_INVALID) {
        return cli_usage_error("sim --check", pool->error.text);
    }
    (void)fputs(pool->report.trace, stdout);
    if (pool->status != STATUS_OK) {
        (void)printf("%s\n", pool->error.text);
        return EXIT_REGRESSION;
    }
    (void)printf("seed %lu holds: %lu events, %lu requests\n", (unsigned long)check->seed,
                 (unsigned long)pool->report.events_count,
                 (unsigned long)pool->report.requests_count);
    return EXIT_PASS;
}

int cli_sim_check(int argc, char **argv)
{
    struct check check = {.seeds_count = 100000, .jobs = 1};
    bool done = false;
    int status = parse(&check, argc, argv, &done);
    if (status != EXIT_PASS || done) {
        return status;
    }
    struct sigaction action = {.sa_handler = on_signal};
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    struct pool *pool =
        mmap(NULL, sizeof *pool, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (pool == MAP_FAILED) {
        (void)fprintf(stderr, "harness sim --check: out of memory\n");
        return EXIT_SERVER;
    }
    status = check.single ? replay(&check, pool) : search(&check, pool);
    (void)munmap(pool, sizeof *pool);
    return status;
}
