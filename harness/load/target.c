/*
 * target.c - the servers that a load is spread over: their addresses, which connections belong to
 * which, and whose turn an arrival is. Connection i belongs to target i modulo their number, for
 * good; a single server is the case of one target. Driven by client.c and connection.c. Must not
 * look at how loaded a server is: that is what a client that knows nothing of them does.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "harness/load/client_state.h"

static enum status resolve(const struct load_target *target, struct client_target *out,
                           struct error *error)
{
    if (strncmp(target->host, "unix:", 5) == 0) {
        struct sockaddr_un *address = (struct sockaddr_un *)&out->address;
        const char *path = target->host + 5;
        size_t bytes = strlen(path);
        if (bytes == 0 || bytes >= sizeof address->sun_path) {
            return error_set(error, STATUS_INVALID, "load: host: socket path \"%s\" is too long",
                             path);
        }
        address->sun_family = AF_UNIX;
        memcpy(address->sun_path, path, bytes + 1);
        out->address_bytes = sizeof *address;
        return STATUS_OK;
    }
    struct sockaddr_in *address = (struct sockaddr_in *)&out->address;
    address->sin_family = AF_INET;
    address->sin_port = htons((uint16_t)target->port);
    if (inet_pton(AF_INET, target->host, &address->sin_addr) != 1) {
        return error_set(error, STATUS_INVALID,
                         "load: host: want an IPv4 address or unix:PATH, got \"%s\"", target->host);
    }
    out->address_bytes = sizeof *address;
    return STATUS_OK;
}

uint32_t target_conns_count(const struct client *c, uint32_t target)
{
    uint32_t targets = c->options->targets_count;
    return c->conns_count / targets + (target < c->conns_count % targets ? 1 : 0);
}

enum status targets_create(struct client *c, struct error *error)
{
    const struct load_options *o = c->options;
    for (uint32_t i = 0; i < o->targets_count; i++) {
        struct client_target *t = &c->targets[i];
        TRY(resolve(&o->targets[i], t, error));
        t->idle = calloc(target_conns_count(c, i), sizeof *t->idle);
        if (t->idle == NULL) {
            return error_set(error, STATUS_NOMEM, "load: out of memory");
        }
    }
    return STATUS_OK;
}

void targets_destroy(struct client *c)
{
    for (uint32_t i = 0; i < c->options->targets_count; i++) {
        free(c->targets[i].idle);
    }
}

void target_put_idle(struct conn *conn)
{
    struct client *c = conn->client;
    struct client_target *t = &c->targets[conn->target];
    if (conn->in_idle_ring) {
        return;
    }
    conn->in_idle_ring = true;
    t->idle[(t->idle_first + t->idle_count++) % target_conns_count(c, conn->target)] = conn->index;
}

/* Skips connections that were lost while they stood in the ring. */
static struct conn *take_idle_of(struct client *c, uint32_t target)
{
    struct client_target *t = &c->targets[target];
    while (t->idle_count > 0) {
        struct conn *conn = &c->conns[t->idle[t->idle_first]];
        t->idle_first = (t->idle_first + 1) % target_conns_count(c, target);
        t->idle_count--;
        conn->in_idle_ring = false;
        if (conn->state == CONN_IDLE && conn_is_open(conn)) {
            return conn;
        }
    }
    return NULL;
}

struct conn *target_take_idle(struct client *c)
{
    for (uint32_t i = 0; i < c->options->targets_count; i++) {
        uint32_t target = c->next_target;
        c->next_target = (c->next_target + 1) % c->options->targets_count;
        struct conn *conn = take_idle_of(c, target);
        if (conn != NULL) {
            return conn;
        }
    }
    return NULL;
}
