/* helper_queue.c - a queue with known capacity, simulated arrival by arrival. */
#include "helper_queue.h"

#include <math.h>
#include <string.h>

#include "engine/base/random.h"

/* Slots by the time they become free: the earliest is taken. */
static double serve(const struct queue *queue, double *free_at, double arrival_s, double service_s)
{
    uint32_t earliest = 0;
    for (uint32_t i = 1; i < queue->slots_count; i++) {
        earliest = free_at[i] < free_at[earliest] ? i : earliest;
    }
    free_at[earliest] = fmax(free_at[earliest], arrival_s) + service_s;
    return free_at[earliest];
}

static int batch_of(const struct queue *queue, double at_s, double window_s)
{
    double i = floor((at_s - queue->warmup_s) / (window_s / queue->batches_count));
    return i < 0 || i >= queue->batches_count ? -1 : (int)i;
}

void queue_run(const struct queue *queue, double per_s, double window_s, uint64_t seed,
               struct stability_batch *batches)
{
    struct random arrivals = random_stream(seed, "arrivals", 0);
    struct random services = random_stream(seed, "services", 0);
    double spread = sqrt(log(1.0 + queue->service_cv * queue->service_cv));
    double free_at[QUEUE_SLOTS_MAX] = {0};
    memset(batches, 0, queue->batches_count * sizeof *batches);
    for (double t = 0; t < queue->warmup_s + window_s;) {
        t += random_exponential(&arrivals) / per_s;
        double service =
            queue->service_s * exp(spread * random_normal(&services) - spread * spread / 2.0);
        int at = batch_of(queue, t, window_s);
        int done = batch_of(queue, serve(queue, free_at, t, service), window_s);
        if (at >= 0) {
            batches[at].arrived_count += 1;
        }
        if (done >= 0) {
            batches[done].completed_count += 1;
        }
    }
}
