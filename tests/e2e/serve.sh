# serve.sh - sourced by the scripts here that put a foreign client in front of `harness serve`: skips them without
# HARNESS_TEST_FULL=1 (exit status 77), makes a folder $work, and removes it and the server at the end.
if [ "${HARNESS_TEST_FULL:-}" != 1 ]; then
    echo "set HARNESS_TEST_FULL=1 to run it: it installs a package from PyPI"
    exit 77
fi
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

# serve HARNESS [OPTION ...]: starts it at any free port and sets $url once it serves, within 30 s.
serve()
{
    local program=$1
    shift
    "$program" serve --port 0 --set server.max_model_len=1024 \
        --set server.device='emulated gpu=h100 model=qwen2.5-0.5b' "$@" >"$work/out" 2>"$work/err" &
    server=$!
    for _ in $(seq 300); do
        url=$(sed -n 's|.*\(http://[0-9.]*:[0-9]*\).*|\1|p' "$work/out" | head -n 1)
        if [ -n "$url" ]; then
            return
        fi
        if ! kill -0 "$server" 2>/dev/null; then
            cat "$work/err" >&2
            exit 1
        fi
        sleep 0.1
    done
    echo "harness serve did not say that it serves within 30 s" >&2
    exit 1
}
