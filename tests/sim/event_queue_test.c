/* event_queue_test.c - the heap against the plainest oracle: the least of an array. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/random.h"
#include "sim/event_queue.h"

enum {
    ENTITIES_MAX = 100,
    ROUNDS = 20000
};

static uint32_t least(const time_ps *times, uint32_t count)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < count; i++) {
        if (times[i] < times[best]) {
            best = i;
        }
    }
    return best;
}

/* Few different times, so that ties are common; every sixth is "never". */
static time_ps draw(struct random *r)
{
    int64_t value = random_range(r, 0, 59);
    return value < 50 ? value : TIME_NEVER;
}

static void follows_oracle(uint32_t count)
{
    struct event_queue q;
    struct error error;
    time_ps times[ENTITIES_MAX];
    struct random r = random_stream(count, "heap", 0);
    assert_int_equal(event_queue_create(count, &q, &error), STATUS_OK);
    for (uint32_t i = 0; i < count; i++) {
        times[i] = TIME_NEVER;
    }
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t entity;
        uint32_t want = least(times, count);
        assert_int_equal(event_queue_next(&q, &entity), times[want]);
        assert_int_equal(entity, want);
        uint32_t changed = (uint32_t)random_range(&r, 0, count - 1);
        changed = round % 2 == 0 ? want : changed;
        times[changed] = draw(&r);
        event_queue_set(&q, changed, times[changed]);
        assert_int_equal(event_queue_of(&q, changed), times[changed]);
    }
    event_queue_destroy(&q);
}

static void gives_the_least_of_all(void **state)
{
    (void)state;
    for (uint32_t count = 1; count <= ENTITIES_MAX; count = count * 2 + 1) {
        follows_oracle(count);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(gives_the_least_of_all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
