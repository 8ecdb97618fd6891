/* hash.h - 64-bit hash of bytes (XXH3). Stable across runs and machines of one byte order. */
#ifndef ENGINE_BASE_HASH_H
#define ENGINE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash64(const void *data, size_t bytes, uint64_t seed);

#endif
