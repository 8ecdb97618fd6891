/* sampling.h - SamplingParams inside an ADD; inside this room only. */
#ifndef ENGINE_WIRE_SAMPLING_H
#define ENGINE_WIRE_SAMPLING_H

#include "engine/wire/reader.h"

void wire_put_sampling(struct wire_buffer *b, const struct sampling_params *sampling);
/* Missing keys get Python's defaults. */
void wire_get_sampling(struct wire_reader *r, struct sampling_params *out);

#endif
