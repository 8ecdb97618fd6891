/*
 * ledger.c - what it costs a thread to count: nanoseconds of one addition to a counter, of one time
 * into a histogram, and of all that a kernel launch books, each beside the same loop without it.
 * The fraction is what that is of the time of the thing counted: an emulated launch of 2 us.
 *
 *     ./dev bench ledger
 */
#include <stdio.h>

#include "engine/base/clock.h"
#include "engine/base/random.h"
#include "engine/ledger/ledger.h"

enum {
    TIMES = 4096,
    ROUNDS = 2000,
    TRIES = 5,
    LAUNCH_NS = 2000,
};

static struct ledger_thread thread;
static int64_t times_ns[TIMES];

static void nothing(int64_t ns)
{
    __asm__ volatile("" : : "r"(ns) : "memory");
}

static void counter(int64_t ns)
{
    nothing(ns);
    ledger_add(&thread.busy_ns, (uint64_t)ns);
}

static void histogram(int64_t ns)
{
    nothing(ns);
    ledger_histogram_add(&thread.launches, ns);
}

/* As engine/device/gpu.c does, the reading of the clock included. */
static void launch(int64_t ns)
{
    nothing(clock_now_ns());
    ledger_add(&thread.launches_count[LAUNCH_CLASS_KERNEL], 1);
    ledger_add(&thread.launch_ns[LAUNCH_CLASS_KERNEL], (uint64_t)ns);
    ledger_histogram_add(&thread.launches, ns);
    if ((uint64_t)ns > ledger_get(&thread.launch_max_ns)) {
        ledger_set(&thread.launch_max_ns, (uint64_t)ns);
    }
}

/* The best of some tries: other work on the machine only adds. */
#define NS_OF(work_)                                                                        \
    double best = 1e9;                                                                      \
    for (int try = 0; try < TRIES; try++) {                                                 \
        int64_t begin_ns = clock_now_ns();                                                  \
        for (int round = 0; round < ROUNDS; round++) {                                      \
            for (int i = 0; i < TIMES; i++) {                                               \
                work_(times_ns[i]);                                                         \
            }                                                                               \
        }                                                                                   \
        double ns = (double)(clock_now_ns() - begin_ns) / ((double)ROUNDS * (double)TIMES); \
        best = ns < best ? ns : best;                                                       \
    }                                                                                       \
    return best

static double ns_of_nothing(void)
{
    NS_OF(nothing);
}

static double ns_of_counter(void)
{
    NS_OF(counter);
}

static double ns_of_histogram(void)
{
    NS_OF(histogram);
}

static double ns_of_launch(void)
{
    NS_OF(launch);
}

int main(void)
{
    for (uint32_t i = 0; i < TIMES; i++) { /* of launches: 1 to 33 us */
        times_ns[i] = 1000 + (int64_t)(random_at(1, i) % 32768);
    }
    double bare = ns_of_nothing();
    double add = ns_of_counter() - bare;
    double bucket = ns_of_histogram() - bare;
    double booked = ns_of_launch() - bare;
    (void)printf("ledger bare_loop_ns=%.2f counter_add_ns=%.2f histogram_add_ns=%.2f "
                 "launch_booked_ns=%.2f launch_booked_frac=%.4f histogram_frac=%.4f\n",
                 bare, add, bucket, booked, booked / LAUNCH_NS, bucket / LAUNCH_NS);
    return 0;
}
