/*
 * tape_file_test.c - the file of a tape: what was written is read back, whatever ends the process
 * (SIGKILL, a file system that takes no more), and no damaged byte goes unseen.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper_tape.h"

enum {
    FRAMES = 3000,
    FRAME_BYTES_MAX = 900
};

/* Frame `number` has a length and bytes of its own; a few are longer than the piece that is mapped
 * at once. */
static size_t frame_of(uint32_t number, unsigned char **out)
{
    size_t bytes = number % 1000 == 999 ? 3000000 : (size_t)number * 7919 % FRAME_BYTES_MAX;
    unsigned char *data = malloc(bytes + 1);
    assert_non_null(data);
    for (size_t i = 0; i < bytes; i++) {
        data[i] = (unsigned char)(number + i * 31);
    }
    *out = data;
    return bytes;
}

static void write_frame(struct tape *t, uint32_t number)
{
    unsigned char *data;
    size_t bytes = frame_of(number, &data);
    const struct tape_code body = {.data = data, .bytes = bytes};
    tape_code_append(tape_begin(t, 5), &body);
    tape_end(t);
    free(data);
}

/* Returns how many frames there are; each must be what was written. */
static uint32_t read_frames(const char *name, enum status *end, struct error *error)
{
    struct tape_reader r;
    struct tape_frame f;
    char path[TAPE_PATH_BYTES];
    uint32_t count = 0;
    tape_path(name, path);
    *end = tape_reader_open(&r, path, error);
    if (*end != STATUS_OK) {
        return 0;
    }
    while ((*end = tape_read(&r, &f, error)) == STATUS_OK) {
        unsigned char *data;
        size_t bytes = frame_of(count, &data);
        assert_int_equal(f.number, count);
        assert_int_equal(f.bytes, bytes + 1);
        assert_int_equal(f.data[0], 5);
        assert_memory_equal(f.data + 1, data, bytes);
        free(data);
        count++;
    }
    tape_reader_close(&r);
    return count;
}

static void frames_are_read_as_they_were_written(void **state)
{
    (void)state;
    enum status end;
    struct error error;
    struct stat st;
    char path[TAPE_PATH_BYTES];
    size_t bytes = 16;
    struct tape *t = tape_open("whole.rec", TAPE_ENGINE_CORE, 0);
    for (uint32_t i = 0; i < FRAMES; i++) {
        unsigned char *data;
        write_frame(t, i);
        bytes += 8 + (frame_of(i, &data) + 1 + 7) / 8 * 8;
        free(data);
    }
    tape_close(t);
    assert_int_equal(read_frames("whole.rec", &end, &error), FRAMES);
    assert_int_equal(end, STATUS_NOT_FOUND);
    tape_path("whole.rec", path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal((size_t)st.st_size, bytes); /* nothing is left behind the last frame */
}

/* The process says how many frames it wrote through a pipe, and is killed while it writes on. */
static void a_killed_process_leaves_all_it_wrote(void **state)
{
    (void)state;
    int said[2];
    enum status end;
    struct error error;
    assert_int_equal(pipe(said), 0);
    pid_t child = fork();
    if (child == 0) {
        struct tape *t = tape_open("killed.rec", TAPE_ENGINE_CORE, 0);
        for (uint32_t i = 0;; i++) {
            write_frame(t, i);
            if (write(said[1], &i, sizeof i) != sizeof i) {
                _exit(1);
            }
        }
    }
    uint32_t last = 0;
    (void)close(said[1]);
    while (last < 2500) {
        assert_int_equal(read(said[0], &last, sizeof last), sizeof last);
    }
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    while (read(said[0], &last, sizeof last) == sizeof last) {
    }
    (void)close(said[0]);
    uint32_t count = read_frames("killed.rec", &end, &error);
    assert_int_equal(end, STATUS_NOT_FOUND);
    assert_true(count == last + 1 || count == last + 2);
}

static char lost_text[500];
static uint32_t lost_count;

static void lost(const struct error *why)
{
    memcpy(lost_text, why->text, sizeof lost_text);
    lost_count++;
}

/* A limit of the file size stands for a full disk. In a process of its own: limits do not go up
 * again. */
static int write_beyond_limit(const char *path)
{
    struct tape *t = NULL;
    struct error error;
    struct rlimit limit = {.rlim_cur = 400000, .rlim_max = 400000};
    struct tape_options options = {.path = path, .owner = {.revision = ""}, .lost = lost};
    (void)signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0 || tape_create(&options, &t, &error) != STATUS_OK) {
        return 1;
    }
    for (uint32_t i = 0; i < 990; i++) {
        write_frame(t, i);
    }
    tape_close(t);
    return lost_count == 1 && strstr(lost_text, path) != NULL ? 0 : 2;
}

