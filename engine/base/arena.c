/*
 * arena.c - address space reserved by mmap and handed out front to back. Called by whoever sets
 * something up; no state machine may allocate after its creation.
 */
#include "engine/base/arena.h"

#include <stdint.h>
#include <sys/mman.h>

enum {
    ARENA_ALIGN = 64
};

enum status arena_create(size_t cap_bytes, struct arena *out, struct error *error)
{
    void *base = mmap(NULL, cap_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        return error_set(error, STATUS_NOMEM, "cannot reserve %zu bytes of address space",
                         cap_bytes);
    }
    /* A huge page would make 2 MiB of a single touched byte. A kernel without them refuses. */
    (void)madvise(base, cap_bytes, MADV_NOHUGEPAGE);
    *out = (struct arena){.base = base, .used_bytes = 0, .cap_bytes = cap_bytes};
    return STATUS_OK;
}

void arena_destroy(struct arena *arena)
{
    if (arena->base != NULL) {
        (void)munmap(arena->base, arena->cap_bytes);
    }
    *arena = (struct arena){0};
}

void *arena_alloc(struct arena *arena, size_t count, size_t item_bytes)
{
    ASSERT(item_bytes == 0 || count <= SIZE_MAX / 2 / item_bytes);
    size_t bytes = (count * item_bytes + (ARENA_ALIGN - 1)) / ARENA_ALIGN * ARENA_ALIGN;
    ASSERT(bytes <= arena->cap_bytes - arena->used_bytes);
    void *memory = arena->base + arena->used_bytes;
    arena->used_bytes += bytes;
    return memory;
}
