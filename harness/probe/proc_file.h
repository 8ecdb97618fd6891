/*
 * proc_file.h - small files of /proc and /sys as strings, and a string as a /proc/PID/stat. Private
 * to this room.
 */
#ifndef HARNESS_PROBE_PROC_FILE_H
#define HARNESS_PROBE_PROC_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "harness/probe/proc.h"

/* Reads up to cap - 1 bytes of `path` and ends them with NUL. False if it cannot be read (the
 * process ended). */
bool proc_file_read(const char *path, char *out, size_t cap);
/* Follows `key` at the start of a line, then ':' or blanks; copies up to the end of the line.
 * False: no such line. */
bool proc_file_value(const char *text, const char *key, char *out, size_t cap);
/* The same for a whole number that is not negative; -1: no such line, or something else in it. */
int64_t proc_file_count(const char *text, const char *key);

/* What this room uses of /proc/PID/stat. */
struct proc_stat {
    char comm[PROC_COMM_BYTES];
    char state;
    int32_t parent_pid;
    uint64_t user_ticks;
    uint64_t system_ticks;
    int32_t last_cpu;
};

/* False: not the text of a stat file. The name may contain blanks and parentheses. */
bool proc_stat_parse(const char *text, struct proc_stat *out);

#endif
