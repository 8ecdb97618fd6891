/*
 * scenario_error_test.c - wrong scenarios and the exact sentences that a user gets for them. The
 * oracle is this table, written from the grammar and not from the program.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "helper_scenario.h"

/* Seven lines that are right; what a row adds starts on line 8. */
#define GOOD "[scenario]\nname = t\n[server s]\n[workload w]\n[load l]\nusers = 4\nmeasure = 1s\n"

#define WORKLOAD \
    "[scenario]\nname = t\n[server s]\n[load l]\nusers = 1\nmeasure = 1s\n[workload w]\n"

struct row {
    const char *text;
    const char *expected; /* all problems, one a line; "" if the scenario is right */
};

static const struct row text_rows[] = {
    {GOOD, ""},
    {"\xef\xbb\xbf" GOOD, ""},
    {"[scenario]\r\nname = t\r\n[server s]\r\n[workload w]\r\n[load l]\r\nusers = 4\r\n", ""},
    {GOOD "warmpu = 1s\n", "t.ini:8:1: unknown key 'warmpu', did you mean 'warmup'?"},
    {GOOD "xyzzy = 1s\n", "t.ini:8:1: unknown key 'xyzzy'"},
    {GOOD "  [laod l2]\n", "t.ini:8:4: unknown section 'laod', did you mean 'load'?"},
    {GOOD "[defautls load]\n", "t.ini:8:2: unknown section 'defautls', did you mean 'defaults'?"},
    {GOOD "[defaults laod]\n",
     "t.ini:8:2: unknown section 'laod' in [defaults laod], did you mean 'load'?"},
    {GOOD "[load]\n", "t.ini:8:2: section [load] needs a name: write [load NAME]"},
    {GOOD "[client x]\n", "t.ini:8:2: section [client] takes no name: write [client]"},
    {GOOD "[quick x]\n", "t.ini:8:2: section [quick] takes no name"},
    {GOOD "[load l]\n", "t.ini:8:2: section [load l] stands twice, first at t.ini:5"},
    {GOOD "[load a.b]\n", "t.ini:8:8: a section's name may not contain '.'"},
    {GOOD "[load\nx = 1\n", "t.ini:8:1: expected '[section]' or '[section name]'"},
    {GOOD "[]\n", "t.ini:8:1: expected '[section]' or '[section name]'"},
    {GOOD "[load m] x\n", "t.ini:8:1: expected '[section]' or '[section name]'"},
    {GOOD "users = 5\n", "t.ini:8:1: duplicate key 'users', first at t.ini:6"},
    {GOOD "nonsense\n", "t.ini:8:9: expected 'key = value', '[section]' or a comment"},
    {GOOD "= 3\n", "t.ini:8:1: expected 'key = value', '[section]' or a comment"},
    {"a = 1\n" GOOD, "t.ini:1:1: a key stands before the first [section]"},
    {GOOD "drain = \"1s\n", "t.ini:8:9: a quotation does not end on its line"},
    {GOOD "drain = 1s \\", "t.ini:8:9: nothing follows the '\\' at the end of the line"},
    {GOOD "drain = 1\001s\n", "t.ini:8:10: control character 0x01"},
    {GOOD "drain =\n", "t.ini:8:8: drain: the value is missing"},
    {GOOD "include = none.ini\n", "t.ini:8:11: cannot read 'none.ini': no such file"},
    {GOOD "include =\n", "t.ini:8:10: include: expected the path of a file"},
    {GOOD "include = t.ini\n", "t.ini:8:11: 't.ini' includes itself"},
    {"[scenario]\nname = t\n", "t.ini: there is no [server NAME] section\n"
                               "t.ini: there is no [workload NAME] section\n"
                               "t.ini: there is no [load NAME] section"},
    {"[scenario]\n[server s]\n[workload w]\n[load l]\nusers = 1\n",
     "t.ini:1:2: [scenario] needs the key 'name'"},
};

