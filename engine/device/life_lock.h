/*
 * life_lock.h - a lock in shared memory that one thread of a process holds for as long as it takes
 * part in something, so that other processes see its end however it ended. The kernel releases it
 * when the thread dies, also by SIGKILL, and also while the parent has not reaped the process yet.
 */
#ifndef ENGINE_DEVICE_LIFE_LOCK_H
#define ENGINE_DEVICE_LIFE_LOCK_H

#include <pthread.h>
#include <stdbool.h>

struct life_lock {
    pthread_mutex_t mutex;
};

/* A mutex between processes whose next owner is told that the last one died holding it. */
void life_mutex_init(pthread_mutex_t *mutex);
/* True: the last owner died while it held the mutex. */
bool life_mutex_lock(pthread_mutex_t *mutex);

void life_lock_init(struct life_lock *l);
/* By the thread that lives on; it must not hold it already. */
void life_lock_hold(struct life_lock *l);
/* By the same thread. */
void life_lock_release(struct life_lock *l);
/* Does anybody hold it? By any other thread. Can be wrong for an instant while another one asks
 * too, and then says yes. */
bool life_lock_held(struct life_lock *l);

#endif
