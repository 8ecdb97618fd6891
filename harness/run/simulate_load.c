/*
 * simulate_load.c - owns the client's side of a run in virtual time (simulate_load.h): which
 * request is next, and the records of what became of it. Driven by the simulation's calls. Must not
 * decide anything by itself that the real client decides by the schedule.
 */
#include "harness/run/simulate_load.h"

#include <math.h>
#include <stdlib.h>

#include "engine/base/hash.h"
#include "engine/base/random.h"
#include "harness/load/request.h"

enum {
    PLACES_COUNT = LOAD_RECORDS_COUNT,
    SEEN_FIRST = 1024,
    END_TOKENS_MAX = 1000,
};

/* Of the length at which the emulated device ends an answer that may end by itself. */
#define END_TOKENS_SCALE 201.4

struct simulate_user {
    uint64_t rank;        /* sessions: of the user's next request */
    uint64_t last_number; /* SCHEDULE_BEFORE_FIRST: none yet */
};

/* ---- which request ---- */

/* Requests under way have places of their own: numbers of a session differ by a multiple of the
 * users, all others follow one another. */
static uint32_t place_of(const struct simulate_load *l, uint64_t number)
{
    uint64_t count = load_has_sessions(l->options) ? l->options->users_count : PLACES_COUNT;
    return (uint32_t)(number % count);
}

/* An answer may end before the length that was asked for. */
static uint32_t output_of(const struct simulate_load *l, const struct schedule_item *item)
{
    if (l->options->ignore_eos != 0) {
        return item->output_tokens;
    }
    struct random r = random_stream(l->options->seed, "ends", item->number);
    double drawn = 1 + floor(random_exponential(&r) * END_TOKENS_SCALE);
    uint32_t ends = drawn < END_TOKENS_MAX ? (uint32_t)drawn : END_TOKENS_MAX;
    return ends < item->output_tokens ? ends : item->output_tokens;
}

static void fill(struct simulate_load *l, const struct schedule_item *item, uint32_t user,
                 int64_t at_ns, struct simulation_request *out)
{
    const uint64_t key[] = {l->options->seed, item->number};
    l->items[place_of(l, item->number)] = *item;
    *out = (struct simulation_request){
        .number = item->number,
        .at = ps_from_ns(at_ns),
        .user = user,
        .prompt_tokens = item->prompt_tokens,
        .output_tokens = output_of(l, item),
        .prompt_hash = hash64(key, sizeof key, 0),
    };
}

static bool next(void *ctx, struct simulation_request *request)
{
    struct simulate_load *l = ctx;
    struct schedule_item item;
    if (!schedule_next(&l->schedule, &item)) {
        l->exhausted = true;
        return false;
    }
    if (l->account.start_ns + item.offset_ns >= l->latest_end_ns) {
        return false;
    }
    uint32_t connection = (uint32_t)(item.number % l->options->connections_count);
    uint32_t servers = l->options->api_servers_count;
    fill(l, &item, servers * connection + l->servers[connection], item.offset_ns, request);
    return true;
}

static bool next_of_user(void *ctx, uint32_t user, time_ps now, struct simulation_request *request)
{
    struct simulate_load *l = ctx;
    struct simulate_user *u = &l->users[user];
    struct schedule_item item;
    uint64_t before =
        u->last_number == SCHEDULE_BEFORE_FIRST ? SCHEDULE_BEFORE_FIRST + user : u->last_number;
    int64_t at_ns = ns_from_ps(now + PS_PER_NS - 1) + schedule_think_ns(l->options, before);
    if (SIMULATE_EPOCH_NS + at_ns >= l->account.window_end_ns) {
        return false;
    }
    bool more = load_has_sessions(l->options) ? schedule_of_user(&l->schedule, user, u->rank, &item)
                                              : schedule_next(&l->schedule, &item);
    if (!more) {
        l->exhausted = true;
        return false;
    }
    u->rank++;
    u->last_number = item.number;
    fill(l, &item, user, at_ns, request);
    return true;
}

static void prompt(void *ctx, const struct simulation_request *request, uint32_t *token_ids)
{
    const struct simulate_load *l = ctx;
    request_prompt(l->options, l->account.trace, &l->items[place_of(l, request->number)],
                   token_ids);
}

/* Prompts that have nothing in common need no tokens. */
static bool prompts_share(const struct simulate_load *l)
{
    return load_has_sessions(l->options) || l->options->shared_prefix > 0 ||
           l->trace.block_ids_count > 0;
}