static const struct row value_rows[] = {
    {GOOD "warmup = 60\n", "t.ini:8:10: warmup: a time needs a unit: write 60s, 250ms or 50us"},
    {GOOD "warmup = 0\n", "t.ini:8:10: warmup: a time needs a unit: write 60s, 250ms or 50us"},
    {GOOD "warmup = 5sec\n", "t.ini:8:10: warmup: '5sec' is no time: write 60s, 250ms or 50us"},
    {GOOD "warmup = -5s\n", "t.ini:8:10: warmup: '-5s' is no time: write 60s, 250ms or 50us"},
    {GOOD "warmup = 1.s\n", "t.ini:8:10: warmup: '1.s' is no time: write 60s, 250ms or 50us"},
    {GOOD "warmup = 2000000h\n", "t.ini:8:10: warmup: '2000000h' is longer than a year"},
    {GOOD "warmup = 25h\n", "t.ini:8:10: warmup: want 0s to 86400s, got 25h"},
    {GOOD "batches = 1\n", "t.ini:8:11: batches: want 2 to 1000, got 1"},
    {GOOD "batches = 1,2\n",
     "t.ini:8:11: batches: a list is allowed only under [sweep]: did you mean 'axis.batches = 1,2' "
     "there and 'batches = %{batches}' here?"},
    {GOOD "batches = 2..8*2\n",
     "t.ini:8:11: batches: a list is allowed only under [sweep]: did you mean 'axis.batches = "
     "2..8*2' there and 'batches = %{batches}' here?"},
    {GOOD "batches = 8 / (4 - 4)\n", "t.ini:8:11: batches: division by zero"},
    {GOOD "batches = 9999999999 * 9999999999\n", "t.ini:8:11: batches: the result is too large"},
    {GOOD "batches = (8\n", "t.ini:8:11: batches: a ')' is missing"},
    {GOOD "batches = 8 8\n", "t.ini:8:11: batches: unexpected '8'"},
    {GOOD "batches = 8Kb\n", "t.ini:8:11: batches: 'Kb' does not belong to a whole number"},
    {GOOD "batches = $nvpus\n",
     "t.ini:8:11: batches: '$nvpus' is no number (known names: $ncpus, $ngpus)"},
    {GOOD "inflight_max = $ngpus - 2\n", "t.ini:8:16: inflight_max: want 1 to 1048576, got 0"},
    {GOOD "mode = clsed\n",
     "t.ini:8:8: mode: unknown value 'clsed', did you mean 'closed'? (one of "
     "closed, open, trace)"},
    {GOOD "rate = 5\n", "t.ini:8:8: rate: '5' is no rate: write 50/s or 0.5/s"},
    {GOOD "arrival = gamma\n", "t.ini:8:11: arrival: 'cv=' is missing"},
    {GOOD "arrival = bursts of=3 evry=2s\n",
     "t.ini:8:11: arrival: unknown 'evry=', did you mean 'every'?"},
    {GOOD "users = %{dp}\n", "t.ini:8:1: duplicate key 'users', first at t.ini:6"},
    {GOOD "batches = %{dp}\n", "t.ini:8:11: batches: there is no axis 'dp' under [sweep]"},
    {GOOD "[client]\nmax_cpu = 0.7\n",
     "t.ini:9:11: max_cpu: '0.7' is no percentage: write 5% or 0.5%"},
    {GOOD "[client]\nmax_cpu = 170%\n", "t.ini:9:11: max_cpu: want 1% to 100%, got 170%"},
    {GOOD "[probe]\nelasticity = top2 by=10%\npairs = 4\ncell = single\n", ""},
    {GOOD "[probe]\nelasticity = api_server, gpu by=5%\n", ""},
    {GOOD "[probe]\nelasticity = top2\n",
     "t.ini:9:14: elasticity: write by=10%, of 1% to 100%, at the end, not ''"},
    {GOOD "[probe]\nelasticity = by=10%\n",
     "t.ini:9:14: elasticity: no stage before by=: top2 by=10%"},
    {GOOD "[probe]\nelasticity = cpu by=10%\n",
     "t.ini:9:14: elasticity: 'cpu' is no stage: top1 to top4, or any of "
     "api_server|scheduler|launch|gpu|coordinator|ipc|interpreter, then by=10%"},
    {GOOD "[probe]\nelasticity = top2 by=0.5%\n",
     "t.ini:9:14: elasticity: write by=10%, of 1% to 100%, at the end, not 'by=0.5%'"},
    {GOOD "[probe]\nelasticity = top2 by=10%\ncell = dp=4\n",
     "t.ini:10:8: cell: there is no cell 'dp=4': they have names like 'single'"},
    {GOOD "[client]\nmax_lag = 5ms\n",
     "t.ini:9:11: max_lag: '5ms' is no quantile and time: write p99 5ms"},
    {GOOD "[client]\nbalance = true\n", "t.ini:9:11: balance: want yes or no, got 'true'"},
    {GOOD "[plots]\nformat = svg, pgn\n",
     "t.ini:9:10: format: unknown value 'pgn', did you mean 'png'? (one of svg, png, dumb)"},
    {WORKLOAD "prompt = 12\n", "t.ini:8:10: prompt: '12' is no token count: write 128tok or 2Ktok"},
    {WORKLOAD "prompt = unifrom lo=1tok hi=2tok\n",
     "t.ini:8:10: prompt: unknown distribution 'unifrom', did you mean 'uniform'?"},
    {WORKLOAD "temperature = 2.7\n", "t.ini:8:15: temperature: want 0 to 2, got 2.7"},
    {WORKLOAD "prompt = uniform lo=3tok hi=2tok\n",
     "t.ini:8:10: prompt: the least value 3 is above the greatest, 2"},
    {WORKLOAD "prompt = uniform lo=3tok lo=2tok\n", "t.ini:8:10: prompt: 'lo=' is given twice"},
    {GOOD "[scenario x]\n", "t.ini:8:2: section [scenario] takes no name: write [scenario]"},
    {"[scenario]\nname = a b\nschema = 2\n[server s]\n[workload w]\n[load l]\nusers = 1\n",
     "t.ini:2:8: name: 'a b' is no name: letters, digits, '_', '-' and '.' only\n"
     "t.ini:3:10: schema: this program reads formats up to 1, not 2"},
    {GOOD "drain = ${NOPE}\n",
     "t.ini:8:9: drain: the environment variable NOPE is not set (${NOPE:-text} gives a default)"},
    {GOOD "drain = ${NOPE\n", "t.ini:8:9: drain: '${' without '}'"},
    {GOOD "drain = ${}\n", "t.ini:8:9: drain: write ${NAME} or ${NAME:-text}"},
    {GOOD "drain = ${QUOTED}\n", "t.ini:8:9: drain: the environment variable QUOTED holds a "
                                 "quotation mark, '$', '%' or a control character"},
    {GOOD "inherit = m\n", "t.ini:8:11: inherit: there is no [load m]"},
    {GOOD "inherit = l\n", "t.ini:5:2: [load l] inherits itself"},
};

