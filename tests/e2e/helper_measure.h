/*
 * helper_measure.h - measured runs in end-to-end tests: a scenario from a text, and the load
 * client, which is the test program itself started again by measure_run().
 */
#ifndef TESTS_E2E_HELPER_MEASURE_H
#define TESTS_E2E_HELPER_MEASURE_H

#include "harness/run/measure.h"

/* A host whose client ceiling was not measured. */
extern const struct run_host e2e_host;

/* First thing of main(): serves as the load client and does not return if that is what the program
 * was started for. */
void e2e_client(int argc, char **argv);
/* Fails the test on the first mistake in the text. The caller closes it with scenario_close(). */
struct scenario *e2e_scenario(const char *text);
/* Measures and asserts that no child is left. */
void e2e_measure(const struct measure_options *options, struct run_result *out);

#endif
