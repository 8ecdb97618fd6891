/*
 * replay_test.c - real systems that record: what every process did, played back to the state
 * machines of this program, gives the same bytes; so does what a killed system left. `harness run`
 * and `harness serve` record where they are told to, and `harness replay` says what it finds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/tape/tape_replay.h"
#include "harness/run/recording.h"
#include "helper_http.h"
#include "helper_system.h"

enum {
    USERS = 6,
    REQUESTS_EACH = 4,
    PATH_BYTES = 600,
    PRINTED_BYTES = 8192,
};

static char folder[256];

/* A topology that records into the test's folder. */
static struct topology recorded(uint32_t api_servers, uint32_t engines)
{
    struct topology t = e2e_topology(api_servers, engines);
    struct error error;
    (void)snprintf(folder, sizeof folder, "%.200s/tapes", getenv("TMPDIR"));
    assert_int_equal(recording_begin(&t, folder, "this test", &error), STATUS_OK);
    return t;
}

static void forget_recordings(void)
{
    struct topology t;
    struct error error;
    assert_int_equal(recording_begin(&t, folder, "", &error), STATUS_OK); /* removes old ones */
    assert_int_equal(rmdir(folder), 0);
}

/* ---- load ---- */

struct user {
    uint32_t port;
    uint32_t index;
    bool well;
};

/* Goes away when the first tokens are there. */
static bool abandon(const struct user *u, const char *json)
{
    struct link l;
    char *text = http_request_text("/v1/completions", NULL, json);
    bool well = link_open(&l, u->port) && link_text(&l, text) && link_more(&l, HANG_MS);
    link_close(&l);
    free(text);
    return well;
}

/* Streams and whole answers, stop strings, ends drawn by the device, several choices, clients that
 * go away. */
static void *user_main(void *context)
{
    struct user *u = context;
    u->well = true;
    for (uint32_t i = 0; i < REQUESTS_EACH; i++) {
        uint32_t number = u->index * REQUESTS_EACH + i;
        struct completion c;
        char json[300];
        (void)snprintf(json, sizeof json,
                       "{\"prompt\":\"request %u\",\"max_tokens\":%u,\"ignore_eos\":%s,\"seed\":%u,"
                       "\"n\":%u%s,\"stream\":%s}",
                       number, 20 + number * 37 % 200, number % 3 != 0 ? "true" : "false", number,
                       number % 8 == 5 ? 2U : 1U,
                       number % 4 == 2 ? ",\"stop\":[\"e\",\"xyz\"]" : "",
                       number % 2 != 0 ? "true" : "false");
        if (number % 6 == 1) {
            u->well = u->well && abandon(u, json);
        } else if (number % 8 == 5) {
            struct answer a = http_post(u->port, "/v1/completions", json);
            u->well = u->well && a.status == 200;
            answer_free(&a);
        } else {
            completion_post(u->port, "/v1/completions", json, &c);
            u->well = u->well && c.status == 200 && c.finish[0] != '\0';
        }
        e2e_sleep_ms(number * 13 % 40);
    }
    return NULL;
}

static void run_users(const struct system *s)
{
    pthread_t threads[USERS];
    struct user users[USERS];
    for (uint32_t i = 0; i < USERS; i++) {
        users[i] = (struct user){.port = s->port, .index = i};
        assert_int_equal(pthread_create(&threads[i], NULL, user_main, &users[i]), 0);
    }
    for (uint32_t i = 0; i < USERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(users[i].well);
    }
}

static void post(const struct system *s, const char *path)
{
    struct answer a = http_post(s->port, path, "{}");
    assert_int_equal(a.status, 200);
    answer_free(&a);
}

/* ---- tapes ---- */

struct tapes {
    uint32_t count[TAPE_KINDS_COUNT];
    uint64_t calls[TAPE_KINDS_COUNT];
    uint64_t in[TAPE_KINDS_COUNT];
    uint64_t tokens[TAPE_KINDS_COUNT];
};

static void replay_file(const char *path, struct tapes *out)
{
    struct tape_reader reader;
    struct tape_summary s;
    struct error error;
    if (tape_reader_open(&reader, path, &error) != STATUS_OK ||
        tape_replay(&reader, &s, &error) != STATUS_OK) {
        fail_msg("%s: %s", path, error.text);
    }
    if (s.differs) {
        fail_msg("%s: call %llu: %s", path, (unsigned long long)s.difference_call, s.difference);
    }
    assert_string_equal(s.revision, "this test");
    out->count[s.kind]++;
    out->calls[s.kind] += s.calls_count;
    out->in[s.kind] += s.in_count;
    out->tokens[s.kind] += s.tokens_count;
    tape_reader_close(&reader);
}

