#!/usr/bin/env bash
# check.sh HARNESS - `harness sim --check`: the same seeds give the same counts with any number of workers, a seed's plan
# given back repeats its event log, and what cannot be run is refused by name.
set -u
harness=$1
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
failures=0
fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

# want STATUS TEXT ARGUMENT ...: exit status and a part of what is printed.
want() {
    local status=$1 text=$2
    shift 2
    timeout 120 "$harness" sim --check "$@" >"$work/out" 2>&1
    local got=$?
    [ "$got" -eq "$status" ] || fail "$*: exit status $got, want $status"
    grep -qF -- "$text" "$work/out" || fail "$*: no '$text' in $(head -c 300 "$work/out")"
}

timeout 120 "$harness" sim --check --seeds 400 --first 1000 >"$work/one" 2>/dev/null || fail "one worker finds a fault"
timeout 120 "$harness" sim --check --seeds 400 --first 1000 -j 3 >"$work/three" 2>/dev/null || fail "three workers find one"
grep -q '^400 seeds hold: ' "$work/one" || fail "no count in $(cat "$work/one")"
cmp -s "$work/one" "$work/three" || fail "workers change the counts: $(cat "$work/one" "$work/three")"

for seed in 1 5 21 201; do
    "$harness" sim --check --seed "$seed" >"$work/drawn" || fail "seed $seed fails"
    plan=$(sed -n 's/^plan: //p' "$work/drawn")
    "$harness" sim --check --seed "$seed" --plan "$plan" >"$work/given" || fail "seed $seed fails with $plan"
    cmp -s "$work/drawn" "$work/given" || fail "seed $seed: another run with its own plan, $plan"
done

want 0 'fault kind 2 process 1' --seed 7 --plan 'pause rank 1 at 700 for 30; ranks 2'
want 2 "'paus rank 1 at 700': want delay" --seed 7 --plan 'paus rank 1 at 700'
want 2 'plan: no rank 2' --seed 7 --plan 'ranks 2; crash rank 2 at 10'
want 2 '--plan is for one seed' --plan none
want 2 'did you mean --seeds?' --seedz 4
want 2 'a whole number' --seeds 0
exit $((failures > 0))