struct simulation_source simulate_load_source(struct simulate_load *l)
{
    bool closed = l->options->mode == LOAD_CLOSED;
    return (struct simulation_source){
        .ctx = l,
        .next = closed ? NULL : next,
        .next_of_user = closed ? next_of_user : NULL,
        .users_count = closed ? l->options->users_count : 0,
        .prompt = prompts_share(l) ? prompt : NULL,
    };
}

/* ---- what becomes of it ---- */

/* NULL: sent after the window's end, or overwritten since. */
static struct load_record *record_of(struct simulate_load *l, uint64_t number)
{
    struct load_record *r = &l->shared.records[l->records[place_of(l, number)]];
    bool same = atomic_load_explicit(&r->number_plus_1, memory_order_relaxed) == number + 1;
    return same ? r : NULL;
}

static void sent(void *ctx, const struct simulation_request *request, time_ps now)
{
    struct simulate_load *l = ctx;
    struct load_header *h = l->shared.header;
    uint32_t place = place_of(l, request->number);
    if (simulate_ns(request->at) >= l->account.window_end_ns) {
        return;
    }
    if (l->options->mode != LOAD_CLOSED && l->account.inflight >= l->options->connections_count) {
        load_add(&h->full_count, 1);
    }
    struct load_record *r =
        account_begin(&l->account, &l->items[place], request->user, simulate_ns(request->at));
    r->api_server = request->user % l->options->api_servers_count;
    l->records[place] = (uint32_t)(r - l->shared.records);
    account_sent(&l->account, r, simulate_ns(now));
}

static void read_tokens(void *ctx, const struct simulation_read *read)
{
    struct simulate_load *l = ctx;
    struct load_record *r = record_of(l, read->number);
    int64_t at_ns = simulate_ns(read->at);
    if (r == NULL) {
        return;
    }
    if (r->t_evt_ns == 0) {
        r->t_hdr_ns = r->t_evt_ns = at_ns;
        r->http_status = 200;
        r->token_basis = LOAD_BASIS_USAGE;
    }
    account_content(&l->account, r, read->tokens, false, at_ns);
}

static void keep_hops(struct simulate_load *l, const struct simulation_end *end)
{
    struct probe_requests *seen = &l->seen;
    if (seen->count == l->seen_cap) {
        l->seen_cap = l->seen_cap > 0 ? 2 * l->seen_cap : SEEN_FIRST;
        seen->rows = realloc(seen->rows, l->seen_cap * sizeof *seen->rows);
        ASSERT(seen->rows != NULL);
    }
    struct probe_request *row = &seen->rows[seen->count++];
    *row = (struct probe_request){
        .client_number = end->request->number,
        .api_server = end->api_server,
        .engine = end->failed ? UINT32_MAX : end->engine,
        .prompt_tokens = end->request->prompt_tokens,
        .cached_tokens = end->cached_tokens,
        .output_tokens = end->output_tokens,
    };
    for (int hop = 0; hop < HOPS_COUNT; hop++) {
        row->hop_ns[hop] = end->hops[hop] > 0 ? simulate_ns(end->hops[hop]) : 0;
    }
}

_Static_assert((int)HOPS_COUNT == (int)SIMULATION_HOPS_COUNT, "the same hops in the same order");

static void ended(void *ctx, const struct simulation_end *end)
{
    struct simulate_load *l = ctx;
    struct load_record *r = record_of(l, end->request->number);
    if (r == NULL) {
        return;
    }
    r->prompt_tokens = end->request->prompt_tokens;
    r->http_status = end->failed ? 503 : 200;
    keep_hops(l, end);
    account_end(&l->account, r, end->failed ? LOAD_OUTCOME_HTTP_5XX : LOAD_OUTCOME_OK,
                simulate_ns(end->ended));
}

struct simulation_observer simulate_load_observer(struct simulate_load *l)
{
    return (struct simulation_observer){
        .ctx = l, .sent = sent, .read = read_tokens, .ended = ended};
}

/* ---- life ---- */

/* The real client opens connections until each API server has its share; which one accepts is luck.
 * It uses them in turn, so arrivals at a server are as irregular as this order. */
static void connect_all(struct simulate_load *l)
{
    const struct load_options *o = l->options;
    struct random r = random_stream(o->seed, "connections", 0);
    uint32_t counts[LOAD_API_SERVERS_MAX] = {0};
    uint32_t share = (o->connections_count + o->api_servers_count - 1) / o->api_servers_count;
    for (uint32_t i = 0; i < o->connections_count; i++) {
        int64_t server;
        do {
            server = random_range(&r, 0, (int64_t)o->api_servers_count - 1);
        } while (counts[server] == share);
        counts[server]++;
        l->servers[i] = (uint32_t)server;
    }
}

