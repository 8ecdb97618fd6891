/*
 * handshake.c - what an engine core and the launcher say on the handshake socket (HELLO, INIT,
 * READY), and engine identities. Knows the keys of these maps; holds no state.
 */
#include <string.h>

#include "engine/wire/reader.h"
#include "engine/wire/writer.h"

void wire_identity(uint32_t rank, unsigned char identity[2])
{
    ASSERT(rank <= UINT16_MAX);
    identity[0] = (unsigned char)(rank & 0xff);
    identity[1] = (unsigned char)(rank >> 8);
}

enum status wire_identity_rank(const void *data, size_t bytes, uint32_t *rank, struct error *error)
{
    const unsigned char *identity = data;
    if (bytes != 2) {
        return error_set(error, STATUS_PROTOCOL, "engine identity: want 2 bytes, got %zu", bytes);
    }
    *rank = (uint32_t)identity[0] | (uint32_t)identity[1] << 8;
    return STATUS_OK;
}

/* --- HELLO and READY --- */

enum {
    HELLO_STATUS,
    HELLO_LOCAL,
    HELLO_HEADLESS,
    HELLO_HASH,
    HELLO_UNKNOWN
};
static const char *const hello_keys[] = {"status", "local", "headless", "parallel_config_hash",
                                         NULL};
static const char *const hello_status[] = {[WIRE_HELLO] = "HELLO", [WIRE_READY] = "READY"};

void wire_encode_hello(struct wire_buffer *b, const struct wire_hello *hello)
{
    wire_put_map(b, hello->parallel_config_hash != NULL ? 4 : 3);
    wire_put_key_string(b, hello_keys[HELLO_STATUS], hello_status[hello->status]);
    wire_put_key_bool(b, hello_keys[HELLO_LOCAL], hello->local);
    wire_put_key_bool(b, hello_keys[HELLO_HEADLESS], hello->headless);
    if (hello->parallel_config_hash != NULL) {
        wire_put_key_string(b, hello_keys[HELLO_HASH], hello->parallel_config_hash);
    }
}

static enum wire_hello_status get_hello_status(struct wire_reader *r)
{
    const char *text = wire_get_string(r, hello_keys[HELLO_STATUS]);
    if (text != NULL && strcmp(text, hello_status[WIRE_READY]) == 0) {
        return WIRE_READY;
    }
    if (text != NULL && strcmp(text, hello_status[WIRE_HELLO]) != 0) {
        wire_reader_fail(r, STATUS_PROTOCOL, hello_keys[HELLO_STATUS], "want HELLO or READY");
    }
    return WIRE_HELLO;
}

enum status wire_decode_hello(struct wire_decoder *d, const void *data, size_t bytes,
                              struct wire_hello *out, struct error *error)
{
    struct wire_reader r = {.message = "handshake", .error = error};
    struct wire_hello hello = {.status = WIRE_HELLO};
    uint32_t seen = 0;
    wire_reader_start(&r, d, data, bytes);
    uint32_t count = wire_get_map(&r, "message");
    for (uint32_t i = 0; i < count && wire_reader_ok(&r); i++) {
        uint32_t key = wire_get_key(&r, "message", hello_keys);
        seen |= 1U << key;
        switch (key) {
        case HELLO_STATUS:
            hello.status = get_hello_status(&r);
            break;
        case HELLO_LOCAL:
            hello.local = wire_get_bool(&r, hello_keys[key]);
            break;
        case HELLO_HEADLESS:
            hello.headless = wire_get_bool(&r, hello_keys[key]);
            break;
        case HELLO_HASH:
            hello.parallel_config_hash = wire_get_string_or_nil(&r, hello_keys[key]);
            break;
        default:
            wire_skip(&r, "an unknown key", 1);
        }
    }
    wire_require_keys(&r, hello_keys, 1U << HELLO_STATUS | 1U << HELLO_LOCAL | 1U << HELLO_HEADLESS,
                      seen);
    TRY(wire_reader_finish(&r));
    *out = hello;
    return STATUS_OK;
}

/* --- INIT --- */

enum {
    INIT_ADDRESSES,
    INIT_PARALLEL_CONFIG,
    INIT_UNKNOWN
};
static const char *const init_keys[] = {"addresses", "parallel_config", NULL};

enum {
    AT_INPUTS,
    AT_OUTPUTS,
    AT_COORDINATOR_IN,
    AT_COORDINATOR_OUT,
    AT_STATS,
    AT_UNKNOWN
};
static const char *const address_keys[] = {"inputs",
                                           "outputs",
                                           "coordinator_input",
                                           "coordinator_output",
                                           "frontend_stats_publish_address",
                                           NULL};

enum {
    PARALLEL_IP,
    PARALLEL_PORT,
    PARALLEL_PORTS,
    PARALLEL_SIZE,
    PARALLEL_UNKNOWN
};
static const char *const parallel_keys[] = {"data_parallel_master_ip", "data_parallel_master_port",
                                            "_data_parallel_master_port_list", "data_parallel_size",
                                            NULL};

enum {
    MASTER_PORTS_MAX = sizeof((struct wire_init *)0)->master_ports / sizeof(uint32_t)
};

