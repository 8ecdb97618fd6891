/*
 * ring_test.c - the shared-memory ring between processes and threads: order and completeness for
 * every reader, messages larger than a chunk and than the ring, bounded waits, and the death of
 * either side at any moment.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/node/ring.h"

enum {
    SECOND = 1000000000
};

static struct ring_wait within(enum wait_mode mode, int64_t ns)
{
    return (struct ring_wait){.mode = mode, .deadline_ns = clock_now_ns() + ns, .death_fd = -1};
}

static struct ring create(uint32_t chunk_bytes, uint32_t readers)
{
    struct ring r;
    assert_int_equal(ring_create(chunk_bytes, readers, RING_WRITER, &r, NULL), STATUS_OK);
    return r;
}

static struct ring attach(const struct ring *to, int reader)
{
    struct ring r;
    assert_int_equal(ring_attach(dup(to->fd), reader, &r, NULL), STATUS_OK);
    return r;
}

/* Message n has n-dependent length and bytes. */
static size_t fill(unsigned char *out, uint32_t n, size_t max)
{
    size_t bytes = 1 + (n * 2654435761U) % max;
    for (size_t i = 0; i < bytes; i++) {
        out[i] = (unsigned char)(n * 31 + i);
    }
    return bytes;
}

static bool is_message(uint32_t n, size_t max, const void *data, size_t bytes)
{
    unsigned char *want = malloc(max);
    bool same = want != NULL && bytes == fill(want, n, max) && memcmp(data, want, bytes) == 0;
    free(want);
    return same;
}

struct flow {
    struct ring *to;
    int reader;
    enum wait_mode mode;
    uint32_t messages;
    size_t max;
    uint32_t got;
};

static void *read_flow(void *arg)
{
    struct flow *f = arg;
    struct ring r = attach(f->to, f->reader);
    for (f->got = 0; f->got < f->messages; f->got++) {
        struct ring_wait wait = within(f->mode, 60LL * SECOND);
        const void *data = NULL;
        size_t bytes = 0;
        if (ring_read(&r, &wait, &data, &bytes, NULL) != STATUS_OK ||
            !is_message(f->got, f->max, data, bytes)) {
            break; /* the count tells; assertions belong to the main thread */
        }
    }
    ring_close(&r);
    return NULL;
}

static void run_flow(uint32_t readers, enum wait_mode mode, uint32_t messages, size_t max)
{
    struct ring writer = create(1000, readers);
    struct flow flows[RING_READERS_MAX];
    pthread_t threads[RING_READERS_MAX];
    for (uint32_t i = 0; i < readers; i++) {
        flows[i] = (struct flow){&writer, (int)i, mode, messages, max, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, read_flow, &flows[i]), 0);
    }
    unsigned char *data = malloc(max);
    assert_non_null(data);
    for (uint32_t n = 0; n < messages; n++) {
        struct ring_wait wait = within(mode, 60LL * SECOND);
        size_t bytes = fill(data, n, max);
        assert_int_equal(ring_write(&writer, data, bytes, &wait, NULL), STATUS_OK);
    }
    for (uint32_t i = 0; i < readers; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(flows[i].got, messages);
    }
    free(data);
    ring_close(&writer);
}

static void every_reader_gets_every_message_in_order(void **state)
{
    (void)state;
    run_flow(1, WAIT_BLOCK, 3000, 1000);
    run_flow(1, WAIT_SPIN, 3000, 1000);
    run_flow(4, WAIT_BLOCK, 1500, 1000);
    run_flow(3, WAIT_SPIN, 300, 1000);
}

static void messages_larger_than_a_chunk_and_than_the_ring(void **state)
{
    (void)state;
    run_flow(1, WAIT_BLOCK, 300, 3500);
    run_flow(2, WAIT_BLOCK, 60, 100000);
}

