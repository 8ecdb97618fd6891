/*
 * doctor.c - `harness doctor [FILE]`: what on this host would spoil a measurement, why, and the
 * command that mends it; with a scenario also whether its largest cells fit. Changes nothing.
 */
#include "harness/cli/cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/probe/host_check.h"
#include "harness/probe/proc.h"
#include "harness/report/forecast.h"

/* CPU time of all processes for one streamed token, as measured at 18 to 26 us. */
#define TOKEN_CPU_S 26e-6

static const char help_text[] =
    "  FILE                          a scenario: do its largest cells fit this host?\n"
    "of the scenario:\n" CLI_SCENARIO_HELP
    "exit status 5: something here would spoil a measurement. It takes 2 s; run it when nothing "
    "else does.\n";

static struct host_needs needs_of(const struct scenario *scenario)
{
    struct host_needs needs = {.cores = (double)NAN};
    for (uint32_t i = 0; i < scenario->cells_count; i++) {
        const struct scenario_cell *cell = &scenario->cells[i];
        struct host_needs one;
        struct forecast forecast = forecast_of(cell);
        uint32_t connections = cell->load.mode == SCENARIO_LOAD_CLOSED
                                   ? cell->load.users_count
                                   : cell->load.inflight_max_count;
        host_needs_of(&cell->topology, connections, &one);
        if (forecast.known) {
            one.cores = forecast.form.tok_per_s * TOKEN_CPU_S;
        }
        host_needs_merge(&needs, &one);
    }
    return needs;
}

static bool coloured(void)
{
    const char *none = getenv("NO_COLOR");
    const char *terminal = getenv("TERM");
    return isatty(STDOUT_FILENO) == 1 && (none == NULL || none[0] == '\0') && terminal != NULL &&
           strcmp(terminal, "dumb") != 0;
}

static void print_finding(const struct host_finding *f, bool colour)
{
    static const char *const words[] = {"spoils", "note", "unknown", "ok"};
    static const char *const colours[] = {"\033[31m", "\033[33m", "\033[36m", "\033[32m"};
    (void)printf("%s%-8s%s %-13s %s\n", colour ? colours[f->severity] : "", words[f->severity],
                 colour ? "\033[0m" : "", f->name, f->seen);
    if (f->severity <= HOST_NOTE) {
        (void)printf("%22s why:  %s\n", "", f->why);
    }
    if (f->severity <= HOST_NOTE && f->mend[0] != '\0') {
        (void)printf("%22s mend: %s\n", "", f->mend);
    }
}

static void print_host(void)
{
    struct proc_host host;
    struct error error;
    if (proc_host_read(&host, &error) == STATUS_OK) {
        (void)printf("%s, %s: %u processors, %.4g usable\n", host.cpu_model, host.kernel,
                     host.cores_count, host.usable_cores);
    }
}

static int examine(const struct host_needs *needs)
{
    struct host_state state;
    struct host_finding findings[HOST_FINDINGS_MAX];
    size_t count_of[HOST_OK + 1] = {0};
    bool colour = coloured();
    print_host();
    (void)fflush(stdout);
    host_state_read("", &state);
    host_state_measure(&state);
    size_t count = host_judge(&state, needs, findings);
    for (size_t i = 0; i < count; i++) {
        print_finding(&findings[i], colour);
        count_of[findings[i].severity]++;
    }
    (void)printf("%zu would spoil a measurement, %zu to be known, %zu unknown, %zu ok\n",
                 count_of[HOST_SPOILS], count_of[HOST_NOTE], count_of[HOST_UNKNOWN],
                 count_of[HOST_OK]);
    return count_of[HOST_SPOILS] > 0 ? EXIT_INVALID : EXIT_PASS;
}

static int examine_scenario(const struct cli_scenario *arguments)
{
    struct scenario *scenario = cli_scenario_open(arguments);
    if (scenario == NULL) {
        return EXIT_USAGE;
    }
    struct host_needs needs = needs_of(scenario);
    (void)printf("%s, %u cell%s: at most %u processes, %u threads, %u open files in one of them, "
                 "%u connections, %llu MiB",
                 arguments->path, scenario->cells_count, scenario->cells_count == 1 ? "" : "s",
                 needs.processes_count, needs.threads_count, needs.files_count,
                 needs.connections_count, (unsigned long long)(needs.memory_bytes >> 20));
    if (isnan(needs.cores)) {
        (void)printf("\n");
    } else {
        (void)printf(", %.2f cores\n", needs.cores);
    }
    scenario_close(scenario);
    return examine(&needs);
}

int cli_doctor(int argc, char **argv)
{
    static const struct option options[] = {CLI_SCENARIO_OPTIONS, {NULL, 0, NULL, 0}};
    struct cli_scenario arguments = {.path = NULL};
    int option = 0;
    while ((option = cli_option(argc, argv, "h", options, NULL)) != -1) {
        if (option == 'h') {
            cli_help(stdout, "doctor", help_text);
            return EXIT_PASS;
        }
        if (!cli_scenario_option(&arguments, option, optarg)) {
            return EXIT_USAGE;
        }
    }
    if (optind == argc && arguments.options.sets_count == 0 && arguments.options.only == NULL &&
        !arguments.options.quick) {
        return examine(NULL);
    }
    if (!cli_scenario_operand(&arguments, "doctor", argc, argv)) {
        return EXIT_USAGE;
    }
    return examine_scenario(&arguments);
}
