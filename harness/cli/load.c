/*
 * load.c - `harness load URL [URL ...]`: drives any OpenAI-compatible server, or several that serve
 * the same, with the harness's load client and prints what it saw.
 *
 * Closed loop (--users) or open loop (--rate, --trace). The client is a process of its own, as in
 * `harness run`; a client that could not keep up makes the result invalid (exit status 5) instead
 * of looking like a slow server.
 */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/http/buffer.h"
#include "harness/cli/cli.h"
#include "harness/cli/load_compat.h"
#include "harness/cli/observer.h"
#include "harness/run/address.h"
#include "harness/run/child.h"
#include "harness/run/fetch.h"
#include "harness/run/observe.h"
#include "harness/run/observe_compat.h"
#include "harness/run/server.h"

enum {
    OPTION_USERS = CLI_OPTION_OWN,
    OPTION_RATE,
    OPTION_TRACE,
    OPTION_TIME_SCALE,
    OPTION_REQUESTS,
    OPTION_PROMPT,
    OPTION_OUTPUT,
    OPTION_WARMUP,
    OPTION_MEASURE,
    OPTION_DRAIN,
    OPTION_MODEL,
    OPTION_SEED,
    OPTION_NO_STREAM,
    OPTION_EOS,
    OPTION_WAIT,
    OPTION_OBSERVE,
    OPTION_COMPAT,
    OPTION_THINK,
    OPTION_TURNS,
    TICK_NS = 100000000,
    MAX_LAG_MS = 5,
};

#define MAX_CPU_FRAC 0.70

static const char help_text[] =
    "  Several URLs: connections are divided evenly among them, arrivals go to each in turn.\n"
    "  --users N           closed loop: N users (default 16), each sends its next when its last "
    "one ended\n"
    "  --think S           a user's mean time, exponential, from an answer to its next request\n"
    "  --turns N           users hold sessions of N requests, each prompt an extension of the one "
    "before\n"
    "  --rate R            open loop: R requests a second, Poisson arrivals\n"
    "  --trace FILE        open loop at the times and lengths of a trace (Azure CSV, Mooncake or "
    "requests as\n"
    "                      JSON lines); --time-scale X: X times as fast\n"
    "  --requests N        at most N requests\n"
    "  --prompt N|LO..HI   prompt tokens (default 128)\n"
    "  --output N|LO..HI   output tokens (default 128)\n"
    "  --warmup S --measure S --drain S   seconds (default 2, 10, 10)\n"
    "  --model NAME        default: the first of the server's /v1/models\n"
    "  --wait S            first wait at most S seconds until every server answers (default 0)\n"
    "  --observe auto      look at the server's processes on this machine, too: CPU by stage and\n"
    "                      its /metrics. TITLE=STAGE[,...] instead of auto names them\n"
    "  --compat TOOL[,TOOL]  the same requests as vllm, guidellm, aiperf, mlperf or sglang would\n"
    "                      print them\n"
    "  --seed N, --no-stream, --eos (let the model end early)\n";

/* What the command line asks for. */
struct load_command {
    struct load_options options;
    uint32_t compat_tools; /* bits of enum compat_tool */
    struct observer observer;
    int64_t wait_ns;
};

static volatile sig_atomic_t signal_seen;

static void on_signal(int number)
{
    signal_seen = number;
}

/* ---- arguments ---- */

static bool take_seconds(const char *text, int64_t *out_ns)
{
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || (*end != '\0' && strcmp(end, "s") != 0) || !(value >= 0) || value > 86400) {
        return false;
    }
    *out_ns = (int64_t)(value * 1e9);
    return true;
}

static bool take_count(const char *text, unsigned long long max, unsigned long long *out)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || errno != 0 || *end != '\0' || value > max) {
        return false;
    }
    *out = value;
    return true;
}

static bool take_range(const char *text, struct load_range *out)
{
    char low[32];
    const char *dots = strstr(text, "..");
    size_t bytes = dots != NULL ? (size_t)(dots - text) : strlen(text);
    unsigned long long lo = 0;
    unsigned long long hi = 0;
    if (bytes >= sizeof low) {
        return false;
    }
    memcpy(low, text, bytes);
    low[bytes] = '\0';
    if (!take_count(low, LOAD_TOKENS_MAX, &lo) ||
        !take_count(dots != NULL ? dots + 2 : low, LOAD_TOKENS_MAX, &hi) || lo == 0 || hi < lo) {
        return false;
    }
    *out = (struct load_range){.lo = (uint32_t)lo, .hi = (uint32_t)hi};
    return true;
}

