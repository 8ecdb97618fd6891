#!/usr/bin/env python3
"""Golden bytes of vLLM's engine-core protocol, made by msgspec itself.

Stands for: msgspec 0.22.0, and vLLM's field lists of 2026-08-20 (between v0.28 and v0.29: EngineCoreRequest with 21 elements,
EngineCoreOutput with 17, EngineCoreOutputs with 8, EngineCoreReadyResponse with 24 keys, SamplingParams with 39). The lists are
written down here by hand; vLLM itself is not needed.

    python3 make_golden.py write                     writes golden.txt beside this file: lines of `name hex`
    wire_golden_test print | python3 make_golden.py check    decodes the C encoder's messages with msgspec's typed decoders and
                                                     compares each with the object its golden line was made from

Needs msgspec (pip install msgspec==0.22.0), which the build and the tests do not: they read golden.txt.

msgspec always writes an array-like struct whole. The C side writes it up to its last element that is not a default, so for each
such message there are two lines: `X.full`, which C must be able to read, and `X`, which C must write byte for byte.
"""
import dataclasses
import pathlib
import struct
import sys
from typing import Any

import msgspec

HERE = pathlib.Path(__file__).resolve().parent
NONE = type(None)


def array_struct(name, *fields):
    return msgspec.defstruct(name, fields, array_like=True, omit_defaults=True, gc=False)


def dataclass_of(name, *fields):
    made = []
    for field in fields:
        key, kind, *default = field
        if default and isinstance(default[0], (list, dict)):
            made.append((key, kind, dataclasses.field(default_factory=type(default[0]))))
        elif default:
            made.append((key, kind, dataclasses.field(default=default[0])))
        else:
            made.append((key, kind))
    return dataclasses.make_dataclass(name, made)


def factory(kind):
    return msgspec.field(default_factory=kind)


SamplingParams = msgspec.defstruct(
    "SamplingParams",
    [
        ("n", int, 1),
        ("presence_penalty", float, 0.0),
        ("frequency_penalty", float, 0.0),
        ("repetition_penalty", float, 1.0),
        ("temperature", float, 1.0),
        ("top_p", float, 1.0),
        ("top_k", int, 0),
        ("min_p", float, 0.0),
        ("seed", int | None, None),
        ("stop", str | list[str] | None, None),
        ("stop_token_ids", list[int] | None, None),
        ("ignore_eos", bool, False),
        ("max_tokens", int | None, 16),
        ("min_tokens", int, 0),
        ("logprobs", int | None, None),
        ("prompt_logprobs", int | None, None),
        ("logprob_token_ids", list[int] | None, None),
        ("flat_logprobs", bool, False),
        ("detokenize", bool, True),
        ("skip_special_tokens", bool, True),
        ("spaces_between_special_tokens", bool, True),
        ("include_stop_str_in_output", bool, False),
        ("output_kind", int, 0),
        ("stream_interval", int | None, None),
        ("skip_clone", bool, False),
        ("output_text_buffer_length", int, 0),
        ("_eos_token_id", int | None, None),
        ("_all_stop_token_ids", set[int], factory(set)),
        ("structured_outputs", dict | None, None),
        ("logit_bias", dict[int, float] | None, None),
        ("allowed_token_ids", list[int] | None, None),
        ("extra_args", dict | None, None),
        ("bad_words", list[str] | None, None),
        ("_bad_words_token_ids", list[list[int]] | None, None),
        ("skip_reading_prefix_cache", bool | None, None),
        ("thinking_token_budget", int | None, None),
        ("repetition_detection", dict | None, None),
        ("routed_experts_prompt_start", int, 0),
        ("trace_decode_token_ids", list[int] | None, None),
    ],
    omit_defaults=True,
)

