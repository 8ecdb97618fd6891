#!/usr/bin/env bash
# openai_client.sh HARNESS - the `openai` package from PyPI as a client of `harness serve`: completions and chat, streamed and
# whole, usage, stop strings, token ids, the model list and the error classes. Needs network for the package, so it runs by hand
# or with HARNESS_TEST_FULL=1; exit status 77 means skipped.
set -eu
harness=$1
. "$(dirname "$0")/serve.sh"

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'openai>=1.40,<3'

serve "$harness" --api-server-count 2 --data-parallel-size 2
"$work/venv/bin/python" "$(dirname "$0")/openai_client.py" "$url/v1" qwen2.5-0.5b