static void full_and_empty_rings_time_out(void **state)
{
    (void)state;
    struct ring writer = create(64, 2);
    struct ring readers[2] = {attach(&writer, 0), attach(&writer, 1)};
    struct ring_wait wait = within(WAIT_BLOCK, 20000000);
    const void *data = NULL;
    size_t bytes = 0;
    assert_int_equal(ring_read(&readers[0], &wait, &data, &bytes, NULL), STATUS_TIMEOUT);
    assert_true(clock_now_ns() >= wait.deadline_ns);
    for (int i = 0; i < RING_CHUNKS; i++) {
        wait = within(WAIT_BLOCK, SECOND);
        assert_int_equal(ring_write(&writer, "x", 1, &wait, NULL), STATUS_OK);
    }
    wait = within(WAIT_BLOCK, 20000000);
    assert_int_equal(ring_write(&writer, "x", 1, &wait, NULL), STATUS_TIMEOUT);
    /* One reader is not enough to free a chunk. */
    wait = within(WAIT_SPIN, SECOND);
    assert_int_equal(ring_read(&readers[0], &wait, &data, &bytes, NULL), STATUS_OK);
    ring_release(&readers[0]);
    wait = within(WAIT_BLOCK, 20000000);
    assert_int_equal(ring_write(&writer, "x", 1, &wait, NULL), STATUS_TIMEOUT);
    wait = within(WAIT_BLOCK, SECOND);
    assert_int_equal(ring_read(&readers[1], &wait, &data, &bytes, NULL), STATUS_OK);
    /* Nor is reading before the message is let go. */
    wait = within(WAIT_BLOCK, 20000000);
    assert_int_equal(ring_write(&writer, "x", 1, &wait, NULL), STATUS_TIMEOUT);
    ring_release(&readers[1]);
    wait = within(WAIT_BLOCK, SECOND);
    assert_int_equal(ring_write(&writer, "x", 1, &wait, NULL), STATUS_OK);
    ring_close(&readers[0]);
    ring_close(&readers[1]);
    ring_close(&writer);
}

static void a_long_message_goes_on_after_a_time_out(void **state)
{
    (void)state;
    struct ring writer = create(4, 1);
    struct ring reader = attach(&writer, 0);
    unsigned char message[100];
    struct ring_wait wait = within(WAIT_BLOCK, 20000000);
    memset(message, 'm', sizeof message);
    /* Ten chunks of 4 bytes fit, then nobody reads: the writer's message stays unfinished. */
    assert_int_equal(ring_write(&writer, message, sizeof message, &wait, NULL), STATUS_TIMEOUT);
    const void *data = NULL;
    size_t bytes = 0;
    wait = within(WAIT_BLOCK, 20000000);
    assert_int_equal(ring_read(&reader, &wait, &data, &bytes, NULL), STATUS_TIMEOUT);
    assert_int_equal(reader.parts_used, 40);
    wait = within(WAIT_BLOCK, SECOND);
    assert_int_equal(ring_write(&writer, message, 1, &wait, NULL), STATUS_PROTOCOL);
    assert_int_equal(ring_write(&writer, message, 0, &wait, NULL), STATUS_INVALID);
    ring_close(&reader);
    ring_close(&writer);
}

static void *cancel_later(void *arg)
{
    clock_sleep_until_ns(clock_now_ns() + 30000000);
    ring_cancel(arg);
    return NULL;
}

static void cancel_wakes_sleepers(void **state)
{
    (void)state;
    struct ring writer = create(64, 1);
    struct ring reader = attach(&writer, 0);
    pthread_t thread;
    const void *data = NULL;
    size_t bytes = 0;
    assert_int_equal(pthread_create(&thread, NULL, cancel_later, &writer), 0);
    struct ring_wait wait = within(WAIT_BLOCK, 60LL * SECOND);
    assert_int_equal(ring_read(&reader, &wait, &data, &bytes, NULL), STATUS_DIED);
    assert_true(clock_now_ns() < wait.deadline_ns);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(ring_cancelled(&reader));
    assert_int_equal(ring_write(&writer, "x", 1, &wait, NULL), STATUS_DIED);
    ring_close(&reader);
    ring_close(&writer);
}

/* A child that reads a while, then is killed: the writer sees DIED through the pipe that the child
 * held open. */