EngineCoreRequest = array_struct(
    "EngineCoreRequest",
    ("request_id", str),
    ("prompt_token_ids", list[int] | None),
    ("mm_features", list | None),
    ("sampling_params", SamplingParams | None),
    ("pooling_params", list | None),
    ("arrival_time", float),
    ("lora_request", list | None),
    ("cache_salt", str | None),
    ("data_parallel_rank", int | None),
    ("prompt_embeds", Any, None),
    ("prompt_is_token_ids", list[bool] | None, None),
    ("client_index", int, 0),
    ("current_wave", int, 0),
    ("priority", int, 0),
    ("trace_headers", dict[str, str] | None, None),
    ("resumable", bool, False),
    ("external_req_id", str | None, None),
    ("reasoning_ended", bool | None, None),
    ("reasoning_parser_kwargs", dict | None, None),
    ("abort_immediately", bool, False),
    ("session_id", str | None, None),
)

PrefillStats = dataclass_of(
    "PrefillStats",
    ("num_prompt_tokens", int, 0),
    ("num_computed_tokens", int, 0),
    ("num_cached_tokens", int, 0),
    ("num_local_cached_tokens", int, 0),
    ("num_external_cached_tokens", int, 0),
    ("num_cache_creation_tokens", int, 0),
)

EngineCoreEvent = msgspec.defstruct("EngineCoreEvent", [("type", int), ("timestamp", float)])

EngineCoreOutput = array_struct(
    "EngineCoreOutput",
    ("request_id", str),
    ("new_token_ids", list[int]),
    ("new_logprobs", list | None, None),
    ("new_prompt_logprobs_tensors", list | None, None),
    ("pooling_output", Any, None),
    ("finish_reason", int | None, None),
    ("stop_reason", int | str | None, None),
    ("events", list[EngineCoreEvent] | None, None),
    ("kv_transfer_params", dict | None, None),
    ("ec_transfer_params", dict | None, None),
    ("trace_headers", dict | None, None),
    ("prefill_stats", PrefillStats | None, None),
    ("routed_experts", Any, None),
    ("num_nans_in_logits", int, 0),
    ("mm_cache_miss_hashes", list[str] | None, None),
    ("new_sampling_mask", list | None, None),
    ("spec_decode_metrics", dict | None, None),
)

PrefixCacheStats = dataclass_of(
    "PrefixCacheStats",
    ("reset", bool, False),
    ("requests", int, 0),
    ("queries", int, 0),
    ("hits", int, 0),
    ("preempted_requests", int, 0),
    ("preempted_queries", int, 0),
    ("preempted_hits", int, 0),
)

SchedulerStats = dataclasses.make_dataclass(
    "SchedulerStats",
    [
        ("num_running_reqs", int, 0),
        ("num_waiting_reqs", int, 0),
        ("num_skipped_waiting_reqs", int, 0),
        ("step_counter", int, 0),
        ("current_wave", int, 0),
        ("kv_cache_usage", float, 0.0),
        ("iteration_details", dict | None, None),
        ("prefix_cache_stats", PrefixCacheStats, dataclasses.field(default_factory=PrefixCacheStats)),
        ("connector_prefix_cache_stats", PrefixCacheStats | None, None),
        ("kv_cache_eviction_events", list, dataclasses.field(default_factory=list)),
        ("spec_decoding_stats", dict | None, None),
        ("kv_connector_stats", dict | None, None),
        ("waiting_lora_adapters", dict[str, int], dataclasses.field(default_factory=dict)),
        ("running_lora_adapters", dict[str, int], dataclasses.field(default_factory=dict)),
        ("cudagraph_stats", dict | None, None),
        ("perf_stats", dict | None, None),
    ],
)

UtilityOutput = array_struct(
    "UtilityOutput",
    ("call_id", int),
    ("failure_message", str | None, None),
    ("result", tuple[Any, Any] | None, None),
)

EngineCoreOutputs = array_struct(
    "EngineCoreOutputs",
    ("engine_index", int, 0),
    ("outputs", list[EngineCoreOutput], []),
    ("scheduler_stats", SchedulerStats | None, None),
    ("timestamp", float, 0.0),
    ("utility_output", UtilityOutput | None, None),
    ("finished_requests", set[str] | None, None),
    ("wave_complete", int | None, None),
    ("start_wave", int | None, None),
)

