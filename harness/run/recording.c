/* recording.c - the folder of recordings (recording.h). Driven by measure.c and `harness serve`. */
#include "harness/run/recording.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static enum status make_folders(const char *folder, struct error *error)
{
    char path[TOPOLOGY_PATH_BYTES];
    (void)snprintf(path, sizeof path, "%s", folder);
    for (char *at = path; at != NULL;) {
        at = strchr(at + 1, '/');
        if (at != NULL) {
            *at = '\0';
        }
        if (mkdir(path, 0777) != 0 && errno != EEXIST) {
            return error_set(error, STATUS_IO, "%s: cannot be made: %s", path, strerror(errno));
        }
        if (at != NULL) {
            *at = '/';
        }
    }
    return STATUS_OK;
}

static enum status remove_old(const char *folder, struct error *error)
{
    char path[TOPOLOGY_PATH_BYTES + NAME_MAX + 2];
    DIR *entries = opendir(folder);
    if (entries == NULL) {
        return error_set(error, STATUS_IO, "%s: %s", folder, strerror(errno));
    }
    for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
        const char *end = strrchr(entry->d_name, '.');
        if (end != NULL && strcmp(end, ".rec") == 0) {
            (void)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
            (void)unlink(path);
        }
    }
    (void)closedir(entries);
    return STATUS_OK;
}

enum status recording_begin(struct topology *t, const char *folder, const char *revision,
                            struct error *error)
{
    if (strlen(folder) >= TOPOLOGY_PATH_BYTES) {
        return error_set(error, STATUS_IO, "%s: is longer than %d bytes", folder,
                         TOPOLOGY_PATH_BYTES - 1);
    }
    TRY(make_folders(folder, error));
    TRY(remove_old(folder, error));
    (void)snprintf(t->record_dir, sizeof t->record_dir, "%s", folder);
    (void)snprintf(t->revision, sizeof t->revision, "%s", revision);
    return STATUS_OK;
}
