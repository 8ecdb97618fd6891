/*
 * collective_join.c - owns how ranks of several machines find each other: rank 0 listens until all
 * others have said hello, they try until it is there. Driven by collective.h's users before any
 * call. Must not let a stranger hold up the ranks: whoever connects and says nothing, or rubbish,
 * or what belongs to another collective, is dropped, and what is accepted stays.
 *
 * Rank 0 stops listening before it says that all are there. So a rank that goes on to the next
 * collective at the same port can only meet the listener of that one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/collective/collective_star.h"

enum {
    UNKNOWN_MAX = 64, /* connections that have not said hello; one more drops the oldest */
    WHY_BYTES = 128,
};
static const int64_t hello_ns = 1000000000; /* what a connection gets to say hello */
static const int64_t retry_ns = 20000000;

/* Who has connected to rank 0 and not said hello yet, oldest first. */
struct unknown {
    struct collective_link link;
    int64_t until_ns;
};
struct porch {
    int listener;
    uint32_t count;
    struct unknown unknowns[UNKNOWN_MAX];
};

/* ---- addresses ---- */

static enum status address_of(const char *host, uint32_t port, struct sockaddr_in *out,
                              struct error *error)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (port > UINT16_MAX || inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        return error_set(error, STATUS_INVALID,
                         "collective: want an IPv4 address and a port, got '%s' and %u", host,
                         port);
    }
    *out = address;
    return STATUS_OK;
}

/* Others may bind to the address too, but only one can listen. */
static enum status bind_to(const char *host, uint32_t port, int *out, struct error *error)
{
    struct sockaddr_in address = {0};
    TRY(address_of(host, port, &address, error));
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return error_set(error, STATUS_IO, "collective: socket: %s", strerror(errno));
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        enum status status = error_set(error, STATUS_IO, "collective: cannot listen at %s:%u: %s",
                                       host, port, strerror(errno));
        (void)close(fd);
        return status;
    }
    *out = fd;
    return STATUS_OK;
}

enum status collective_reserve_port(const char *host, uint32_t *port, int *fd, struct error *error)
{
    struct sockaddr_in address = {0};
    socklen_t bytes = sizeof address;
    int bound = -1;
    TRY(bind_to(host, *port, &bound, error));
    if (getsockname(bound, (struct sockaddr *)&address, &bytes) != 0) {
        (void)close(bound);
        return error_set(error, STATUS_IO, "collective: getsockname: %s", strerror(errno));
    }
    *port = ntohs(address.sin_port);
    *fd = bound;
    return STATUS_OK;
}

/* ---- rank 0 ---- */

static void drop(struct porch *p, uint32_t i)
{
    p->count--;
    memmove(&p->unknowns[i], &p->unknowns[i + 1], (p->count - i) * sizeof p->unknowns[0]);
}

static enum status accept_all(struct porch *p, struct error *error)
{
    for (int i = 0; i < UNKNOWN_MAX; i++) {
        int fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
            return error_set(error, STATUS_IO, "collective: accept: %s", strerror(errno));
        }
        if (fd < 0) {
            return STATUS_OK; /* none there, or one that is gone again */
        }
        if (p->count == UNKNOWN_MAX) {
            collective_link_close(&p->unknowns[0].link);
            drop(p, 0);
        }
        struct unknown *u = &p->unknowns[p->count++];
        collective_link_init(&u->link, fd);
        u->until_ns = clock_now_ns() + hello_ns;
    }
    return STATUS_OK;
}

/* What is wrong with a hello; an empty text: nothing. */
static void judge(const struct collective *c, const struct collective_frame *frame,
                  char why[FRAME_TEXT_MAX + 1])
{
    uint32_t rank = frame->as.hello.rank;
    why[0] = '\0';
    if (frame->as.hello.version != FRAME_VERSION) {
        (void)snprintf(why, FRAME_TEXT_MAX, "rank 0 speaks version %d, not %u", FRAME_VERSION,
                       frame->as.hello.version);
    } else if (strcmp(frame->as.hello.name, c->name) != 0) {
        (void)snprintf(why, FRAME_TEXT_MAX, "rank 0 is in '%s'", c->name);
    } else if (frame->as.hello.ranks_count != c->ranks_count) {
        (void)snprintf(why, FRAME_TEXT_MAX, "rank 0 expects %u ranks, not %u", c->ranks_count,
                       frame->as.hello.ranks_count);
    } else if (rank == 0 || rank >= c->ranks_count) {
        (void)snprintf(why, FRAME_TEXT_MAX, "rank %u of %u", rank, c->ranks_count);
    } else if ((c->star->came >> rank & 1) != 0) {
        (void)snprintf(why, FRAME_TEXT_MAX, "rank %u has joined already", rank);
    }
}

