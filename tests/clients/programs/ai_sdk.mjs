// Vercel's AI SDK, over its OpenAI-compatible provider; /v1/responses over its OpenAI provider.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, Output, embed, generateText, jsonSchema, streamText, tool } from 'ai';
import {
  ENDLESS, FEW, KEY, LONG, PIXEL, QUESTION, SCHEMA, THOUGHT, V1, WRONG_KEY,
  all, fits, idle, raised, retried, stopped, reporter, checkThought,
} from './reporting.mjs';

globalThis.AI_SDK_LOG_WARNINGS = false;
const { feature, absent, report } = reporter();
const provider = (apiKey = KEY) =>
  createOpenAICompatible({ name: 'ada', baseURL: V1, apiKey, includeUsage: true, supportsStructuredOutputs: true });
const openai = createOpenAI({ baseURL: V1, apiKey: KEY });
const asked = (options) => ({
  model: provider().chatModel('ada'),
  maxOutputTokens: FEW,
  temperature: 0,
  maxRetries: 0,
  include: { requestBody: true, responseBody: true },
  ...(options?.messages ? {} : { prompt: QUESTION }),
  ...options,
});
const ask = (options) => generateText(asked(options));
const stream = (options) => streamText(asked({ onError: () => {}, ...options }));
const ours = (extra) => ({ providerOptions: { ada: extra } });
const status = (code) => (error) => APICallError.isInstance(error) && error.statusCode === code;

feature('whole', async () => {
  const answer = await ask();
  assert(answer.text);
  assert.equal(answer.finishReason, 'length');
  assert.equal(answer.usage.outputTokens, FEW);
});
feature('stream', async () => {
  assert.equal((await all(stream().textStream)).join(''), (await ask()).text);
});
feature('stream_usage', async () => {
  const answer = stream();
  await all(answer.textStream);
  assert.equal((await answer.usage).outputTokens, FEW);
});
feature('system', async () => {
  const answer = await ask({ system: 'Speak of gulls and nothing else.' });
  assert(answer.usage.inputTokens > (await ask()).usage.inputTokens);
});
feature('developer', async () => {
  const system = 'Speak of gulls and nothing else.';
  const providerOptions = { openai: { systemMessageMode: 'developer' } };
  const answer = await ask({ model: openai.chat('ada'), system, providerOptions });
  assert.equal(answer.request.body.messages[0].role, 'developer');
  assert.equal(answer.text, (await ask({ system })).text);
});
feature('parts', async () => {
  const content = ['Hello.', QUESTION].map((text) => ({ type: 'text', text }));
  assert((await ask({ messages: [{ role: 'user', content }] })).text);
});
feature('conversation', async () => {
  const turns = [['user', QUESTION], ['assistant', 'Good.'], ['user', 'Why?']];
  assert((await ask({ messages: turns.map(([role, content]) => ({ role, content })) })).text);
});
feature('max_completion_tokens', async () => {
  const providerOptions = { openai: { maxCompletionTokens: 3 } };
  const answer = await ask({ model: openai.chat('ada'), maxOutputTokens: undefined, providerOptions });
  assert.equal(answer.usage.outputTokens, 3);
});
feature('stop', async () => {
  const { text } = await ask();
  assert.equal((await ask({ stopSequences: [stopped(text)] })).text, text.split(stopped(text))[0]);
});
feature('seed', async () => {
  const options = { temperature: 1.5, seed: 7, maxOutputTokens: 12 };
  assert.equal((await ask(options)).text, (await ask(options)).text);
});
feature('logprobs', async () => {
  const answer = await ask({ model: openai.chat('ada'), providerOptions: { openai: { logprobs: 3 } } });
  assert.equal(answer.providerMetadata.openai.logprobs.length, FEW);
});
feature('json_schema', async () => {
  const output = Output.object({ schema: jsonSchema(SCHEMA), name: 'place' });
  fits((await ask({ output, maxOutputTokens: 60 })).output);
});
feature('thinking', async () => {
  const answer = await ask({ ...ours(THOUGHT), maxOutputTokens: 60 });
  return checkThought(answer.reasoningText, answer.text);
});
feature('thinking_stream', async () => {
  const parts = await all(stream({ ...ours(THOUGHT), maxOutputTokens: 60 }).stream);
  const text = (type) => parts.filter((part) => part.type === type).map((part) => part.text).join('');
  return checkThought(text('reasoning-delta'), text('text-delta'));
});
feature('ada', async () => {
  const { response } = await ask(ours({ ada: { diary: false } }));
  assert.equal(response.body.ada.diary.status, 'off');
  assert.match(response.headers['ai-disclosure'], /machine-generated/);
});
feature('completions', async () => {
  assert((await ask({ model: provider().completionModel('base'), prompt: 'Once upon a time' })).text);
});
feature('completions_stream', async () => {
  const answer = stream({ model: provider().completionModel('base'), prompt: 'Once upon a time' });
  assert((await all(answer.textStream)).join(''));
});
feature('responses', async () => {
  const answer = await ask({ model: openai.responses('ada'), system: 'Be brief.' });
  assert(answer.text);
  assert.equal(answer.usage.outputTokens, FEW);
});
feature('responses_stream', async () => {
  const answer = stream({ model: openai.responses('ada') });
  assert((await all(answer.textStream)).join(''));
  assert.equal((await answer.usage).outputTokens, FEW);
});
feature('cancel', async () => {
  const leaving = new AbortController();
  const answer = stream({ ...ours(ENDLESS), maxOutputTokens: LONG, abortSignal: leaving.signal });
  for await (const _ of answer.textStream) {
    leaving.abort();
    break;
  }
  return idle();
});
feature('retries', () =>
  retried(() => ask({ maxOutputTokens: 1, maxRetries: 3 }), () => ask(), status(429)));
feature('error_key', () =>
  raised(status(401), () => ask({ model: provider(WRONG_KEY).chatModel('ada') }), 'invalid_api_key'));
feature('error_model', () =>
  raised(status(404), () => ask({ model: provider().chatModel('gpt-9') }), 'model_not_found'));
feature('error_image', () => {
  const content = [{ type: 'image', image: PIXEL }];
  return raised(status(400), () => ask({ messages: [{ role: 'user', content }] }), 'messages[0].content[0]');
});
feature('error_tools', () => {
  const weather = tool({ inputSchema: jsonSchema({ type: 'object', properties: {} }) });
  return raised(status(400), () => ask({ tools: { weather }, toolChoice: 'required' }), 'tool_choice');
});
feature('tools', async () => {
  const weather = tool({ inputSchema: jsonSchema({ type: 'object', properties: {} }) });
  for (const toolChoice of ['auto', 'none']) assert((await ask({ tools: { weather }, toolChoice })).text);
});
feature('error_embeddings', () =>
  raised(status(404), () => embed({ model: provider().embeddingModel('ada'), value: 'Hello', maxRetries: 0 })));

absent('models', 'models are named in the program');
absent('model', 'models are named in the program');
absent('n', 'one answer to a question');
const { version } = JSON.parse(readFileSync(new URL('../node_modules/ai/package.json', import.meta.url)));
await report('AI SDK', version);
