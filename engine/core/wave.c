/*
 * wave.c - when one lock-step rank steps, idles, votes and tells the coordinator. Driven by
 * engine_core.c, or alone by tests. It must not know what a step computes, talk to other ranks, or
 * decide anything from something that other ranks do not see at the same step.
 */
#include "engine/core/wave.h"

enum status wave_init(struct wave *w, const struct wave_options *options, uint32_t rank,
                      struct error *error)
{
    *w = (struct wave){.options = *options, .rank = rank};
    if (!wave_lockstep(w)) {
        return STATUS_OK;
    }
    if (rank >= options->ranks_count) {
        return error_set(error, STATUS_INVALID, "wave.ranks_count: want more than rank %u, got %u",
                         rank, options->ranks_count);
    }
    if (options->check_interval_steps == 0) {
        return error_set(error, STATUS_INVALID, "wave.check_interval_steps: want at least 1");
    }
    return STATUS_OK;
}

static void notify(struct wave *w, int64_t wave_complete, int64_t start_wave)
{
    ASSERT(w->notices_count < WAVE_NOTICES_MAX);
    w->notices[w->notices_count++] =
        (struct wave_notice){.wave_complete = wave_complete, .start_wave = start_wave};
}

bool wave_take_notice(struct wave *w, struct wave_notice *notice)
{
    if (w->notices_count == 0) {
        return false;
    }
    *notice = w->notices[0];
    w->notices_count--;
    for (uint32_t i = 0; i < w->notices_count; i++) {
        w->notices[i] = w->notices[i + 1];
    }
    return true;
}

/* ---- input ---- */

void wave_request(struct wave *w, uint32_t request_wave, bool paused)
{
    if (!wave_lockstep(w)) {
        return;
    }
    ASSERT(w->phase == WAVE_PHASE_LOOP);
    bool stale = request_wave < w->current_wave;
    if (request_wave > w->current_wave) {
        w->current_wave = request_wave;
    }
    if ((stale || w->options.announce_start) && !w->engines_running && !paused) {
        w->engines_running = true;
        notify(w, -1, w->current_wave);
    }
}

void wave_start(struct wave *w, const struct start_wave *start)
{
    if (!wave_lockstep(w)) {
        return;
    }
    ASSERT(w->phase == WAVE_PHASE_LOOP);
    bool excluded = start->exclude >= 0 && (uint32_t)start->exclude == w->rank;
    if (w->ignore_start_dp_wave || excluded || start->wave < w->current_wave) {
        return;
    }
    w->current_wave = start->wave;
    if (w->options.announce_start && !w->engines_running) {
        notify(w, -1, w->current_wave);
    }
    w->engines_running = true;
}

/* ---- the end of a loop ---- */

static bool check_due(const struct wave *w)
{
    return w->step_counter % w->options.check_interval_steps == 0 ||
           (w->step_counter == 1 && w->options.check_first_step);
}

/* The loop is over, and whether the wave goes on is known. */
static void end_loop(struct wave *w, bool running)
{
    w->phase = WAVE_PHASE_LOOP;
    w->engines_running = running;
    if (!running) {
        if (w->rank == 0) {
            notify(w, w->current_wave, -1);
        }
        w->current_wave++;
        w->step_counter = 0;
    } else if (!w->was_running && w->rank == 0 && w->options.confirm_running && !w->pending_pause) {
        notify(w, -1, w->current_wave);
    }
    w->was_running = running;
}

enum wave_need wave_next(struct wave *w, bool executed, bool unfinished, struct wave_ballot *ballot)
{
    if (!wave_lockstep(w) || w->phase == WAVE_PHASE_OVER) {
        w->phase = WAVE_PHASE_LOOP;
        return WAVE_NEED_NOTHING;
    }
    ASSERT(w->phase == WAVE_PHASE_LOOP || w->phase == WAVE_PHASE_FORWARD);
    if (w->phase == WAVE_PHASE_LOOP && !executed) {
        if (!unfinished && !w->engines_running) {
            return WAVE_NEED_NOTHING;
        }
        w->phase = WAVE_PHASE_FORWARD;
        return WAVE_NEED_DUMMY;
    }
    w->step_counter++;
    if (!check_due(w)) {
        end_loop(w, true);
        return WAVE_NEED_NOTHING;
    }
    *ballot = (struct wave_ballot){.unfinished = unfinished ? 1 : 0,
                                   .pending_pause = w->pending_pause ? 1 : 0};
    w->phase = WAVE_PHASE_CHECK;
    return WAVE_NEED_ALLREDUCE;
}

void wave_checked(struct wave *w, const struct wave_ballot *sum)
{
    uint32_t ranks = w->options.ranks_count;
    ASSERT(w->phase == WAVE_PHASE_CHECK);
    ASSERT(sum->unfinished <= ranks && sum->pending_pause <= ranks);
    if (sum->pending_pause == ranks) {
        w->ignore_start_dp_wave = true;
        w->pending_pause = false;
    }
    end_loop(w, sum->unfinished > 0 || sum->pending_pause % ranks != 0);
    w->phase = WAVE_PHASE_OVER;
}

/* ---- pause and resume ---- */

void wave_pause(struct wave *w)
{
    if (!wave_lockstep(w)) {
        return;
    }
    ASSERT(w->phase == WAVE_PHASE_LOOP);
    if (w->ignore_start_dp_wave) {
        return;
    }
    w->pending_pause = true;
    w->engines_running = true;
}

bool wave_resume(struct wave *w)
{
    ASSERT(wave_lockstep(w) && w->phase == WAVE_PHASE_LOOP);
    if (w->pending_pause || w->engines_running) {
        return false;
    }
    w->ignore_start_dp_wave = false;
    w->phase = WAVE_PHASE_RESUME;
    return true;
}

void wave_resumed(struct wave *w, bool any_unfinished)
{
    ASSERT(w->phase == WAVE_PHASE_RESUME);
    w->phase = WAVE_PHASE_LOOP;
    w->engines_running = any_unfinished;
}

/* ---- forwards ---- */

struct wave_forward wave_forward_merge(struct wave_forward a, struct wave_forward b)
{
    return (struct wave_forward){
        .tokens_count = a.tokens_count > b.tokens_count ? a.tokens_count : b.tokens_count,
        .graph = a.graph && b.graph,
    };
}

uint32_t wave_forward_tokens(struct wave_forward own, struct wave_forward agreed)
{
    return agreed.graph ? agreed.tokens_count : own.tokens_count;
}

struct wave_forward wave_forward_step(const struct wave *w, uint32_t tokens_count,
                                      bool uniform_decode)
{
    return (struct wave_forward){
        .tokens_count = tokens_count,
        .graph = uniform_decode && tokens_count <= w->options.graph_tokens_max,
    };
}

struct wave_forward wave_forward_dummy(const struct wave *w)
{
    return (struct wave_forward){
        .tokens_count = WAVE_DUMMY_TOKENS,
        .graph = w->options.dummy_graph && WAVE_DUMMY_TOKENS <= w->options.graph_tokens_max,
    };
}

const char *wave_check(const struct wave *w)
{
    if (!wave_lockstep(w)) {
        return NULL;
    }
    if (w->pending_pause && !w->engines_running) {
        return "wave: a pause is pending on a rank that does not step";
    }
    if (w->ignore_start_dp_wave && w->phase == WAVE_PHASE_RESUME) {
        return "wave: a rank that resumes still ignores starts";
    }
    if (w->notices_count > WAVE_NOTICES_MAX) {
        return "wave: too many notices";
    }
    return NULL;
}
