#!/usr/bin/env bash
# tidy.sh ROOT - what every source file of the project keeps to. Prints file:line of each violation; exit status 1 if
# there is one.
set -u
lines_max=900
unfinished='TO''DO|FIX''ME|XX''X'

cd "$1" || exit 2
folders=()
for folder in engine sim harness tests bench cmake scenarios plots; do
    [ -d "$folder" ] && folders+=("$folder")
done
mapfile -t code < <(find "${folders[@]}" -type f \( -name '*.c' -o -name '*.h' -o -name '*.cu' \) | LC_ALL=C sort)
mapfile -t scripts < <(find "${folders[@]}" -type f \( -name '*.cmake' -o -name 'CMakeLists.txt' -o -name '*.sh' \
    -o -name '*.ini' -o -name '*.gp' \) -not -path 'tests/fuzz/*' | LC_ALL=C sort)
if [ "${#code[@]}" -eq 0 ]; then
    echo "no source files under $1" >&2
    exit 2
fi

awk -v lines_max="$lines_max" -v unfinished="(^|[^A-Za-z0-9_])($unfinished)([^A-Za-z0-9_]|\$)" '
function violation(line, why)
{
    printf "%s:%d: %s\n", FILENAME, line, why
    violations++
}

FNR == 1 {
    is_code = FILENAME ~ /\.(c|h|cu)$/
    if (is_code && $0 !~ /^\/\*/) {
        violation(1, "does not open with a block comment")
    }
}

is_code && FNR == lines_max + 1 {
    violation(FNR, "longer than " lines_max " lines")
}

/\r$/ {
    violation(FNR, "line ends in CR LF")
}

$0 ~ unfinished {
    violation(FNR, "unfinished work is marked here")
}

END {
    exit violations > 0
}
' "${code[@]}" ${scripts[@]+"${scripts[@]}"}