#define SERVER                                                                \
    "[scenario]\nname = t\n[workload w]\n[load l]\nusers = 4\nmeasure = 1s\n" \
    "[server s]\n"

#define VIRTUAL(mode, more)                                                                    \
    "[scenario]\nname = t\nmode = " mode "\n[load l]\nusers = 4\nmeasure = 1s\n[workload w]\n" \
    "[server s]\n" more

static const struct row virtual_rows[] = {
    {VIRTUAL("both", "topology = api_servers=1 dp=1 pp=9\n"),
     "t.ini:9:12: topology: pp: at most 8 pipeline stages can be simulated, got 9"},
    {VIRTUAL("simulate", "topology = api_servers=1 dp=2\nnodes = 2\n"),
     "t.ini:10:9: nodes: several nodes cannot be simulated"},
    {VIRTUAL("simulate", "[defaults workload]\nstream = no\n"),
     "t.ini:10:10: stream: answers in one piece cannot be simulated"},
    {VIRTUAL("simulate", "attach = http://127.0.0.1:8000\n"),
     "t.ini:8:2: server s: a server of others cannot be simulated"},
    {VIRTUAL("simulate", "topology = api_servers=1 dp=4097\n"),
     "t.ini:9:12: topology: dp: want 1 to 4096, got 4097"},
    {"[scenario]\nname = t\nmode = both\n[load l]\nmode = open\nmeasure = 1s\n[workload w]\n"
     "[server s]\n[find]\nwhat = capacity\n",
     "t.ini:1:2: mode: both: rates are searched for in one mode, simulate or measure"},
    {VIRTUAL("real", ""), "t.ini:3:8: mode: unknown value 'real' (one of measure, simulate, both)"},
};

