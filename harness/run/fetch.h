/*
 * fetch.h - one GET of a small page of the server under load: its models, its health, its version,
 * its metrics.
 */
#ifndef HARNESS_RUN_FETCH_H
#define HARNESS_RUN_FETCH_H

#include <stdint.h>

#include "engine/http/buffer.h"
#include "harness/load/options.h"

/* The status of the answer, whose body is appended; 0: no complete answer. Takes some seconds at
 * most. */
uint32_t fetch_page(const struct load_target *server, const char *path, struct http_buffer *body);

#endif
