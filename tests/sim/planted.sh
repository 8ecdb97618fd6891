#!/usr/bin/env bash
# planted.sh CC ROOT [NAME] - plants each bug of tests/sim/planted/*.patch into a copy of engine/core, one at a time, and
# lets the protocol driver look for it. Prints a table: bug, seed that found it, invariant, how long the search took.
# Exit status 1 if a bug is not found, if another invariant than its patch names breaks, if a patch does not apply, if
# the sources without a bug fail, or if docs/planted-bugs.md does not list a bug.
#
# With NAME (e.g. 03-running-latched) only that bug; with HARNESS_PROTOCOL_SEED=n besides, only that seed, and its trace.
set -u
cc=$1
root=$2
only=${3:-}
seeds=20000
flags='-std=gnu11 -O2 -g -w -fno-strict-aliasing -ffp-contract=off -D_GNU_SOURCE'

work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/objects"

# compile FOLDER SOURCE OBJECT: SOURCE is relative to FOLDER, whose headers come first.
compile() {
    (cd "$1" && $cc $flags -I"$1" -I"$root" -c "$2" -o "$3")
}

object_of() {
    printf '%s/objects/%s.o' "$work" "${1//\//_}"
}

cd "$root" || exit 2
mapfile -t sources < <(ls engine/base/*.c engine/core/*.c sim/protocol_*.c tests/sim/planted/main.c)
started=0
for source in "${sources[@]}"; do
    compile "$root" "$source" "$(object_of "$source")" &
    started=$((started + 1))
    if [ $((started % 2)) -eq 0 ]; then
        wait || exit 2
    fi
done
wait
for source in "${sources[@]}"; do
    [ -f "$(object_of "$source")" ] || { echo "$source does not compile" && exit 2; }
done
link() {
    $cc -g -o "$1" "${@:2}" -lm -lpthread
}

failures=0
fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

# The sources as they are: what is found below is not found in them.
link "$work/clean" "$work"/objects/*.o || exit 2
if [ -z "$only" ] && ! timeout 120 "$work/clean" "$seeds" >"$work/out"; then
    fail "without a planted bug: $(head -c 600 "$work/out")"
fi

# smallest NAME PROGRAM MOST FOUND: the bug needs a fault, at most MOST of them, and is not found without.
smallest() {
    local count
    count=$(sed -n 's/^\([0-9]*\) faults after .*/\1/p' <<<"$4")
    [ -n "$count" ] && [ "$count" -ge 1 ] && [ "$count" -le "$3" ] || fail "$1 shrinks to ${count:-no} faults, want 1 to $3"
    sed -n 's/^[0-9]* faults after .*: /  smallest: /p' <<<"$4" >&3
    HARNESS_PROTOCOL_PLAN=none timeout 60 "$2" 4000 >/dev/null || fail "$1 is found without a fault"
}

# hunt PATCH: prints its row.
hunt() {
    local patch=$1 name tree file object want most found seed invariant begin
    local -a objects=()
    name=$(basename "$patch" .patch)
    want=$(sed -n 's/^Breaks: //p' "$patch")
    most=$(sed -n 's/^Faults: //p' "$patch")
    file=$(sed -n 's,^+++ b/,,p' "$patch")
    tree=$work/$name
    mkdir -p "$tree/$(dirname "$file")"
    cp "$root/$file" "$tree/$file"
    if ! patch -s -d "$tree" -p1 <"$patch" >"$work/patch.log" 2>&1; then
        fail "$name does not apply: $(cat "$work/patch.log")"
        return
    fi
    object=$tree/planted.o
    compile "$tree" "$file" "$object" || { fail "$name does not compile" && return; }
    for source in "${sources[@]}"; do
        [ "$source" = "$file" ] && objects+=("$object") || objects+=("$(object_of "$source")")
    done
    link "$tree/run" "${objects[@]}" || { fail "$name does not link" && return; }
    begin=$(date +%s%N)
    found=$(HARNESS_PROTOCOL_SHRINK=${most:+1} timeout 60 "$tree/run" "$seeds" 2>"$work/errors")
    local ms=$((($(date +%s%N) - begin) / 1000000))
    [ -n "$only" ] && cat "$work/errors"
    read -r seed invariant _ <<<"$found"
    if [ -z "$found" ]; then
        fail "$name is not found in $seeds seeds"
        return
    fi
    printf '| %s | %s | %s | %s |\n' "$name" "$seed" "$invariant" "$(sed -n 's/^Bug: //p' "$patch")"
    printf '  %s ms: %s\n' "$ms" "$(head -1 <<<"$found" | cut -d' ' -f3- | head -c 200)" >&3
    case " $want " in
    *" $invariant "*) ;;
    *) fail "$name breaks $invariant, want $want" ;;
    esac
    [ -z "$most" ] || smallest "$name" "$tree/run" "$most" "$found"
    grep -q "^| $name |" "$root/docs/planted-bugs.md" || fail "$name is not in docs/planted-bugs.md"
    rm -rf "$tree"
}

exec 3>/dev/null
[ -n "$only" ] && exec 3>&1
printf '| bug | seed | invariant | what it is |\n|---|---|---|---|\n'
count=0
for patch in "$root"/tests/sim/planted/*.patch; do
    if [ -z "$only" ] || [ "$(basename "$patch" .patch)" = "$only" ]; then
        hunt "$patch"
        count=$((count + 1))
    fi
done
if [ "$count" -eq 0 ] || { [ -z "$only" ] && [ "$count" -lt 20 ]; }; then
    fail "only $count bugs were planted"
fi
exit $((failures > 0))