static const struct row server_rows[] = {
    {SERVER "topology = dp=2\n", "t.ini:8:12: topology: 'api_servers=' is missing"},
    {SERVER "topology = api_servers=1 dp=0\n", "t.ini:8:12: topology: dp: want 1 to 4096, got 0"},
    {SERVER "topology = api_servers=1 dp=65\n",
     "t.ini:8:12: topology: dp: want 1 to 64, got 65 (to 4096 with scenario.mode = simulate)"},
    {SERVER "topology = api_servers=1 dp=1 tp=8 pp=4\n",
     "t.ini:8:12: topology: tp x pp: want at most 16 workers of an engine core, got 32"},
    {SERVER "topology = api_servers=1 dpp=1\n",
     "t.ini:8:12: topology: unknown 'dpp=', did you mean 'dp'?"},
    {SERVER "device = emulated gpu=h10 model=llama-3.1-8b\n",
     "t.ini:8:10: device: unknown gpu 'h10', did you mean 'h100'? (known: h100, h200, a100, l40s, "
     "rtx-pro-6000, rtx-4090, b200)"},
    {SERVER "device = cuda model=x\n",
     "t.ini:8:10: device: device 'cuda' is not supported by this build"},
    {SERVER "device = emulatd gpu=h100\n",
     "t.ini:8:10: device: unknown device 'emulatd': write emulated gpu=h100 model=llama-3.1-8b"},
    {SERVER "host_profile = vllm-pyton\n",
     "t.ini:8:16: host_profile: unknown value 'vllm-pyton', did you mean 'vllm-python'? (one of "
     "native, vllm-python)"},
    {SERVER "topology = api_servers=1 dp=2\ndevice = emulated gpu=h100 model=qwen3-30b-a3b\n"
            "lockstep = no\n",
     "t.ini:10:12: lockstep: qwen3-30b-a3b has experts, which its 2 engine cores divide among "
     "them: they must step together"},
    {SERVER "nodes = 17\n", "t.ini:8:9: nodes: want 1 to 16, got 17"},
    {SERVER "node = 2\n", "t.ini:8:1: unknown key 'node', did you mean 'nodes'?"},
    {SERVER "balancing = hybird\n",
     "t.ini:8:13: balancing: unknown value 'hybird', did you mean 'hybrid'? (one of internal, "
     "hybrid, independent)"},
    {SERVER "topology = api_servers=1 dp=4\nnodes = 3\n",
     "t.ini:9:9: nodes: 4 engine cores cannot be divided evenly among 3 nodes"},
    {SERVER "topology = api_servers=3 dp=5\nnodes = 2\nbalancing = hybrid\n",
     "t.ini:9:9: nodes: 5 engine cores cannot be divided evenly among 2 nodes\n"
     "t.ini:9:9: nodes: 3 API servers cannot be divided evenly among 2 nodes"},
    {SERVER "topology = api_servers=3 dp=4\nnodes = 2\n", ""},
    {SERVER "topology = api_servers=2 dp=6\nnodes = 2\ngpu_sharing = side_by_side\n"
            "engines_per_gpu = 2\n",
     "t.ini:11:19: engines_per_gpu: the 3 engine cores of a node cannot share GPUs by 2: a GPU "
     "belongs to one node"},
    {SERVER "topology = api_servers=2 dp=2\ndevice = emulated gpu=h100 model=qwen3-30b-a3b\n"
            "nodes = 2\nbalancing = independent\n",
     ""}, /* two systems of one rank each: nobody to step with */
    {SERVER "topology = api_servers=2 dp=4\ndevice = emulated gpu=h100 model=qwen3-30b-a3b\n"
            "nodes = 2\nbalancing = independent\n",
     "t.ini:7:2: lockstep: qwen3-30b-a3b has experts, which its 2 engine cores divide among them: "
     "they must step together"},
    {SERVER "engines_per_gpu = 2\n",
     "t.ini:8:19: engines_per_gpu: 2 engine cores cannot share a GPU with gpu_sharing = own"},
    {SERVER "max_num_seqs = 9000\n",
     "t.ini:7:2: max_num_batched_tokens: 8192 is less than max_num_seqs, 9000"},
    {SERVER "chunked_prefill = no\nmax_num_batched_tokens = 4Ki\n",
     "t.ini:9:26: max_num_batched_tokens: 4096 is less than max_model_len, 8192, and "
     "chunked_prefill is off"},
    {SERVER "max_model_len = 64\n", "t.ini:3:2: prompt: prompt and output can reach 256 tokens, "
                                    "more than max_model_len, 64"},
    {SERVER "num_gpu_blocks = 512\n",
     "t.ini:8:18: num_gpu_blocks: 512 blocks of 16 tokens (one is reserved) do not hold "
     "max_model_len, 8192 tokens"},
    {SERVER "topology = api_servers=1 dp=1 tp=2\nexecutor = uniproc\n",
     "t.ini:9:12: executor: uniproc has one worker an engine core, not 2"},
};

