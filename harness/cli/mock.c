/*
 * mock.c - `harness mock`: a server that sends what it should when it should, and writes down when
 * it did: for judging load clients.
 *
 * Serves until ^C; then it says how far it was behind its own schedule, and writes the stamps.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "harness/cli/cli.h"
#include "harness/load/listener.h"
#include "harness/load/mock_server.h"

enum {
    OPTION_PORT = CLI_OPTION_OWN,
    OPTION_TTFT,
    OPTION_ITL,
    OPTION_TOKENS,
    OPTION_TOKENS_EACH,
    OPTION_EVENTS_EACH,
    OPTION_CUT,
    OPTION_CUT_GAP,
    OPTION_STALL_AT,
    OPTION_STALL_FOR,
    OPTION_RESET,
    OPTION_EMPTY,
    OPTION_ERROR,
    OPTION_USAGE,
    OPTION_SEED,
    OPTION_STAMPS,
    STAMPS_MAX = 1 << 23,
    LAG_MAX_NS = 1000000, /* a mock later than this at p99 is no ground truth for schedules */
};

static const char help_text[] =
    "  --port N              where (default 8000; 0: any free one)\n"
    "  --ttft T              first token T after the request (default 50ms)\n"
    "  --itl T               gap between tokens (default 10ms). A stream's times are shifted by\n"
    "                        0..T, evenly over the streams\n"
    "  --tokens N            of a request without max_tokens (default 128)\n"
    "  --tokens-each N       tokens in an event (default 1), due with the last of them\n"
    "  --events-each N       events in a write (default 1, at most 32), due with the last of them\n"
    "  --cut SHARE           0..1 of the writes are cut inside their last event ...\n"
    "  --cut-gap T           ... and the rest follows T later (default 1ms)\n"
    "  --stall-at T --stall-for T   all streams stand still once, T after the first request\n"
    "  --reset SHARE         of the streams: a TCP reset in mid-stream\n"
    "  --empty SHARE         of the writes: an event without text half a gap before it\n"
    "  --error SHARE         of the requests: status 500 at once\n"
    "  --usage asked|always|never   the usage event at a stream's end (default asked)\n"
    "  --seed N              which streams and writes are hit (default 0)\n"
    "  --stamps FILE         CSV of every event: request,request_id (the number in X-Request-Id),\n"
    "                        event,kind,tokens,scheduled_ns,sent_ns (CLOCK_MONOTONIC, taken right\n"
    "                        before send()). A client's error is its own stamp minus sent_ns\n";

struct mock_command {
    struct mock_options options;
    uint32_t port;
    const char *stamps_path;
};

static bool take_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value < min ||
        value > max) {
        return false;
    }
    *out = value;
    return true;
}

static bool take_count(const char *text, uint32_t min, uint32_t max, uint32_t *out)
{
    uint64_t value = 0;
    if (!take_number(text, min, max, &value)) {
        return false;
    }
    *out = (uint32_t)value;
    return true;
}

static bool take_share(const char *text, double *out)
{
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= 0) || value > 1) {
        return false;
    }
    *out = value;
    return true;
}

/* "50ms", "1s", "250us", as in scenarios. */
static bool take_time(const char *text, int64_t *out)
{
    static const struct {
        const char *suffix;
        double ns;
    } units[] = {{"us", 1e3}, {"ms", 1e6}, {"s", 1e9}};
    char *end = NULL;
    double value = strtod(text, &end);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (end != text && strcmp(end, units[i].suffix) == 0 && value >= 0 && value <= 86400) {
            *out = (int64_t)(value * units[i].ns);
            return true;
        }
    }
    return false;
}

static bool take_usage(const char *text, uint32_t *out)
{
    static const char *const names[] = {"asked", "always", "never"};
    for (uint32_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = i;
            return true;
        }
    }
    return false;
}

static bool take_option(struct mock_command *c, int option, const char *argument)
{
    struct mock_options *o = &c->options;
    switch (option) {
    case OPTION_PORT:
        return take_count(argument, 0, 65535, &c->port);
    case OPTION_TTFT:
        return take_time(argument, &o->ttft_ns);
    case OPTION_ITL:
        return take_time(argument, &o->itl_ns);
    case OPTION_TOKENS:
        return take_count(argument, 1, MOCK_TOKENS_MAX, &o->tokens_default);
    case OPTION_TOKENS_EACH:
        return take_count(argument, 1, MOCK_TOKENS_MAX, &o->tokens_each_event);
    case OPTION_EVENTS_EACH:
        return take_count(argument, 1, MOCK_EVENTS_EACH_WRITE_MAX, &o->events_each_write);
    case OPTION_CUT:
        return take_share(argument, &o->cut_share);
    case OPTION_CUT_GAP:
        return take_time(argument, &o->cut_gap_ns);
    case OPTION_STALL_AT:
        return take_time(argument, &o->stall_at_ns);
    case OPTION_STALL_FOR:
        return take_time(argument, &o->stall_for_ns);
    case OPTION_RESET:
        return take_share(argument, &o->reset_share);
    case OPTION_EMPTY:
        return take_share(argument, &o->empty_share);
    case OPTION_ERROR:
        return take_share(argument, &o->error_share);
    case OPTION_USAGE:
        return take_usage(argument, &o->usage);
    case OPTION_SEED:
        return take_number(argument, 0, UINT64_MAX, &o->seed);
    case OPTION_STAMPS:
        c->stamps_path = argument;
        return true;
    default:
        return false;
    }
}