EngineZmqAddresses = dataclass_of(
    "EngineZmqAddresses",
    ("inputs", list[str]),
    ("outputs", list[str]),
    ("coordinator_input", str | None, None),
    ("coordinator_output", str | None, None),
    ("frontend_stats_publish_address", str | None, None),
)

EngineHandshakeMetadata = dataclass_of(
    "EngineHandshakeMetadata",
    ("addresses", EngineZmqAddresses),
    ("parallel_config", dict[str, Any]),
)

EngineCoreReadyResponse = dataclass_of(
    "EngineCoreReadyResponse",
    ("max_model_len", int),
    ("num_gpu_blocks", int),
    ("block_size", int),
    ("dp_stats_address", str | None),
    ("dtype", str),
    ("vllm_version", str),
    ("world_size", int),
    ("data_parallel_size", int),
    ("tensor_parallel_size", int),
    ("pipeline_parallel_size", int),
    ("decode_context_parallel_size", int),
    ("data_parallel_rank", int),
    ("max_num_seqs", int),
    ("max_num_batched_tokens", int),
    ("instance_id", str),
    ("supports_lora", bool),
    ("max_loras", int),
    ("mamba_block_size", int | None, None),
    ("kv_cache_size_tokens", int | None, None),
    ("kv_cache_max_concurrency", float | None, None),
    ("kv_events_config", dict | None, None),
    ("weight_transfer_backend", str | None, None),
    ("enable_sleep_mode", bool, False),
    ("supports_draft_weight_updates", bool, False),
)

encode = msgspec.msgpack.encode


def array_header(count):
    return bytes([0x90 | count]) if count < 16 else b"\xdc" + struct.pack(">H", count)


def truncated(value, min_count=0):
    """An array-like struct up to its last element that is not a default, its elements as msgspec writes them."""
    fields = msgspec.structs.fields(value)
    count = len(fields)
    while count > min_count:
        field = fields[count - 1]
        default = field.default
        if field.required or getattr(value, field.name) != default:
            break
        count -= 1
    return first_elements(value, count)


def first_elements(value, count):
    body = array_header(count)
    for field in msgspec.structs.fields(value)[:count]:
        element = getattr(value, field.name)
        if isinstance(element, UtilityOutput):
            body += encode(element)
        elif isinstance(element, list) and element and isinstance(element[0], EngineCoreOutput):
            body += array_header(len(element)) + b"".join(truncated(o) for o in element)
        else:
            body += encode(element)
    return body


def rust_sampling_map():
    """The keys the Rust front end always sends; its floats are float32, which msgspec cannot write."""
    f32 = lambda x: b"\xca" + struct.pack(">f", x)
    pairs = [
        ("temperature", f32(0.5)),
        ("top_p", f32(0.75)),
        ("top_k", encode(-1)),
        ("max_tokens", encode(300)),
        ("min_tokens", encode(2)),
        ("min_p", f32(0.0)),
        ("frequency_penalty", f32(0.25)),
        ("presence_penalty", f32(-0.25)),
        ("repetition_penalty", f32(1.125)),
        ("stop_token_ids", encode([11, 12])),
        ("_all_stop_token_ids", encode([11, 12])),
        ("routed_experts_prompt_start", encode(0)),
    ]
    return bytes([0x80 | len(pairs)]) + b"".join(encode(k) + v for k, v in pairs)


def sampling(**overrides):
    """What __post_init__ and the OpenAI server leave in every SamplingParams."""
    values = dict(stop=[], stop_token_ids=[], bad_words=[], skip_reading_prefix_cache=False, skip_clone=True)
    values.update(overrides)
    return SamplingParams(**values)


def request(**overrides):
    values = dict(
        request_id="cmpl-x-0-0a1b2c3d",
        prompt_token_ids=[1, 2, 300],
        mm_features=None,
        sampling_params=sampling(max_tokens=4, output_kind=1, _eos_token_id=2, _all_stop_token_ids={2}),
        pooling_params=None,
        arrival_time=struct.unpack(">d", bytes.fromhex("41daac4ee0200000"))[0],
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
        external_req_id="cmpl-x-0",
    )
    values.update(overrides)
    return EngineCoreRequest(**values)