#define LOAD   "[scenario]\nname = t\n[server s]\n[workload w]\n[load l]\n"
#define REPORT "[scenario]\nname = t\n[server s]\n[workload w]\n[load l]\nusers = 1\n[report]\n"

static const struct row fit_rows[] = {
    {LOAD "measure = 1s\n", "t.ini:5:2: users: a closed loop needs 1 or more"},
    {LOAD "users = 9\ninflight_max = 8\n", "t.ini:6:9: users: 9 are more than inflight_max, 8"},
    {LOAD "users = 9\ninflight_max = 65537\n",
     "t.ini:7:16: inflight_max: want 1 to 65536, got 65537 (to 1048576 with scenario.mode = "
     "simulate)"},
    {LOAD "mode = open\nrate = 1/s\nmeasure = 1s\narrival = gamma cv=0.001\n",
     "t.ini:9:11: arrival: cv= wants 0.01 to 10: write constant for equal gaps"},
    {LOAD "mode = open\nmeasure = 1s\narrival = bursts of=3 every=0s\n",
     "t.ini:8:11: arrival: every= needs more than 0s"},
    {LOAD "mode = open\nrate = 7/s\nmeasure = 1s\narrival = bursts of=8 every=400ms\n",
     "t.ini:7:8: rate: bursts of 8 every 0.4s are 20/s, not 7/s: leave rate out"},
    {WORKLOAD "prompt = lognormal mean=50tok sd=5tok min=100tok max=200tok\n",
     "t.ini:8:10: prompt: less than 1% of this lognormal lies between min and max"},
    {SERVER "publish_interval = 10s\n",
     "t.ini:7:2: heartbeat_interval: it is less than publish_interval"},
    {LOAD "mode = open\n", "t.ini:5:2: rate: an open loop needs more than 0/s"},
    {LOAD "mode = trace\n", "t.ini:6:8: mode: trace needs a workload with source = trace or jsonl"},
    {LOAD "mode = open\nrate = 1/s\nwarmup = auto\nwarmup_max = 4s\n",
     "t.ini:9:14: warmup_max: want 5s to 600s, got 4s"},
    {"[scenario]\nname = t\n[server s]\n[workload w]\nsource = trace f.csv\n[load l]\n"
     "mode = trace\nwarmup = auto\n",
     "t.ini:8:10: warmup: auto waits for a steady state, which mode = trace has not"},
    {LOAD "users = 1\nmeasure_min_cycles = 30\n",
     "t.ini:7:22: measure_min_cycles: needs mode = open"},
    {LOAD "mode = open\nrate = 1/s\nmeasure = 500ms\nmeasure_min_cycles = 30\n",
     "t.ini:9:22: measure_min_cycles: needs a measure of 1s or more"},
    {LOAD "users = 1\non_inflight_max = drop\n",
     "t.ini:7:19: on_inflight_max: needs mode = open or trace: users wait for their answers"},
    {LOAD "users = 1\non_inflight_max = dorp\n",
     "t.ini:7:19: on_inflight_max: unknown value 'dorp', did you mean 'drop'? (one of invalid, "
     "drop, "
     "wait)"},
    {WORKLOAD "source = jsonl\n", "t.ini:8:10: source: jsonl needs its file: write jsonl FILE"},
    {WORKLOAD "source = synthetic f\n", "t.ini:8:10: source: synthetic has no file, found 'f'"},
    {WORKLOAD "source = json f\n",
     "t.ini:8:10: source: unknown value 'json f': write synthetic, trace FILE or jsonl FILE"},
    {WORKLOAD "source = trace\n",
     "t.ini:8:10: source: a trace needs its path: write trace FILE or set workload.trace"},
    {WORKLOAD "source = trace f\ntrace = g\n",
     "t.ini:9:9: trace: source names a file already: set one of them"},
    {WORKLOAD "source = jsonl f\nshared_prefix = 10%\n",
     "t.ini:9:17: shared_prefix: not with source = jsonl, whose prompts are the file's"},
    {REPORT "price = 2.50\n",
     "t.ini:8:9: price: '2.50' is no price, or more than 1000000: write 2.50 per gpu-hour"},
    {REPORT "price = 2.50 per hour\n", "t.ini:8:9: price: '2.50 per hour' is no price, or more "
                                       "than 1000000: write 2.50 per gpu-hour"},
    {REPORT "price = 2.50 per gpu-hour\n",
     "t.ini:8:9: price: needs a demand that it is the price of: demand = 120/s peak"},
    {REPORT "demand = 35/s mean\n",
     "t.ini:8:10: demand: '35/s mean' is no demand: write 120/s peak, "
     "or 120/s peak, 35/s mean"},
    {REPORT "demand = 120/s peak, 130/s mean\n",
     "t.ini:8:10: demand: '120/s peak, 130/s mean' is no demand: write 120/s peak, or 120/s peak, "
     "35/s mean"},
    {REPORT "demand = 120/s peak,\n", "t.ini:8:10: demand: '120/s peak,' is no demand: write 120/s "
                                      "peak, or 120/s peak, 35/s mean"},
    {REPORT "demand = 120 peak\n", "t.ini:8:10: demand: '120' is no rate: write 50/s or 0.5/s"},
    {LOAD "mode = open\nrate = 1/s\nmeasure = all\n",
     "t.ini:8:11: measure: all needs mode = trace"},
    {LOAD "mode = open\nrate = 1/s\nfirst_outputs = residual\n",
     "t.ini:8:17: first_outputs: residual needs mode = closed"},
    {LOAD "mode = open\nrate = 1/s\nthink = 2s\n", "t.ini:8:9: think: needs mode = closed"},
    {LOAD "mode = open\nrate = 1/s\nturns = 2\n", "t.ini:8:9: turns: needs mode = closed"},
    {"[scenario]\nname = t\n[server s]\n[workload w]\nshared_prefix = 10%\n[load l]\nusers = 1\n"
     "turns = 2\n",
     "t.ini:8:9: turns: needs source = synthetic and no shared_prefix"},
    {LOAD "users = 1\nturns = 100\n",
     "t.ini:4:2: prompt: prompt and output can reach 25600 tokens, more than max_model_len, 8192"},
    {LOAD "users = 1\n[workload v]\n", "t.ini: there are 2 [workload NAME] sections: [sweep] needs "
                                       "'workload = NAME' or 'axis.workload'"},
    {LOAD "users = 1\n[sweep]\nworkload = v\n",
     "t.ini:8:12: workload: there is no section [workload v], did you mean 'w'?"},
    {LOAD "users = 1\n[slo a]\n[slo b]\n",
     "t.ini: there are 2 [slo NAME] sections: [sweep] needs 'slo = NAME' or 'axis.slo'"},
    {LOAD "users = 1\n[slo fast]\n[sweep]\nslo = fsat\n",
     "t.ini:9:7: slo: there is no section [slo fsat], did you mean 'fast'?"},
    {LOAD "users = 1\n[sweep]\naxis.slo = fast\n",
     "t.ini:8:12: axis.slo: there is no section [slo fast]"},
    {LOAD "users = 1\n[sweep]\naxis.server = s,sx\n",
     "t.ini:8:15: axis.server: there is no section [server sx], did you mean 's'?"},
    {LOAD "users = %{api}\n[sweep]\naxis.apis = 1,2\n",
     "t.ini:6:9: users: there is no axis 'api' under [sweep], did you mean 'apis'?"},
    {LOAD "users = %{u}\n[sweep]\naxis.u = 1,x\n",
     "t.ini:6:9: users: 'x' is no number (known names: $ncpus, $ngpus) (in cell u=x)"},
    {LOAD "users = 1\n[sweep]\naxis.dp = 1,2\nskip = pd > 1\n",
     "t.ini:9:8: skip: there is no axis 'pd' under [sweep], did you mean 'dp'?"},
    {LOAD "users = 1\n[sweep]\naxis.dp = 1,2\nskip = dp\n",
     "t.ini:9:8: skip: expected a comparison (< <= > >= == !=), found 'end of value'"},
    {LOAD "users = 1\n[sweep]\naxis.dp = 1,2\nskip = dp > 0\n",
     "t.ini:7:2: no cell is left to run"},
    {LOAD "users = 1\n[sweep]\naxis.dp = 1,2,1\n",
     "t.ini:8:11: axis.dp: the value '1' stands twice"},
    {LOAD "users = 1\n[sweep]\naxis.dp = 1,2\naxis.q = 1,2,3\ncombine = zip\n",
     "t.ini:10:11: combine: zip needs axes of equal length, dp has 2 values and q has 3"},
    {LOAD "users = 1\n[sweep]\naxis.dp = 1,2\naxis.q = 1,2,3\ncombine = link q:dp\n",
     "t.ini:10:11: combine: link needs axes of equal length, dp has 2 values and q has 3"},
    {LOAD "users = 1\n[sweep]\naxis.dp = 1,2\naxis.users = 1,2\ncombine = link dp:user\n",
     "t.ini:10:11: combine: link: there is no axis 'user' under [sweep], did you mean 'users'?"},
    {LOAD "users = 1\n[sweep]\naxis.dp = 1,2\naxis.q = 1,2\ncombine = link dp:q dp\n",
     "t.ini:10:11: combine: link: the axis 'dp' stands twice"},
    {LOAD "users = 1\n[sweep]\naxis.dp = 1,2\naxis.q = 1,2\ncombine = link q\n",
     "t.ini:10:11: combine: link: with which axis? As in link q:other"},
    {LOAD "users = 1\n[sweep]\naxis.dp = 1,2\ncombine = link\n",
     "t.ini:9:11: combine: link: which axes? As in link a:b"},
    {LOAD "users = 1\n[sweep]\naxis.dp = 1,2\ncombine = zap\n",
     "t.ini:9:11: combine: 'zap' is none of cross, zip, link a:b"},
    {LOAD "users = 1\n[scaling]\nalong = pd\n[sweep]\naxis.dp = 1,2\n",
     "t.ini:8:9: along: there is no axis 'pd' under [sweep], did you mean 'dp'?"},
    {LOAD "users = 1\n[sweep]\ncombine = %{x}\n",
     "t.ini:8:11: combine: %{...} stands only in [server], [client], [workload] and [load]"},
    {LOAD "users = 1\n[quick]\nload.m.users = 1\nlaod.users = 1\nload.l.user = 2\nusers = 1\n",
     "t.ini:8:1: there is no section [load m]\n"
     "t.ini:9:1: unknown section 'laod', did you mean 'load'?\n"
     "t.ini:10:1: unknown key 'user', did you mean 'users'?\n"
     "t.ini:11:1: 'users' is no section.key or section.name.key"},
};

