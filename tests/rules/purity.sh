#!/usr/bin/env bash
# purity.sh NM CORE_LIBRARY BASE_LIBRARY - engine/core calls nothing that does I/O, reads a clock, allocates or starts a
# thread, and keeps no global state: its objects' undefined symbols are on a white list and it has no writable data.
# Prints each violation; exit status 1 if there is one, 77 (skipped) if the objects are instrumented.
set -u
# bcmp is what clang makes of memcmp() == 0.
libc='memcpy memset memmove memcmp bcmp strcmp strlen strncmp __stack_chk_fail _GLOBAL_OFFSET_TABLE_'
# Functions of engine/base that core may not call although base has them: clocks, and memory from the system.
base_forbidden='^(clock_|arena_create$|arena_destroy$)'

nm=$1
core=$2
base=$3
undefined=$("$nm" -u -A "$core") || exit 2
if grep -Eq '__(asan|ubsan|tsan|msan|sanitizer|gcov|llvm_profile|llvm_gcov|sancov)' <<<"$undefined"; then
    echo "instrumented build: skipped"
    exit 77
fi
defined_in() {
    "$nm" -g --defined-only -f posix "$1" | awk 'NF >= 2 && $2 ~ /^[A-Z]$/ { print $1 }'
}
core_names=$(defined_in "$core") && base_names=$(defined_in "$base" | grep -Ev "$base_forbidden") || exit 2
if [ -z "$core_names" ] || [ -z "$base_names" ]; then
    echo "no symbols in $core or $base" >&2
    exit 2
fi

status=0
{
    tr ' ' '\n' <<<"$libc"
    echo "$core_names"
    echo "$base_names"
    echo '--'
    echo "$undefined"
} | awk '
    $0 == "--" { listed = 1; next }
    !listed { allowed[$1] = 1; next }
    NF >= 2 && !($NF in allowed) { print $1 " calls " $NF; violations++ }
    END { exit violations > 0 }
' || status=1

"$nm" -A -f sysv "$core" | awk -F'|' '
    { gsub(/ /, "", $1); gsub(/[ \t]/, "", $7) }
    $7 ~ /^(\.data|\.bss|\.tdata|\.tbss|\*COM\*)/ && $7 !~ /^\.data\.rel\.ro/ {
        print $1 " is writable data (" $7 ")"
        violations++
    }
    END { exit violations > 0 }
' || status=1
exit $status
