// What the programs of the npm clients share: reporting.py, for Node.
//
//   const { feature, absent, report } = reporter();
//   feature('stop', async () => { … });    // throws what is wrong, returns what is worth a look

import assert from 'node:assert/strict';
import http from 'node:http';

export const { ADA_URL: URL_OF_ADA, ADA_KEY: KEY, MODEL_URL, MODEL_API_KEY } = process.env;
export const V1 = `${URL_OF_ADA}/v1`;
export const WRONG_KEY = 'ada-wrong';
export const QUESTION = 'How was your day?';
export const FEW = 8; // tokens
export const LONG = 2000; // with ENDLESS: minutes on a processor
export const ENDLESS = { ignore_eos: true };
export const SCHEMA = {
  title: 'place',
  type: 'object',
  properties: { town: { type: 'string', enum: ['Bray', 'Cork'] }, rain: { type: 'boolean' } },
  required: ['town', 'rain'],
  additionalProperties: false,
};
// A model too small to think: its thought and where it ends are forced.
export const THOUGHT = {
  chat_template_kwargs: { enable_thinking: true },
  structured_outputs: { regex: 'I think [a-z]{3,9}</think>\n\nI say [a-z]{3,9}' },
};
export const PIXEL =
  'data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';

export function reporter() {
  const features = [];
  const line = (client, version, feature, ok, detail, tookS = 0) =>
    console.log(JSON.stringify({ client, version, feature, ok, took_s: Math.round(tookS * 100) / 100, detail }));
  return {
    feature: (name, run) => features.push({ name, run }),
    absent: (name, why) => features.push({ name, why }),
    async report(client, version) {
      for (const { name, run, why } of features) {
        if (why) {
          line(client, version, name, null, why);
          continue;
        }
        const began = performance.now();
        let detail, ok = true;
        try {
          detail = await run();
        } catch (error) {
          [detail, ok] = [error.stack ?? String(error), false];
        }
        line(client, version, name, ok, String(detail ?? ''), (performance.now() - began) / 1000);
      }
    },
  };
}

// What of a text a `stop` can be: something in its middle.
export function stopped(text) {
  assert(text.length > 8, text);
  return text.slice(Math.floor(text.length / 2)).slice(0, 4);
}

export function checkThought(thought, content) {
  assert.match(thought ?? '', /^I think [a-z]{3,9}$/);
  assert.match(content ?? '', /^I say [a-z]{3,9}$/);
  return `${thought} / ${content}`;
}

export function fits(place) {
  assert.deepEqual(Object.keys(place).sort(), ['rain', 'town']);
  assert(['Bray', 'Cork'].includes(place.town));
  assert.equal(typeof place.rain, 'boolean');
}

// The model's only place is taken by somebody else until the function that this gives is called.
export async function busy() {
  const request = http.request(`${V1}/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' },
  });
  const messages = [{ role: 'user', content: 'Go on.' }];
  request.end(JSON.stringify({ messages, max_tokens: LONG, stream: true, ...ENDLESS }));
  const answer = await new Promise((resolve, reject) => request.on('response', resolve).on('error', reject));
  assert.equal(answer.statusCode, 200);
  answer.on('error', () => {});
  await new Promise((resolve) => answer.once('data', resolve));
  return async () => {
    request.destroy();
    await idle();
  };
}

// How long it took from now until nothing is generated any more; then Ada's only place is waited for.
export async function idle(withinMs = 5000) {
  const began = performance.now();
  await zero(MODEL_URL, 'vllm:num_requests_running', began + withinMs);
  const tookMs = performance.now() - began;
  await zero(URL_OF_ADA, 'ada_running', began + withinMs);
  return `${Math.round(tookMs)} ms`;
}

async function zero(url, name, deadline) {
  for (let number; (number = await numberOf(url, name)); await new Promise((resolve) => setTimeout(resolve, 10)))
    assert(performance.now() < deadline, `${name} is still ${number}`);
}

async function numberOf(url, name) {
  const headers = url === MODEL_URL ? { Authorization: `Bearer ${MODEL_API_KEY}` } : {};
  const text = await (await fetch(`${url}/metrics`, { headers })).text();
  const numbers = [...text.matchAll(new RegExp(`^${name}(?:\\{.*\\})? (\\S+)`, 'gm'))].map(([, number]) => Number(number));
  assert(numbers.length, `${url}/metrics does not report ${name}`);
  return numbers.reduce((sum, number) => sum + number, 0);
}

// Check that a call fails with the client's own error, and that it has these words.
export async function raised(check, call, ...words) {
  let found;
  try {
    await call();
  } catch (error) {
    found = error;
  }
  assert(found, 'nothing was raised');
  assert(check(found), `another error: ${found.stack}`);
  const told = `${found.message} ${JSON.stringify(found.error ?? '')} ${found.responseBody ?? ''}`;
  for (const word of words) assert(told.includes(word), `${word} is not in ${told}`);
  return found.name === 'Error' ? found.constructor.name : found.name;
}

// Check that 429 is this error without retries, and that the call succeeds with them.
export async function retried(patient, impatient, check) {
  let release = await busy();
  let name;
  try {
    name = await raised(check, impatient);
  } finally {
    await release();
  }
  release = await busy();
  const released = new Promise((resolve) => setTimeout(resolve, 500)).then(release);
  const began = performance.now();
  try {
    assert(await patient());
  } finally {
    await released;
  }
  const tookS = (performance.now() - began) / 1000;
  assert(tookS > 1.5, `${tookS} s: Retry-After is 2 s`); // a client may add or take some chance
  return `${name}, then an answer after ${tookS.toFixed(1)} s`;
}

export async function all(pieces) {
  const found = [];
  for await (const piece of pieces) found.push(piece);
  return found;
}
