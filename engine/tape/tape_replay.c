/*
 * tape_replay.c - plays a tape's calls to an object that is made again, and compares each frame
 * that this writes with the tape's (tape_replay.h). Driven by `harness replay`. It must not believe
 * anything that the file says, and does not know what the calls of an object are.
 */
#include "engine/tape/tape_replay.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/tape/tape_object.h"

enum {
    SHOWN_BYTES = TAPE_DIFFERENCE_BYTES * 2 / 5 /* of each side of a difference */
};

static const struct tape_object *const objects[TAPE_KINDS_COUNT] = {
    [TAPE_API_SERVER] = &tape_frontend_object,
    [TAPE_ENGINE_CORE] = &tape_engine_object,
    [TAPE_COORDINATOR] = &tape_coordinator_object,
    [TAPE_LAUNCHER] = &tape_startup_object,
};

/* ---- for the objects ---- */

enum status tape_player_check(const struct tape_player *p, bool possible, const char *call,
                              const char *why, struct error *error)
{
    return possible ? STATUS_OK
                    : error_set(error, STATUS_PROTOCOL, "offset %zu: damaged: call %s: %s",
                                p->frame.offset, call, why);
}

enum status tape_player_read(const struct tape_player *p, const char *call, struct error *error)
{
    return tape_player_check(p, !p->code.failed && p->code.at == p->code.end, call,
                             "its fields cannot be read", error);
}

void tape_player_at(struct tape_player *p, time_ps now)
{
    struct tape_summary *s = p->summary;
    s->first_at = s->first_at == 0 && s->last_at == 0 ? now : s->first_at;
    s->last_at = now;
}

/* ---- frames ---- */

/* The call of a frame; NULL: the object has none such, or not in this direction. */
static const struct tape_call *call_of(const struct tape_object *object,
                                       const struct tape_frame *frame)
{
    uint32_t call = frame->data[0] & ~(uint32_t)TAPE_ANSWER;
    bool answer = (frame->data[0] & TAPE_ANSWER) != 0;
    if (call >= object->calls_count) {
        return NULL;
    }
    const struct tape_call *known = &object->calls[call];
    return (answer ? known->answers : known->asks) ? known : NULL;
}

/* The first frame says whose tape it is. */
static enum status read_owner(const struct tape_reader *reader, struct tape_owner *out,
                              struct error *error)
{
    struct tape_reader ahead = *reader;
    struct tape_frame frame;
    struct tape_code c = {0};
    enum status status = tape_read(&ahead, &frame, error);
    if (status == STATUS_NOT_FOUND) {
        return error_set(error, STATUS_PROTOCOL, "offset %zu: holds no call", ahead.at);
    }
    TRY(status);
    tape_code_read(&c, frame.data + 1, frame.bytes - 1);
    tape_owner_walk(&c, out);
    bool well = frame.data[0] == TAPE_CREATE && !c.failed && out->revision != NULL;
    tape_code_free(&c);
    return well ? STATUS_OK
                : error_set(error, STATUS_PROTOCOL,
                            "offset %zu: damaged: it does not say which process this was",
                            frame.offset);
}

/* ---- comparing ---- */

/* The fields of a frame as text; the caller frees it. */
static char *show(const struct tape_object *object, const unsigned char *data, size_t bytes)
{
    char *text = NULL;
    size_t text_bytes = 0;
    struct tape_frame frame = {.data = data, .bytes = bytes};
    const struct tape_call *call = call_of(object, &frame);
    FILE *file = open_memstream(&text, &text_bytes);
    ASSERT(file != NULL);
    struct tape_code c = {.print = file};
    (void)fputs(call != NULL ? call->name : "no call", file);
    tape_code_read(&c, data + 1, bytes - 1);
    if (call != NULL) {
        object->walk(&c, data[0]);
    }
    tape_code_free(&c);
    (void)fclose(file);
    ASSERT(text != NULL);
    return text;
}

/* Where two texts begin to differ, or a little before it. */
static size_t before_difference(const char *a, const char *b)
{
    size_t same = 0;
    while (a[same] != '\0' && a[same] == b[same]) {
        same++;
    }
    return same > SHOWN_BYTES / 4 ? same - SHOWN_BYTES / 4 : 0;
}

static void note_difference(struct tape_player *p, const struct tape_frame *expected,
                            const unsigned char *data, size_t bytes)
{
    struct tape_summary *s = p->summary;
    const struct tape_object *object = objects[s->kind];
    const struct tape_call *call = call_of(object, &p->frame);
    char *was = show(object, expected->data, expected->bytes);
    char *is = show(object, data, bytes);
    size_t from = before_difference(was, is);
    const char *dots = from > 0 ? "..." : "";
    s->differs = true;
    s->difference_call = s->calls_count;
    s->difference_at = s->last_at;
    (void)snprintf(s->difference, sizeof s->difference,
                   "%s: recorded \"%s%.*s\", replayed \"%s%.*s\"", call->name, dots,
                   (int)SHOWN_BYTES, was + from, dots, (int)SHOWN_BYTES, is + from);
    free(was);
    free(is);
}

