#!/usr/bin/env bash
# report_chromium.sh HARNESS [REPORT [FOLDER]] - report.html of a short run in headless Chromium, at the widths of a desk and of a
# telephone, light and dark: no error on the console, nothing fetched, every figure visible and within the page. REPORT is a page
# to open in place of a run's; screenshots go to FOLDER if one is named. Needs chromium, so it runs by hand or with
# HARNESS_TEST_FULL=1; exit status 77 means skipped.
set -eu
if [ "${HARNESS_TEST_FULL:-}" != 1 ]; then
    echo "set HARNESS_TEST_FULL=1 to run it: it needs chromium (on Debian: apt-get install chromium)"
    exit 77
fi
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [ -z "$browser" ]; then
    echo "no chromium here: on Debian, apt-get install chromium"
    exit 77
fi
harness=$1
report=${2:-}
screenshots=${3:-}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -z "$report" ]; then
    # Exit status 3: a run as short as this may leave open where more stops helping.
    status=0
    "$harness" run --quick -o "$work/results" "$here/../../scenarios/smoke.ini" >"$work/log" 2>&1 || status=$?
    if [ "$status" != 0 ] && [ "$status" != 3 ]; then
        cat "$work/log" >&2
        exit 1
    fi
    report=$work/results/report.html
fi
HOME=$work timeout 240 python3 "$here/report_chromium.py" "$browser" "$(realpath "$report")" "$work/profile" "$screenshots"