static bool take_positive(const char *text, double *out)
{
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value > 0) || value > 1e9) {
        return false;
    }
    *out = value;
    return true;
}

static bool take_option(struct load_options *o, int option, const char *argument)
{
    unsigned long long number = 0;
    switch (option) {
    case OPTION_USERS:
        o->mode = LOAD_CLOSED;
        if (!take_count(argument, LOAD_CONNECTIONS_MAX, &number)) {
            return false;
        }
        o->users_count = (uint32_t)number;
        return number > 0;
    case OPTION_RATE:
        o->mode = LOAD_OPEN_POISSON;
        return take_positive(argument, &o->rate_per_s);
    case OPTION_TRACE:
        o->mode = LOAD_TRACE;
        o->window_ns = 0;
        (void)snprintf(o->trace_path, sizeof o->trace_path, "%s", argument);
        return strlen(argument) < sizeof o->trace_path;
    case OPTION_THINK:
        return take_seconds(argument, &o->think_mean_ns);
    case OPTION_TURNS:
        if (!take_count(argument, LOAD_TURNS_MAX, &number)) {
            return false;
        }
        o->turns_count = (uint32_t)number;
        return number > 0;
    case OPTION_TIME_SCALE:
        return take_positive(argument, &o->time_scale);
    case OPTION_REQUESTS:
        return take_count(argument, UINT64_MAX / 2, &number) && (o->requests_max = number, true);
    case OPTION_PROMPT:
        return take_range(argument, &o->prompt_tokens);
    case OPTION_OUTPUT:
        return take_range(argument, &o->output_tokens);
    case OPTION_WARMUP:
        return take_seconds(argument, &o->warmup_ns);
    case OPTION_MEASURE:
        return take_seconds(argument, &o->window_ns);
    case OPTION_DRAIN:
        return take_seconds(argument, &o->drain_ns);
    case OPTION_MODEL:
        (void)snprintf(o->model, sizeof o->model, "%s", argument);
        return strlen(argument) < sizeof o->model;
    case OPTION_SEED:
        return take_count(argument, UINT64_MAX - 1, &number) && (o->seed = number, true);
    case OPTION_NO_STREAM:
        o->stream = 0;
        return true;
    case OPTION_EOS:
        o->ignore_eos = 0;
        return true;
    default:
        return false;
    }
}

/* http://HOST:PORT with an optional path, which is ignored. */
static bool take_url(struct load_options *o, const char *url)
{
    struct address address;
    const char *rest = strncmp(url, "http://", 7) == 0 ? url + 7 : url;
    if (o->targets_count == LOAD_TARGETS_MAX || !address_parse(rest, 80, &address)) {
        return false;
    }
    struct load_target *target = &o->targets[o->targets_count++];
    (void)snprintf(target->host, sizeof target->host, "%s", address.host);
    target->port = address.port;
    return true;
}

static const char *wanted(int option)
{
    switch (option) {
    case OPTION_USERS:
        return "a number from 1 to 65536";
    case OPTION_RATE:
        return "requests a second";
    case OPTION_TIME_SCALE:
        return "a factor above 0";
    case OPTION_PROMPT:
    case OPTION_OUTPUT:
        return "tokens as N or LO..HI";
    case OPTION_WARMUP:
    case OPTION_MEASURE:
    case OPTION_DRAIN:
    case OPTION_WAIT:
    case OPTION_THINK:
        return "seconds";
    case OPTION_TURNS:
        return "a number from 1 to 1000";
    case OPTION_REQUESTS:
    case OPTION_SEED:
        return "a number";
    case OPTION_OBSERVE:
        return "auto or TITLE=STAGE[,...]";
    case OPTION_COMPAT:
        return "vllm, guidellm, aiperf, mlperf or sglang";
    default:
        return "a shorter text";
    }
}

/* The client's own messages begin like this command's. */
static const char *without_prefix(const char *text)
{
    return text + (strncmp(text, "load: ", 6) == 0 ? 6 : 0);
}