/* True: the connection is not among the unknown ones any more. */
static bool receive(struct collective *c, struct unknown *u, int64_t now_ns)
{
    struct collective_frame frame;
    struct error error;
    enum link_news news = collective_link_read(&u->link, &frame, &error);
    if (news == LINK_NOTHING && now_ns < u->until_ns) {
        return false;
    }
    if (news != LINK_FRAME || frame.kind != FRAME_HELLO) {
        collective_link_close(&u->link);
        return true;
    }
    struct collective_frame answer = {.kind = FRAME_BREAK, .as.end.status = STATUS_PROTOCOL};
    judge(c, &frame, answer.as.end.text);
    if (answer.as.end.text[0] != '\0') {
        (void)collective_link_write(&u->link, &answer, now_ns);
        collective_link_close(&u->link);
        return true;
    }
    answer.kind = FRAME_JOINED;
    (void)collective_link_write(&u->link, &answer, now_ns);
    uint32_t rank = frame.as.hello.rank;
    c->star->members[rank].link = u->link;
    c->star->came |= UINT64_C(1) << rank;
    return true;
}

static uint32_t poll_items(const struct collective *c, const struct porch *p, struct pollfd *items)
{
    uint32_t count = 0;
    items[count++] = (struct pollfd){.fd = p->listener, .events = POLLIN};
    for (uint32_t i = 0; i < p->count; i++) {
        items[count++] = (struct pollfd){.fd = p->unknowns[i].link.fd, .events = POLLIN};
    }
    for (uint32_t r = 1; r < c->ranks_count; r++) { /* those that have not joined have -1 */
        items[count++] = (struct pollfd){.fd = c->star->members[r].link.fd, .events = POLLIN};
    }
    return count;
}

static enum status receive_all(struct collective *c, struct porch *p, struct error *error)
{
    TRY(accept_all(p, error));
    for (uint32_t i = 0; i < p->count;) {
        if (receive(c, &p->unknowns[i], clock_now_ns())) {
            drop(p, i);
        } else {
            i++;
        }
    }
    for (uint32_t r = 1; r < c->ranks_count; r++) {
        if ((c->star->came >> r & 1) != 0) {
            TRY(star_hear(c, r, error));
        }
    }
    return STATUS_OK;
}

static enum status gather_ranks(struct collective *c, struct porch *p, int64_t timeout_ns,
                                struct error *error)
{
    struct pollfd items[1 + UNKNOWN_MAX + COLLECTIVE_RANKS_MAX];
    int64_t deadline_ns = clock_now_ns() + timeout_ns;
    for (;;) {
        TRY(receive_all(c, p, error));
        if (c->star->came == star_all_ranks(c)) {
            return STATUS_OK;
        }
        if (clock_now_ns() >= deadline_ns) {
            char names[300];
            collective_name_ranks(star_all_ranks(c) & ~c->star->came, 0, names);
            return error_set(error, STATUS_TIMEOUT, "%s: rank 0 waited %.3f s for rank %s", c->name,
                             (double)timeout_ns / 1e9, names);
        }
        int64_t until_ns = star_tell(c, deadline_ns);
        if (p->count > 0 && p->unknowns[0].until_ns < until_ns) {
            until_ns = p->unknowns[0].until_ns;
        }
        star_pause((uint32_t)WAIT_BLOCK, items, poll_items(c, p, items), until_ns);
    }
}

