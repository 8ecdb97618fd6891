/*
 * mock_shared.c - the region that the mock writes its stamps and counters to, and the stamps as CSV
 * (mock_server.h). Driven by whoever starts a mock, never by its loop.
 */
#include <inttypes.h>
#include <sys/mman.h>

#include "harness/load/mock_server.h"

const char *mock_kind_name(enum mock_kind kind)
{
    static const char *const names[] = {
#define X(name, text) text,
        MOCK_KINDS(X)
#undef X
    };
    return names[kind];
}

enum status mock_shared_create(uint64_t stamps_max, struct mock_shared **out, struct error *error)
{
    size_t bytes = sizeof(struct mock_shared) + stamps_max * sizeof(struct mock_stamp);
    struct mock_shared *shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                                      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (shared == MAP_FAILED) {
        return error_set(error, STATUS_NOMEM, "no memory for %" PRIu64 " stamps", stamps_max);
    }
    shared->bytes = bytes;
    shared->stamps_max = stamps_max;
    *out = shared;
    return STATUS_OK;
}

void mock_shared_destroy(struct mock_shared *shared)
{
    (void)munmap(shared, shared->bytes);
}

void mock_write_stamps(const struct mock_shared *shared, FILE *file)
{
    uint64_t count = atomic_load_explicit(&shared->stamps_count, memory_order_acquire);
    (void)fputs("request,request_id,event,kind,tokens,scheduled_ns,sent_ns\n", file);
    for (uint64_t i = 0; i < count; i++) {
        const struct mock_stamp *t = &shared->stamps[i];
        (void)fprintf(file, "%" PRIu64 ",", t->request);
        if (t->request_id != MOCK_NO_REQUEST_ID) {
            (void)fprintf(file, "%" PRIu64, t->request_id);
        }
        (void)fprintf(file, ",%u,%s,%u,%" PRId64 ",%" PRId64 "\n", t->event,
                      mock_kind_name((enum mock_kind)t->kind), t->tokens, t->scheduled_ns,
                      t->sent_ns);
    }
}