static struct tapes replay_all(void)
{
    struct tapes out = {0};
    DIR *entries = opendir(folder);
    assert_non_null(entries);
    for (struct dirent *e = readdir(entries); e != NULL; e = readdir(entries)) {
        if (e->d_name[0] != '.') {
            char path[PATH_BYTES];
            (void)snprintf(path, sizeof path, "%s/%.255s", folder, e->d_name);
            replay_file(path, &out);
        }
    }
    (void)closedir(entries);
    return out;
}

static void assert_tapes(const struct tapes *t, uint32_t api_servers, uint32_t engines)
{
    assert_int_equal(t->count[TAPE_API_SERVER], api_servers);
    assert_int_equal(t->count[TAPE_ENGINE_CORE], engines);
    assert_int_equal(t->count[TAPE_COORDINATOR], engines > 1 ? 1 : 0);
    assert_int_equal(t->count[TAPE_LAUNCHER], 1);
    assert_true(t->tokens[TAPE_ENGINE_CORE] >= t->tokens[TAPE_API_SERVER]);
    assert_true(t->tokens[TAPE_API_SERVER] > USERS * REQUESTS_EACH);
    /* HELLO and READY of each engine core, sockets and readiness of each API server. */
    assert_int_equal(t->in[TAPE_LAUNCHER], 2 * engines + 2 * api_servers);
}

/* What the ledger counted is what the tapes hold. */
static void balancing_with_aborts_and_pauses(void **state)
{
    (void)state;
    struct system system;
    struct topology t = recorded(2, 2);
    e2e_start(&t, &system);
    run_users(&system);
    post(&system, "/pause?mode=keep");
    post(&system, "/resume");
    post(&system, "/reset_prefix_cache");
    run_users(&system);
    uint64_t tokens = E2E_SUM(&system, THREAD_API_MAIN, output_tokens);
    e2e_stop(&system);
    assert_string_equal(system.unrecorded, "");
    struct tapes tapes = replay_all();
    assert_tapes(&tapes, 2, 2);
    assert_true(tapes.tokens[TAPE_API_SERVER] >= tokens);
    assert_true(tapes.in[TAPE_COORDINATOR] > 4);
    forget_recordings();
}

static void ranks_in_lockstep(void **state)
{
    (void)state;
    struct system system;
    struct topology t = recorded(1, 2);
    t.lockstep = 1;
    e2e_start(&t, &system);
    run_users(&system);
    post(&system, "/pause?mode=wait");
    post(&system, "/resume");
    run_users(&system);
    e2e_stop(&system);
    struct tapes tapes = replay_all();
    assert_tapes(&tapes, 1, 2);
    forget_recordings();
}

static void one_engine_core_small_cache(void **state)
{
    (void)state;
    struct system system;
    struct topology t = recorded(1, 1);
    t.num_gpu_blocks = t.max_model_len / t.block_tokens + 2; /* requests give way to each other */
    t.async_depth = 1;
    e2e_start(&t, &system);
    run_users(&system);
    e2e_stop(&system);
    struct tapes tapes = replay_all();
    assert_tapes(&tapes, 1, 1);
    forget_recordings();
}

static void *killer_main(void *context)
{
    struct system *s = context;
    struct ledger_thread *thread = e2e_thread(s, THREAD_ENGINE_MAIN, 0, 0);
    while (ledger_get(&thread->steps_count) < 200) {
        e2e_sleep_ms(1);
    }
    (void)kill(thread->pid, SIGKILL);
    return NULL;
}

static void *ignored_user(void *context)
{
    (void)user_main(context);
    return NULL;
}

