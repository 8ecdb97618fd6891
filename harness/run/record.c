/*
 * record.c - a run's result as a file and back (record.h). A struct goes out as it is, then its
 * arrays, then the words that its pointers mean; whoever adds a pointer to struct run_result or to
 * what its arrays hold, adds it to each_text().
 */
#include "harness/run/record.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/hash.h"
#include "harness/run/record_file.h"

enum {
    KIND_RUN = 2
};

static struct record_kind run_kind(void)
{
    static const size_t sizes[] = {
        sizeof(struct run_result),          sizeof(struct run_stage),   sizeof(struct probe_rates),
        sizeof(struct run_second),          sizeof(struct run_request), PROC_THREAD_ROWS,
        sizeof(uint64_t) /* of the cell */, sizeof(struct run_event),   sizeof(struct run_bin)};
    return (struct record_kind){.kind = KIND_RUN, .shape = hash64(sizes, sizeof sizes, 0)};
}

static void name_file(const char *folder, uint32_t index, char out[RECORD_PATH_BYTES])
{
    (void)snprintf(out, RECORD_PATH_BYTES, "%s/runs/r%04u.run", folder, index);
}

/* What a search changes from run to run. */
static uint64_t hash_cell(const struct scenario_cell *cell)
{
    const struct scenario_load *l = &cell->load;
    const int64_t times[] = {l->warmup_ns, l->measure_ns, l->drain_ns, l->arrival.burst_every_ns};
    const uint32_t counts[] = {l->mode, l->users_count, l->batches_count, l->inflight_max_count};
    uint64_t hash = hash64(cell->name, strlen(cell->name), 0);
    hash = hash64(&l->rate_per_s, sizeof l->rate_per_s, hash);
    hash = hash64(times, sizeof times, hash);
    return hash64(counts, sizeof counts, hash);
}

bool record_is_final(const struct run_result *result)
{
    return result->outcome == RUN_OK || result->outcome == RUN_INVALID;
}

/* ---- what a result owns and points to ---- */

/* An array of a result: where it hangs and how long it is. */
struct part {
    void **data;
    uint32_t count;
    size_t each_bytes;
};

enum {
    PARTS_COUNT = 8
};

static void list_parts(struct run_result *r, struct part out[PARTS_COUNT])
{
    out[0] = (struct part){(void **)&r->stages, r->stages_count, sizeof *r->stages};
    out[1] = (struct part){(void **)&r->launchers, r->launchers_count, sizeof *r->launchers};
    out[2] = (struct part){(void **)&r->engines, r->engines_count, sizeof *r->engines};
    out[3] = (struct part){(void **)&r->seconds, r->seconds_count, sizeof *r->seconds};
    out[4] = (struct part){(void **)&r->requests, r->requests_rows_count, sizeof *r->requests};
    out[5] = (struct part){(void **)&r->events, r->events_count, sizeof *r->events};
    out[6] = (struct part){(void **)&r->bins, r->bins_count, sizeof *r->bins};
    out[7] =
        (struct part){(void **)&r->engine_tok_per_s, r->ranks_count, sizeof *r->engine_tok_per_s};
}

/* Visits every pointer to a word; stops at the first that is refused. */
static bool each_text(struct run_result *r, bool (*visit)(void *ctx, const char **text), void *ctx)
{
    bool good = visit(ctx, &r->token_basis) && visit(ctx, &r->expected.stage);
    for (uint32_t i = 0; i < r->stages_count && good; i++) {
        good = visit(ctx, &r->stages[i].source);
    }
    for (uint32_t i = 0; i < r->launchers_count && good; i++) {
        good = visit(ctx, &r->launchers[i].stage);
    }
    for (uint32_t i = 0; i < r->engines_count && good; i++) {
        good = visit(ctx, &r->engines[i].stage);
    }
    for (uint32_t i = 0; i < PROC_THREAD_ROWS && good; i++) {
        good = visit(ctx, &r->threads[i].kind);
    }
    for (uint32_t i = 0; i < r->seconds_count && good; i++) {
        good = visit(ctx, &r->seconds[i].phase);
    }
    return good;
}

/* ---- out ---- */

/* NULL goes out as a byte that starts no word. */
static bool put_text(void *ctx, const char **text)
{
    FILE *out = ctx;
    if (*text == NULL) {
        return fputc(1, out) != EOF && fputc('\0', out) != EOF;
    }
    return fwrite(*text, 1, strlen(*text) + 1, out) > 0;
}