static void death_of_the_reader_ends_the_writers_wait(void **state)
{
    (void)state;
    struct ring writer = create(64, 1);
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t child = fork();
    if (child == 0) {
        (void)close(pipe_fds[0]);
        struct ring reader;
        struct ring_wait wait = within(WAIT_BLOCK, 60LL * SECOND);
        const void *data = NULL;
        size_t bytes = 0;
        if (ring_attach(dup(writer.fd), 0, &reader, NULL) == STATUS_OK &&
            ring_read(&reader, &wait, &data, &bytes, NULL) == STATUS_OK) {
            (void)raise(SIGKILL); /* holding a message */
        }
        _exit(1);
    }
    (void)close(pipe_fds[1]);
    enum status status = STATUS_OK;
    int written = 0;
    struct ring_wait wait = within(WAIT_BLOCK, 60LL * SECOND);
    wait.death_fd = pipe_fds[0];
    while (status == STATUS_OK) {
        status = ring_write(&writer, "x", 1, &wait, NULL);
        written++;
    }
    assert_int_equal(status, STATUS_DIED);
    assert_int_equal(written, RING_CHUNKS + 1);
    assert_true(clock_now_ns() < wait.deadline_ns);
    assert_int_equal(waitpid(child, NULL, 0), child);
    (void)close(pipe_fds[0]);
    ring_close(&writer);
}

static void what_a_dead_writer_left_is_still_read(void **state)
{
    (void)state;
    struct ring reader;
    assert_int_equal(ring_create(64, 1, 0, &reader, NULL), STATUS_OK);
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t child = fork();
    if (child == 0) {
        (void)close(pipe_fds[0]);
        struct ring writer;
        struct ring_wait wait = within(WAIT_BLOCK, 60LL * SECOND);
        if (ring_attach(dup(reader.fd), RING_WRITER, &writer, NULL) != STATUS_OK) {
            _exit(1);
        }
        for (int i = 0; i < 3; i++) {
            if (ring_write(&writer, "abc", 3, &wait, NULL) != STATUS_OK) {
                _exit(1);
            }
        }
        (void)raise(SIGKILL);
    }
    (void)close(pipe_fds[1]);
    assert_int_equal(waitpid(child, NULL, 0), child);
    struct ring_wait wait = within(WAIT_SPIN, 60LL * SECOND);
    wait.death_fd = pipe_fds[0];
    const void *data = NULL;
    size_t bytes = 0;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ring_read(&reader, &wait, &data, &bytes, NULL), STATUS_OK);
        assert_int_equal(bytes, 3);
        assert_memory_equal(data, "abc", 3);
    }
    assert_int_equal(ring_read(&reader, &wait, &data, &bytes, NULL), STATUS_DIED);
    assert_true(clock_now_ns() < wait.deadline_ns);
    (void)close(pipe_fds[0]);
    ring_close(&reader);
}

static void strange_descriptors_are_refused(void **state)
{
    (void)state;
    struct ring r;
    struct error error;
    assert_int_equal(ring_attach(-1, 0, &r, &error), STATUS_PROTOCOL);
    int fd = memfd_create("zeros", MFD_CLOEXEC);
    assert_true(fd >= 0 && ftruncate(fd, 1 << 20) == 0);
    assert_int_equal(ring_attach(fd, 0, &r, &error), STATUS_PROTOCOL);
    assert_int_equal(fcntl(fd, F_GETFD), -1); /* taken over and closed */
    struct ring writer = create(64, 2);
    assert_int_equal(ring_attach(dup(writer.fd), 2, &r, &error), STATUS_PROTOCOL);
    int cut = dup(writer.fd);
    assert_int_equal(ftruncate(cut, 8192), 0);
    assert_int_equal(ring_attach(cut, 0, &r, &error), STATUS_PROTOCOL);
    ring_close(&writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_reader_gets_every_message_in_order),
        cmocka_unit_test(messages_larger_than_a_chunk_and_than_the_ring),
        cmocka_unit_test(full_and_empty_rings_time_out),
        cmocka_unit_test(a_long_message_goes_on_after_a_time_out),
        cmocka_unit_test(cancel_wakes_sleepers),
        cmocka_unit_test(death_of_the_reader_ends_the_writers_wait),
        cmocka_unit_test(what_a_dead_writer_left_is_still_read),
        cmocka_unit_test(strange_descriptors_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
