"""openai_client.py URL MODEL - see openai_client.sh, which installs the package and starts the server."""

import sys

import openai

URL, MODEL = sys.argv[1], sys.argv[2]
client = openai.OpenAI(base_url=URL, api_key="unused", timeout=30, max_retries=0)
EXTRA = {"ignore_eos": True}
failures = 0


def check(name, got, want):
    global failures
    good = want(got) if callable(want) else got == want
    print(("ok    " if good else "FAIL  ") + name + ("" if good else f": {got!r}"))
    failures += 0 if good else 1


def completions():
    whole = client.completions.create(
        model=MODEL, prompt="hello", max_tokens=40, seed=3, extra_body=EXTRA
    )
    text = whole.choices[0].text
    check("completion: length", len(text), 40)
    check("completion: finish_reason", whole.choices[0].finish_reason, "length")
    check("completion: usage", (whole.usage.prompt_tokens, whole.usage.completion_tokens), (5, 40))
    check("completion: object", whole.object, "text_completion")

    chunks = list(
        client.completions.create(
            model=MODEL, prompt="hello", max_tokens=40, seed=3, stream=True,
            stream_options={"include_usage": True}, extra_body=EXTRA,
        )
    )
    check("completion stream: text", "".join(c.choices[0].text for c in chunks if c.choices), text)
    check("completion stream: usage last", chunks[-1].usage.completion_tokens, 40)
    check("completion stream: one id", len({c.id for c in chunks}), 1)

    ids = client.completions.create(
        model=MODEL, prompt=[104, 101, 108, 108, 111], max_tokens=40, seed=3, extra_body=EXTRA
    )
    check("completion: token ids", ids.choices[0].text, text)

    stop = text[10:13]
    stopped = client.completions.create(
        model=MODEL, prompt="hello", max_tokens=40, seed=3, stop=[stop], extra_body=EXTRA
    )
    check("completion: stop string", stopped.choices[0].text, text[: text.index(stop)])
    check("completion: stop reason", stopped.choices[0].finish_reason, "stop")


def chat():
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "say something"}]},
    ]
    whole = client.chat.completions.create(
        model=MODEL, messages=messages, max_tokens=30, seed=5, extra_body=EXTRA
    )
    text = whole.choices[0].message.content
    check("chat: length", len(text), 30)
    check("chat: role", whole.choices[0].message.role, "assistant")
    check("chat: object", whole.object, "chat.completion")
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=messages, max_completion_tokens=30, seed=5, stream=True,
            stream_options={"include_usage": True}, extra_body=EXTRA,
        )
    )
    parts = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    check("chat stream: text", "".join(parts), text)
    check("chat stream: role first", chunks[0].choices[0].delta.role, "assistant")
    check("chat stream: finish_reason", [c.choices[0].finish_reason for c in chunks if c.choices][-1], "length")
    check("chat stream: usage last", chunks[-1].usage.completion_tokens, 30)

    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=messages, max_tokens=5, extra_headers={"X-Request-Id": "mine"}
    )
    check("chat: own id", raw.parse().id, "chatcmpl-mine")

    with client.chat.completions.create(
        model=MODEL, messages=messages, max_tokens=900, stream=True, extra_body=EXTRA
    ) as stream:
        for _ in stream:
            break
    check("chat stream: closed early, still served", len(client.models.list().data), 1)


def error_of(call):
    try:
        call()
    except openai.APIStatusError as error:
        return type(error).__name__, error.status_code, error.body is not None
    except openai.OpenAIError as error:
        return type(error).__name__, 0, False
    return "none", 200, False


def errors():
    create = client.completions.create
    check("error: unknown model", error_of(lambda: create(model="gpt-5", prompt="x")),
          ("NotFoundError", 404, True))
    check("error: negative max_tokens", error_of(lambda: create(model=MODEL, prompt="x", max_tokens=-1)),
          ("BadRequestError", 400, True))
    check("error: too many tokens", error_of(lambda: create(model=MODEL, prompt="x", max_tokens=5000)),
          ("BadRequestError", 400, True))
    check("error: prompt too long", error_of(lambda: create(model=MODEL, prompt="x" * 2000)),
          ("BadRequestError", 400, True))
    check("error: in a stream too", error_of(lambda: create(model="gpt-5", prompt="x", stream=True)),
          ("NotFoundError", 404, True))
    check("error: rank out of range",
          error_of(lambda: create(model=MODEL, prompt="x", extra_headers={"X-data-parallel-rank": "9"})),
          ("BadRequestError", 400, True))
    check("error: no such route", error_of(lambda: client.embeddings.create(model=MODEL, input="x")),
          ("NotFoundError", 404, True))
    check("error: no messages", error_of(lambda: client.chat.completions.create(model=MODEL, messages=[])),
          ("BadRequestError", 400, True))


print("openai", openai.__version__)
check("models", [m.id for m in client.models.list().data], [MODEL])
completions()
chat()
errors()
sys.exit(1 if failures else 0)