/* A frame that the replayed object wrote. The first one of a call that asks is the call itself. */
static void compare(void *ctx, const unsigned char *data, size_t bytes)
{
    struct tape_player *p = ctx;
    struct tape_frame expected = p->frame;
    if (p->status != STATUS_OK || p->summary->differs) {
        return;
    }
    if (p->expected_count > 0) {
        p->status = tape_read(p->reader, &expected, &p->error);
    }
    p->expected_count++;
    if (p->status == STATUS_OK &&
        (expected.bytes != bytes || memcmp(expected.data, data, bytes) != 0)) {
        note_difference(p, &expected, data, bytes);
    }
}

static enum status play_frame(struct tape_player *p, const struct tape_object *object,
                              struct error *error)
{
    const struct tape_call *call = call_of(object, &p->frame);
    uint32_t number = p->frame.data[0] & ~(uint32_t)TAPE_ANSWER;
    bool begins = call != NULL && ((p->frame.data[0] & TAPE_ANSWER) == 0 || !call->asks);
    TRY(tape_player_check(p, begins, call != NULL ? call->name : "of unknown number",
                          "it is out of place", error));
    p->summary->calls_count += number != TAPE_CREATE ? 1 : 0;
    p->expected_count = 0;
    tape_code_read(&p->code, p->frame.data + 1, p->frame.bytes - 1);
    TRY(object->play(p, number, error));
    if (p->status == STATUS_PROTOCOL) {
        *error = p->error;
    }
    return p->status;
}

static enum status play_all(struct tape_player *p, struct error *error)
{
    const struct tape_object *object = objects[p->summary->kind];
    for (;;) {
        enum status status = tape_read(p->reader, &p->frame, error);
        if (status == STATUS_OK) {
            status = play_frame(p, object, error);
        }
        /* The process may have been ended in the middle of a call. */
        if (status == STATUS_NOT_FOUND || (status == STATUS_OK && p->summary->differs)) {
            return STATUS_OK;
        }
        TRY(status);
    }
}

enum status tape_replay(struct tape_reader *reader, struct tape_summary *out, struct error *error)
{
    struct tape_owner owner = {0};
    *out = (struct tape_summary){0};
    TRY(read_owner(reader, &owner, error));
    out->kind = owner.kind;
    out->index = owner.index;
    (void)snprintf(out->revision, sizeof out->revision, "%s", owner.revision);
    struct tape_player *p = calloc(1, sizeof *p);
    ASSERT(p != NULL);
    p->reader = reader;
    p->summary = out;
    p->tape = tape_to(&owner, compare, p);
    enum status status = play_all(p, error);
    tape_close(p->tape);
    tape_code_free(&p->code);
    tape_code_free(&p->held);
    tape_code_free(&p->texts_code);
    tape_code_free(&p->frontend.texts);
    arena_destroy(&p->arena);
    free(p);
    return status;
}

/* ---- printing ---- */

static enum status print_frame(const struct tape_object *object, const struct tape_frame *frame,
                               struct tape_code *c, uint64_t *calls_count, struct error *error)
{
    const struct tape_call *call = call_of(object, frame);
    bool answer = (frame->data[0] & TAPE_ANSWER) != 0;
    if (call == NULL) {
        return error_set(error, STATUS_PROTOCOL, "offset %zu: damaged: a call of unknown number",
                         frame->offset);
    }
    if (call->within) {
        (void)fprintf(c->print, "  %s", call->name);
    } else if (answer && call->asks) {
        (void)fputs("  ->", c->print);
    } else {
        (void)fprintf(c->print, "%s%" PRIu64 " %s%s", *calls_count > 0 ? "\n" : "", *calls_count,
                      call->name, answer ? " ->" : "");
        (*calls_count)++;
    }
    tape_code_read(c, frame->data + 1, frame->bytes - 1);
    object->walk(c, frame->data[0]);
    if (c->failed || c->at != c->end) {
        return error_set(error, STATUS_PROTOCOL,
                         "offset %zu: damaged: call %s: its fields cannot be read", frame->offset,
                         call->name);
    }
    return STATUS_OK;
}

enum status tape_print(struct tape_reader *reader, FILE *out, struct error *error)
{
    struct tape_owner owner = {0};
    struct tape_frame frame;
    struct tape_code c = {.print = out};
    uint64_t calls_count = 0;
    TRY(read_owner(reader, &owner, error));
    enum status status = tape_read(reader, &frame, error);
    while (status == STATUS_OK) {
        status = print_frame(objects[owner.kind], &frame, &c, &calls_count, error);
        if (status == STATUS_OK) {
            status = tape_read(reader, &frame, error);
        }
    }
    (void)fputs("\n", out);
    tape_code_free(&c);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}
