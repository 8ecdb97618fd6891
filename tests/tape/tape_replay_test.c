/*
 * tape_replay_test.c - tapes of small systems played back: all answers are equal, and a tape on
 * which one question, one answer or one option is another is found at that call.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper_tape.h"

enum {
    /* Of tape_engine.c and tape_frontend.c: numbers of calls are part of the file format. */
    CALL_ENGINE_COMPLETE = 5,
    CALL_FRONTEND_TAKE = 5,
    ANSWER = 0x40,
};

static const char *const names[] = {"engine-0.rec", "api-0.rec", "coordinator-0.rec",
                                    "launcher-0.rec"};

static void assert_equal(const char *name, struct tape_summary *s)
{
    tape_replayed(name, s);
    if (s->differs) {
        fail_msg("%s: call %llu: %s", name, (unsigned long long)s->difference_call, s->difference);
    }
    assert_true(s->calls_count > 0 && s->in_count > 0);
}

static void small_systems_replay_equal(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 12; seed++) {
        struct tape_summary s[4];
        uint64_t tokens = tape_small_system(seed, seed % 2 == 0);
        for (uint32_t i = 0; i < 4; i++) {
            assert_equal(names[i], &s[i]);
            assert_int_equal(s[i].index, 0);
            assert_string_equal(s[i].revision, "test");
        }
        assert_int_equal(s[0].kind, TAPE_ENGINE_CORE);
        assert_int_equal(s[1].kind, TAPE_API_SERVER);
        assert_int_equal(s[2].kind, TAPE_COORDINATOR);
        assert_int_equal(s[3].kind, TAPE_LAUNCHER);
        assert_int_equal(s[1].tokens_count, tokens);
        assert_true(s[0].tokens_count >= tokens); /* some came for requests that were cancelled */
        assert_true(tokens > 100);
        assert_true(s[0].last_at > s[0].first_at);
    }
}

/* ---- tapes with something changed ---- */

struct one_change {
    uint32_t first_byte; /* of the frame */
    uint32_t nth;        /* of these frames */
    int32_t at;          /* which byte: from the front, or from the end if negative */
    unsigned char flip;
    uint32_t seen;
    bool cut; /* the tape ends with this frame instead */
};

static bool change_one(void *ctx, uint64_t number, unsigned char *data, size_t *bytes)
{
    struct one_change *c = ctx;
    (void)number;
    if (data[0] != c->first_byte || c->seen++ != c->nth) {
        return false;
    }
    if (c->cut) {
        *bytes = 0;
    } else {
        size_t at = c->at < 0 ? *bytes - (size_t)-c->at : (size_t)c->at;
        assert_true(at > 0 && at < *bytes);
        data[at] ^= c->flip;
    }
    return true;
}

/* The status of a replay of `from` with the change; the summary is in *out. */
static enum status replay_changed(const char *from, struct one_change *c, struct tape_summary *out)
{
    struct tape_reader reader;
    struct error error;
    char path[TAPE_PATH_BYTES];
    const struct tape_change change = {.change = change_one, .ctx = c};
    c->seen = 0;
    assert_int_equal(tape_copy(from, "changed.rec", &change), 1);
    tape_path("changed.rec", path);
    assert_int_equal(tape_reader_open(&reader, path, &error), STATUS_OK);
    enum status status = tape_replay(&reader, out, &error);
    if (status != STATUS_OK) {
        assert_int_equal(status, STATUS_PROTOCOL);
        assert_non_null(strstr(error.text, "offset"));
    }
    tape_reader_close(&reader);
    return status;
}

/* An output token that the device gave: the messages of that step must be others. */
static void another_token_is_found_at_its_step(void **state)
{
    (void)state;
    struct tape_summary s;
    struct one_change c = {.first_byte = CALL_ENGINE_COMPLETE, .nth = 30, .at = -1, .flip = 0x01};
    (void)tape_small_system(3, false);
    assert_int_equal(replay_changed("engine-0.rec", &c, &s), STATUS_OK);
    assert_true(s.differs);
    assert_non_null(strstr(s.difference, "recorded \""));
    assert_non_null(strstr(s.difference, "replayed \""));
    assert_non_null(strstr(s.difference, "tokens="));
    uint64_t found_at = s.difference_call;
    c.nth = 31;
    assert_int_equal(replay_changed("engine-0.rec", &c, &s), STATUS_OK);
    assert_true(s.differs && s.difference_call > found_at);
}

/* Of the n-th frame of this kind; 0: there is none. */
static size_t frame_bytes(const char *name, uint32_t first_byte, uint32_t nth)
{
    struct tape_reader r;
    struct tape_frame f;
    struct error error;
    char path[TAPE_PATH_BYTES];
    size_t bytes = 0;
    tape_path(name, path);
    assert_int_equal(tape_reader_open(&r, path, &error), STATUS_OK);
    while (bytes == 0 && tape_read(&r, &f, &error) == STATUS_OK) {
        bytes = f.data[0] == first_byte && nth-- == 0 ? f.bytes : 0;
    }
    tape_reader_close(&r);
    return bytes;
}