ID = "cmpl-x-0-0a1b2c3d"


def requests():
    basic = request()
    rich = request(
        request_id="chatcmpl-7-00ff00ff",
        prompt_token_ids=[0, 127, 128, 255, 256, 65535, 65536, 4294967295],
        sampling_params=sampling(
            n=2, presence_penalty=0.5, frequency_penalty=-0.5, repetition_penalty=1.25, temperature=0.0, top_p=0.875,
            top_k=40, min_p=0.125, seed=-7, stop_token_ids=[128009], ignore_eos=True, min_tokens=3, output_kind=2,
            _all_stop_token_ids={128009}),
        cache_salt="pepper", data_parallel_rank=3, client_index=2, current_wave=5, priority=-10,
        external_req_id="chatcmpl-7")
    aborted = request(abort_immediately=True)
    return {
        "add": (basic, first_elements(basic, 18)),
        "add.full": (basic, encode(basic)),
        "add_rich": (rich, first_elements(rich, 18)),
        "add_rich.full": (rich, encode(rich)),
        "add_aborted": (aborted, first_elements(aborted, 20)),
        "add_aborted.full": (aborted, encode(aborted)),
    }


def rust_request():
    return (array_header(22) + encode(ID) + encode([1, 2, 300]) + encode(None) + rust_sampling_map() +
            encode(None) + encode(1.5) + encode(None) * 3 + encode(None) * 2 + encode(1) + encode(0) * 2 +
            encode(None) + encode(False) + encode("cmpl-x-0") + encode(None) * 2 + encode(False) + encode(None) * 2)


def outputs():
    full_stats = SchedulerStats(
        num_running_reqs=3, num_waiting_reqs=200, num_skipped_waiting_reqs=1, step_counter=70000, current_wave=4,
        kv_cache_usage=0.5, prefix_cache_stats=PrefixCacheStats(requests=2, queries=300, hits=128))
    first = EngineCoreOutput(
        ID, [42], events=[EngineCoreEvent(1, 1.25), EngineCoreEvent(2, 1.5), EngineCoreEvent(3, 1.5)],
        prefill_stats=PrefillStats(300, 172, 128, 128, 0, 0))
    messages = {
        "outputs_token": EngineCoreOutputs(0, [EngineCoreOutput(ID, [42])], timestamp=1.5),
        "outputs_length": EngineCoreOutputs(
            0, [EngineCoreOutput(ID, [7], finish_reason=1)], timestamp=1.5, finished_requests={ID}),
        "outputs_stop_token": EngineCoreOutputs(
            1, [EngineCoreOutput(ID, [128009], finish_reason=0, stop_reason=128009), EngineCoreOutput("b", [1, 70000])],
            scheduler_stats=full_stats, timestamp=2.5, finished_requests={ID}),
        "outputs_first": EngineCoreOutputs(258, [first], timestamp=1.75),
        "outputs_aborted": EngineCoreOutputs(0, timestamp=1.5, finished_requests={"a-1"}),
        "outputs_stats": EngineCoreOutputs(0, scheduler_stats=full_stats, timestamp=1.5),
        "reply_void": EngineCoreOutputs(1, timestamp=1.5, utility_output=UtilityOutput(7, result=(None, None))),
        "reply_tasks": EngineCoreOutputs(
            1, timestamp=1.5, utility_output=UtilityOutput(7, result=(None, ["generate"]))),
        "reply_true": EngineCoreOutputs(
            1, timestamp=1.5, utility_output=UtilityOutput(0xf123456789abcdef, result=(None, True))),
        "reply_false": EngineCoreOutputs(1, timestamp=1.5, utility_output=UtilityOutput(8, result=(None, False))),
        "reply_failure": EngineCoreOutputs(1, timestamp=1.5, utility_output=UtilityOutput(7, "no")),
        "wave_complete": EngineCoreOutputs(0, timestamp=1.5, wave_complete=300),
        "start_wave": EngineCoreOutputs(2, timestamp=1.5, start_wave=0),
    }
    made = {}
    for name, message in messages.items():
        made[name] = (message, truncated(message, min_count=4))
        made[name + ".full"] = (message, encode(message))
    counts = EngineCoreOutputs(
        1, scheduler_stats=SchedulerStats(num_running_reqs=2, num_waiting_reqs=1, kv_cache_usage=0.25), timestamp=1.5)
    body = {"num_running_reqs": 2, "num_waiting_reqs": 1, "kv_cache_usage": 0.25}
    made["counts"] = (counts, array_header(4) + encode(1) + encode([]) + encode(body) + encode(1.5))
    made["counts.full"] = (counts, encode(counts))
    return made