/* What can be wrong before any server is asked. */
static int check(const struct load_options *o, uint32_t modes_count)
{
    struct error error;
    if (o->targets_count == 0) {
        return cli_usage_error("load", "expected one or more URLs like http://127.0.0.1:8000");
    }
    if (modes_count > 1) {
        return cli_usage_error("load", "--users, --rate and --trace exclude each other");
    }
    if (o->mode == LOAD_TRACE && access(o->trace_path, R_OK) != 0) {
        (void)fprintf(stderr, "harness load: %s: %s\n", o->trace_path, strerror(errno));
        return EXIT_USAGE;
    }
    if (o->window_ns == 0 && o->mode != LOAD_TRACE) {
        return cli_usage_error("load", "--measure wants seconds above 0");
    }
    if (load_options_check(o, &error) != STATUS_OK) {
        return cli_usage_error("load", without_prefix(error.text));
    }
    return EXIT_PASS;
}

static bool take(struct load_command *c, int option, const char *argument)
{
    switch (option) {
    case OPTION_WAIT:
        return take_seconds(argument, &c->wait_ns);
    case OPTION_OBSERVE:
        return observer_option(&c->observer, argument);
    case OPTION_COMPAT:
        c->options.events_max = OBSERVE_COMPAT_EVENTS_MAX;
        return compat_tools_of(argument, &c->compat_tools);
    default:
        return take_option(&c->options, option, argument);
    }
}

