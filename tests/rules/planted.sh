#!/usr/bin/env bash
# planted.sh CC AR NM - the rule scripts find what they are for: each violation planted here must be printed, and the clean
# tree beside it must pass.
set -u
here=$(cd "$(dirname "$0")" && pwd)
cc=$1
ar=$2
nm=$3
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failures=0

clean_tree() {
    rm -rf "${tree:?}"/*
    mkdir -p "$tree"/engine/{base,core,wire,node,model,device,http} "$tree"/sim "$tree"/harness/cli
    cd "$tree" || exit 2
    for file in engine/base/a.h engine/core/a.c engine/wire/a.c engine/node/a.c engine/http/a.c sim/a.c \
        harness/cli/a.c engine/model/a.h; do
        printf '/* %s - clean. */\n#include "engine/base/a.h"\n' "$file" >"$file"
    done
    printf '/* shapes */\n#include "engine/core/a.h"\n' >engine/model/shapes.h
    printf '#include <string.h>\n' >>engine/core/a.c
    printf '#include "engine/wire/a.h"\n#include <zmq.h>\n' >>engine/node/a.c
    printf '#include "engine/device/cost.h"\n' >>sim/a.c
    printf '#include "sim/a.h"\n' >>harness/cli/a.c
}

# expect_pass SCRIPT WHAT
expect_pass() {
    local output
    if ! output=$(bash "$here/$1" "$tree" 2>&1); then
        printf '%s: refuses what is right (%s):\n%s\n' "$1" "$2" "$output"
        failures=$((failures + 1))
    fi
}

# expect_violation SCRIPT FILE TEXT WANT: TEXT appended to FILE of the clean tree is refused, and WANT is printed.
expect_violation() {
    local output status
    clean_tree
    mkdir -p "$(dirname "$2")"
    printf '%b\n' "$3" >>"$2"
    output=$(bash "$here/$1" "$tree" 2>&1)
    status=$?
    if [ "$status" -ne 1 ] || ! grep -qF "$4" <<<"$output"; then
        printf '%s: status %d, misses "%s" in: %s\n' "$1" "$status" "$4" "$output"
        failures=$((failures + 1))
    fi
}

clean_tree
expect_pass includes.sh 'clean tree'
expect_pass tidy.sh 'clean tree'
expect_violation includes.sh engine/base/a.h '#include "engine/core/a.h"' 'engine/base/a.h:3: '
expect_violation includes.sh engine/core/a.c '#include "engine/wire/a.h"' 'engine/core/a.c:4: '
expect_violation includes.sh engine/core/a.c '#include <stdio.h>' 'engine/core/a.c:4: may not include <stdio.h>'
expect_violation includes.sh engine/core/a.c '  #  include <engine/node/a.h>' 'engine/core/a.c:4: '
expect_violation includes.sh engine/core/a.c '#include "a.h"' 'engine/core/a.c:4: '
expect_violation includes.sh engine/core/a.c '#include HEADER' 'engine/core/a.c:4: '
expect_violation includes.sh engine/wire/a.c '#include "engine/node/a.h"' 'engine/wire/a.c:3: '
expect_violation includes.sh engine/http/a.c '#include "engine/core/a.h"' 'engine/http/a.c:3: '
expect_violation includes.sh engine/model/shapes.h '#include "engine/device/a.h"' 'engine/model/shapes.h:3: '
expect_violation includes.sh engine/node/a.c '#include "harness/cli/a.h"' 'engine/node/a.c:5: '
expect_violation includes.sh sim/a.c '#include "engine/device/gpu.h"' 'sim/a.c:4: '
expect_violation includes.sh sim/a.c '#include "harness/cli/a.h"' 'sim/a.c:4: '
expect_violation includes.sh harness/cli/a.c '#include "engine/node/a.h"' 'harness/cli/a.c:4: '
expect_violation includes.sh harness/cli/a.c '#include "engine/core/a.h"' 'harness/cli/a.c:4: '
expect_violation includes.sh engine/attic/a.c '/* a room without a rule */' 'engine/attic/a.c:1: '
expect_violation tidy.sh engine/new.c 'int x;' 'engine/new.c:1: '
expect_violation tidy.sh sim/a.c '/* TO''DO */' 'sim/a.c:4: '
expect_violation tidy.sh sim/a.c '/* FIX''ME: later */' 'sim/a.c:4: '
expect_violation tidy.sh sim/a.c '/* carriage */\r' 'sim/a.c:4: '
expect_violation tidy.sh sim/a.c "$(printf '\\n%.0s' {1..900})" 'sim/a.c:901: '

# purity: a base library, and a core library of one function.
# expect_purity STATUS WANT C-CODE
expect_purity() {
    local output status
    rm -f "$tree"/*.a "$tree"/*.o
    printf 'long clock_now_ns(void) { return 1; }\nlong hash64(void) { return 2; }\n' >"$tree/base.c"
    printf '%b\n' "$3" >"$tree/core.c"
    (cd "$tree" && "$cc" -w -c base.c core.c && "$ar" rc base.a base.o && "$ar" rc core.a core.o) || exit 2
    output=$(bash "$here/purity.sh" "$nm" "$tree/core.a" "$tree/base.a" 2>&1)
    status=$?
    if [ "$status" -ne "$1" ] || ! grep -qF "$2" <<<"$output"; then
        printf 'purity.sh: status %d, want %d and "%s" in: %s\n' "$status" "$1" "$2" "$output"
        failures=$((failures + 1))
    fi
}

clean_tree
expect_purity 0 '' '#include <string.h>\nlong hash64(void);\nstatic const char *const names[] = {"a"};
    long own(const char *s) { return strlen(s) + hash64() + names[0][0]; }\nlong other(void) { return own(""); }'
expect_purity 1 'calls printf' '#include <stdio.h>\nvoid f(int x) { printf("%%d", x); }'
expect_purity 1 'calls malloc' '#include <stdlib.h>\nvoid *f(void) { return malloc(4); }'
expect_purity 1 'calls clock_now_ns' 'long clock_now_ns(void); long f(void) { return clock_now_ns(); }'
expect_purity 1 'state is writable data' 'static int state; int f(void) { return state++; }'
expect_purity 1 'state is writable data' 'int state = 4; int f(void) { return state++; }'
expect_purity 1 'state is writable data' 'static _Thread_local int state; int f(void) { return state++; }'
expect_purity 77 'skipped' 'void __asan_init(void); void f(void) { __asan_init(); }'

exit $((failures > 0))
