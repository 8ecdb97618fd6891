#!/usr/bin/env bash
# cluster.sh ROOT HARNESS - the examples for clusters stay true: the Slurm script parses, and every `harness` command line of
# docs/cluster.md, docs/cluster/ is one that HARNESS understands: it is called with the same flags and --help last, which is
# reached only when all flags before it exist and take their values. What only the cluster knows (variables, names of machines) is
# replaced by a number or an address.
set -u
root=$1
harness=$2
failures=0
commands=0

fail() {
    echo "$1" >&2
    failures=$((failures + 1))
}

# Lines that end in a backslash are one.
joined() {
    sed -e ':a' -e '/\\$/{N;s/ *\\\n */ /;ba' -e '}' "$1"
}

# shellcheck disable=SC2016 # the dollars are text here
# Command lines, from "harness" on, without what the shell takes.
command_lines() {
    joined "$1" | grep -v '^ *#' | grep -oE '(^|exec |on "[^"]*" )harness (serve|node|load|run) .*' |
        sed -e 's/^.*harness /harness /' -e 's/ *&$//' -e 's/\$(([^)]*))*/1/g' -e 's/\${[a-z]*:+[^}]*}//g'
}

# One word of an example, as it could be on a cluster.
word() {
    local text=${1//\"/}
    case $text in
    http://*) echo "http://127.0.0.1:8000" ;;
    \$@) ;;
    \$head:* | harness-head:*) echo "127.0.0.1:29550" ;;
    \$head | \$POD_IP) echo "127.0.0.1" ;;
    \$*) echo 1 ;;
    *) echo "$text" ;;
    esac
}

check() {
    local file=$1 line=$2 output
    local -a words=() arguments=()
    read -r -a words <<<"$line"
    local w
    for w in "${words[@]:1}"; do
        w=$(word "$w")
        [ -n "$w" ] && arguments+=("$w")
    done
    commands=$((commands + 1))
    if ! output=$("$harness" "${arguments[@]}" --help 2>&1) || ! grep -q '^usage: harness' <<<"$output"; then
        fail "$file: $line"
        fail "    called as: harness ${arguments[*]} --help"
        fail "    said: ${output%%$'\n'*}"
    fi
}

bash -n "$root/docs/cluster/harness.sbatch" || fail "docs/cluster/harness.sbatch does not parse"
for file in docs/cluster.md docs/cluster/harness.sbatch docs/cluster/harness.yaml; do
    before=$commands
    while IFS= read -r line; do
        check "$file" "$line"
    done < <(command_lines "$root/$file")
    [ $((commands - before)) -ge 3 ] || fail "$file: only $((commands - before)) command lines found"
done
echo "$commands command lines"
[ "$failures" -eq 0 ]
