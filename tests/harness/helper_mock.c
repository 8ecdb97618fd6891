/* helper_mock.c - starts and ends the mock server in a thread of the test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "harness/load/listener.h"
#include "helper_mock.h"

static void *serve(void *ctx)
{
    struct mock *m = ctx;
    m->status = mock_serve(m->listen_fd, m->stop_fd, &m->options, m->shared, NULL);
    return NULL;
}

void mock_start(struct mock *m, struct mock_options options, uint32_t stamps_max)
{
    *m = (struct mock){.options = options, .stop_fd = eventfd(0, EFD_CLOEXEC)};
    assert_int_equal(mock_shared_create(stamps_max, &m->shared, NULL), STATUS_OK);
    assert_int_equal(listener_open(0, &m->listen_fd, &m->port, NULL), STATUS_OK);
    assert_int_equal(pthread_create(&m->thread, NULL, serve, m), 0);
}

void mock_stop(struct mock *m)
{
    uint64_t one = 1;
    assert_int_equal(write(m->stop_fd, &one, sizeof one), sizeof one);
    assert_int_equal(pthread_join(m->thread, NULL), 0);
    assert_int_equal(m->status, STATUS_OK);
    (void)close(m->stop_fd);
}

void mock_forget(struct mock *m)
{
    mock_shared_destroy(m->shared);
}
