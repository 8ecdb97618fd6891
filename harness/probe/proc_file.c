/*
 * proc_file.c - reading and cutting up small kernel files. Every field is checked: their text is
 * input like any other.
 */
#include "harness/probe/proc_file.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool proc_file_read(const char *path, char *out, size_t cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    size_t used = 0;
    ssize_t got = 1;
    while (used < cap - 1 && got != 0) {
        got = read(fd, out + used, cap - 1 - used);
        if (got < 0 && errno != EINTR) {
            break;
        }
        used += got > 0 ? (size_t)got : 0;
    }
    (void)close(fd);
    out[used] = '\0';
    return got >= 0;
}

bool proc_file_value(const char *text, const char *key, char *out, size_t cap)
{
    size_t length = strlen(key);
    const char *line = text;
    while (line != NULL && *line != '\0') {
        const char *rest = line + length;
        if (strncmp(line, key, length) == 0 && strchr(": \t", *rest) != NULL) {
            rest += strspn(rest, ": \t");
            size_t bytes = strcspn(rest, "\n");
            bytes = bytes < cap - 1 ? bytes : cap - 1;
            memcpy(out, rest, bytes);
            out[bytes] = '\0';
            return true;
        }
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return false;
}

int64_t proc_file_count(const char *text, const char *key)
{
    char value[32];
    char *end = NULL;
    if (!proc_file_value(text, key, value, sizeof value)) {
        return -1;
    }
    errno = 0;
    long long count = strtoll(value, &end, 10);
    return errno == 0 && end != value && *end == '\0' && count >= 0 ? (int64_t)count : -1;
}

enum {
    /* Fields of /proc/PID/stat counted from the state, which follows the name, as 0. */
    FIELD_PARENT = 1,
    FIELD_UTIME = 11,
    FIELD_STIME = 12,
    FIELD_CPU = 36,
};

/* Field `index` of a blank-separated list of numbers. */
static bool field(const char *text, int index, uint64_t *out)
{
    for (int i = 0; i < index; i++) {
        text += strcspn(text, " ");
        text += strspn(text, " ");
    }
    if (!isdigit((unsigned char)*text)) {
        return false;
    }
    errno = 0;
    *out = strtoull(text, NULL, 10);
    return errno == 0;
}

bool proc_stat_parse(const char *text, struct proc_stat *out)
{
    const char *open = strchr(text, '(');
    const char *end = strrchr(text, ')');
    if (open == NULL || end == NULL || end < open || end[1] != ' ' || end[2] == '\0') {
        return false;
    }
    const char *rest = end + 2;
    struct proc_stat s = {.state = *rest};
    size_t bytes = (size_t)(end - open - 1);
    memcpy(s.comm, open + 1, bytes < sizeof s.comm - 1 ? bytes : sizeof s.comm - 1);
    uint64_t parent = 0;
    uint64_t cpu = 0;
    if (!field(rest, FIELD_PARENT, &parent) || !field(rest, FIELD_UTIME, &s.user_ticks) ||
        !field(rest, FIELD_STIME, &s.system_ticks) || !field(rest, FIELD_CPU, &cpu) ||
        parent > INT32_MAX || cpu > INT32_MAX) {
        return false;
    }
    s.parent_pid = (int32_t)parent;
    s.last_cpu = (int32_t)cpu;
    *out = s;
    return true;
}