/* Mistakes of every stage in one file are all listed at once. */
static const struct row many_rows[] = {
    {"junk\n[scenario]\nname = t\nsede = 3\n[server s]\nwait = blok\n[workload w]\n[load l]\n"
     "users = 4\nwarmup = 3\n",
     "t.ini:1:5: expected 'key = value', '[section]' or a comment\n"
     "t.ini:4:1: unknown key 'sede', did you mean 'seed'?\n"
     "t.ini:6:8: wait: unknown value 'blok', did you mean 'block'? (one of block, spin, auto)\n"
     "t.ini:10:10: warmup: a time needs a unit: write 60s, 250ms or 50us"},
};

static void check_row(const struct row *row, struct scenario_problems *problems)
{
    static char got[SCENARIO_PROBLEMS_MAX * SCENARIO_PROBLEM_BYTES];
    struct scenario *scenario = NULL;
    enum status status = memory_open(row->text, NULL, &scenario, problems);
    problems_join(problems, got, sizeof got);
    assert_string_equal(got, row->expected);
    assert_int_equal(status, row->expected[0] == '\0' ? STATUS_OK : STATUS_INVALID);
    assert_true((scenario != NULL) == (status == STATUS_OK));
    scenario_close(scenario);
}

#define TABLE_TEST(name, rows)                                          \
    static void name(void **state)                                      \
    {                                                                   \
        static struct scenario_problems problems;                       \
        (void)state;                                                    \
        for (size_t i = 0; i < sizeof(rows) / sizeof((rows)[0]); i++) { \
            check_row(&(rows)[i], &problems);                           \
        }                                                               \
    }

