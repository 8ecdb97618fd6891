#!/usr/bin/env bash
# keys.sh ROOT HARNESS - docs/scenarios.md lists exactly the keys that HARNESS knows, and HARNESS finds nothing wrong with a shipped
# scenario, whole or with --quick. Traces are not shipped: an empty file stands for one.
set -u
root=$1
harness=$2
failures=0

fail() {
    echo "$1" >&2
    failures=$((failures + 1))
}

known() {
    "$harness" keys | awk '/^\[/ { gsub(/[][]/, "", $1); section = $1 } /^  [a-z]/ && section !~ /^(defaults|quick)$/ { print section "." $1 }'
}

listed() {
    sed -n '/^## Keys$/,/^## /p' "$root/docs/scenarios.md" | awk -F'|' '/^\| `\[/ {
        section = $2
        gsub(/[][` ]|NAME/, "", section)
        count = split($3, words, "`")
        for (i = 2; i <= count; i += 2) print section "." words[i]
    }'
}

while read -r key; do
    fail "docs/scenarios.md, Keys: $key is missing"
done < <(LC_ALL=C comm -23 <(known | LC_ALL=C sort) <(listed | LC_ALL=C sort))
while read -r key; do
    fail "docs/scenarios.md, Keys: there is no key $key"
done < <(LC_ALL=C comm -13 <(known | LC_ALL=C sort) <(listed | LC_ALL=C sort))
[ "$(known | wc -l)" -gt 60 ] || fail "harness keys: only $(known | wc -l) keys"

trace=$(mktemp)
for file in "$root"/scenarios/*.ini; do
    for quick in "" --quick; do
        # shellcheck disable=SC2086
        "$harness" check "$file" --set "workload.trace=$trace" $quick >/dev/null || fail "$file $quick: see above"
    done
    grep -q "\`${file##*/}\`" "$root/docs/scenarios.md" || fail "docs/scenarios.md does not name ${file##*/}"
done
for file in "$root"/scenarios/bottlenecks/*.ini; do
    "$harness" check "$file" >/dev/null || fail "$file: see above"
done
rm -f "$trace"
[ "$failures" -eq 0 ]
