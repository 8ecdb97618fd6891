#!/usr/bin/env bash
# messages.sh ROOT HARNESS - wrong usage is answered with its exit status, the option or key by name, and what was wanted.
# Nothing here gets as far as starting a system.
set -u
root=$1
harness=$2
smoke=$root/scenarios/smoke.ini
failures=0

# want STATUS "WORDS" ARGUMENTS ... - the status, and WORDS somewhere in what is printed.
want() {
    local status=$1 words=$2 said got=0
    shift 2
    said=$("$harness" "$@" 2>&1 </dev/null) || got=$?
    if [ "$got" -ne "$status" ] || [[ $said != *"$words"* ]]; then
        printf 'harness %s\n  status %s, want %s; want "%s" in:\n%s\n' "$*" "$got" "$status" "$words" "$said" >&2
        failures=$((failures + 1))
    fi
}

want 2 "unknown command 'rnu', did you mean 'run'?" rnu
want 2 "unknown option --quik, did you mean --quick?" run --quik "$smoke"
want 2 "unknown option --bogus" serve --bogus
want 2 "--compat wants vllm, guidellm, aiperf, mlperf or sglang, got 'vlm'" run "$smoke" --compat vlm
want 0 "harness serve $smoke --only api_servers=1,dp=2" run "$smoke" --showcmd
want 0 "vllm serve some/model --host" run "$root/scenarios/vllm.ini" --dry-run --set "server.launch=vllm serve some/model --host"
want 2 "is a server of others" serve "$root/scenarios/vllm.ini" --only api_servers=1
want 2 "unknown option -x" check -x "$smoke"
want 2 "-o needs a value" run "$smoke" -o
want 2 "--confirm: a search for rates predicts no configuration" run "$root/scenarios/rates.ini" --confirm
want 2 "--join needs a value" node --join
want 2 "--no-stream takes no value" load http://127.0.0.1:1 --no-stream=3
want 2 "expected one scenario file" check
want 2 "expected one scenario file" check "$smoke" "$smoke"

want 2 "expected no operands" calibrate "$smoke"
want 2 "--gpu: unknown name 'h10', did you mean 'h100'?" calibrate --gpu h10
want 2 "--model: unknown name 'nothing' (known: llama-3.2-1b, " calibrate --model nothing
want 8 "/nowhere/c.ini: cannot be written: No such file" calibrate -o /nowhere/c.ini
want 8 "$root: cannot be written: Is a directory" calibrate -o "$root"
want 2 "expected a scenario (.ini), a result folder or one file of measured requests" validate
want 2 "/nowhere: No such file" validate /nowhere
want 2 "users: 'x' is no number" validate "$smoke" --set load.users=x
want 2 "--gpu: unknown name 'h10', did you mean 'h100'?" validate --gpu h10 "$root/README.md"
want 2 "README.md:1: " validate "$root/README.md"
want 2 "try: a folder with the results of harness run, sim or validate" validate "$root/scenarios"
want 2 "rates are searched for in one mode" validate "$root/scenarios/rates.ini" --dry-run
want 2 "costs: unknown value 'defualt', did you mean 'default'?" check "$smoke" --set simulation.costs=defualt
want 2 "cannot read 'nowhere.ini'" sim "$smoke" --set simulation.costs=nowhere.ini
want 2 "--port wants a number from 0 to 65535, got '70000'" serve --port 70000
want 2 "--api-server-count wants a number from 1 to 64, got '65'" serve --api-server-count 65
want 2 "--data-parallel-size wants a number from 1 to 64, got '4x'" serve --data-parallel-size 4x
want 2 "--host wants an address" serve --host 127.0.0.1:80
want 2 "--join wants a known HOST or HOST:PORT, got ':1'" node --join :1
want 2 "--port needs --serve" null --port 5

want 2 "--users wants a number from 1 to 65536, got '0'" load http://127.0.0.1:1 --users 0
want 2 "--prompt wants tokens as N or LO..HI, got '5..2'" load http://127.0.0.1:1 --prompt 5..2
want 2 "--measure wants seconds above 0" load http://127.0.0.1:1 --measure 0
want 2 "--users, --rate and --trace exclude each other" load http://127.0.0.1:1 --users 2 --rate 3
want 2 "/nowhere.csv: No such file" load http://127.0.0.1:1 --trace /nowhere.csv
want 2 "is no URL like" load ftp://127.0.0.1
want 6 "no answer at http://127.0.0.1:1/v1/models" load http://127.0.0.1:1

want 2 "unknown key 'userz', did you mean 'users'?" check "$smoke" --set load.userz=3
want 2 "--only: there is no axis 'foo'" check "$smoke" --only foo=1
want 0 "ok, 2 cells" check "$smoke" --only dp=1
want 0 "ok, 1 cell," check "$smoke" --only dp=1 --only api_servers=2
want 2 "workload.trace: /nowhere.csv: No such file" \
    check "$root/scenarios/azure_conversation.ini" --set workload.trace=/nowhere.csv
want 2 "workload.trace: /nowhere.csv: No such file" \
    run "$root/scenarios/azure_conversation.ini" --set workload.trace=/nowhere.csv
want 2 "[report] has no demand" plan "$smoke"
want 2 "'120' is no rate: write 50/s" plan "$smoke" --set 'report.demand=120 peak'
want 0 "120/s at the peak: " plan "$smoke" --set 'report.demand=120/s peak'
want 2 "unknown section 'foo'" keys foo
want 2 "one result folder is needed" report
want 2 "--set wants report.KEY=VALUE or plots.KEY=VALUE, got 'load.users=3'" report /nowhere --set load.users=3
want 2 "/nowhere/runs/session" report /nowhere
want 2 "a recording or a folder with recordings is needed" replay
want 2 "has no recordings (NAME.rec)" replay "$root/scenarios"
want 2 "smoke.ini: is no recording of a process" replay "$smoke"
want 2 "record = yes: --record DIR is missing" serve "$smoke" --set server.record=yes
[ "$failures" -eq 0 ]