TABLE_TEST(test_text, text_rows)
TABLE_TEST(test_values, value_rows)
TABLE_TEST(test_server, server_rows)
TABLE_TEST(test_virtual, virtual_rows)
TABLE_TEST(test_fit, fit_rows)
TABLE_TEST(test_many, many_rows)

/* The list of problems is bounded; what does not fit is counted. */
static void test_bounded(void **state)
{
    static char text[8192];
    static struct scenario_problems problems;
    struct scenario *scenario = NULL;
    (void)state;
    size_t used = (size_t)snprintf(text, sizeof text, "%s", GOOD);
    for (int i = 0; i < 100; i++) {
        used += (size_t)snprintf(text + used, sizeof text - used, "unknown_%d = 1\n", i);
    }
    assert_int_equal(memory_open(text, NULL, &scenario, &problems), STATUS_INVALID);
    assert_int_equal(problems.count, SCENARIO_PROBLEMS_MAX);
    assert_int_equal(problems.dropped_count, 100 - SCENARIO_PROBLEMS_MAX);
}

static void check_options(const struct scenario_options *options, const char *expected)
{
    static struct scenario_problems problems;
    static char got[SCENARIO_PROBLEMS_MAX * SCENARIO_PROBLEM_BYTES];
    struct scenario *scenario = NULL;
    enum status status =
        memory_open(LOAD "users = 1\n[sweep]\naxis.dp = 1,2\n", options, &scenario, &problems);
    problems_join(&problems, got, sizeof got);
    assert_string_equal(got, expected);
    assert_int_equal(status, STATUS_INVALID);
}

