/*
 * main.c - runs the protocol driver over seeds until one fails, for planted.sh: `main COUNT` looks
 * for the first failing seed of 0.. and prints "SEED INVARIANT text"; exit status 1 if one failed,
 * 0 if all hold. With HARNESS_PROTOCOL_SEED=n only that seed, and its trace on stderr.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "sim/protocol_driver.h"

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

int main(int argc, char **argv)
{
    static struct protocol_report report;
    static const int signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    struct error error;
    const char *only = getenv("HARNESS_PROTOCOL_SEED");
    uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        (void)signal(signals[i], crashed);
    }
    uint64_t first = only != NULL ? strtoull(only, NULL, 10) : 0;
    count = only != NULL ? 1 : count;
    for (seed = first; seed < first + count; seed++) {
        if (protocol_driver_run(seed, &report, &error) != STATUS_OK) {
            (void)printf("%lu %s %s\n", (unsigned long)seed, report.invariant, error.text);
            if (only != NULL) {
                (void)fprintf(stderr, "%s", report.trace);
            }
            return 1;
        }
    }
    return 0;
}
