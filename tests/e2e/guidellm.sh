#!/usr/bin/env bash
# guidellm.sh HARNESS [RATE] - GuideLLM from PyPI and `harness load` in front of `harness serve`, one after the other, with the
# same constant rate (default 10 requests/s, 15 s) and lengths: what GuideLLM calls its output throughput must be within 5 % of
# what `--compat guidellm` says. Prints both tools' figures. It installs some gigabytes, or takes the program named by GUIDELLM;
# so it runs with HARNESS_TEST_FULL=1 only. Exit status 77 means skipped.
set -eu
harness=$1
rate=${2:-10}
seconds=15
output_tokens=64
. "$(dirname "$0")/serve.sh"

guidellm=${GUIDELLM:-}
if [ -z "$guidellm" ]; then
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check 'guidellm>=0.8,<0.9'
    guidellm=$work/venv/bin/guidellm
fi

serve "$harness"

# Prompts for GuideLLM, which brings no words of its own without a tokenizer; arrivals for harness load.
python3 - "$work" "$rate" "$seconds" "$output_tokens" <<'END'
import datetime
import json
import random
import sys

work, rate, seconds, tokens = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
draw = random.Random(1)
with open(work + "/prompts.jsonl", "w") as prompts:
    for _ in range(int(rate * seconds) * 2):
        text = " ".join("word%04d" % draw.randrange(10000) for _ in range(24))
        print(json.dumps({"prompt": text, "output_tokens_count": tokens}), file=prompts)
begin = datetime.datetime(2026, 1, 1)
with open(work + "/arrivals.csv", "w") as arrivals:
    print("TIMESTAMP,ContextTokens,GeneratedTokens", file=arrivals)
    for i in range(int(rate * seconds)):
        at = begin + datetime.timedelta(seconds=i / rate)
        print("%s0,216,%d" % (at.strftime("%Y-%m-%d %H:%M:%S.%f"), tokens), file=arrivals)
END

HF_HUB_OFFLINE=1 "$guidellm" run --backend "kind=openai_http,target=$url,model=qwen2.5-0.5b,request_format=/v1/completions" \
    --profile "kind=constant,rate=$rate" --constraint "kind=max_duration,seconds=$seconds" \
    --data "kind=json_file,path=$work/prompts.jsonl" --output "kind=json,path=$work/guidellm.json" \
    --disable-console >"$work/guidellm.out" 2>&1 || {
    cat "$work/guidellm.out" >&2
    exit 1
}
# 5: late on a busy machine, which does not concern the throughput.
status=0
"$harness" load "$url" --trace "$work/arrivals.csv" --warmup 1 --compat guidellm >"$work/load.out" || status=$?
if [ $status -ne 0 ] && [ $status -ne 5 ]; then
    cat "$work/load.out" >&2
    exit 1
fi

python3 - "$work" <<'END'
import json
import re
import sys

metrics = json.load(open(sys.argv[1] + "/guidellm.json"))["benchmarks"][0]["metrics"]
load = open(sys.argv[1] + "/load.out").read()
names = {"ttft": "time_to_first_token_ms", "itl": "inter_token_latency_ms", "tpot": "time_per_output_token_ms"}
for name, key in names.items():
    own = re.search(r"guidellm_%s_ms +mean +([0-9.]+)" % name, load).group(1)
    print("%-5s mean, ms: GuideLLM %.2f, harness load %s" % (name, metrics[key]["successful"]["mean"], own))
theirs = metrics["output_tokens_per_second"]["successful"]["mean"]
ours = float(re.search(r"as guidellm .* ([0-9.]+) output tokens/s", load).group(1))
print("output tokens/s: GuideLLM %.1f, harness load %.1f" % (theirs, ours))
sys.exit(0 if abs(ours / theirs - 1) <= 0.05 else 1)
END
