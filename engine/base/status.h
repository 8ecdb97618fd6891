/*
 * status.h - the one error model of this program.
 *
 * Two kinds of failure, never mixed:
 *   - an OPERATING error (bad file, peer gone, pool exhausted) is an `enum status` returned to
 *     the caller, who must look at it (MUST_CHECK), with a sentence for a person in `struct error`;
 *   - a PROGRAMMER error (broken invariant, bad argument) is ASSERT, which aborts in every build.
 *
 * A function that can fail returns enum status and leaves its out-parameters untouched on failure.
 * `error` comes last and may be NULL. A library never exits, prints or logs: only a main maps a
 * status to an exit code.
 */
#ifndef ENGINE_BASE_STATUS_H
#define ENGINE_BASE_STATUS_H

#include <stddef.h>

/* X(name, text). Add at the end: the numbers go into result files. */
#define STATUS_MAP(X)                        \
    X(NOMEM, "out of memory")                \
    X(INVALID, "invalid value")              \
    X(NOT_FOUND, "not found")                \
    X(FULL, "bounded queue or pool is full") \
    X(IO, "system call failed")              \
    X(PROTOCOL, "peer broke the protocol")   \
    X(TIMEOUT, "deadline passed")            \
    X(UNSUPPORTED, "not supported here")     \
    X(DIED, "a process of the topology died")

enum status {
    STATUS_OK = 0,
#define X(name, text) STATUS_##name,
    STATUS_MAP(X)
#undef X
    STATUS_COUNT
};

/* What went wrong, in words a user can act on: "scenarios/a.ini:12: dp: want 1..64, got 0". */
struct error {
    enum status status;
    char text[500];
};

#define MUST_CHECK           __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, va) __attribute__((format(printf, fmt, va)))

/* "out of memory" for STATUS_NOMEM. Never NULL; the string is static. */
const char *status_text(enum status status);

/* Fills *error (when not NULL) and returns `status`, so that `return error_set(error, ...)` reads
 * well. */
enum status error_set(struct error *error, enum status status, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
#ifdef __clang_analyzer__
/* The analyzer cannot look into it, and would follow paths on which a failure comes back as OK. */
int error_ignored(const char *fmt, ...);
// NOLINTNEXTLINE(readability-identifier-naming): the function's name
#define error_set(error, status, ...) ((void)(error), (void)error_ignored(__VA_ARGS__), (status))
#endif

/* Returns from the calling function when `expr` is not STATUS_OK. For functions that own nothing
 * yet. (Without braces of its own, as a user does not see that nesting.) */
#define TRY(expr)                        \
    do {                                 \
        enum status try_status = (expr); \
        if (try_status != STATUS_OK)     \
            return try_status;           \
    } while (0)

/* On in every build. */
#define ASSERT(cond)                                  \
    do {                                              \
        if (__builtin_expect(!(cond), 0))             \
            assert_failed(#cond, __FILE__, __LINE__); \
    } while (0)

_Noreturn void assert_failed(const char *cond, const char *file, int line);

#endif
