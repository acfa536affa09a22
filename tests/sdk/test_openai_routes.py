"""The official OpenAI SDK, unmodified, on every route but chat: what it reads, and what it costs to the last digit."""

import asyncio
import io
import json
import math
import urllib.request
from decimal import ROUND_CEILING, Decimal

import openai
import pytest
from conftest import CACHED_PRICE, INPUT_PRICE, OUTPUT_PRICE
from provider import HEARD, PIXEL, RESPONSE_USAGE, SECONDS_HEARD, SPOKEN

TOOL = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}


def client(house, secret, **options):
    return openai.OpenAI(api_key=secret, base_url=house.base_url, **options)


def price(input_tokens, output_tokens=0, cached=0):
    exact = (input_tokens - cached) * INPUT_PRICE + cached * CACHED_PRICE + output_tokens * OUTPUT_PRICE
    return (exact / 1_000_000).quantize(Decimal("0.000001"), ROUND_CEILING)


def recording(bytes_count=48_000):
    """A name and something to hear: 16 kHz, 16 bit, mono."""
    head = b"RIFF" + (36 + bytes_count).to_bytes(4, "little") + b"WAVEfmt \x10\0\0\0\1\0\1\0"
    head += (16_000).to_bytes(4, "little") + (32_000).to_bytes(4, "little") + b"\2\0\x10\0data"
    return ("gap.wav", io.BytesIO(head + bytes_count.to_bytes(4, "little") + bytes(bytes_count)), "audio/wav")


