"""The official OpenAI SDK, unmodified, against a running Keyhouse."""

import asyncio
import datetime
import time
from decimal import ROUND_CEILING, Decimal

import openai
import pytest
from conftest import INPUT_PRICE, OUTPUT_PRICE

MESSAGES = [
    {"role": "system", "content": "You answer shortly."},
    {"role": "user", "content": "Tell me about lighthouses, please."},
]


def client(house, secret, **options):
    return openai.OpenAI(api_key=secret, base_url=house.base_url, **options)


def price_of(usage, multiplier=Decimal(1)):
    """Tokens times price per million, rounded up once to a millionth of a credit."""
    exact = (usage.prompt_tokens * INPUT_PRICE + usage.completion_tokens * OUTPUT_PRICE) * multiplier / 1_000_000
    return exact.quantize(Decimal("0.000001"), ROUND_CEILING)


def test_a_json_answer_costs_exactly_its_tokens(house):
    key_id, secret = house.key()
    answer = client(house, secret).chat.completions.create(model="echo-small", messages=MESSAGES)
    assert answer.model == "echo-small"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0
    assert house.used(key_id) == price_of(answer.usage) > 0


def test_a_stream_costs_exactly_its_tokens_and_shows_usage_only_when_asked(house):
    key_id, secret = house.key()
    asked = {"model": "echo-small", "messages": MESSAGES, "stream": True}
    chunks = list(client(house, secret).chat.completions.create(**asked))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    first = house.used(key_id)

    chunks = list(client(house, secret).chat.completions.create(**asked, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
    usage = chunks[-1].usage
    assert first == price_of(usage) > 0
    assert house.used(key_id) == 2 * first


def test_the_async_client_makes_many_calls_and_each_is_charged(house):
    key_id, secret = house.key()

    async def call(count):
        async with openai.AsyncOpenAI(api_key=secret, base_url=house.base_url) as sdk:
            calls = (sdk.chat.completions.create(model="echo-small", messages=MESSAGES) for _ in range(count))
            return await asyncio.gather(*calls)

    answers = asyncio.run(call(20))
    assert house.used(key_id) == sum(price_of(answer.usage) for answer in answers)


def test_a_group_multiplies_the_price(house):
    house.cli("group", "create", "premium", "--multiplier", "1.37")
    key_id, secret = house.key("--group", "premium")
    answer = client(house, secret).chat.completions.create(model="echo-small", messages=MESSAGES)
    assert house.used(key_id) == price_of(answer.usage, Decimal("1.37"))


def test_max_tokens_and_n_are_kept_and_charged(house):
    key_id, secret = house.key()
    answer = client(house, secret).chat.completions.create(
        model="echo-small", messages=MESSAGES, max_tokens=3, n=2
    )
    assert [choice.finish_reason for choice in answer.choices] == ["length", "length"]
    assert answer.usage.completion_tokens == 6
    assert house.used(key_id) == price_of(answer.usage)


def test_models_are_those_the_key_may_use(house):
    _, everything = house.key()
    _, large_only = house.key("--model", "echo-l*")
    listed = {model.id for model in client(house, everything).models.list()}
    assert {"echo-small", "echo-large"} <= listed
    assert {model.id for model in client(house, large_only).models.list()} == {"echo-large"}
    assert client(house, everything).models.retrieve("echo-large").id == "echo-large"


def refused(error_class, status, code, house, secret, **options):
    call = {"model": "echo-small", "messages": MESSAGES} | options
    with pytest.raises(error_class) as caught:
        client(house, secret).chat.completions.create(**call)
    assert caught.value.status_code == status
    assert caught.value.code == code
    assert secret not in str(caught.value)
    return caught.value


def test_an_unknown_key_is_an_authentication_error(house):
    _, secret = house.key()
    for wrong in ("sk-wrong", secret[:-1] + ("a" if secret[-1] != "a" else "b")):
        error = refused(openai.AuthenticationError, 401, "invalid_api_key", house, wrong)
        assert error.response.headers["www-authenticate"] == "Bearer"


def test_a_disabled_key_is_refused_until_it_is_enabled(house):
    key_id, secret = house.key()
    house.cli("key", "disable", key_id)
    refused(openai.AuthenticationError, 401, "key_disabled", house, secret)
    house.cli("key", "enable", key_id)
    client(house, secret).chat.completions.create(model="echo-small", messages=MESSAGES)


def test_a_deleted_key_is_unknown(house):
    key_id, secret = house.key()
    house.cli("key", "delete", key_id)
    refused(openai.AuthenticationError, 401, "invalid_api_key", house, secret)


def test_a_key_stops_at_its_expiry(house):
    expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=2)
    key_id, secret = house.key("--expires", expires.isoformat(timespec="milliseconds").replace("+00:00", "Z"))
    deadline = time.monotonic() + 20
    while house.cli("key", "show", key_id)["status"].lower() != "expired":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    refused(openai.AuthenticationError, 401, "key_expired", house, secret)


def test_a_model_outside_the_restrictions_is_denied(house):
    _, secret = house.key("--model", "echo-l*")
    refused(openai.PermissionDeniedError, 403, "model_not_allowed", house, secret)
    client(house, secret).chat.completions.create(model="echo-large", messages=MESSAGES)


def test_an_address_outside_the_allowlist_is_denied(house):
    _, secret = house.key("--ip", "203.0.113.0/24")
    error = refused(openai.PermissionDeniedError, 403, "ip_not_allowed", house, secret)
    assert "203.0.113" not in str(error)
    _, secret = house.key("--ip", "127.0.0.1")
    client(house, secret).chat.completions.create(model="echo-small", messages=MESSAGES)


def test_an_unknown_model_is_not_found(house):
    _, secret = house.key()
    refused(openai.NotFoundError, 404, "model_not_found", house, secret, model="nobody-knows-it")


def test_a_key_at_its_limit_is_refused_and_not_retried(house):
    key_id, secret = house.key("--credit-limit", "0.000001")
    error = refused(openai.RateLimitError, 429, "key_limit_reached", house, secret, max_tokens=50)
    assert error.type == "insufficient_quota"
    # The SDK retries a 429 unless it is told not to.
    assert error.response.headers["x-should-retry"] == "false"
    assert error.response.request.headers["x-stainless-retry-count"] == "0"
    assert house.used(key_id) == 0


def test_an_account_without_credits_is_refused_and_not_retried(house):
    house.cli("user", "create", "poor", "--password-stdin", stdin="velvet anchor quiet ridge")
    _, secret = house.key(user="poor")
    error = refused(openai.RateLimitError, 429, "account_credits_exhausted", house, secret)
    assert error.response.request.headers["x-stainless-retry-count"] == "0"


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": -1}, {"max_tokens": 0}, {"max_tokens": "many"}, {"n": 0}, {"n": 10**9},
        {"messages": "hello"}, {"model": ""}, {"extra_body": {"stream": "yes"}},
    ],
    ids=str,
)
def test_bad_numbers_and_shapes_are_bad_requests(house, wrong):
    key_id, secret = house.key()
    with pytest.raises((openai.BadRequestError, openai.NotFoundError)):
        client(house, secret).chat.completions.create(**({"model": "echo-small", "messages": MESSAGES} | wrong))
    assert house.used(key_id) == 0


