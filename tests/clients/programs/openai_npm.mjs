// OpenAI's own client for JavaScript.

import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { VERSION } from 'openai/version';
import {
  ENDLESS, FEW, KEY, LONG, PIXEL, QUESTION, SCHEMA, THOUGHT, V1, WRONG_KEY,
  all, fits, idle, raised, retried, stopped, reporter, checkThought,
} from './reporting.mjs';

const { feature, report } = reporter();
const client = new OpenAI({ baseURL: V1, apiKey: KEY, maxRetries: 0, timeout: 60_000 });
const HELLO = [{ role: 'user', content: QUESTION }];
const FORMAT = { name: 'place', schema: SCHEMA, strict: true };
const GULLS = 'Speak of gulls and nothing else.';
const ask = (options = {}, settings = {}) =>
  client.chat.completions.create({ model: 'ada', messages: HELLO, max_tokens: FEW, temperature: 0, ...options }, settings);
const said = async (options) => (await ask(options)).choices[0].message.content;

feature('models', async () => {
  assert.deepEqual((await all(client.models.list())).map((model) => model.id), ['ada', 'base']);
});
feature('model', async () => {
  assert.equal((await client.models.retrieve('ada')).object, 'model');
});
feature('whole', async () => {
  const answer = await ask();
  assert(answer.choices[0].message.content);
  assert.equal(answer.choices[0].finish_reason, 'length');
  assert.equal(answer.usage.completion_tokens, FEW);
});
feature('stream', async () => {
  const chunks = await all(await ask({ stream: true }));
  assert.equal(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join(''), await said());
  assert(!chunks.some((chunk) => chunk.usage));
});
feature('stream_usage', async () => {
  const chunks = await all(await ask({ stream: true, stream_options: { include_usage: true } }));
  assert.equal(chunks.at(-1).usage.completion_tokens, FEW);
});
feature('system', async () => {
  const answer = await ask({ messages: [{ role: 'system', content: GULLS }, ...HELLO] });
  assert(answer.usage.prompt_tokens > (await ask()).usage.prompt_tokens);
});
feature('developer', async () => {
  const one = await said({ messages: [{ role: 'developer', content: GULLS }, ...HELLO] });
  assert.equal(one, await said({ messages: [{ role: 'system', content: GULLS }, ...HELLO] }));
});
feature('parts', async () => {
  assert.equal(await said({ messages: [{ role: 'user', content: [{ type: 'text', text: QUESTION }] }] }), await said());
});
feature('conversation', async () => {
  assert(await said({ messages: [...HELLO, { role: 'assistant', content: 'Good.' }, { role: 'user', content: 'Why?' }] }));
});
feature('max_completion_tokens', async () => {
  assert.equal((await ask({ max_tokens: undefined, max_completion_tokens: 3 })).usage.completion_tokens, 3);
});
feature('stop', async () => {
  const text = await said();
  assert.equal(await said({ stop: [stopped(text)] }), text.split(stopped(text))[0]);
});
feature('seed', async () => {
  const options = { temperature: 1.5, seed: 7, max_tokens: 12 };
  assert.equal(await said(options), await said(options));
});
feature('n', async () => {
  assert.equal((await ask({ n: 3, temperature: 1 })).choices.length, 3);
});
feature('logprobs', async () => {
  const tokens = (await ask({ logprobs: true, top_logprobs: 3 })).choices[0].logprobs.content;
  assert.deepEqual(tokens.map((token) => token.top_logprobs.length), Array(FEW).fill(3));
});
feature('json_schema', async () => {
  const response_format = { type: 'json_schema', json_schema: FORMAT };
  const asked = { model: 'ada', messages: HELLO, max_tokens: 60, temperature: 0, response_format };
  const answer = await client.chat.completions.parse(asked);
  fits(JSON.parse(answer.choices[0].message.content));
});
feature('thinking', async () => {
  const { message } = (await ask({ ...THOUGHT, max_tokens: 60 })).choices[0];
  return checkThought(message.reasoning_content, message.content);
});
feature('thinking_stream', async () => {
  const deltas = (await all(await ask({ ...THOUGHT, max_tokens: 60, stream: true }))).map((chunk) => chunk.choices[0].delta);
  const text = (name) => deltas.map((delta) => delta[name] ?? '').join('');
  return checkThought(text('reasoning_content'), text('content'));
});
feature('ada', async () => {
  const { data, response } = await ask({ ada: { diary: false } }).withResponse();
  assert.equal(data.ada.diary.status, 'off');
  assert.match(response.headers.get('ai-disclosure'), /machine-generated/);
});
feature('completions', async () => {
  const answer = await client.completions.create({ model: 'base', prompt: 'Once upon a time', max_tokens: FEW, temperature: 0 });
  assert(answer.choices[0].text);
});
feature('completions_stream', async () => {
  const chunks = await all(
    await client.completions.create({ model: 'base', prompt: 'Once upon a time', max_tokens: FEW, temperature: 0, stream: true }),
  );
  assert(chunks.map((chunk) => chunk.choices[0]?.text ?? '').join(''));
});
feature('responses', async () => {
  const answer = await client.responses.create({ model: 'ada', input: QUESTION, max_output_tokens: FEW, temperature: 0 });
  assert(answer.output_text);
  assert.equal(answer.usage.output_tokens, FEW);
});
feature('responses_stream', async () => {
  const text = { format: { type: 'json_schema', ...FORMAT } };
  const stream = client.responses.stream({ model: 'ada', input: QUESTION, max_output_tokens: 60, temperature: 0, text });
  const kinds = (await all(stream)).map((event) => event.type);
  assert.equal(kinds[0], 'response.created');
  assert.equal(kinds.at(-1), 'response.completed');
  fits(JSON.parse((await stream.finalResponse()).output_text));
});
feature('cancel', async () => {
  const stream = await ask({ stream: true, max_tokens: LONG, ...ENDLESS });
  for await (const _ of stream) break; // which aborts it
  return idle();
});
feature('retries', () =>
  retried(() => ask({ max_tokens: 1 }, { maxRetries: 3 }), () => ask(), (error) => error instanceof OpenAI.RateLimitError));
feature('error_key', () =>
  raised(
    (error) => error instanceof OpenAI.AuthenticationError,
    () => client.withOptions({ apiKey: WRONG_KEY }).models.list(),
    'invalid_api_key',
  ));
feature('error_model', () =>
  raised((error) => error instanceof OpenAI.NotFoundError, () => ask({ model: 'gpt-9' }), 'model_not_found'));
feature('error_image', () => {
  const content = [{ type: 'image_url', image_url: { url: PIXEL } }];
  const check = (error) => error instanceof OpenAI.BadRequestError;
  return raised(check, () => ask({ messages: [{ role: 'user', content }] }), 'messages[0].content[0]');
});
feature('error_tools', () => {
  const tools = [{ type: 'function', function: { name: 'weather', parameters: { type: 'object', properties: {} } } }];
  const demand = () => ask({ tools, tool_choice: 'required' });
  return raised((error) => error instanceof OpenAI.BadRequestError, demand, 'tool_choice');
});
feature('tools', async () => {
  const tools = [{ type: 'function', function: { name: 'weather', parameters: { type: 'object', properties: {} } } }];
  const answer = await ask({ tools, tool_choice: 'auto' });
  assert(answer.choices[0].message.content);
  assert(answer.ada.ignored.join() === 'tools');
});
feature('error_embeddings', () =>
  raised(
    (error) => error instanceof OpenAI.NotFoundError,
    () => client.embeddings.create({ model: 'ada', input: 'Hello' }),
  ));

await report('openai-npm', VERSION);