static enum status read_trace(struct simulate_load *l, struct error *error)
{
    const struct load_options *o = l->options;
    struct load_header *h = l->shared.header;
    if (o->trace_path[0] == '\0') {
        return STATUS_OK;
    }
    struct trace_limits limits = {.requests_max = o->mode == LOAD_TRACE ? o->requests_max : 0,
                                  .max_model_len = o->max_model_len};
    TRY(trace_read(o->trace_path, (enum trace_format)o->trace_format, &limits, &l->trace, error));
    l->account.trace = &l->trace;
    load_add(&h->trace_requests_count, l->trace.requests_count);
    load_add(&h->trace_refused_zero_count, l->trace.refused_zero_count);
    load_add(&h->trace_refused_length_count, l->trace.refused_length_count);
    load_add(&h->trace_refused_unsorted_count, l->trace.refused_unsorted_count);
    return STATUS_OK;
}

static enum status allocate(struct simulate_load *l, struct error *error)
{
    uint32_t users = l->options->mode == LOAD_CLOSED ? l->options->users_count : 0;
    uint32_t connections = l->options->connections_count;
    l->users = calloc(users > 0 ? users : 1, sizeof *l->users);
    l->servers = calloc(connections > 0 ? connections : 1, sizeof *l->servers);
    l->items = calloc(PLACES_COUNT, sizeof *l->items);
    l->records = calloc(PLACES_COUNT, sizeof *l->records);
    if (l->users == NULL || l->servers == NULL || l->items == NULL || l->records == NULL) {
        return error_set(error, STATUS_NOMEM, "no memory for a simulated load");
    }
    for (uint32_t i = 0; i < users; i++) {
        l->users[i].last_number = SCHEDULE_BEFORE_FIRST;
    }
    return STATUS_OK;
}

static enum status begin(struct simulate_load *l, struct error *error)
{
    l->options = &l->shared.header->options;
    TRY(allocate(l, error));
    connect_all(l);
    TRY(read_trace(l, error));
    l->account.shared = &l->shared;
    schedule_init(&l->schedule, l->options, l->account.trace);
    account_start(&l->account, SIMULATE_EPOCH_NS);
    /* A window that has too few request times is made longer, as the real client's. */
    int64_t window_ns = l->account.window_end_ns - l->account.window_start_ns;
    int64_t longer = l->options->min_cycles_count > 0 ? LOAD_WINDOW_TIMES_MAX - 1 : 0;
    l->latest_end_ns = l->account.window_end_ns + longer * window_ns;
    return STATUS_OK;
}

enum status simulate_load_create(const struct load_options *options, struct simulate_load **out,
                                 struct error *error)
{
    struct simulate_load *l = calloc(1, sizeof *l);
    if (l == NULL) {
        return error_set(error, STATUS_NOMEM, "no memory for a simulated load");
    }
    enum status status = load_shared_create(options, &l->shared, error);
    if (status == STATUS_OK) {
        status = begin(l, error);
    }
    if (status != STATUS_OK) {
        simulate_load_free(l);
        return status;
    }
    *out = l;
    return STATUS_OK;
}

void simulate_load_free(struct simulate_load *l)
{
    if (l == NULL) {
        return;
    }
    load_shared_close(&l->shared);
    trace_free(&l->trace);
    probe_requests_free(&l->seen);
    free(l->users);
    free(l->servers);
    free(l->items);
    free(l->records);
    free(l);
}

void simulate_load_end(struct simulate_load *l, enum load_outcome outcome, int64_t now_ns)
{
    struct load_header *h = l->shared.header;
    uint64_t begun = load_get(&h->offered_count);
    uint32_t count = begun < LOAD_RECORDS_COUNT ? (uint32_t)begun : LOAD_RECORDS_COUNT;
    for (uint32_t i = 0; i < count; i++) {
        struct load_record *r = &l->shared.records[i];
        if (atomic_load_explicit(&r->outcome, memory_order_relaxed) == LOAD_OUTCOME_OPEN) {
            account_end(&l->account, r, outcome, now_ns);
        }
    }
    account_inflight(&l->account, 0, now_ns);
    atomic_store(&h->end_ns, now_ns);
    atomic_store(&h->phase, LOAD_PHASE_DONE);
    probe_requests_sort(&l->seen);
}
