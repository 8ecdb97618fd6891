#!/usr/bin/env bash
# openai_client.sh HARNESS - the `openai` package from PyPI as a client of `harness serve`: completions and chat, streamed and
# whole, usage, stop strings, token ids, the model list and the error classes. Needs network for the package, so it runs by hand
# or with HARNESS_TEST_FULL=1; exit status 77 means skipped.
set -eu
if [ "${HARNESS_TEST_FULL:-}" != 1 ]; then
    echo "set HARNESS_TEST_FULL=1 to run it: it installs a package from PyPI"
    exit 77
fi
harness=$1
work=$(mktemp -d)
server=

end()
{
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap end EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'openai>=1.40,<3'

"$harness" serve --port 0 --api-server-count 2 --data-parallel-size 2 \
    --set server.max_model_len=1024 --set server.device='emulated gpu=h100 model=qwen2.5-0.5b' \
    >"$work/out" 2>"$work/err" &
server=$!
for _ in $(seq 300); do
    url=$(sed -n 's|.*\(http://[0-9.]*:[0-9]*\).*|\1|p' "$work/out" | head -n 1)
    if [ -n "$url" ]; then
        break
    fi
    if ! kill -0 "$server" 2>/dev/null; then
        cat "$work/err" >&2
        exit 1
    fi
    sleep 0.1
done
if [ -z "$url" ]; then
    echo "harness serve did not say that it serves within 30 s" >&2
    exit 1
fi

"$work/venv/bin/python" "$(dirname "$0")/openai_client.py" "$url/v1" qwen2.5-0.5b