/* Every byte of a recorded answer counts. */
static void each_byte_of_an_answer_counts(void **state)
{
    (void)state;
    struct tape_summary s;
    uint32_t nth = 10;
    while (frame_bytes("api-0.rec", CALL_FRONTEND_TAKE | ANSWER, nth) < 3) {
        nth++; /* nothing was there to take */
    }
    size_t bytes = frame_bytes("api-0.rec", CALL_FRONTEND_TAKE | ANSWER, nth);
    assert_true(bytes > 20);
    for (int32_t at = 1; at < (int32_t)bytes; at++) {
        struct one_change c = {
            .first_byte = CALL_FRONTEND_TAKE | ANSWER, .nth = nth, .at = at, .flip = 0x02};
        struct tape_summary before;
        enum status status = replay_changed("api-0.rec", &c, &s);
        assert_true(status == STATUS_OK && s.differs);
        c.cut = true;
        assert_int_equal(replay_changed("api-0.rec", &c, &before), STATUS_OK);
        assert_false(before.differs);
        assert_true(before.calls_count <= s.difference_call);
    }
}

/* A flipped bit in any frame: another answer, or a call that no process can have made. A few bits
 * of a question change nothing (a temperature, a time): those must be of questions. */
static void a_flipped_bit_in_any_frame_is_found_or_harmless(void **state)
{
    (void)state;
    uint32_t found = 0;
    uint32_t harmless = 0;
    for (uint32_t i = 0; i < 4; i++) {
        for (uint32_t first_byte = 0; first_byte < 0x80; first_byte++) {
            for (uint32_t nth = 0; nth < 4; nth++) {
                struct tape_summary s;
                struct one_change c = {.first_byte = first_byte, .nth = nth, .at = -1, .flip = 1};
                if (frame_bytes(names[i], first_byte, nth) < 2) {
                    continue; /* no such frame, or nothing in it */
                }
                enum status status = replay_changed(names[i], &c, &s);
                bool is_found = status != STATUS_OK || s.differs;
                found += is_found ? 1 : 0;
                harmless += is_found ? 0 : 1;
                assert_true(is_found || (first_byte & ANSWER) == 0);
            }
        }
    }
    assert_true(found > 100);
    assert_true(harmless < found / 4);
}

/* ---- prefixes ---- */

/* The process may be ended between any two frames: the prefix replays equal. */
static void each_prefix_replays_equal(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        char path[TAPE_PATH_BYTES];
        struct tape_reader whole;
        struct tape_frame frame;
        struct error error;
        uint64_t calls = 0;
        tape_path(names[i], path);
        assert_int_equal(tape_reader_open(&whole, path, &error), STATUS_OK);
        for (uint32_t k = 0; k < 400 && tape_read(&whole, &frame, &error) == STATUS_OK; k++) {
            struct tape_reader prefix;
            struct tape_summary s;
            assert_int_equal(tape_reader_init(&prefix, whole.data, whole.at, &error), STATUS_OK);
            assert_int_equal(tape_replay(&prefix, &s, &error), STATUS_OK);
            assert_false(s.differs);
            assert_true(s.calls_count >= calls && s.calls_count <= calls + 1);
            calls = s.calls_count;
        }
        tape_reader_close(&whole);
    }
}

/* ---- for people ---- */

/* As many lines as calls, and the creation. The caller frees it. */
static char *printed(const char *name)
{
    struct tape_reader reader;
    struct tape_summary s;
    struct error error;
    char path[TAPE_PATH_BYTES];
    char *text = NULL;
    size_t bytes = 0;
    tape_replayed(name, &s);
    tape_path(name, path);
    assert_int_equal(tape_reader_open(&reader, path, &error), STATUS_OK);
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    assert_int_equal(tape_print(&reader, out, &error), STATUS_OK);
    (void)fclose(out);
    tape_reader_close(&reader);
    uint64_t lines = 0;
    for (const char *at = text; (at = strchr(at, '\n')) != NULL; at++) {
        lines++;
    }
    assert_int_equal(lines, s.calls_count + 1);
    return text;
}

static void calls_are_printed_one_a_line(void **state)
{
    (void)state;
    for (uint32_t i = 1; i < 4; i++) {
        free(printed(names[i]));
    }
    char *text = printed("engine-0.rec");
    assert_non_null(strstr(text, "0 create process=engine revision=\"test\""));
    assert_non_null(strstr(text, " max_num_seqs=6 "));
    assert_non_null(strstr(text, " add now=1.000000000000 id=\"cmpl-0-and-a-long-name-00000000\""));
    assert_non_null(strstr(text, " complete now="));
    assert_non_null(strstr(text, "  -> turn=submit step=1 "));
    free(text);
}

static int set_up(void **state)
{
    (void)state;
    tape_folder_make();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tape_folder_remove();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_systems_replay_equal),
        cmocka_unit_test(another_token_is_found_at_its_step),
        cmocka_unit_test(each_byte_of_an_answer_counts),
        cmocka_unit_test(a_flipped_bit_in_any_frame_is_found_or_harmless),
        cmocka_unit_test(each_prefix_replays_equal),
        cmocka_unit_test(calls_are_printed_one_a_line),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