def handshake():
    dense = EngineHandshakeMetadata(
        EngineZmqAddresses(["tcp://10.0.0.1:5001"], ["tcp://10.0.0.1:5002"], "tcp://10.0.0.1:5003",
                           "tcp://10.0.0.1:5004", "ipc:///run/h/stats"), {})
    alone = EngineHandshakeMetadata(EngineZmqAddresses(["ipc:///a", "ipc:///b"], ["ipc:///c", "ipc:///d"]), {})
    lockstep = EngineHandshakeMetadata(
        EngineZmqAddresses(["ipc:///a"], ["ipc:///c"], "ipc:///e", "ipc:///f"),
        {"data_parallel_master_ip": "127.0.0.1", "data_parallel_master_port": 29501,
         "_data_parallel_master_port_list": [29502, 29503], "data_parallel_size": 4})
    ready = EngineCoreReadyResponse(
        max_model_len=131072, num_gpu_blocks=27000, block_size=16, dp_stats_address="ipc:///run/h/stats",
        dtype="bfloat16", vllm_version="0.29.0", world_size=2, data_parallel_size=1, tensor_parallel_size=2,
        pipeline_parallel_size=1, decode_context_parallel_size=1, data_parallel_rank=3, max_num_seqs=256,
        max_num_batched_tokens=8192, instance_id="1790000000000000000", supports_lora=False, max_loras=0,
        kv_cache_size_tokens=432000)
    bare = dataclasses.replace(ready, dp_stats_address=None, kv_cache_size_tokens=None)
    hello = {"status": "HELLO", "local": False, "headless": True}
    up = {"status": "READY", "local": False, "headless": True}
    hashed = {"status": "READY", "local": True, "headless": False, "parallel_config_hash": "0f" * 32}
    return {
        "hello": (hello, encode(hello)),
        "hello_ready": (up, encode(up)),
        "hello_hash": (hashed, encode(hashed)),
        "init": (dense, encode(dense)),
        "init_alone": (alone, encode(alone)),
        "init_lockstep": (lockstep, encode(lockstep)),
        "ready": (ready, encode(ready)),
        "ready_bare": (bare, encode(bare)),
    }


def small():
    state = ([[0, 1, 0.25], [2, 3, 0.5]], 4, False)
    values = {
        "abort": ["a-1", "b-2"],
        "utility_tasks": (1, 7, "get_supported_tasks", []),
        "utility_mm_cache": (0, 0x1122334455667788, "reset_mm_cache", []),
        "utility_prefix_cache": (0, 0x0123456789abcdef, "reset_prefix_cache", [False, False]),
        "utility_pause": (3, 0xf123456789abcdef, "pause_scheduler", ["wait", True]),
        "utility_sleep": (1, 9, "sleep", [2, "abort"]),
        "utility_wake_up": (0, 10, "wake_up", [None]),
        "utility_numbers": (0, 11, "numbers", [-1, -200, 70000, 2**63 - 1]),
        "utility_list_full.full": (0, 12, "collective_rpc", ["f", 1.5, [1, [2]], {"a": None}, "fifth"]),
        "state": state,
        "state_wave": (None, 4, True),
        "start_dp_wave": (3, None),
        "start_dp_wave_int": (3, 1),
        "start_dp_wave_bytes.full": (3, b"\x01\x00"),
        "first_request": (1, 3),
        "first_request_bytes.full": (b"\x01\x00", 3),
    }
    return {name: (value, encode(value)) for name, value in values.items()}


