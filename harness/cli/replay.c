/*
 * replay.c - `harness replay`: plays what processes recorded (`record = yes`, `harness serve
 * --record`) to the state machines of this program, and says of each process whether they answered
 * the same; with --print what was recorded, for people.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/tape/tape_replay.h"
#include "harness/cli/cli.h"
#include "harness/cli/place.h"

enum {
    OPTION_PRINT = CLI_OPTION_OWN,
    DEPTH_MAX = 4 /* of folders: results/NAME/records/RUN */
};

static const char help_text[] =
    "  --print                       the calls, one a line: number, call, its fields, and behind\n"
    "                                \"->\" what it answered; nothing is replayed. Times are "
    "seconds\n"
    "                                since the run began. Fields that are 0 are left out\n"
    "A FILE is the recording of one process (api-0.rec, engine-0.rec, coordinator-0.rec,\n"
    "launcher-0.rec); of a folder all that are in it and below it.\n"
    "Returns 0 if all answers are equal, 1 if one differs, 2 if a file cannot be read.\n"
    "\nto record, and to look for one request in what an API server did:\n"
    "  harness run scenarios/smoke.ini --set server.record=yes -o results/x\n"
    "  harness replay results/x\n"
    "  harness replay --print results/x/records/r0000/api-0.rec | grep cmpl-17\n"
    "  harness serve --record recordings/today\n";

struct session {
    bool prints;
    uint32_t files_count;
    int status;
};

static void fail(struct session *s, const char *path, const char *why)
{
    (void)fprintf(stderr, "harness replay: %s: %s\n", path, why);
    s->status = cli_worse(s->status, EXIT_USAGE);
}

/* ---- one file ---- */

static void say_difference(const char *path, const struct tape_summary *t)
{
    (void)printf("%s: differs at call %llu", path, (unsigned long long)t->difference_call);
    if (t->last_at != 0) {
        (void)printf(", at %.9f s", (double)t->difference_at / (double)PS_PER_S);
    }
    (void)printf(": %s\n", t->difference);
}

static void say_equal(const char *path, const struct tape_summary *t)
{
    (void)printf("%s: %llu calls, %llu messages in, %llu out, %llu tokens", path,
                 (unsigned long long)t->calls_count, (unsigned long long)t->in_count,
                 (unsigned long long)t->out_count, (unsigned long long)t->tokens_count);
    if (t->last_at != 0) {
        (void)printf(" in %.3f s", (double)(t->last_at - t->first_at) / (double)PS_PER_S);
    }
    (void)printf(": byte for byte equal\n");
}

static void replay(struct session *s, const char *path, struct tape_reader *reader)
{
    struct tape_summary summary;
    struct error error;
    enum status status = tape_replay(reader, &summary, &error);
    if (status == STATUS_OK && summary.differs) {
        say_difference(path, &summary);
        s->status = cli_worse(s->status, EXIT_REGRESSION);
    } else if (status == STATUS_OK) {
        say_equal(path, &summary);
    } else {
        fail(s, path, error.text);
        if (summary.calls_count > 0) {
            (void)fprintf(stderr, "harness replay: %s: the %llu calls before it are equal\n", path,
                          (unsigned long long)summary.calls_count);
        }
    }
    if (summary.revision[0] != '\0' && strcmp(summary.revision, place_revision()) != 0) {
        (void)printf("%s: recorded by revision %s, replayed by %s\n", path, summary.revision,
                     place_revision());
    }
}

static void take_file(struct session *s, const char *path)
{
    struct tape_reader reader;
    struct error error;
    s->files_count++;
    if (tape_reader_open(&reader, path, &error) != STATUS_OK) {
        fail(s, path, error.text);
        return;
    }
    if (!s->prints) {
        replay(s, path, &reader);
    } else if (tape_print(&reader, stdout, &error) != STATUS_OK) {
        fail(s, path, error.text);
    }
    tape_reader_close(&reader);
}

/* ---- folders ---- */

static int is_shown(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static bool is_recording(const char *name)
{
    const char *end = strrchr(name, '.');
    return end != NULL && strcmp(end, ".rec") == 0;
}

/* NOLINTNEXTLINE(misc-no-recursion): at most DEPTH_MAX deep */
static void take_folder(struct session *s, const char *path, uint32_t depth)
{
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, is_shown, alphasort);
    if (count < 0) {
        fail(s, path, strerror(errno));
        return;
    }
    for (int i = 0; i < count; i++) {
        char name[PLACE_PATH_BYTES];
        struct stat st;
        int bytes = snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
        bool known = bytes > 0 && (size_t)bytes < sizeof name && stat(name, &st) == 0;
        if (known && S_ISDIR(st.st_mode) && depth < DEPTH_MAX) {
            take_folder(s, name, depth + 1);
        } else if (known && S_ISREG(st.st_mode) && is_recording(name)) {
            take_file(s, name);
        }
        free(entries[i]);
    }
    free(entries);
}

static void take(struct session *s, const char *path)
{
    struct stat st;
    uint32_t before = s->files_count;
    if (stat(path, &st) != 0) {
        fail(s, path, strerror(errno));
    } else if (!S_ISDIR(st.st_mode)) {
        take_file(s, path);
    } else {
        take_folder(s, path, 1);
        if (s->files_count == before) {
            fail(s, path, "has no recordings (NAME.rec); they are made with server.record=yes");
        }
    }
}

int cli_replay(int argc, char **argv)
{
    static const struct option options[] = {
        {"help", no_argument, NULL, 'h'},
        {"print", no_argument, NULL, OPTION_PRINT},
        {NULL, 0, NULL, 0},
    };
    struct session s = {.status = EXIT_PASS};
    int option = 0;
    while ((option = cli_option(argc, argv, "h", options, NULL)) != -1) {
        if (option == 'h') {
            cli_help(stdout, argv[0], help_text);
            return EXIT_PASS;
        }
        if (option != OPTION_PRINT) {
            return EXIT_USAGE;
        }
        s.prints = true;
    }
    if (optind == argc) {
        return cli_usage_error(argv[0], "a recording or a folder with recordings is needed");
    }
    for (int i = optind; i < argc; i++) {
        take(&s, argv[i]);
    }
    return s.status;
}