static int parse(struct load_command *c, int argc, char **argv, bool *done)
{
    static const struct option options[] = {
        {"users", required_argument, NULL, OPTION_USERS},
        {"think", required_argument, NULL, OPTION_THINK},
        {"turns", required_argument, NULL, OPTION_TURNS},
        {"rate", required_argument, NULL, OPTION_RATE},
        {"trace", required_argument, NULL, OPTION_TRACE},
        {"time-scale", required_argument, NULL, OPTION_TIME_SCALE},
        {"requests", required_argument, NULL, OPTION_REQUESTS},
        {"prompt", required_argument, NULL, OPTION_PROMPT},
        {"output", required_argument, NULL, OPTION_OUTPUT},
        {"warmup", required_argument, NULL, OPTION_WARMUP},
        {"measure", required_argument, NULL, OPTION_MEASURE},
        {"drain", required_argument, NULL, OPTION_DRAIN},
        {"model", required_argument, NULL, OPTION_MODEL},
        {"seed", required_argument, NULL, OPTION_SEED},
        {"no-stream", no_argument, NULL, OPTION_NO_STREAM},
        {"eos", no_argument, NULL, OPTION_EOS},
        {"wait", required_argument, NULL, OPTION_WAIT},
        {"observe", required_argument, NULL, OPTION_OBSERVE},
        {"compat", required_argument, NULL, OPTION_COMPAT},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *name = NULL;
    uint32_t modes_count = 0;
    int option = 0;
    char text[160];
    while ((option = cli_option(argc, argv, "h", options, &name)) != -1) {
        if (option == 'h') {
            cli_help(stdout, "load", help_text);
            *done = true;
            return EXIT_PASS;
        }
        if (option == '?') {
            return EXIT_USAGE;
        }
        modes_count += option <= OPTION_TRACE ? 1 : 0;
        if (!take(c, option, optarg)) {
            return cli_value_error("load", name, wanted(option), optarg);
        }
    }
    for (int i = optind; i < argc; i++) {
        if (!take_url(&c->options, argv[i])) {
            (void)snprintf(text, sizeof text, "'%.80s' is no URL like http://127.0.0.1:8000",
                           argv[i]);
            return cli_usage_error("load", text);
        }
    }
    return check(&c->options, modes_count);
}

/* ---- model of the server ---- */

/* Whether every server answers before the time is over; an answer other than 200 is one too. */
static bool wait_for_servers(const struct load_options *o, int64_t wait_ns)
{
    int64_t deadline_ns = clock_now_ns() + wait_ns;
    for (uint32_t i = 0; wait_ns > 0 && i < o->targets_count; i++) {
        struct http_buffer body = {0};
        while (fetch_page(&o->targets[i], "/health", &body) == 0) {
            if (clock_now_ns() > deadline_ns || signal_seen != 0) {
                http_buffer_free(&body);
                (void)fprintf(stderr, "harness load: no answer from http://%s:%u/health in time\n",
                              o->targets[i].host, o->targets[i].port);
                return false;
            }
            http_buffer_clear(&body);
            clock_sleep_until_ns(clock_now_ns() + TICK_NS);
        }
        http_buffer_free(&body);
    }
    return true;
}

/* EXIT_PASS, or EXIT_SERVER after a message. */
static int choose_model(struct load_options *o)
{
    struct error error;
    if (o->model[0] != '\0' ||
        server_model(&o->targets[0], o->model, sizeof o->model, &error) == STATUS_OK) {
        return EXIT_PASS;
    }
    (void)fprintf(stderr, "harness load: %s; %s\n", error.text,
                  error.status == STATUS_NOT_FOUND
                      ? "name one with --model"
                      : "is a server there? --wait 60 waits for one that starts");
    return EXIT_SERVER;
}

/* ---- load ---- */

static enum status start_client(const struct load_shared *shared, pid_t *pid, struct error *error)
{
    char path[] = "/proc/self/exe";
    char role[] = "__client";
    char *arguments[] = {path, role, NULL};
    struct child_options child = {.path = path,
                                  .arguments = arguments,
                                  .fd3 = shared->fd,
                                  .fd4 = -1,
                                  .stderr_fd = -1,
                                  .death_signal = SIGKILL};
    return child_start(&child, pid, error);
}

static int wait_client(const struct load_shared *shared, pid_t pid, struct observer *observer)
{
    int status = 0;
    bool asked = false;
    uint64_t tokens = 0;
    int64_t reported_ns = clock_now_ns();
    while (!child_ended(pid, &status)) {
        clock_sleep_until_ns(clock_now_ns() + TICK_NS);
        observer_tick(observer, atomic_load(&shared->header->phase));
        if (signal_seen != 0 && !asked) {
            (void)kill(pid, SIGTERM);
            asked = true;
        }
        int64_t now = clock_now_ns();
        if (isatty(STDERR_FILENO) != 0 && now - reported_ns >= 10 * (int64_t)TICK_NS) {
            uint64_t seen = load_get(&shared->header->tokens);
            (void)fprintf(stderr, "\r%8.0f tokens/s  sent %llu  in flight %llu   ",
                          (double)(seen - tokens) * 1e9 / (double)(now - reported_ns),
                          (unsigned long long)load_get(&shared->header->sent_count),
                          (unsigned long long)load_get(&shared->header->inflight));
            tokens = seen;
            reported_ns = now;
        }
    }
    if (isatty(STDERR_FILENO) != 0) {
        (void)fprintf(stderr, "\r%60s\r", "");
    }
    return status;
}

static void print_ms(const char *name, double ms, bool last)
{
    if (isnan(ms)) {
        (void)printf("   %s %9s", name, "-");
    } else {
        (void)printf("   %s %9.2f", name, ms);
    }
    (void)fputs(last ? "\n" : "", stdout);
}

static void print_latency(const char *name, const struct run_latency *l)
{
    (void)printf("  %-7s", name);
    print_ms("mean", l->mean_ms, false);
    print_ms("p50", l->p50_ms, false);
    print_ms("p90", l->p90_ms, false);
    print_ms("p99", l->p99_ms, true);
}

static void print_latencies(const struct run_result *r)
{
    (void)printf("latency of the requests scheduled in the window, ms (-: too few samples):\n");
    print_latency("TTFT", &r->latency[RUN_TTFT]);
    print_latency("TPOT", &r->latency[RUN_TPOT]);
    print_latency("ICL", &r->latency[RUN_ICL]);
    print_latency("E2E", &r->latency[RUN_E2EL]);
    (void)printf("send lag, ms: p50 %.3f, max %.3f\n", r->lag_p50_ms, r->lag_max_ms);
}

static void print_result(const struct load_shared *shared, const struct run_result *r)
{
    (void)printf("%.1f output tokens/s ", r->output_tok_per_s.mean);
    if (!isnan(r->output_tok_per_s.lo)) {
        (void)printf("[%.1f, %.1f] ", r->output_tok_per_s.lo, r->output_tok_per_s.hi);
    }
    (void)printf("over %.1f s, %.2f requests/s ended well\n", r->window_s, r->achieved_rps);
    (void)printf("requests:");
    for (int i = LOAD_OUTCOME_OK; i < LOAD_OUTCOMES_COUNT; i++) {
        uint64_t count = load_get(&shared->header->outcome_count[i]);
        if (count > 0) {
            (void)printf("  %s %llu%s", load_outcome_name((enum load_outcome)i),
                         (unsigned long long)count,
                         i == LOAD_OUTCOME_CANCELLED ? " (running at the end)" : "");
        }
    }
    (void)printf("\n");
    if (shared->header->options.mode != LOAD_CLOSED) {
        print_latencies(r);
    }
    (void)printf("client: %.0f %% of a core\n", r->client_cpu_frac * 100);
}

static int judge(const struct load_shared *shared, const struct run_result *r, int client_status)
{
    if (signal_seen != 0) {
        return signal_seen == SIGTERM ? EXIT_TERMINATED : EXIT_INTERRUPTED;
    }
    if (atomic_load(&shared->header->server_lost) != 0) {
        (void)fprintf(stderr, "harness load: no connection to the server for 2 s\n");
        return EXIT_SERVER;
    }
    enum status ended = (enum status)atomic_load(&shared->header->status);
    if (ended == STATUS_INVALID || ended == STATUS_NOT_FOUND) {
        (void)fprintf(stderr, "harness load: %s\n", without_prefix(shared->header->error_text));
        return EXIT_USAGE;
    }
    if (ended != STATUS_OK) {
        (void)fprintf(stderr, "harness load: %s\n", without_prefix(shared->header->error_text));
        return EXIT_SERVER;
    }
    /* So many came that those sent are no longer among the records: nobody can say that it kept up.
     */
    bool lag_lost = isnan(r->lag_p99_ms) && load_get(&shared->header->records_lost) > 0 &&
                    shared->header->options.mode != LOAD_CLOSED;
    if (client_status != 0 || r->client_cpu_frac > MAX_CPU_FRAC || r->lag_p99_ms > MAX_LAG_MS ||
        lag_lost) {
        (void)fprintf(
            stderr, "harness load: invalid, the client itself was the limit (%.0f %% of a core)\n",
            r->client_cpu_frac * 100);
        return EXIT_INVALID;
    }
    return EXIT_PASS;
}

static int drive(struct load_command *c)
{
    const struct load_options *o = &c->options;
    struct observer *observer = &c->observer;
    struct error error;
    struct load_shared shared;
    struct run_result result = {.token_basis = "", .lag_p99_ms = STATS_UNKNOWN};
    pid_t pid = 0;
    if (load_shared_create(o, &shared, &error) != STATUS_OK ||
        start_client(&shared, &pid, &error) != STATUS_OK) {
        (void)fprintf(stderr, "harness load: %s\n", error.text);
        return EXIT_INVALID;
    }
    int client_status = wait_client(&shared, pid, observer);
    observer_tick(observer, LOAD_PHASE_DONE);
    observe_fill_client(&shared, &result);
    if (result.window_s >= 0.001) {
        print_result(&shared, &result);
        load_compat_print(c->compat_tools, &shared);
        observer_print(observer);
    } else if (signal_seen != 0) {
        (void)fprintf(stderr, "harness load: interrupted before the window began\n");
    }
    if (load_get(&shared.header->outcome_count[LOAD_OUTCOME_HTTP_4XX]) > 0) {
        (void)fprintf(stderr,
                      "harness load: the server refused requests (HTTP 4xx): does it know "
                      "the model %s, and do prompt and output fit it?\n",
                      o->model);
    }
    int status = cli_worse(judge(&shared, &result, client_status),
                           result.fail_count > 0 ? EXIT_REQUESTS : EXIT_PASS);
    result_free(&result);
    load_shared_close(&shared);
    return status;
}

int cli_load(int argc, char **argv)
{
    struct load_command c = {.options = {
                                 .mode = LOAD_CLOSED,
                                 .users_count = 16,
                                 .seed = 1,
                                 .prompt_tokens = {.lo = 128, .hi = 128},
                                 .output_tokens = {.lo = 128, .hi = 128},
                                 .time_scale = 1,
                                 .stream = 1,
                                 .ignore_eos = 1,
                                 .warmup_ns = (int64_t)2 * 1000000000,
                                 .window_ns = (int64_t)10 * 1000000000,
                                 .drain_ns = (int64_t)10 * 1000000000,
                                 .batches_count = 10,
                                 .connections_count = 256,
                                 .api_servers_count = 1,
                             }};
    bool done = false;
    int status = parse(&c, argc, argv, &done);
    if (status != EXIT_PASS || done) {
        return status;
    }
    struct sigaction action = {.sa_handler = on_signal};
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    if (!wait_for_servers(&c.options, c.wait_ns)) {
        return signal_seen != 0 ? EXIT_INTERRUPTED : EXIT_SERVER;
    }
    status = choose_model(&c.options);
    if (status == EXIT_PASS && !observer_begin(&c.observer, &c.options.targets[0])) {
        status = EXIT_SERVER;
    }
    status = status == EXIT_PASS ? drive(&c) : status;
    observer_free(&c.observer);
    return status;
}