static int parse(struct mock_command *c, int argc, char **argv, bool *done)
{
    static const struct option options[] = {
        {"port", required_argument, NULL, OPTION_PORT},
        {"ttft", required_argument, NULL, OPTION_TTFT},
        {"itl", required_argument, NULL, OPTION_ITL},
        {"tokens", required_argument, NULL, OPTION_TOKENS},
        {"tokens-each", required_argument, NULL, OPTION_TOKENS_EACH},
        {"events-each", required_argument, NULL, OPTION_EVENTS_EACH},
        {"cut", required_argument, NULL, OPTION_CUT},
        {"cut-gap", required_argument, NULL, OPTION_CUT_GAP},
        {"stall-at", required_argument, NULL, OPTION_STALL_AT},
        {"stall-for", required_argument, NULL, OPTION_STALL_FOR},
        {"reset", required_argument, NULL, OPTION_RESET},
        {"empty", required_argument, NULL, OPTION_EMPTY},
        {"error", required_argument, NULL, OPTION_ERROR},
        {"usage", required_argument, NULL, OPTION_USAGE},
        {"seed", required_argument, NULL, OPTION_SEED},
        {"stamps", required_argument, NULL, OPTION_STAMPS},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int option = 0;
    char text[160];
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (option == 'h') {
            cli_help(stdout, "mock", help_text);
            *done = true;
            return EXIT_PASS;
        }
        if (!take_option(c, option, optarg)) {
            (void)snprintf(text, sizeof text, "cannot use '%.100s'",
                           optarg != NULL ? optarg : "that option");
            return cli_usage_error("mock", text);
        }
    }
    return argc > optind ? cli_usage_error("mock", "expected no operands") : EXIT_PASS;
}

static int fail(int status, const char *what)
{
    (void)fprintf(stderr, "harness mock: %s\n", what);
    return status;
}

/* Readable after ^C or SIGTERM. */
static int open_stop(void)
{
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    return signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
}

static int conclude(const struct mock_shared *s, const struct mock_command *c, FILE *stamps)
{
    uint64_t p99_ns = histogram_quantile(&s->lag, 0.99);
    int status = EXIT_PASS;
    (void)printf("requests %" PRIu64 ": finished %" PRIu64 " (500: %" PRIu64 "), reset %" PRIu64
                 ", left by the client %" PRIu64 "; refused %" PRIu64 "; connections %" PRIu64
                 "; tokens %" PRIu64 "\n",
                 s->requests_count, s->finished_count, s->errors_count, s->resets_count,
                 s->left_count, s->refused_count, s->connections_count, s->tokens);
    (void)printf("sent after schedule: p50 %.3f ms, p99 %.3f ms, max %.3f ms (%" PRIu64
                 " events)\n",
                 (double)histogram_quantile(&s->lag, 0.50) / 1e6, (double)p99_ns / 1e6,
                 (double)s->lag.max / 1e6, s->lag.total);
    if (p99_ns > LAG_MAX_NS) {
        status = fail(EXIT_INVALID, "fell behind its schedule; its stamps still hold");
    }
    if (stamps == NULL) {
        return status;
    }
    if (s->stamps_lost_count > 0) {
        (void)fprintf(stderr, "harness mock: no room for the last %" PRIu64 " stamps\n",
                      s->stamps_lost_count);
        status = cli_worse(status, EXIT_RESULTS);
    }
    mock_write_stamps(s, stamps);
    if (fflush(stamps) != 0 || ferror(stamps) != 0) {
        (void)fprintf(stderr, "harness mock: cannot write %s\n", c->stamps_path);
        status = cli_worse(status, EXIT_RESULTS);
    }
    return status;
}

static int serve(const struct mock_command *c, FILE *stamps)
{
    struct error error;
    struct mock_shared *shared = NULL;
    int listen_fd = -1;
    uint32_t port = 0;
    if (mock_shared_create(stamps != NULL ? STAMPS_MAX : 0, &shared, &error) != STATUS_OK) {
        return fail(EXIT_SERVER, error.text);
    }
    if (listener_open(c->port, &listen_fd, &port, &error) != STATUS_OK) {
        mock_shared_destroy(shared);
        return fail(EXIT_SERVER, error.text);
    }
    int stop_fd = open_stop();
    (void)printf("mock: http://127.0.0.1:%u  (^C ends it)\n", port);
    (void)fflush(stdout);
    enum status status = mock_serve(listen_fd, stop_fd, &c->options, shared, &error);
    (void)close(stop_fd);
    int result = status == STATUS_OK ? EXIT_PASS : fail(EXIT_SERVER, error.text);
    result = cli_worse(result, conclude(shared, c, stamps));
    mock_shared_destroy(shared);
    return result;
}

int cli_mock(int argc, char **argv)
{
    struct mock_command c = {
        .options = {.ttft_ns = 50000000, .itl_ns = 10000000, .cut_gap_ns = 1000000}, .port = 8000};
    bool done = false;
    int status = parse(&c, argc, argv, &done);
    if (status != EXIT_PASS || done) {
        return status;
    }
    /* Opened before anything is measured: a wrong path must not cost the measurement. */
    FILE *stamps = c.stamps_path != NULL ? fopen(c.stamps_path, "w") : NULL;
    if (c.stamps_path != NULL && stamps == NULL) {
        (void)fprintf(stderr, "harness mock: %s: %s\n", c.stamps_path, strerror(errno));
        return EXIT_RESULTS;
    }
    status = serve(&c, stamps);
    if (stamps != NULL) {
        (void)fclose(stamps);
    }
    return status;
}