static enum status join_as_root(struct collective *c, const struct collective_place *place,
                                int64_t timeout_ns, struct error *error)
{
    struct porch *p = calloc(1, sizeof *p);
    ASSERT(p != NULL);
    star_begin(c);
    enum status status = bind_to(place->host, place->port, &p->listener, error);
    if (status == STATUS_OK) {
        if (listen(p->listener, SOMAXCONN) != 0) {
            status = error_set(error, STATUS_IO, "%s: cannot listen at %s:%u: %s", c->name,
                               place->host, place->port, strerror(errno));
        } else {
            status = gather_ranks(c, p, timeout_ns, error);
        }
        (void)close(p->listener);
    }
    for (uint32_t i = 0; i < p->count; i++) {
        collective_link_close(&p->unknowns[i].link);
    }
    free(p);
    TRY(status);
    struct collective_frame ready = {.kind = FRAME_READY};
    star_send_all(c, &ready, clock_now_ns());
    return STATUS_OK;
}

/* ---- the others ---- */

/* A port of the kernel's choice may be the very one it connects to, and then it has connected to
 * itself. */
static bool connected_to_itself(int fd)
{
    struct sockaddr_in own = {0};
    struct sockaddr_in other = {0};
    socklen_t bytes = sizeof own;
    (void)getsockname(fd, (struct sockaddr *)&own, &bytes);
    bytes = sizeof other;
    (void)getpeername(fd, (struct sockaddr *)&other, &bytes);
    return own.sin_port == other.sin_port && own.sin_addr.s_addr == other.sin_addr.s_addr;
}

/* 0 or the errno of the attempt. */
static int finish_connect(int fd, const struct sockaddr_in *address, int64_t deadline_ns)
{
    struct pollfd item = {.fd = fd, .events = POLLOUT};
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) != 0) {
        if (errno != EINPROGRESS && errno != EINTR) {
            return errno;
        }
        while (item.revents == 0) {
            if (clock_now_ns() >= deadline_ns) {
                return ETIMEDOUT;
            }
            star_pause((uint32_t)WAIT_BLOCK, &item, 1, deadline_ns);
        }
    }
    int why = 0;
    socklen_t bytes = sizeof why;
    (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &bytes);
    return why == 0 && connected_to_itself(fd) ? ECONNREFUSED : why;
}

/* True: connected, and hello is on its way. */
static bool reach(struct collective *c, const struct sockaddr_in *address, int64_t deadline_ns,
                  char why[WHY_BYTES])
{
    struct collective_link *link = &c->star->members[0].link;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int number = fd < 0 ? errno : finish_connect(fd, address, deadline_ns);
    if (number != 0) {
        (void)snprintf(why, WHY_BYTES, "%s", strerror(number));
        if (fd >= 0) {
            (void)close(fd);
        }
        return false;
    }
    collective_link_init(link, fd);
    struct collective_frame hello = {
        .kind = FRAME_HELLO,
        .as.hello = {.version = FRAME_VERSION, .rank = c->rank, .ranks_count = c->ranks_count}};
    memcpy(hello.as.hello.name, c->name, sizeof hello.as.hello.name);
    (void)collective_link_write(link, &hello, deadline_ns);
    return true;
}

enum joining {
    JOINING_WAITS,
    JOINING_AGAIN, /* dropped before rank 0 knew this rank */
    JOINING_DONE,
    JOINING_FAILED
};

static enum joining hear_joining(struct collective *c, bool *joined, struct error *error)
{
    struct collective_frame frame;
    struct error why;
    for (;;) {
        enum link_news news = collective_link_read(&c->star->members[0].link, &frame, &why);
        if (news == LINK_NOTHING) {
            return JOINING_WAITS;
        }
        if (news != LINK_FRAME && !*joined) {
            return JOINING_AGAIN;
        }
        if (news != LINK_FRAME) {
            (void)star_ended(c, NULL, error);
            return JOINING_FAILED;
        }
        if (frame.kind == FRAME_READY && *joined) {
            return JOINING_DONE;
        }
        if (frame.kind == FRAME_JOINED) {
            *joined = true;
        } else if (frame.kind == FRAME_WAITING) {
            c->star->came = frame.as.came;
        } else if (frame.kind == FRAME_BREAK && !*joined) {
            (void)error_set(error, STATUS_PROTOCOL, "%s: rank %u is refused: %s", c->name, c->rank,
                            frame.as.end.text);
            return JOINING_FAILED;
        } else {
            (void)star_ended(c, &frame, error);
            return JOINING_FAILED;
        }
    }
}

