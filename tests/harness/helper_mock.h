/* helper_mock.h - the mock server in a thread of the test. */
#ifndef TESTS_HARNESS_HELPER_MOCK_H
#define TESTS_HARNESS_HELPER_MOCK_H

#include <pthread.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "harness/load/mock_server.h"

struct mock {
    struct mock_options options;
    struct mock_shared *shared;
    pthread_t thread;
    uint32_t port;
    int listen_fd;
    int stop_fd;
    enum status status;
};

/* At a free port. Keeps up to stamps_max stamps. */
void mock_start(struct mock *m, struct mock_options options, uint32_t stamps_max);
/* The stamps stay readable until mock_forget(). */
void mock_stop(struct mock *m);
void mock_forget(struct mock *m);

#endif
