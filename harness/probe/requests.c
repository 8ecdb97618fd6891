/*
 * requests.c - the request records of the ledger, sorted for joining with the client's, and a
 * request's time split hop by hop. Only reads.
 */
#include <stdlib.h>

#include "harness/probe/probe.h"

static void copy_record(const struct ledger_record *from, struct probe_request *to)
{
    for (int hop = 0; hop < HOPS_COUNT; hop++) {
        to->hop_ns[hop] = atomic_load_explicit(&from->hop_ns[hop], memory_order_relaxed);
    }
    to->api_server = from->api_server;
    to->engine = from->engine;
    to->prompt_tokens = from->prompt_tokens;
    to->cached_tokens = from->cached_tokens;
    to->output_tokens = atomic_load_explicit(&from->output_tokens, memory_order_relaxed);
    to->finish = atomic_load_explicit(&from->finish, memory_order_relaxed);
}

static int compare_requests(const void *a, const void *b)
{
    uint64_t x = ((const struct probe_request *)a)->client_number;
    uint64_t y = ((const struct probe_request *)b)->client_number;
    return (x > y) - (x < y);
}

void probe_requests_sort(struct probe_requests *r)
{
    if (r->count > 1) {
        qsort(r->rows, r->count, sizeof *r->rows, compare_requests);
    }
}

/* Slots of `api_server`'s ring that were ever used: rings fill from their start. */
static uint32_t used_slots(const struct ledger *l, uint32_t api_server)
{
    uint64_t begun = ledger_records_begun(l, api_server);
    const uint32_t per_server = LEDGER_RECORDS_PER_API_SERVER;
    return begun < per_server ? (uint32_t)begun : per_server;
}

enum status probe_requests_read(const struct ledger *l, struct probe_requests *out,
                                struct error *error)
{
    struct probe_requests r = {0};
    size_t cap = 0;
    for (uint32_t a = 0; a < l->topology->api_servers_count; a++) {
        cap += used_slots(l, a);
        r.begun_count += ledger_records_begun(l, a);
        r.lost_count += ledger_records_lost(l, a);
    }
    r.rows = malloc((cap > 0 ? cap : 1) * sizeof *r.rows);
    if (r.rows == NULL) {
        return error_set(error, STATUS_NOMEM, "probe: no memory for %zu request records", cap);
    }
    for (uint32_t a = 0; a < l->topology->api_servers_count; a++) {
        uint32_t used = used_slots(l, a);
        const struct ledger_record *ring =
            &l->records[(size_t)a * (size_t)LEDGER_RECORDS_PER_API_SERVER];
        for (uint32_t i = 0; i < used && r.count < cap; i++) {
            uint64_t number = atomic_load_explicit(&ring[i].client_number, memory_order_relaxed);
            if (number != 0) {
                r.rows[r.count].client_number = number - 1;
                copy_record(&ring[i], &r.rows[r.count]);
                r.count++;
            }
        }
    }
    probe_requests_sort(&r);
    *out = r;
    return STATUS_OK;
}

void probe_requests_free(struct probe_requests *r)
{
    free(r->rows);
    *r = (struct probe_requests){0};
}

const struct probe_request *probe_requests_find(const struct probe_requests *r,
                                                uint64_t client_number)
{
    struct probe_request key = {.client_number = client_number};
    if (r->count == 0) {
        return NULL;
    }
    return bsearch(&key, r->rows, r->count, sizeof *r->rows, compare_requests);
}

const char *probe_part_name(enum probe_part part)
{
    static const char *const names[PROBE_PARTS_COUNT] = {
#define X(name, text, hop) [PROBE_PART_##name] = (text),
        PROBE_TTFT_PARTS(X)
#undef X
            [PROBE_PART_FIRST_NET_OUT] = "first_net_out",
        [PROBE_PART_DECODE] = "decode",
        [PROBE_PART_LAST_IPC_OUT] = "last_ipc_out",
        [PROBE_PART_LAST_API_OUT] = "last_api_out",
        [PROBE_PART_LAST_NET_OUT] = "last_net_out",
    };
    ASSERT((unsigned)part < PROBE_PARTS_COUNT);
    return names[part];
}

static double gap_us(int64_t from_ns, int64_t to_ns)
{
    return from_ns == 0 || to_ns == 0 ? PROBE_UNKNOWN : (double)(to_ns - from_ns) / 1e3;
}

void probe_request_parts(const struct probe_request *r, int64_t sent_ns, int64_t first_ns,
                         int64_t last_ns, struct probe_parts *out)
{
    const int64_t *hop = r->hop_ns;
    int64_t from_ns = sent_ns;
#define X(name, text, end)                                        \
    out->us[PROBE_PART_##name] = gap_us(from_ns, hop[HOP_##end]); \
    from_ns = hop[HOP_##end];
    PROBE_TTFT_PARTS(X)
#undef X
    out->us[PROBE_PART_FIRST_NET_OUT] = gap_us(from_ns, first_ns);
    out->us[PROBE_PART_DECODE] = gap_us(hop[HOP_ENGINE_FIRST_TOKEN], hop[HOP_ENGINE_LAST_TOKEN]);
    out->us[PROBE_PART_LAST_IPC_OUT] = gap_us(hop[HOP_ENGINE_LAST_TOKEN], hop[HOP_API_LAST_OUTPUT]);
    out->us[PROBE_PART_LAST_API_OUT] = gap_us(hop[HOP_API_LAST_OUTPUT], hop[HOP_API_LAST_WRITE]);
    out->us[PROBE_PART_LAST_NET_OUT] = gap_us(hop[HOP_API_LAST_WRITE], last_ns);
}
