// The official OpenAI SDK for Node, unmodified, against a running Keyhouse. test_node_sdk.py starts it and says
// where the house is and with which keys.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";

const { default: OpenAI, toFile } = createRequire(process.env.KEYHOUSE_NODE_MODULES)("openai");
const { KEYHOUSE_URL: baseURL, KEYHOUSE_KEY: apiKey, KEYHOUSE_SPENT_KEY: spentKey } = process.env;
const openai = new OpenAI({ apiKey, baseURL });

const messages = [{ role: "user", content: "Tell me about lighthouses, please." }];
// Micro-credits: 3 and 12 credits per million tokens are 3 and 12 a token.
const price = (input, output) => ((input * 3 + output * 12) / 1e6).toFixed(6);

test("an answer costs exactly its tokens", async () => {
  const { data, response } = await openai.chat.completions.create({ model: "echo-small", messages }).withResponse();
  assert.ok(data.choices[0].message.content);
  const { prompt_tokens, completion_tokens } = data.usage;
  assert.equal(response.headers.get("x-keyhouse-credits"), price(prompt_tokens, completion_tokens));
  assert.ok(response.headers.get("x-keyhouse-credits-remaining"));
});

test("a stream gives what JSON gives", async () => {
  const whole = await openai.chat.completions.create({ model: "echo-small", messages });
  const stream = await openai.chat.completions.create({ model: "echo-small", messages, stream: true });
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
  assert.equal(text, whole.choices[0].message.content);
});

test("a tool is called, whole and streamed", async () => {
  const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
  const tools = [{ type: "function", function: { name: "weather", parameters } }];
  const asked = { model: "echo-small", messages, tools, tool_choice: "required" };
  const whole = await openai.chat.completions.create(asked);
  const call = whole.choices[0].message.tool_calls[0].function;
  assert.equal(call.name, "weather");
  assert.ok("city" in JSON.parse(call.arguments));
  const final = await openai.chat.completions.stream(asked).finalChatCompletion();
  assert.equal(final.choices[0].message.tool_calls[0].function.arguments, call.arguments);
});

test("responses come whole and in events", async () => {
  const asked = { model: "echo-small", input: "Tell me about doors.", max_output_tokens: 30 };
  const whole = await openai.responses.create(asked);
  assert.ok(whole.output_text);
  const final = await openai.responses.stream(asked).finalResponse();
  assert.equal(final.output[0].content[0].text, whole.output_text);
});

test("embeddings are vectors of numbers", async () => {
  const { data } = await openai.embeddings.create({ model: "echo-small", input: ["a key", "a house"] });
  assert.equal(data.length, 2);
  const length = Math.hypot(...data[0].embedding);
  assert.ok(Math.abs(length - 1) < 1e-3, `${length}`);
});

// Here the file may come before the model's name: parts are in the order of the fields.
test("a sound is heard whatever comes first", async () => {
  const sound = Buffer.alloc(300_000);
  for (const order of [["file", "model"], ["model", "file"]]) {
    const fields = { file: await toFile(sound, "gap.wav"), model: "listener" };
    const heard = await openai.audio.transcriptions.create(Object.fromEntries(order.map((n) => [n, fields[n]])));
    assert.equal(heard.text, "Mind the gap.");
  }
});

test("speech and images arrive", async () => {
  const spoken = await openai.audio.speech.create({ model: "speaker", voice: "alloy", input: "Mind the gap." });
  assert.equal((await spoken.arrayBuffer()).byteLength, 16_384);
  const { data } = await openai.images.generate({ model: "painter", prompt: "A lighthouse", n: 2 });
  assert.equal(data.length, 2);
});

test("errors are of the right class and spent credits are not retried", async () => {
  const wrong = new OpenAI({ apiKey: "sk-wrong", baseURL });
  await assert.rejects(wrong.models.list(), OpenAI.AuthenticationError);
  await assert.rejects(openai.chat.completions.create({ model: "nobody", messages }), OpenAI.NotFoundError);
  await assert.rejects(
    openai.chat.completions.create({ model: "echo-small", messages, max_tokens: -1 }),
    OpenAI.BadRequestError,
  );
  let calls = 0;
  const counting = (...args) => (calls++, fetch(...args));
  const spent = new OpenAI({ apiKey: spentKey, baseURL, fetch: counting });
  await assert.rejects(spent.chat.completions.create({ model: "echo-small", messages }), (error) => {
    assert.ok(error instanceof OpenAI.RateLimitError);
    assert.equal(error.code, "key_limit_reached");
    return true;
  });
  assert.equal(calls, 1);
});