static void a_killed_engine_core_leaves_its_calls(void **state)
{
    (void)state;
    struct system system;
    struct topology t = recorded(1, 2);
    pthread_t killer;
    pthread_t threads[USERS];
    struct user users[USERS];
    e2e_start(&t, &system);
    assert_int_equal(pthread_create(&killer, NULL, killer_main, &system), 0);
    for (uint32_t i = 0; i < USERS; i++) {
        users[i] = (struct user){.port = system.port, .index = i};
        assert_int_equal(pthread_create(&threads[i], NULL, ignored_user, &users[i]), 0);
    }
    for (uint32_t i = 0; i < USERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(pthread_join(killer, NULL), 0);
    uint64_t tokens = E2E_SUM(&system, THREAD_ENGINE_MAIN, output_tokens);
    e2e_stop(&system);
    struct tapes tapes = replay_all();
    assert_int_equal(tapes.count[TAPE_ENGINE_CORE], 2);
    assert_int_equal(tapes.count[TAPE_API_SERVER], 1);
    assert_true(tapes.tokens[TAPE_ENGINE_CORE] >= tokens);
    assert_true(tapes.tokens[TAPE_ENGINE_CORE] > 0);
    forget_recordings();
}

/* ---- the program ---- */

/* Exit status of a command line, in which $HARNESS is the program and $FOLDER the folder. What it
 * prints is in `out`. */
static int run(const char *command, char out[PRINTED_BYTES])
{
    char program[512];
    size_t used = 0;
    (void)snprintf(program, sizeof program, "%s/harness", getenv("HARNESS_BIN_DIR"));
    assert_int_equal(setenv("HARNESS", program, 1), 0);
    assert_int_equal(setenv("FOLDER", folder, 1), 0);
    FILE *pipe = popen(command, "r"); // NOLINT(cert-env33-c): the program under test
    assert_non_null(pipe);
    for (size_t got = 1; got > 0; used += got) {
        got = fread(out + used, 1, PRINTED_BYTES - 1 - used, pipe);
    }
    out[used] = '\0';
    int status = pclose(pipe);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static uint32_t count_of(const char *text, const char *word)
{
    uint32_t count = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at++) {
        count++;
    }
    return count;
}

static void the_program_records_and_replays(void **state)
{
    (void)state;
    static char out[PRINTED_BYTES];
    static const char scenario[] =
        "[scenario]\nname = r\nschema = 1\nrepeats = 1\n[server a]\ntopology = api_servers=1 dp=2 "
        "tp=1\n"
        "device = emulated gpu=h100 model=qwen2.5-0.5b\nhost_profile = native\nrecord = yes\n"
        "[workload b]\nprompt = 16tok\noutput = uniform lo=8tok hi=24tok\n"
        "[load c]\nmode = closed\nusers = 4\nwarmup = 100ms\nmeasure = 500ms\n";
    char path[PATH_BYTES];
    (void)snprintf(folder, sizeof folder, "%.200s/program", getenv("TMPDIR"));
    struct topology t;
    struct error error;
    assert_int_equal(recording_begin(&t, folder, "", &error), STATUS_OK);
    (void)snprintf(path, sizeof path, "%s/r.ini", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(scenario, file) >= 0);
    (void)fclose(file);

    (void)run("\"$HARNESS\" run $FOLDER/r.ini -o $FOLDER/results --format json 2>&1", out);
    assert_int_equal(run("\"$HARNESS\" replay $FOLDER/results 2>&1", out), 0);
    assert_int_equal(count_of(out, ": byte for byte equal\n"), 5);
    assert_int_equal(count_of(out, "/records/r0000/api-0.rec: "), 1);
    assert_int_equal(count_of(out, "/records/r0000/engine-1.rec: "), 1);
    assert_int_equal(count_of(out, "/records/r0000/coordinator-0.rec: "), 1);
    assert_int_equal(count_of(out, "/records/r0000/launcher-0.rec: "), 1);
    assert_int_equal(
        run("\"$HARNESS\" replay --print $FOLDER/results/records/r0000/engine-0.rec | sed -n 1p",
            out),
        0);
    assert_int_equal(count_of(out, "0 create process=engine revision="), 1);

    /* A damaged byte, and a folder without any. */
    assert_int_equal(run("cd $FOLDER/results/records/r0000 && printf x | dd of=engine-0.rec bs=1 "
                         "seek=3000 conv=notrunc 2>&1",
                         out),
                     0);
    assert_int_equal(
        run("\"$HARNESS\" replay $FOLDER/results/records/r0000/engine-0.rec 2>&1", out), 2);
    assert_int_equal(count_of(out, "engine-0.rec: offset "), 1);
    assert_int_equal(count_of(out, "damaged"), 1);
    assert_int_equal(run("\"$HARNESS\" replay $FOLDER/results/figures 2>&1", out), 2);
    assert_int_equal(run("\"$HARNESS\" serve $FOLDER/r.ini 2>&1", out), 2);
    assert_int_equal(count_of(out, "--record DIR is missing"), 1);
    assert_int_equal(run("rm -r $FOLDER", out), 0);
}

int main(void)
{
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(balancing_with_aborts_and_pauses),
        cmocka_unit_test(ranks_in_lockstep),
        cmocka_unit_test(one_engine_core_small_cache),
        cmocka_unit_test(a_killed_engine_core_leaves_its_calls),
        cmocka_unit_test(the_program_records_and_replays),
    };
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