static void a_full_disk_ends_the_recording_only(void **state)
{
    (void)state;
    char path[TAPE_PATH_BYTES];
    int how = 0;
    enum status end;
    struct error error;
    tape_path("full.rec", path);
    pid_t child = fork();
    if (child == 0) {
        _exit(write_beyond_limit(path));
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how));
    assert_int_equal(WEXITSTATUS(how), 0);
    uint32_t count = read_frames("full.rec", &end, &error);
    assert_int_equal(end, STATUS_NOT_FOUND);
    assert_true(count > 100 && count < 990);
}

static void a_file_that_cannot_be_made_is_named(void **state)
{
    (void)state;
    struct tape *t = NULL;
    struct error error;
    char path[TAPE_PATH_BYTES];
    tape_path("none/x.rec", path);
    struct tape_options options = {.path = path, .owner = {.revision = ""}, .lost = lost};
    assert_int_equal(tape_create(&options, &t, &error), STATUS_IO);
    assert_non_null(strstr(error.text, path));
}

/* ---- damage ---- */

static unsigned char *load(const char *name, size_t *bytes)
{
    char path[TAPE_PATH_BYTES];
    struct stat st;
    tape_path(name, path);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    unsigned char *data = malloc((size_t)st.st_size);
    assert_non_null(data);
    assert_int_equal(read(fd, data, (size_t)st.st_size), st.st_size);
    (void)close(fd);
    *bytes = (size_t)st.st_size;
    return data;
}

/* Frames of a file in memory; `*end` is what stopped it. */
static uint32_t count_frames(const unsigned char *data, size_t bytes, enum status *end,
                             struct error *error)
{
    struct tape_reader r;
    struct tape_frame f;
    *end = tape_reader_init(&r, data, bytes, error);
    if (*end != STATUS_OK) {
        return 0;
    }
    while ((*end = tape_read(&r, &f, error)) == STATUS_OK) {
    }
    return (uint32_t)r.frames_count;
}

static void each_flipped_bit_is_seen(void **state)
{
    (void)state;
    enum status end;
    struct error error;
    size_t bytes;
    struct tape *t = tape_open("bits.rec", TAPE_ENGINE_CORE, 0);
    for (uint32_t i = 0; i < 20; i++) {
        write_frame(t, i % 8);
    }
    tape_close(t);
    unsigned char *data = load("bits.rec", &bytes);
    assert_int_equal(count_frames(data, bytes, &end, &error), 20);
    assert_int_equal(end, STATUS_NOT_FOUND);
    for (size_t at = 0; at < bytes; at++) {
        data[at] ^= (unsigned char)(1U << at % 8);
        uint32_t count = count_frames(data, bytes, &end, &error);
        /* Zeros between frames and the unused number of the head carry nothing. */
        if (count != 20 || end != STATUS_NOT_FOUND) {
            assert_int_equal(end, STATUS_PROTOCOL);
            assert_true(at < 16 || strstr(error.text, "offset") != NULL);
        } else {
            assert_true((at >= 12 && at < 16) || data[at] == 1U << at % 8);
        }
        data[at] ^= (unsigned char)(1U << at % 8);
    }
    free(data);
}

/* Cut anywhere, the frames before are read, and it is known whether one was cut in two. */
static void a_cut_file_is_read_as_far_as_it_goes(void **state)
{
    (void)state;
    enum status end;
    struct error error;
    size_t bytes;
    unsigned char *data = load("bits.rec", &bytes);
    uint32_t before = 0;
    uint32_t whole_ends = 0;
    for (size_t cut = 16; cut <= bytes; cut++) {
        uint32_t count = count_frames(data, cut, &end, &error);
        assert_true(count == before || count == before + 1);
        before = count;
        whole_ends += end == STATUS_NOT_FOUND ? 1 : 0;
        assert_true(end == STATUS_NOT_FOUND || end == STATUS_PROTOCOL);
    }
    assert_int_equal(before, 20);
    assert_int_equal(whole_ends, 21);
    for (size_t cut = 0; cut < 16; cut++) {
        (void)count_frames(data, cut, &end, &error);
        assert_int_equal(end, STATUS_PROTOCOL);
    }
    free(data);
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
        cmocka_unit_test(frames_are_read_as_they_were_written),
        cmocka_unit_test(a_killed_process_leaves_all_it_wrote),
        cmocka_unit_test(a_full_disk_ends_the_recording_only),
        cmocka_unit_test(a_file_that_cannot_be_made_is_named),
        cmocka_unit_test(each_flipped_bit_is_seen),
        cmocka_unit_test(a_cut_file_is_read_as_far_as_it_goes),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
