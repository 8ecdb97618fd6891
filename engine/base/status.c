/*
 * status.c - texts of statuses and errors. assert_failed() is the one place of the libraries that
 * writes to a terminal, because the process ends there.
 */
#include "engine/base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const char *status_text(enum status status)
{
    static const char *const texts[STATUS_COUNT] = {[STATUS_OK] = "ok",
#define X(name, text) [STATUS_##name] = (text),
                                                    STATUS_MAP(X)
#undef X
    };
    if ((unsigned)status >= STATUS_COUNT) {
        return "unknown status";
    }
    return texts[status];
}

#undef error_set
enum status error_set(struct error *error, enum status status, const char *fmt, ...)
{
    if (error != NULL) {
        va_list args;
        va_start(args, fmt);
        error->status = status;
        (void)vsnprintf(error->text, sizeof error->text, fmt, args);
        va_end(args);
    }
    return status;
}

_Noreturn void assert_failed(const char *cond, const char *file, int line)
{
    (void)fprintf(stderr, "assertion failed: %s (%s:%d)\n", cond, file, line);
    abort();
}