def test_completions_whole_and_streamed_cost_the_same(house):
    key_id, secret = house.key()
    asked = {"model": "echo-small", "prompt": "Once upon a time", "max_tokens": 8}
    answer = client(house, secret).completions.create(**asked)
    assert answer.choices[0].text
    cost = price(answer.usage.prompt_tokens, answer.usage.completion_tokens)
    assert house.used(key_id) == cost > 0
    chunks = list(client(house, secret).completions.create(**asked, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == answer.choices[0].text
    assert house.used(key_id) == 2 * cost


def test_embeddings_are_unit_vectors_and_cost_their_input(house):
    key_id, secret = house.key()
    # The SDK asks for base64 by itself.
    answer = client(house, secret).embeddings.create(model="echo-small", input=["a key", "a house"])
    assert len(answer.data) == 2 and answer.data[0].embedding != answer.data[1].embedding
    assert math.isclose(sum(x * x for x in answer.data[0].embedding), 1, rel_tol=1e-3)
    assert house.used(key_id) == price(answer.usage.prompt_tokens) > 0


def test_moderations_answer(house):
    _, secret = house.key()
    answer = client(house, secret).moderations.create(model="echo-small", input="I like keys.")
    assert answer.results[0].flagged is False


def test_a_tool_is_called_whole_and_streamed(house):
    key_id, secret = house.key()
    tool = {"type": "function", "function": {"name": "weather", "parameters": TOOL}}
    asked = {
        "model": "echo-small", "messages": [{"role": "user", "content": "Rain?"}], "tools": [tool],
        "tool_choice": "required",
    }
    answer = client(house, secret).chat.completions.create(**asked)
    assert answer.choices[0].finish_reason == "tool_calls"
    call = answer.choices[0].message.tool_calls[0].function
    assert call.name == "weather" and "city" in json.loads(call.arguments)
    cost = price(answer.usage.prompt_tokens, answer.usage.completion_tokens)
    assert house.used(key_id) == cost
    chunks = client(house, secret).chat.completions.create(**asked, stream=True)
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert json.loads("".join(call.function.arguments or "" for call in calls)) == json.loads(call.arguments)
    assert house.used(key_id) == 2 * cost


def test_a_response_whole_streamed_and_async_costs_the_same(house):
    key_id, secret = house.key()
    asked = {"model": "echo-small", "input": "Tell me about doors.", "max_output_tokens": 30}
    answer = client(house, secret).responses.create(**asked)
    assert answer.output_text and answer.status in ("completed", "incomplete")
    cost = price(answer.usage.input_tokens, answer.usage.output_tokens)
    assert house.used(key_id) == cost > 0

    with client(house, secret).responses.stream(**asked) as stream:
        deltas = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert deltas == final.output_text == answer.output_text
    assert house.used(key_id) == 2 * cost

    async def call():
        async with openai.AsyncOpenAI(api_key=secret, base_url=house.base_url) as sdk:
            stream = await sdk.responses.create(**asked, stream=True)
            return [event.type async for event in stream]

    types = asyncio.run(call())
    assert types[0] == "response.created" and types[-1] in ("response.completed", "response.incomplete")
    assert house.used(key_id) == 3 * cost


def test_a_stored_response_comes_back_to_its_account_alone(house, media):
    key_id, secret = house.key()
    sdk = client(house, secret)
    made = sdk.responses.create(model="keeper", input="Keep this.")
    cached = RESPONSE_USAGE["input_tokens_details"]["cached_tokens"]
    cost = price(RESPONSE_USAGE["input_tokens"], RESPONSE_USAGE["output_tokens"], cached)
    assert house.used(key_id) == cost
    assert sdk.responses.retrieve(made.id).output_text == "Stored."
    assert [item.id for item in sdk.responses.input_items.list(made.id)] == ["msg_0"]
    with pytest.raises(openai.BadRequestError):
        sdk.responses.cancel(made.id)
    stream = sdk.responses.create(model="keeper", input="And?", previous_response_id=made.id, stream=True)
    assert list(stream)[-1].type == "response.completed"
    assert json.loads(media.asked[-1][2])["previous_response_id"] == made.id
    assert house.used(key_id) == 2 * cost

    if "stranger" not in {user["name"] for user in house.cli("user", "list")}:
        house.cli("user", "create", "stranger", "--password-stdin", stdin="velvet anchor quiet ridge")
    _, foreign = house.key(user="stranger")
    for act in (sdk.responses.retrieve, sdk.responses.delete):
        with pytest.raises(openai.NotFoundError):
            getattr(client(house, foreign).responses, act.__name__)(made.id)
    # Another key of the same account may.
    _, other = house.key()
    assert client(house, other).responses.retrieve(made.id).id == made.id
    sdk.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(made.id)


def test_images_cost_their_number(house, media):
    key_id, secret = house.key()
    sdk = client(house, secret)
    made = sdk.images.generate(model="painter", prompt="A lighthouse", n=2)
    assert len(made.data) == 2 and made.data[0].b64_json
    assert house.used(key_id) == Decimal("0.08")
    events = list(sdk.images.generate(model="painter", prompt="A lighthouse", stream=True, partial_images=1))
    assert [event.type for event in events] == ["image_generation.partial_image", "image_generation.completed"]
    assert house.used(key_id) == Decimal("0.12")
    edited = sdk.images.edit(model="painter", image=("pixel.png", io.BytesIO(PIXEL), "image/png"), prompt="Redder")
    assert edited.data[0].b64_json and PIXEL in media.asked[-1][2]
    assert house.used(key_id) == Decimal("0.16")


def test_speech_costs_its_characters(house, media):
    key_id, secret = house.key()
    sdk = client(house, secret)
    words = {"model": "speaker", "voice": "alloy", "input": "Mind the gäp."}
    assert sdk.audio.speech.create(**words).content == SPOKEN
    # 15 credits per million characters, of which there are 13.
    assert house.used(key_id) == Decimal("0.000195")
    with sdk.audio.speech.with_streaming_response.create(**words) as answer:
        assert b"".join(answer.iter_bytes()) == SPOKEN
    assert house.used(key_id) == Decimal("0.000390")


def test_sounds_cost_their_seconds(house, media):
    key_id, secret = house.key()
    sdk = client(house, secret)
    assert sdk.audio.transcriptions.create(model="listener", file=recording()).text == HEARD
    cost = SECONDS_HEARD * Decimal("0.0001")
    assert house.used(key_id) == cost
    told = sdk.audio.transcriptions.create(model="listener", file=recording(), response_format="verbose_json")
    assert (told.text, told.duration) == (HEARD, SECONDS_HEARD)
    assert house.used(key_id) == 2 * cost
    assert sdk.audio.translations.create(model="listener", file=recording()).text == HEARD
    assert house.used(key_id) == 3 * cost
    # Nobody says how long it was, so the file does: a second and a half.
    text = sdk.audio.transcriptions.create(model="listener", file=recording(), response_format="text")
    assert text.strip() == HEARD
    assert house.used(key_id) > 3 * cost

    async def call():
        async with openai.AsyncOpenAI(api_key=secret, base_url=house.base_url) as sdk:
            return await sdk.audio.transcriptions.create(model="listener", file=recording())

    assert asyncio.run(call()).text == HEARD


def test_the_providers_secret_goes_to_the_provider_alone(house, media):
    _, secret = house.key()
    client(house, secret).images.generate(model="painter", prompt="A key")
    _, headers, body = media.asked[-1]
    assert headers["authorization"] == "Bearer sk-provider-secret"
    assert secret not in str(headers) and secret.encode() not in body


def test_rerank_by_plain_http(house, media):
    key_id, secret = house.key()
    asked = {"model": "ranker", "query": "keys", "documents": ["a door", "a key"]}
    request = urllib.request.Request(
        f"{house.base_url}/rerank", json.dumps(asked).encode(),
        {"authorization": f"Bearer {secret}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        assert len(json.load(answer)["results"]) == 2
        assert answer.headers["x-keyhouse-credits"] == "0.002000"
    assert house.used(key_id) == Decimal("0.002")


@pytest.mark.parametrize("route", ["embeddings", "responses", "completions", "images", "speech", "transcriptions"])
def test_spent_credits_are_never_retried(house, media, route):
    _, secret = house.key("--credit-limit", "0.000001")
    sdk = client(house, secret)
    calls = {
        "embeddings": lambda: sdk.embeddings.create(model="echo-small", input="a" * 4000),
        "responses": lambda: sdk.responses.create(model="echo-small", input="a" * 4000),
        "completions": lambda: sdk.completions.create(model="echo-small", prompt="a" * 4000),
        "images": lambda: sdk.images.generate(model="painter", prompt="a"),
        "speech": lambda: sdk.audio.speech.create(model="speaker", voice="alloy", input="Hello"),
        "transcriptions": lambda: sdk.audio.transcriptions.create(model="listener", file=recording()),
    }
    with pytest.raises(openai.RateLimitError) as caught:
        calls[route]()
    assert (caught.value.code, caught.value.type) == ("key_limit_reached", "insufficient_quota")
    assert caught.value.response.request.headers["x-stainless-retry-count"] == "0"


def test_a_key_looks_at_itself(house):
    _, secret = house.key("--credit-limit", "5")
    request = urllib.request.Request(f"{house.base_url}/key", headers={"authorization": f"Bearer {secret}"})
    with urllib.request.urlopen(request) as answer:
        key = json.load(answer)
    assert (key["status"].lower(), key["credit_limit"], key["credits_remaining"]) == ("active", "5.000000", "5.000000")


def test_every_route_by_the_async_client(house, media):
    key_id, secret = house.key()
    tool = {"type": "function", "name": "weather", "parameters": TOOL}

    async def each(stream):
        return [item async for item in await stream]

    async def call():
        async with openai.AsyncOpenAI(api_key=secret, base_url=house.base_url) as sdk:
            assert (await sdk.completions.create(model="echo-small", prompt="Once")).choices[0].text
            assert await each(sdk.completions.create(model="echo-small", prompt="Once", stream=True))
            assert (await sdk.embeddings.create(model="echo-small", input="a key")).data[0].embedding
            assert not (await sdk.moderations.create(model="echo-small", input="a key")).results[0].flagged
            called = await sdk.responses.create(
                model="echo-small", input="Rain?", tools=[tool], tool_choice="required"
            )
            assert [item.name for item in called.output if item.type == "function_call"] == ["weather"]
            kept = await sdk.responses.create(model="keeper", input="Keep this.")
            assert (await sdk.responses.retrieve(kept.id)).id == kept.id
            await sdk.responses.delete(kept.id)
            assert (await sdk.images.generate(model="painter", prompt="A key")).data
            painting = sdk.images.generate(model="painter", prompt="A key", stream=True)
            assert (await each(painting))[-1].type == "image_generation.completed"
            image = ("pixel.png", io.BytesIO(PIXEL), "image/png")
            assert (await sdk.images.edit(model="painter", image=image, prompt="Redder")).data
            spoken = await sdk.audio.speech.create(model="speaker", voice="alloy", input="Mind the gap.")
            assert spoken.content == SPOKEN
            assert (await sdk.audio.transcriptions.create(model="listener", file=recording())).text == HEARD
            assert (await sdk.audio.translations.create(model="listener", file=recording())).text == HEARD
            assert [model.id async for model in sdk.models.list()]
            assert (await sdk.models.retrieve("echo-small")).id == "echo-small"

    asyncio.run(call())
    assert house.used(key_id) > 0