static void test_command_line(void **state)
{
    static const struct {
        const char *set;
        const char *expected;
    } rows[] = {
        {"load.user=1", "command line: unknown key 'user', did you mean 'users'?"},
        {"load.users", "command line: --set: expected section.key=value, got 'load.users'"},
        {"load.users=x", "command line: users: 'x' is no number (known names: $ncpus, $ngpus)"},
        {"load.k.users=1", "command line: there is no section [load k]"},
        {"scenario.question=a\"b",
         "command line: --set: quotation marks and control characters cannot be used"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct scenario_options options = {.sets = &rows[i].set, .sets_count = 1};
        check_options(&options, rows[i].expected);
    }
    struct scenario_options only = {.only = "pd=1"};
    check_options(&only, "command line: --only: there is no axis 'pd', did you mean 'dp'?");
    only.only = "dp";
    check_options(&only, "command line: --only: expected axis=value,axis=value");
    only.only = "dp=3";
    check_options(&only, "t.ini:7:2: no cell is left to run (--only fits none)");
    struct scenario_options quick = {.quick = true};
    check_options(&quick, "t.ini: there is no [quick] section, which --quick needs");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),    cmocka_unit_test(test_values),
        cmocka_unit_test(test_server),  cmocka_unit_test(test_virtual),
        cmocka_unit_test(test_fit),     cmocka_unit_test(test_many),
        cmocka_unit_test(test_bounded), cmocka_unit_test(test_command_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
