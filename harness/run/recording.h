/*
 * recording.h - whether and where the processes of a system write down their calls into
 * engine/core (engine/tape/tape.h), for `harness replay`.
 */
#ifndef HARNESS_RUN_RECORDING_H
#define HARNESS_RUN_RECORDING_H

#include "engine/base/status.h"
#include "engine/ledger/topology.h"

/*
 * From now on a system of this topology records into `folder`, which is made, with those above it;
 * recordings of an earlier system there are removed. IO names the folder; then nothing is recorded.
 * `revision`: of this program.
 */
MUST_CHECK enum status recording_begin(struct topology *t, const char *folder, const char *revision,
                                       struct error *error);

#endif