enum status record_write(const char *folder, const struct run_result *result, struct error *error)
{
    char path[RECORD_PATH_BYTES];
    char *data = NULL;
    size_t bytes = 0;
    struct part parts[PARTS_COUNT];
    struct run_result copy = *result; /* shares the arrays, which are only read */
    FILE *out = open_memstream(&data, &bytes);
    if (out == NULL) {
        return error_set(error, STATUS_NOMEM, "no memory for the record of a run");
    }
    list_parts(&copy, parts);
    uint64_t cell = hash_cell(result->cell);
    (void)fwrite(&copy, sizeof copy, 1, out);
    (void)fwrite(&cell, sizeof cell, 1, out);
    for (size_t i = 0; i < PARTS_COUNT; i++) {
        if (parts[i].count > 0) {
            (void)fwrite(*parts[i].data, parts[i].each_bytes, parts[i].count, out);
        }
    }
    bool good = each_text(&copy, put_text, out);
    good = ferror(out) == 0 && good;
    good = fclose(out) == 0 && good;
    const struct record_kind kind = run_kind();
    name_file(folder, result->order_index, path);
    enum status status = good ? record_file_write(path, &kind, data, bytes, error)
                              : error_set(error, STATUS_NOMEM, "no memory for the record of a run");
    free(data);
    return status;
}

/* ---- in ---- */

struct input {
    const unsigned char *at;
    size_t bytes; /* left */
    struct record_texts *texts;
};

static bool take(struct input *in, void *out, size_t bytes)
{
    if (bytes > in->bytes) {
        return false;
    }
    memcpy(out, in->at, bytes);
    in->at += bytes;
    in->bytes -= bytes;
    return true;
}

/* A word that is known already is the same pointer again. */
static const char *keep_text(struct record_texts *texts, const char *word)
{
    for (uint32_t i = 0; i < texts->count; i++) {
        if (strcmp(texts->text[i], word) == 0) {
            return texts->text[i];
        }
    }
    if (texts->count == RECORD_TEXTS_MAX || strlen(word) >= RECORD_TEXT_BYTES) {
        return NULL;
    }
    (void)snprintf(texts->text[texts->count], RECORD_TEXT_BYTES, "%s", word);
    return texts->text[texts->count++];
}

static bool take_text(void *ctx, const char **text)
{
    struct input *in = ctx;
    const char *word = (const char *)in->at;
    size_t length = strnlen(word, in->bytes);
    if (length == in->bytes) {
        return false;
    }
    in->at += length + 1;
    in->bytes -= length + 1;
    if (length == 1 && word[0] == 1) {
        *text = NULL;
        return true;
    }
    *text = keep_text(in->texts, word);
    return *text != NULL;
}

static bool take_parts(struct input *in, struct run_result *r)
{
    struct part parts[PARTS_COUNT];
    list_parts(r, parts);
    for (size_t i = 0; i < PARTS_COUNT; i++) {
        *parts[i].data = NULL; /* what the file has there is an address of another process */
    }
    for (size_t i = 0; i < PARTS_COUNT; i++) {
        size_t bytes = (size_t)parts[i].count * parts[i].each_bytes;
        if (parts[i].count == 0) {
            continue;
        }
        *parts[i].data = bytes <= in->bytes ? calloc(parts[i].count, parts[i].each_bytes) : NULL;
        if (*parts[i].data == NULL || !take(in, *parts[i].data, bytes)) {
            return false;
        }
    }
    return true;
}

static bool take_result(struct input *in, const struct record_wanted *wanted, struct run_result *r)
{
    uint64_t cell;
    if (!take(in, r, sizeof *r) || !take(in, &cell, sizeof cell)) {
        *r = (struct run_result){.outcome = RUN_OK};
        return false;
    }
    bool good = take_parts(in, r) && each_text(r, take_text, in) && in->bytes == 0;
    r->cell = wanted->cell;
    return good && cell == hash_cell(wanted->cell) && r->order_index == wanted->index &&
           r->replicate == wanted->run->replicate && r->seed == wanted->run->seed;
}

enum status record_read_wanted(const char *folder, const struct record_wanted *wanted,
                               struct record_texts *texts, struct run_result *out,
                               struct error *error)
{
    char path[RECORD_PATH_BYTES];
    unsigned char *data = NULL;
    size_t bytes = 0;
    const struct record_kind kind = run_kind();
    name_file(folder, wanted->index, path);
    TRY(record_file_read(path, &kind, &data, &bytes, error));
    struct input in = {.at = data, .bytes = bytes, .texts = texts};
    bool good = take_result(&in, wanted, out);
    free(data);
    if (!good) {
        result_free(out);
        return error_set(error, STATUS_INVALID, "%s: it is not the record of run %u", path,
                         wanted->index);
    }
    return STATUS_OK;
}

enum status record_read(const char *folder, const struct scenario *scenario, uint32_t index,
                        struct record_texts *texts, struct run_result *out, struct error *error)
{
    const struct scenario_run *run = &scenario->runs[index];
    const struct record_wanted wanted = {&scenario->cells[run->cell], run, index};
    return record_read_wanted(folder, &wanted, texts, out, error);
}
