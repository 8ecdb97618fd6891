/*
 * collective_frame_fuzz.c - the decoder of frames between ranks on arbitrary bytes. What decodes
 * has exactly one encoding: it must give the same bytes again. Of a piece of them nothing may come
 * out.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/collective/collective_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    while (size > 0) {
        struct collective_frame frame;
        uint8_t again[FRAME_BYTES_MAX];
        uint32_t used;
        uint32_t none;
        if (collective_frame_decode(data, size, &frame, &used, NULL) != STATUS_OK || used == 0) {
            return 0;
        }
        if (collective_frame_encode(&frame, again) != used || memcmp(again, data, used) != 0) {
            abort();
        }
        if (collective_frame_decode(data, used - 1, &frame, &none, NULL) != STATUS_OK ||
            none != 0) {
            abort();
        }
        data += used;
        size -= used;
    }
    return 0;
}
