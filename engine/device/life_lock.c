/*
 * life_lock.c - owns the use of robust process-shared mutexes. Driven by what keeps state in shared
 * memory. Must not wait: a lock is only held while its owner lives, so nobody queues for it.
 */
#include "engine/device/life_lock.h"

#include <errno.h>
#include <sched.h>

#include "engine/base/status.h"

void life_mutex_init(pthread_mutex_t *mutex)
{
    pthread_mutexattr_t attributes;
    ASSERT(pthread_mutexattr_init(&attributes) == 0);
    ASSERT(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0);
    ASSERT(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0);
    ASSERT(pthread_mutex_init(mutex, &attributes) == 0);
    (void)pthread_mutexattr_destroy(&attributes);
}

bool life_mutex_lock(pthread_mutex_t *mutex)
{
    int rc = pthread_mutex_lock(mutex);
    if (rc == EOWNERDEAD) {
        ASSERT(pthread_mutex_consistent(mutex) == 0);
        return true;
    }
    ASSERT(rc == 0);
    return false;
}

void life_lock_init(struct life_lock *l)
{
    life_mutex_init(&l->mutex);
}

/* True: now held by the caller. */
static bool try_hold(struct life_lock *l)
{
    int rc = pthread_mutex_trylock(&l->mutex);
    if (rc == EOWNERDEAD) {
        ASSERT(pthread_mutex_consistent(&l->mutex) == 0);
        return true;
    }
    ASSERT(rc == 0 || rc == EBUSY);
    return rc == 0;
}

/* Somebody who asks whether it is held has it for an instant. */
void life_lock_hold(struct life_lock *l)
{
    while (!try_hold(l)) {
        (void)sched_yield();
    }
}

void life_lock_release(struct life_lock *l)
{
    ASSERT(pthread_mutex_unlock(&l->mutex) == 0);
}

bool life_lock_held(struct life_lock *l)
{
    if (!try_hold(l)) {
        return true;
    }
    life_lock_release(l);
    return false;
}
