/*
 * main.c - runs the protocol driver over seeds until one fails, for planted.sh: `main COUNT` looks
 * for the first failing seed of 0.. and prints "SEED INVARIANT text"; exit status 1 if one failed,
 * 0 if all hold. With HARNESS_PROTOCOL_SEED=n only that seed, and its trace on stderr; with
 * HARNESS_PROTOCOL_PLAN=p every seed has this plan; with HARNESS_PROTOCOL_SHRINK=1 a second line
 * has the smallest plan that fails in the same way.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim/protocol_shrink.h"

static volatile uint64_t seed;

static void crashed(int number)
{
    static const char text[] = " crash a programmer error was asserted or memory was misused\n";
    char digits[24];
    size_t at = sizeof digits;
    uint64_t left = seed;
    (void)number;
    do {
        digits[--at] = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    if (write(STDOUT_FILENO, digits + at, sizeof digits - at) < 0 ||
        write(STDOUT_FILENO, text, sizeof text - 1) < 0) {
        _exit(2);
    }
    _exit(1);
}

static struct protocol_report report;
static struct protocol_report smaller;

static bool fails(void *user, const struct protocol_plan *plan)
{
    struct error error;
    (void)user;
    return protocol_driver_replay(seed, plan, &smaller, &error) == STATUS_PROTOCOL &&
           strcmp(smaller.invariant, report.invariant) == 0;
}

static void print_smallest(void)
{
    struct protocol_shrink shrink = {.fails = fails, .runs_max = 2000};
    struct protocol_plan plan = report.plan;
    char text[PROTOCOL_PLAN_BYTES];
    protocol_shrink(&shrink, &report, &plan);
    protocol_plan_write(&plan, text);
    (void)printf("%u faults after %u runs: %s\n", plan.faults_count, shrink.runs_count, text);
}

static enum status run(const struct protocol_plan *plan, struct error *error)
{
    return plan != NULL ? protocol_driver_replay(seed, plan, &report, error)
                        : protocol_driver_run(seed, &report, error);
}

int main(int argc, char **argv)
{
    struct protocol_plan plan;
    const char *given = getenv("HARNESS_PROTOCOL_PLAN");
    const char *shrinks = getenv("HARNESS_PROTOCOL_SHRINK");
    static const int signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    struct error error;
    const char *only = getenv("HARNESS_PROTOCOL_SEED");
    uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        (void)signal(signals[i], crashed);
    }
    uint64_t first = only != NULL ? strtoull(only, NULL, 10) : 0;
    count = only != NULL ? 1 : count;
    if (given != NULL && protocol_plan_parse(given, &plan, &error) != STATUS_OK) {
        (void)fprintf(stderr, "%s\n", error.text);
        return 2;
    }
    for (seed = first; seed < first + count; seed++) {
        if (run(given != NULL ? &plan : NULL, &error) != STATUS_OK) {
            (void)printf("%lu %s %s\n", (unsigned long)seed, report.invariant, error.text);
            if (only != NULL) {
                (void)fprintf(stderr, "%s", report.trace);
            }
            if (shrinks != NULL && *shrinks != '\0') {
                print_smallest();
            }
            return 1;
        }
    }
    return 0;
}
