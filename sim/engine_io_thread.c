/*
 * engine_io_thread.c - owns an engine core's input and output threads: the loops of
 * engine/node/engine_io.c. Driven by the scene, one message a segment; an output thread that nobody
 * can see inside, by the main thread; an input thread that takes no time, by the API server. Must
 * not decide anything.
 */
#include "sim/simulation_state.h"

enum io_phase {
    IO_LOOK,
    IO_SETTLED, /* the message's emulated time is over: pass it on */
};

/* ---- input ---- */

static void begin_input(const struct simulation *s, struct station *station,
                        const struct letter *letter)
{
    struct ticket *t =
        letter->kind == LETTER_ADD ? ticket_at(s, (uint32_t)letter->as.number) : NULL;
    station->books->messages_in_count++;
    station_work(station, station_cost(&s->options.costs.engine_input, 1,
                                       t != NULL ? t->request.prompt_tokens : 0));
    if (t != NULL) {
        t->hops[SIMULATION_HOP_ENGINE_RECEIVED] = station->cursor;
        tell_wait(station, t->hops[SIMULATION_HOP_API_SENT], station->cursor);
        station->books->requests_count++;
        station_charge(station, s->options.extra.engine_input_request);
    }
}

/* True: the emulated time of the message in work is over. Else the segment ends with sleeping it
 * off. */
static bool settled(struct station *station)
{
    if (!station_owes(station)) {
        return true;
    }
    station->phase = IO_SETTLED;
    station_sleep(station, station->busy_until);
    return false;
}

static void wait_for_letter(struct station *station)
{
    station->phase = IO_LOOK;
    station_wait(station, 1U << ONLY_INBOX, &station->books->idle);
}

static void pass_on(struct engine_thread *e, struct letter letter)
{
    letter.at = e->input.cursor;
    letter_send(&e->input, &e->station, REQUESTS_INBOX, letter);
    if (e->tally != NULL) {
        engine_flow_arrival(e);
    }
}

void engine_input_run(struct station *station)
{
    const struct simulation *s = simulation_of(station);
    const struct letter *letter = station_letter(station, ONLY_INBOX, station->now);
    if (letter != NULL) {
        if (station->phase == IO_LOOK) {
            begin_input(s, station, letter);
        }
        if (!settled(station)) {
            return;
        }
        struct letter passed = *letter;
        station_drop(station, ONLY_INBOX);
        pass_on(station->owner, passed);
    }
    wait_for_letter(station);
}

bool engine_hears(struct engine_thread *e, struct ticket *t, time_ps at)
{
    const struct letter letter = {.at = at, .kind = LETTER_ADD, .as.number = t->index};
    if (!station_hears(&e->input, at)) {
        return false;
    }
    begin_input(simulation_of(&e->input), &e->input, &letter);
    pass_on(e, letter);
    return true;
}

/* ---- output ---- */

/* The real thread takes all messages at once: as many as came since it did so last. */
static void book_queue(const struct simulation *s, struct engine_thread *e, time_ps sent)
{
    struct simulation_thread *books = e->output.books;
    time_ps waited = e->output.now - sent;
    books->queue_length += waited;
    tell_spans(s, books, SIMULATION_SPAN_WAIT, waited, 1);
    if (sent > e->output_taken_at) {
        e->output_taken_at = e->output.now;
        e->output_taken_count = 0;
    }
    e->output_taken_count++;
    books->queue_max =
        e->output_taken_count > books->queue_max ? e->output_taken_count : books->queue_max;
}

static void begin_output(const struct simulation *s, struct station *station,
                         const struct letter *letter)
{
    const struct outputs_parcel *p = (const struct outputs_parcel *)letter->as.parcel;
    uint32_t tokens = p->outputs.outputs_count;
    book_queue(s, station->owner, letter->at);
    station_work(station, station_cost(&s->options.costs.engine_output, tokens, tokens));
    station->books->output_tokens += tokens;
    station_charge(station, s->options.extra.engine_output_message +
                                s->options.extra.engine_output_token * (time_ps)tokens);
}

static void send_output(struct simulation *s, struct station *station, struct letter letter)
{
    int32_t client = ((const struct outputs_parcel *)letter.as.parcel)->client;
    letter.at = station->cursor + s->options.costs.ipc;
    station->books->messages_out_count++;
    if (client == COORDINATOR_CLIENT) {
        letter_send(station, &s->coordinator->station, COUNTS_INBOX, letter);
        return;
    }
    letter_send(station, &s->apis[client].station, OUTPUTS_INBOX, letter);
}

/* What its segments do for a message, at once: it has done with all messages before. */
static void pass_output(struct simulation *s, struct station *station, struct letter letter)
{
    station_pass_wait(station, letter.at, false, &station->books->idle);
    begin_output(s, station, &letter);
    if (station_owes(station)) {
        station_sleep(station, station->busy_until);
        station->cursor = station->next_at;
    }
    send_output(s, station, letter);
    station_pass_on(station, false);
}

void engine_send(struct engine_thread *e, int32_t client, const struct engine_outputs *outputs)
{
    struct simulation *s = simulation_of(&e->station);
    if (client == COORDINATOR_CLIENT && s->coordinator == NULL) {
        return;
    }
    struct outputs_parcel *p = parcel_of_outputs(s, client, outputs);
    struct letter letter = {
        .at = e->station.cursor, .kind = LETTER_PARCEL, .as.parcel = &p->parcel};
    e->station.books->messages_out_count++;
    if (e->output.in_line && s->options.witness == NULL) {
        pass_output(s, &e->output, letter);
    } else {
        letter_send(&e->station, &e->output, ONLY_INBOX, letter);
    }
}

void engine_output_run(struct station *station)
{
    struct simulation *s = simulation_of(station);
    const struct letter *letter = station_letter(station, ONLY_INBOX, station->now);
    if (letter != NULL) {
        if (station->phase == IO_LOOK) {
            begin_output(s, station, letter);
        }
        if (!settled(station)) {
            return;
        }
        struct letter sent = *letter;
        station_drop(station, ONLY_INBOX);
        send_output(s, station, sent);
    }
    wait_for_letter(station);
}