/* Waits for rank 0's word that all are there. */
static enum joining await_ready(struct collective *c, int64_t deadline_ns, bool *joined,
                                struct error *error)
{
    struct pollfd item = {.fd = c->star->members[0].link.fd, .events = POLLIN};
    enum joining joining = hear_joining(c, joined, error);
    while (joining == JOINING_WAITS && clock_now_ns() < deadline_ns) {
        star_pause((uint32_t)WAIT_BLOCK, &item, 1, deadline_ns);
        joining = hear_joining(c, joined, error);
    }
    return joining;
}

/* Rank 0 is not there. */
static enum status check_hope(const struct collective *c, const struct collective_place *place,
                              struct error *error)
{
    const char *why = place->hopeless != NULL ? place->hopeless(place->ctx) : NULL;
    if (why == NULL) {
        return STATUS_OK;
    }
    return error_set(error, STATUS_DIED, "%s: rank %u waits for rank 0 no more: %s", c->name,
                     c->rank, why);
}

static enum status join_as_other(struct collective *c, const struct collective_place *place,
                                 int64_t timeout_ns, struct error *error)
{
    struct sockaddr_in address = {0};
    TRY(address_of(place->host, place->port, &address, error));
    int64_t deadline_ns = clock_now_ns() + timeout_ns;
    char why[WHY_BYTES] = "no answer";
    char missing[300] = "0 (never joined)";
    const char *whom = "rank ";
    bool joined = false;
    do {
        struct error ended = {0};
        enum joining joining = JOINING_AGAIN;
        if (reach(c, &address, deadline_ns, why)) {
            joining = await_ready(c, deadline_ns, &joined, &ended);
            (void)snprintf(why, sizeof why, "%s",
                           joining == JOINING_AGAIN ? "closed the connection" : "waits");
        }
        if (joining == JOINING_DONE) {
            return STATUS_OK;
        }
        if (joining == JOINING_FAILED) {
            return error_set(error, ended.status, "%s", ended.text);
        }
        if (joining == JOINING_AGAIN) {
            collective_link_close(&c->star->members[0].link);
            TRY(check_hope(c, place, error));
            clock_sleep_until_ns(clock_now_ns() + retry_ns);
        }
    } while (clock_now_ns() < deadline_ns);
    if (joined && c->star->came != 0) {
        collective_name_ranks(star_all_ranks(c) & ~c->star->came, 0, missing);
    } else if (joined) {
        whom = "others, which rank 0 knows";
        missing[0] = '\0';
    }
    return error_set(error, STATUS_TIMEOUT, "%s: rank %u waited %.3f s for %s%s at %s:%u: %s",
                     c->name, c->rank, (double)timeout_ns / 1e9, whom, missing, place->host,
                     place->port, why);
}

/* ---- both ---- */

static struct collective_star *create_star(uint32_t members_count, uint32_t wait)
{
    struct collective_star *s =
        calloc(1, sizeof *s + members_count * sizeof(struct collective_member));
    ASSERT(s != NULL);
    s->wait = wait;
    s->members_count = members_count;
    for (uint32_t i = 0; i < members_count; i++) {
        s->members[i].link.fd = -1;
    }
    return s;
}

enum status collective_connect(const struct collective_options *options,
                               const struct collective_place *place, int64_t timeout_ns,
                               struct collective *out, struct error *error)
{
    uint32_t ranks_count = options->ranks_count;
    if (ranks_count == 0 || ranks_count > COLLECTIVE_RANKS_MAX || place->rank >= ranks_count ||
        place->port == 0) {
        return error_set(error, STATUS_INVALID,
                         "%s: want a rank below 1 to %d ranks and a port, got rank %u of %u and "
                         "port %u",
                         options->name, COLLECTIVE_RANKS_MAX, place->rank, ranks_count,
                         place->port);
    }
    struct collective c = {.ranks_count = ranks_count, .rank = place->rank, .fd = -1};
    (void)snprintf(c.name, sizeof c.name, "%s", options->name);
    c.star = create_star(place->rank == 0 ? ranks_count : 1, options->wait);
    struct error why = {0};
    enum status status = place->rank == 0 ? join_as_root(&c, place, timeout_ns, &why)
                                          : join_as_other(&c, place, timeout_ns, &why);
    if (status != STATUS_OK) {
        c.broken = status;
        star_break_off(&c, &why);
        collective_close(&c);
        return error_set(error, status, "%s", why.text);
    }
    *out = c;
    return STATUS_OK;
}
