/* stats.h - the statistics maps inside engine outputs; inside this room only. */
#ifndef ENGINE_WIRE_STATS_H
#define ENGINE_WIRE_STATS_H

#include "engine/wire/reader.h"

/* All 16 keys. */
void wire_put_stats(struct wire_buffer *b, const struct scheduler_stats *stats);
/* The 3 keys the coordinator needs, and what of the other counters is not 0. */
void wire_put_counts(struct wire_buffer *b, const struct scheduler_stats *stats);
/* Missing keys are 0. */
void wire_get_stats(struct wire_reader *r, struct scheduler_stats *out);

void wire_put_prefill_stats(struct wire_buffer *b, const struct prefill_stats *prefill);
void wire_get_prefill_stats(struct wire_reader *r, struct prefill_stats *out);

#endif
