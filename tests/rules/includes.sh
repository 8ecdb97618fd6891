#!/usr/bin/env bash
# includes.sh ROOT - who may include whom. Prints file:line of each violation; exit status 1 if there is one.
#
# room     FOLDER-OR-FILE  what its files may include besides, as beginnings of paths; the longest FOLDER-OR-FILE
#                          that begins a file's path decides
# system   FOLDER-OR-FILE  the only system headers it may include
set -u
rules='
room   engine/base/           engine/base/
room   engine/core/           engine/core/ engine/base/
room   engine/wire/           engine/wire/ engine/core/ engine/base/
room   engine/ledger/         engine/ledger/ engine/core/ engine/base/
room   engine/tape/           engine/tape/ engine/core/ engine/base/
room   engine/model/shapes    engine/model/shapes engine/core/ engine/base/
room   engine/http/           engine/http/ engine/base/
room   engine/device/         engine/device/ engine/wire/ engine/ledger/ engine/model/ engine/core/ engine/base/
room   engine/collective/     engine/collective/ engine/device/ engine/wire/ engine/ledger/ engine/model/shapes engine/core/ engine/base/
room   engine/model/          engine/model/ engine/device/ engine/wire/ engine/ledger/ engine/core/ engine/base/
room   engine/node/           engine/
room   sim/                   sim/ engine/core/ engine/model/ engine/device/cost.h engine/device/gpu_share.h engine/base/
room   harness/               harness/ sim/ engine/http/ engine/wire/ engine/ledger/ engine/tape/ engine/model/ engine/base/

system engine/core/           stdint.h stddef.h stdbool.h string.h
system engine/base/status.h   stddef.h
'

cd "$1" || exit 2
mapfile -t files < <(find engine sim harness -type f \( -name '*.c' -o -name '*.h' -o -name '*.cu' \) | LC_ALL=C sort)
if [ "${#files[@]}" -eq 0 ]; then
    echo "no source files under $1" >&2
    exit 2
fi

awk -v rules="$rules" '
function begins(text, head)
{
    return substr(text, 1, length(head)) == head
}

# The rule of `kind` for the file, or "" if none fits.
function rule_for(kind, file,    i, best)
{
    best = 0
    for (i = 1; i <= count; i++) {
        if (kinds[i] == kind && begins(file, places[i]) &&
            (best == 0 || length(places[i]) > length(places[best]))) {
            best = i
        }
    }
    return best == 0 ? "" : allowed[best]
}

function allows(list, name, whole,    parts, n, i)
{
    n = split(list, parts, " ")
    for (i = 1; i <= n; i++) {
        if (whole ? name == parts[i] : begins(name, parts[i])) {
            return 1
        }
    }
    return 0
}

function violation(why)
{
    printf "%s:%d: %s\n", FILENAME, FNR, why
    violations++
}

BEGIN {
    lines_count = split(rules, lines, "\n")
    for (l = 1; l <= lines_count; l++) {
        fields_count = split(lines[l], fields, " ")
        if (fields_count < 3) {
            continue
        }
        count++
        kinds[count] = fields[1]
        places[count] = fields[2]
        for (k = 3; k <= fields_count; k++) {
            allowed[count] = allowed[count] " " fields[k]
        }
    }
}

FNR == 1 {
    room = rule_for("room", FILENAME)
    system_headers = rule_for("system", FILENAME)
    if (room == "") {
        violation("no include rule for this folder")
    }
}

/^[ \t]*#[ \t]*include/ {
    name = $0
    sub(/^[ \t]*#[ \t]*include[ \t]*/, "", name)
    mark = substr(name, 1, 1)
    name = substr(name, 2)
    sub(/[">].*/, "", name)
    if (mark != "\"" && mark != "<") {
        violation("an include must name its file")
    } else if (mark == "\"" || name ~ /^(engine|sim|harness|tests|bench)\//) {
        if (room != "" && !allows(room, name, 0)) {
            violation("may not include " name)
        }
    } else if (system_headers != "" && !allows(system_headers, name, 1)) {
        violation("may not include <" name ">")
    }
}

END {
    exit violations > 0
}
' "${files[@]}"
