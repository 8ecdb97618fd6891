/*
 * sockets.c - owns how a ZeroMQ socket is opened and how whole messages go in and come out of it.
 * Called by every process on the thread that owns the socket. Must not wait: a socket that has
 * nothing says so, and limits are off where vLLM's are.
 */
#include "engine/node/sockets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

static void set_int(void *socket, int option, int value)
{
    int rc = zmq_setsockopt(socket, option, &value, sizeof value);
    ASSERT(rc == 0);
}

static void set_options(void *socket, const struct socket_options *options)
{
    int type = options->type;
    set_int(socket, ZMQ_LINGER, options->linger_ms);
    if (type == ZMQ_PULL || type == ZMQ_DEALER || type == ZMQ_ROUTER) {
        set_int(socket, ZMQ_RCVHWM, 0);
    }
    if (type == ZMQ_PUSH || type == ZMQ_DEALER || type == ZMQ_ROUTER) {
        set_int(socket, ZMQ_SNDHWM, 0);
    }
    if (type == ZMQ_XPUB) {
        set_int(socket, ZMQ_XPUB_VERBOSE, 1);
    }
    if (type == ZMQ_ROUTER) {
        set_int(socket, ZMQ_ROUTER_MANDATORY,
                1); /* an unknown identity is an error, not a silent loss */
    }
    if (options->identity != NULL) {
        int rc = zmq_setsockopt(socket, ZMQ_ROUTING_ID, options->identity, 2);
        ASSERT(rc == 0);
    }
}

bool socket_address_is_tcp(const char *address)
{
    return strncmp(address, "tcp://", strlen("tcp://")) == 0;
}

void socket_set_heartbeat(void *socket)
{
    set_int(socket, ZMQ_HEARTBEAT_IVL, HEARTBEAT_INTERVAL_MS);
    set_int(socket, ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS);
}

enum status socket_open(void *context, const struct socket_options *options, const char *address,
                        void **out, struct error *error)
{
    void *socket = zmq_socket(context, options->type);
    if (socket == NULL) {
        return error_set(error, STATUS_IO, "zmq_socket: %s", zmq_strerror(errno));
    }
    set_options(socket, options);
    if (socket_address_is_tcp(address)) {
        socket_set_heartbeat(socket);
    }
    int rc = options->bind ? zmq_bind(socket, address) : zmq_connect(socket, address);
    if (rc != 0) {
        enum status status =
            error_set(error, STATUS_IO, "cannot %s %s: %s", options->bind ? "bind" : "connect to",
                      address, zmq_strerror(errno));
        (void)zmq_close(socket);
        return status;
    }
    *out = socket;
    return STATUS_OK;
}

void socket_endpoint(void *socket, char out[256])
{
    size_t bytes = 256;
    int rc = zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, out, &bytes);
    ASSERT(rc == 0);
}

enum status socket_send(void *socket, const void *data, size_t bytes, bool more,
                        struct error *error)
{
    int flags = ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0);
    for (;;) {
        if (zmq_send(socket, data, bytes, flags) >= 0) {
            return STATUS_OK;
        }
        if (errno != EINTR) {
            return error_set(error, STATUS_IO, "zmq_send: %s", zmq_strerror(errno));
        }
    }
}

bool socket_receive(void *socket, struct socket_message *out)
{
    zmq_msg_t *parts = NULL;
    uint32_t count = 0;
    int more = 1;
    while (more != 0) {
        zmq_msg_t part;
        (void)zmq_msg_init(&part);
        int rc;
        do {
            rc = zmq_msg_recv(&part, socket, ZMQ_DONTWAIT);
        } while (rc < 0 && errno == EINTR);
        if (rc < 0) {
            (void)zmq_msg_close(&part);
            ASSERT(count == 0); /* the frames of a message arrive together */
            return false;
        }
        more = zmq_msg_more(&part);
        if (parts == NULL) {
            parts = malloc(SOCKET_FRAMES_MAX * sizeof *parts);
            ASSERT(parts != NULL);
        }
        if (count < SOCKET_FRAMES_MAX) {
            (void)zmq_msg_init(&parts[count]);
            (void)zmq_msg_move(&parts[count], &part);
        }
        (void)zmq_msg_close(&part);
        count++;
    }
    *out = (struct socket_message){.frames_count = count, .parts = parts};
    for (uint32_t i = 0; i < count && i < SOCKET_FRAMES_MAX; i++) {
        out->frames[i] = (struct socket_frame){.data = zmq_msg_data(&parts[i]),
                                               .bytes = zmq_msg_size(&parts[i])};
    }
    return true;
}

int socket_message_connection(const struct socket_message *message)
{
    zmq_msg_t *parts = message->parts;
    uint32_t last = message->frames_count;
    last = (last < SOCKET_FRAMES_MAX ? last : SOCKET_FRAMES_MAX) - 1;
    return zmq_msg_get(&parts[last], ZMQ_SRCFD);
}

void socket_message_free(struct socket_message *message)
{
    zmq_msg_t *parts = message->parts;
    for (uint32_t i = 0; i < message->frames_count && i < SOCKET_FRAMES_MAX; i++) {
        (void)zmq_msg_close(&parts[i]);
    }
    free(parts);
    *message = (struct socket_message){0};
}
