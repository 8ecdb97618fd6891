/*
 * cell_foreign.c - cells whose server is another's: which keys of [server] they have, and what
 * those are that nobody gave (cell.h). The project's own system has keys of its own, which are
 * mistakes here and the other way round: nothing that was written may be without effect.
 */
#include "harness/scenario/cell.h"

#include <stdio.h>
#include <string.h>

#define SECOND_NS         ((int64_t)1000000000)
#define START_TIMEOUT_NS  (600 * SECOND_NS)
#define METRICS_EVERY_NS  SECOND_NS
#define VLLM_DEFAULT_PORT 8000

static bool is_given(const struct setting *item)
{
    return item->text != NULL && item->text[0] != '\0' &&
           (item->origin.line > 0 || strcmp(item->origin.file, "default") != 0);
}

static const struct setting *given(const struct settings_section *section, const char *key)
{
    for (uint32_t i = 0; i < section->items_count; i++) {
        const struct setting *item = &section->items[i];
        if (strcmp(item->key, key) == 0 && is_given(item)) {
            return item;
        }
    }
    return NULL;
}

bool cell_section_is_foreign(const struct settings_section *server)
{
    if (strcmp(server->kind->name, "server") != 0) {
        return false;
    }
    const struct setting *launch = given(server, "launch");
    return given(server, "attach") != NULL || (launch != NULL && option_is_command(launch->text));
}

void cell_own(const struct option_server *server, const struct cell_sections *sections,
              struct scenario_problems *problems)
{
    if (server->foreign.command[0] != '\0') { /* an axis made it one */
        problems_add(problems, settings_item(sections->server, "launch")->origin,
                     "launch: a command line must be known as one before its axes are filled in: "
                     "write a blank or a '/'");
    }
    for (uint32_t i = 0; i < sections->server->items_count; i++) {
        const struct setting *item = &sections->server->items[i];
        if (is_given(item) && option_is_foreign(item->key) && strcmp(item->key, "launch") != 0) {
            problems_add(problems, item->origin,
                         "%s: only servers of others have it: those with attach = URL or "
                         "launch = COMMAND LINE",
                         item->key);
        }
    }
}

/* ---- a server of others ---- */

static void check_keys(const struct settings_section *server, bool attached,
                       struct scenario_problems *problems)
{
    for (uint32_t i = 0; i < server->items_count; i++) {
        const struct setting *item = &server->items[i];
        if (is_given(item) && !option_is_foreign(item->key)) {
            problems_add(problems, item->origin,
                         "%s: means nothing beside %s: it is a key of the project's own serving "
                         "system",
                         item->key, attached ? "attach" : "launch = COMMAND LINE");
        }
    }
}

/* Two ways to say who serves, or a key of the other way. */
static void check_way(const struct settings_section *server, bool attached,
                      struct scenario_problems *problems)
{
    static const char *const keys[] = {"launch", "url", "start_timeout"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0] && attached; i++) {
        const struct setting *item = given(server, keys[i]);
        if (item != NULL) {
            problems_add(problems, item->origin,
                         "%s: not beside attach: that server runs already%s", item->key,
                         i == 0 ? " (where a launched one answers is url)" : "");
        }
    }
}

static void settle_titles(struct scenario_foreign *f)
{
    static const char *const titles[SCENARIO_STAGES_COUNT] = {
        [SCENARIO_STAGE_API_SERVER] = "VLLM::APIServer*",
        [SCENARIO_STAGE_COORDINATOR] = "VLLM::DPCoordinator*",
        [SCENARIO_STAGE_ENGINE] = "VLLM::EngineCore*",
        [SCENARIO_STAGE_WORKER] = "VLLM::Worker*",
    };
    for (size_t i = 0; i < SCENARIO_STAGES_COUNT; i++) {
        if (f->titles[i][0] == '\0') {
            (void)snprintf(f->titles[i], sizeof f->titles[i], "%s", titles[i]);
        }
    }
}

static void settle(struct scenario_foreign *f, bool attached)
{
    f->kind = attached ? SCENARIO_SERVER_ATTACHED : SCENARIO_SERVER_LAUNCHED;
    if (attached) {
        f->url = f->attach;
        f->command[0] = '\0';
    } else if (f->url.port == 0) {
        f->url = (struct scenario_address){.host = "127.0.0.1", .port = VLLM_DEFAULT_PORT};
    }
    if (strcmp(f->model, "auto") == 0) {
        memset(f->model, 0, sizeof f->model);
    }
    if (!f->counters.given) {
        f->counters = (struct scenario_counters){
            .proc = true, .prometheus = "/metrics", .every_ns = METRICS_EVERY_NS};
    }
    if (f->start_timeout_ns == 0) {
        f->start_timeout_ns = START_TIMEOUT_NS;
    }
    settle_titles(f);
}

void cell_foreign(struct scenario_cell *cell, const struct option_server *server,
                  const struct cell_sections *sections, struct scenario_problems *problems)
{
    bool attached = given(sections->server, "attach") != NULL;
    check_keys(sections->server, attached, problems);
    check_way(sections->server, attached, problems);
    cell->foreign = server->foreign;
    settle(&cell->foreign, attached);
    memset(&cell->topology, 0, sizeof cell->topology);
    cell->client.balance = false; /* connections cannot be told apart by API server */
    if (cell->load.first_outputs == SCENARIO_FIRST_RESIDUAL && scenario_slots(cell) == 0) {
        problems_add(problems, settings_item(sections->load, "first_outputs")->origin,
                     "first_outputs: residual needs slots in [server %s], the sequences that it "
                     "runs at once",
                     cell->server);
    }
}