def test_an_independent_server_is_relayed_and_charged_by_its_own_count(house, independent):
    base_url, upstream_secret = independent
    house.cli(
        "upstream", "create", "independent", "--dialect", "openai", "--base-url", base_url, "--secret-stdin",
        "--allow-private",
        stdin=upstream_secret,
    )
    house.cli(
        "model", "create", "mirror", "--upstream", "independent=gpt-4o", "--input", str(INPUT_PRICE),
        "--output", str(OUTPUT_PRICE), "--max-output", "200",
    )
    key_id, secret = house.key()
    sdk = client(house, secret)
    answer = sdk.chat.completions.create(model="mirror", messages=MESSAGES)
    assert "hello" in answer.choices[0].message.content.lower()
    # A quarter of the characters of each message, and of the answer: its own rule, nobody else's.
    assert answer.usage.prompt_tokens == sum(len(message["content"]) // 4 for message in MESSAGES)
    assert answer.usage.completion_tokens == len(answer.choices[0].message.content) // 4
    charged = price_of(answer.usage)
    assert house.used(key_id) == charged > 0

    chunks = list(
        sdk.chat.completions.create(
            model="mirror", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "hello" in "".join(c.choices[0].delta.content or "" for c in chunks if c.choices).lower()
    charged += price_of(chunks[-1].usage)
    assert house.used(key_id) == charged

    silent = list(sdk.chat.completions.create(model="mirror", messages=MESSAGES, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in silent)
    assert house.used(key_id) == charged + price_of(chunks[-1].usage)
