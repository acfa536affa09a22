"""The official Anthropic SDK, unmodified, against a running Keyhouse."""

import asyncio
from decimal import ROUND_CEILING, Decimal

import anthropic
import pytest
from conftest import INPUT_PRICE, OUTPUT_PRICE

ASKED = {
    "model": "echo-small",
    "max_tokens": 40,
    "system": "You answer shortly.",
    "messages": [{"role": "user", "content": "Tell me about lighthouses, please."}],
}
TOOL = {
    "name": "weather",
    "description": "Knows the weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def client(house, secret, **options):
    return anthropic.Anthropic(api_key=secret, base_url=house.url, **options)


def price_of(usage):
    exact = usage.input_tokens * INPUT_PRICE + usage.output_tokens * OUTPUT_PRICE
    return (exact / 1_000_000).quantize(Decimal("0.000001"), ROUND_CEILING)


def test_a_message_costs_exactly_its_tokens(house):
    key_id, secret = house.key()
    answer = client(house, secret).messages.create(**ASKED)
    assert answer.role == "assistant" and answer.content[0].text
    assert house.used(key_id) == price_of(answer.usage) > 0


def test_a_stream_gives_the_same_message_at_the_same_price(house):
    key_id, secret = house.key()
    whole = client(house, secret).messages.create(**ASKED)
    with client(house, secret).messages.stream(**ASKED) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text == whole.content[0].text
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert house.used(key_id) == 2 * price_of(whole.usage)


def test_a_tool_is_used_whole_and_streamed(house):
    key_id, secret = house.key()
    asked = ASKED | {"tools": [TOOL], "tool_choice": {"type": "any"}}
    answer = client(house, secret).messages.create(**asked)
    use = next(block for block in answer.content if block.type == "tool_use")
    assert answer.stop_reason == "tool_use" and use.name == "weather" and "city" in use.input
    with client(house, secret).messages.stream(**asked) as stream:
        final = stream.get_final_message()
    assert next(block for block in final.content if block.type == "tool_use").input == use.input
    assert house.used(key_id) == 2 * price_of(answer.usage)


def test_the_async_client_does_the_same(house):
    key_id, secret = house.key()

    async def call():
        async with anthropic.AsyncAnthropic(api_key=secret, base_url=house.url) as sdk:
            used = await sdk.messages.create(**ASKED, tools=[TOOL], tool_choice={"type": "any"})
            assert used.stop_reason == "tool_use"
            counted = await sdk.messages.count_tokens(model="echo-small", messages=ASKED["messages"])
            assert counted.input_tokens > 0
            assert [model.id async for model in sdk.models.list()]
            async with sdk.messages.stream(**ASKED) as stream:
                return used, await stream.get_final_message()

    used, streamed = asyncio.run(call())
    assert house.used(key_id) == price_of(used.usage) + price_of(streamed.usage) > 0


def test_counting_tokens_is_free(house):
    key_id, secret = house.key()
    asked = {name: ASKED[name] for name in ("model", "system", "messages")}
    counted = client(house, secret).messages.count_tokens(**asked).input_tokens
    assert counted > 0 and house.used(key_id) == 0
    assert client(house, secret).messages.create(**ASKED).usage.input_tokens == counted


def test_models_come_in_its_shape(house):
    _, secret = house.key("--model", "echo-s*")
    listed = list(client(house, secret).models.list())
    assert [(model.id, model.type) for model in listed] == [("echo-small", "model")]
    assert client(house, secret).models.retrieve("echo-small").id == "echo-small"


def refused(error_class, status, kind, house, secret, **options):
    with pytest.raises(error_class) as caught:
        client(house, secret).messages.create(**(ASKED | options))
    assert caught.value.status_code == status
    assert caught.value.body["error"]["type"] == kind
    assert caught.value.body["request_id"] == caught.value.response.headers["x-request-id"]
    assert secret not in str(caught.value)
    return caught.value


def test_errors_are_of_the_right_class(house):
    key_id, secret = house.key()
    refused(anthropic.AuthenticationError, 401, "authentication_error", house, "sk-wrong")
    refused(anthropic.NotFoundError, 404, "not_found_error", house, secret, model="nobody-knows-it")
    refused(anthropic.BadRequestError, 400, "invalid_request_error", house, secret, max_tokens=-1)
    _, large_only = house.key("--model", "echo-l*")
    refused(anthropic.PermissionDeniedError, 403, "permission_error", house, large_only)
    house.cli("key", "disable", key_id)
    refused(anthropic.AuthenticationError, 401, "authentication_error", house, secret)


def test_spent_credits_are_not_retried(house):
    _, secret = house.key("--credit-limit", "0.000001")
    error = refused(anthropic.RateLimitError, 429, "rate_limit_error", house, secret)
    assert error.body["error"]["code"] == "key_limit_reached"
    assert error.response.request.headers["x-stainless-retry-count"] == "0"


def test_a_model_of_the_other_dialect_says_where_it_is_called(house, media):
    _, secret = house.key()
    error = refused(anthropic.BadRequestError, 400, "invalid_request_error", house, secret, model="painter")
    assert "/v1/" in str(error)