def goldens():
    made = {**handshake(), **requests(), **outputs(), **small()}
    made["add_rust.full"] = (None, rust_request())
    return made


# What vllm-wire.md gives verbatim; a change of msgspec or of a field list above that moves one of them stops here.
VERBATIM = {
    "hello": "83a6737461747573a548454c4c4fa56c6f63616cc2a8686561646c657373c3",
    "hello_ready": "83a6737461747573a55245414459a56c6f63616cc2a8686561646c657373c3",
    "add.full": "dc0015b1636d706c2d782d302d3061316232633364930102cd012cc0de0009a473746f7090ae73746f705f746f6b656e5f69647390"
                "aa6d61785f746f6b656e7304ab6f75747075745f6b696e6401aa736b69705f636c6f6e65c3ad5f656f735f746f6b656e5f696402"
                "b35f616c6c5f73746f705f746f6b656e5f6964739102a96261645f776f72647390b9736b69705f72656164696e675f7072656669"
                "785f6361636865c2c0cb41daac4ee0200000c0c0c0c0c0000000c0c2a8636d706c2d782d30c0c0c2c0",
    "abort": "92a3612d31a3622d32",
    "utility_prefix_cache": "9400cf0123456789abcdefb272657365745f7072656669785f636163686592c2c2",
    "utility_tasks": "940107b36765745f737570706f727465645f7461736b7390",
    "utility_mm_cache": "9400cf1122334455667788ae72657365745f6d6d5f636163686590",
    "outputs_token": "94009192b1636d706c2d782d302d3061316232633364912ac0cb3ff8000000000000",
    "outputs_length": "96009196b1636d706c2d782d302d30613162326333649107c0c0c001c0cb3ff8000000000000c091b1"
                      "636d706c2d782d302d3061316232633364",
    "reply_void": "950190c0cb3ff80000000000009307c092c0c0",
    "reply_tasks": "950190c0cb3ff80000000000009307c092c091a867656e6572617465",
    "reply_failure": "950190c0cb3ff80000000000009307a26e6fc0",
    "state": "9392930001cb3fd0000000000000930203cb3fe000000000000004c2",
    "state_wave": "93c004c3",
    "start_dp_wave": "9203c0",
    "start_dp_wave_int": "920301",
    "start_dp_wave_bytes.full": "9203c4020100",
    "first_request_bytes.full": "92c402010003",
}


def write():
    made = goldens()
    lines = [
        "# Made by make_golden.py: msgspec %s, vLLM field lists of 2026-08-20. Lines of `name hex`." % msgspec.__version__,
        "# `name` is what the C encoder writes, `name.full` what it must be able to read.",
    ]
    for name, expected in VERBATIM.items():
        if made[name][1].hex() != expected:
            sys.exit(f"{name}: made {made[name][1].hex()}, documented {expected}")
    lines += [f"{name} {body.hex()}" for name, (_, body) in made.items()]
    (HERE / "golden.txt").write_text("\n".join(lines) + "\n")
    print(f"{len(made)} messages, {len(VERBATIM)} of them compared with the documented bytes")


def typed(value):
    return value if not isinstance(value, (list, tuple, dict)) else msgspec.msgpack.decode(encode(value))


def check(lines):
    made = goldens()
    wanted = {name for name in made if not name.endswith(".full")}
    for line in lines:
        name, text = line.split()
        value = made[name][0]
        kind = type(value) if dataclasses.is_dataclass(value) or isinstance(value, msgspec.Struct) else Any
        got = msgspec.msgpack.decode(bytes.fromhex(text), type=kind)
        if got != typed(value):
            sys.exit(f"{name}: C wrote {got}\nwant {value}")
        wanted.discard(name)
    if wanted:
        sys.exit(f"not printed by the C side: {sorted(wanted)}")
    print("every message of the C encoder decodes to the object meant")


if __name__ == "__main__":
    if sys.argv[1:] == ["write"]:
        write()
    elif sys.argv[1:] == ["check"]:
        check(sys.stdin)
    else:
        sys.exit(__doc__)
