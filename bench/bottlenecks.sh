#!/usr/bin/env bash
# bottlenecks.sh [HARNESS] [REPEATS] [FILE ...] - plants bottlenecks by configuration (scenarios/bottlenecks/) and compares what
# the report says with what was planted. A run is right, wrong, or undecided: the report names no stage, or it names another one and
# says that the host was too busy for evidence. Exit status 0 if at most 2 of 35 are not right and none is wrong.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
harness=${1:-$root/build/release/bin/harness}
repeats=${2:-5}
shift $(($# > 2 ? 2 : $#))
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# What the report has to say: a stage, or a word of judge().
expected() {
    case $1 in
    api_server | launch | gpu) echo "$1" ;;
    shared_gpu) echo gpu ;;
    lockstep | stale_counts | client) echo "$1" ;;
    *)
        echo "bottlenecks.sh: nothing is expected of $1" >&2
        exit 2
        ;;
    esac
}

# field FILE COLUMN - of the first row. Fields may be quoted.
field() {
    awk -v want="$2" '
        function split_csv(line, to,    n, i, c, quoted) {
            n = 1
            to[1] = ""
            for (i = 1; i <= length(line); i++) {
                c = substr(line, i, 1)
                if (c == "\"") quoted = !quoted
                else if (c == "," && !quoted) to[++n] = ""
                else to[n] = to[n] c
            }
            return n
        }
        NR == 1 { n = split_csv($0, names); for (i = 1; i <= n; i++) if (names[i] == want) column = i }
        NR == 2 { split_csv($0, values); print values[column] }' "$1"
}

# judge EXPECTED STATUS BOTTLENECK LOAD_LIMIT ALARM DP_SYNC POINT_STATUS - right, wrong or undecided.
judge() {
    local named=yes
    case $3 in
    mixed* | unexplained* | '') named=no ;;
    esac
    [ -z "$4" ] || named=no
    if [ "$1" = client ]; then
        if [ "$2" -eq 5 ] && [ "$7" = invalid ]; then echo right; elif [ "$2" -eq 0 ]; then echo wrong; else echo undecided; fi
    elif [ "$2" -ne 0 ]; then
        echo undecided
    elif [ "$1" = lockstep ] && [ "$4" = single_request ] && [ -n "$6" ] && [ "$6" != 0 ]; then
        echo right
    elif [ "$1" = stale_counts ] && [[ $5 == *stranded_requests* ]] && [ $named = no ]; then
        echo right
    elif [ "${3%%;*}" = "$1" ] && [ $named = yes ]; then
        echo right
    elif [ $named = yes ] && [ "$7" = ok ]; then
        echo wrong
    else
        echo undecided
    fi
}

declare -A count=([right]=0 [wrong]=0 [undecided]=0)
total=0
printf '%-14s %-4s %-9s %-34s %5s  %-15s %-22s %-12s %s\n' planted run verdict bottleneck use load_limit alarm status exit
if [ $# -eq 0 ]; then
    set -- "$root"/scenarios/bottlenecks/*.ini
fi
for ((k = 1; k <= repeats; k++)); do
    for file in "$@"; do
        name=$(basename "$file" .ini)
        want=$(expected "$name")
        status=0
        folder=$out/$name-$k
        "$harness" run "$file" --set "scenario.seed=$((1000 * k + 7))" -o "$folder" --progress none >"$out/log" 2>&1 || status=$?
        points=$folder/points.csv
        if [ ! -f "$points" ]; then
            cat "$out/log" >&2
            exit 1
        fi
        bottleneck=$(field "$points" bottleneck)
        limit=$(field "$points" load_limit)
        alarm=$(field "$points" alarm)
        state=$(field "$points" status)
        verdict=$(judge "$want" "$status" "$bottleneck" "$limit" "$alarm" "$(field "$points" dp_sync_frac)" "$state")
        count[$verdict]=$((count[$verdict] + 1))
        total=$((total + 1))
        printf '%-14s %-4s %-9s %-34s %5s  %-15s %-22s %-12s %s\n' "$name" "$k" "$verdict" "${bottleneck:--}" \
            "$(field "$points" bottleneck_util_frac | cut -c1-5)" "${limit:--}" "${alarm:--}" "$state" "$status"
    done
done
echo "right ${count[right]} of $total, wrong ${count[wrong]}, undecided ${count[undecided]}"
[ "${count[wrong]}" -eq 0 ] && [ $((35 * (total - count[right]))) -le $((2 * total)) ]