void wire_encode_init(struct wire_buffer *b, const struct wire_init *init)
{
    ASSERT(init->clients_count > 0 && init->clients_count <= WIRE_CLIENTS_MAX);
    ASSERT(init->master_ports_count <= MASTER_PORTS_MAX);
    wire_put_map(b, 2);
    wire_put_string(b, init_keys[INIT_ADDRESSES]);
    wire_put_map(b, AT_UNKNOWN);
    wire_put_string(b, address_keys[AT_INPUTS]);
    wire_put_strings(b, init->inputs, init->clients_count);
    wire_put_string(b, address_keys[AT_OUTPUTS]);
    wire_put_strings(b, init->outputs, init->clients_count);
    wire_put_key_string(b, address_keys[AT_COORDINATOR_IN], init->coordinator_input);
    wire_put_key_string(b, address_keys[AT_COORDINATOR_OUT], init->coordinator_output);
    wire_put_key_string(b, address_keys[AT_STATS], init->frontend_stats_address);
    wire_put_string(b, init_keys[INIT_PARALLEL_CONFIG]);
    wire_put_map(b, init->has_parallel_config ? PARALLEL_UNKNOWN : 0);
    if (init->has_parallel_config) {
        wire_put_key_string(b, parallel_keys[PARALLEL_IP], init->master_ip);
        wire_put_key_uint(b, parallel_keys[PARALLEL_PORT], init->master_port);
        wire_put_string(b, parallel_keys[PARALLEL_PORTS]);
        wire_put_uints(b, init->master_ports, init->master_ports_count);
        wire_put_key_uint(b, parallel_keys[PARALLEL_SIZE], init->data_parallel_size);
    }
}

static uint32_t get_client_addresses(struct wire_reader *r, const char *field,
                                     const char *addresses[WIRE_CLIENTS_MAX])
{
    uint32_t count = wire_get_array(r, field, 1);
    if (count > WIRE_CLIENTS_MAX) {
        wire_reader_fail(r, STATUS_PROTOCOL, field, "more front ends than 256");
    }
    for (uint32_t i = 0; i < count && wire_reader_ok(r); i++) {
        addresses[i] = wire_get_string(r, field);
    }
    return count;
}

static void get_addresses(struct wire_reader *r, struct wire_init *init)
{
    uint32_t outputs_count = 0;
    uint32_t seen = 0;
    uint32_t count = wire_get_map(r, init_keys[INIT_ADDRESSES]);
    for (uint32_t i = 0; i < count && wire_reader_ok(r); i++) {
        uint32_t key = wire_get_key(r, init_keys[INIT_ADDRESSES], address_keys);
        const char *field = address_keys[key];
        seen |= 1U << key;
        switch (key) {
        case AT_INPUTS:
            init->clients_count = get_client_addresses(r, field, init->inputs);
            break;
        case AT_OUTPUTS:
            outputs_count = get_client_addresses(r, field, init->outputs);
            break;
        case AT_COORDINATOR_IN:
            init->coordinator_input = wire_get_string_or_nil(r, field);
            break;
        case AT_COORDINATOR_OUT:
            init->coordinator_output = wire_get_string_or_nil(r, field);
            break;
        case AT_STATS:
            init->frontend_stats_address = wire_get_string_or_nil(r, field);
            break;
        default:
            wire_skip(r, "an unknown key of addresses", 1);
        }
    }
    wire_require_keys(r, address_keys, 1U << AT_INPUTS | 1U << AT_OUTPUTS, seen);
    if (outputs_count != init->clients_count) {
        wire_reader_fail(r, STATUS_PROTOCOL, "outputs", "not as many as inputs");
    }
}

static void get_parallel_config(struct wire_reader *r, struct wire_init *init)
{
    uint32_t seen = 0;
    uint32_t ports_count = 0;
    const uint32_t *ports = NULL;
    uint32_t count = wire_get_map(r, init_keys[INIT_PARALLEL_CONFIG]);
    for (uint32_t i = 0; i < count && wire_reader_ok(r); i++) {
        uint32_t key = wire_get_key(r, init_keys[INIT_PARALLEL_CONFIG], parallel_keys);
        const char *field = parallel_keys[key];
        seen |= 1U << key;
        switch (key) {
        case PARALLEL_IP:
            init->master_ip = wire_get_string(r, field);
            break;
        case PARALLEL_PORT:
            init->master_port = (uint32_t)wire_get_uint(r, field, UINT16_MAX);
            break;
        case PARALLEL_PORTS:
            ports = wire_get_uints(r, field, &ports_count);
            break;
        case PARALLEL_SIZE:
            init->data_parallel_size = wire_get_u32(r, field);
            break;
        default:
            wire_skip(r, "an unknown key of parallel_config", 1);
        }
    }
    if (count > 0) {
        wire_require_keys(r, parallel_keys, (1U << PARALLEL_UNKNOWN) - 1, seen);
        init->has_parallel_config = true;
    }
    if (ports_count > MASTER_PORTS_MAX) {
        wire_reader_fail(r, STATUS_PROTOCOL, parallel_keys[PARALLEL_PORTS], "more than 16 ports");
    } else if (ports != NULL) {
        init->master_ports_count = ports_count;
        memcpy(init->master_ports, ports, ports_count * sizeof *ports);
    }
}

enum status wire_decode_init(struct wire_decoder *d, const void *data, size_t bytes,
                             struct wire_init *out, struct error *error)
{
    struct wire_reader r = {.message = "INIT", .error = error};
    struct wire_init init = {0};
    uint32_t seen = 0;
    wire_reader_start(&r, d, data, bytes);
    uint32_t count = wire_get_map(&r, "message");
    for (uint32_t i = 0; i < count && wire_reader_ok(&r); i++) {
        uint32_t key = wire_get_key(&r, "message", init_keys);
        seen |= 1U << key;
        if (key == INIT_ADDRESSES) {
            get_addresses(&r, &init);
        } else if (key == INIT_PARALLEL_CONFIG) {
            get_parallel_config(&r, &init);
        } else {
            wire_skip(&r, "an unknown key", 1);
        }
    }
    wire_require_keys(&r, init_keys, (1U << INIT_UNKNOWN) - 1, seen);
    TRY(wire_reader_finish(&r));
    *out = init;
    return STATUS_OK;
}
