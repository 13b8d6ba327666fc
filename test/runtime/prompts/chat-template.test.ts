/** What chat templates put around a user's message, as transformers' apply_chat_template does it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readChatFrame } from '../../../src/runtime/prompts/chat-template.ts';
import { fillFrame, findTemplate, framePrompt } from '../../../src/runtime/prompts/templates.ts';

const CHATML =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
const TRIMMING =
  "{{ bos_token }}{% for message in messages %}{{ '[INST] ' ~ message.content | trim ~ ' [/INST]' }}{% endfor %}";

async function refuses(template: string, message: RegExp): Promise<void> {
  await assert.rejects(readChatFrame(template, {}), { code: 'INVALID_MODEL', message });
}

test('the parts around a message, up to where the answer begins', async () => {
  assert.deepEqual(await readChatFrame(CHATML, {}), {
    before: '<|im_start|>user\n',
    after: '<|im_end|>\n<|im_start|>assistant\n',
    trimsStart: false,
    trimsEnd: false,
  });
});

test('special tokens are those of the tokenizer, and what trims a message is noticed', async () => {
  assert.deepEqual(await readChatFrame(TRIMMING, { bos_token: '<s>' }), {
    before: '<s>[INST] ',
    after: ' [/INST]',
    trimsStart: true,
    trimsEnd: true,
  });
});

test('a prompt in a chat is the template within the frame, and brings its own special tokens', async () => {
  const template = findTemplate('summarize-conversation');
  const chat = await readChatFrame(TRIMMING, { bos_token: '<s>' });
  assert.deepEqual(framePrompt(template, [], chat), {
    before: '<s>[INST] Summarize the following conversation.\n\n',
    after: '\n\nSummary: [/INST]',
    addSpecialTokens: false,
    trimsStart: false,
    trimsEnd: false,
  });
  assert.equal(framePrompt(template, [], undefined).addSpecialTokens, true);
});

test('a template that cannot be run, asks for something else, or leaves the message out is refused', async () => {
  await refuses('{% for', /expected a Jinja template/);
  await refuses("{{ raise_exception('no user') }}", /it fails: .*no user/);
  await refuses('Hello', /write a user's message once, as it came, it did so 0 times/);
  await refuses('{{ messages[0].content }}{{ messages[0].content }}', /2 times/);
  await refuses('x'.repeat(300_000), /at most 262144 characters, it has 300000/);
});

test('a template that never ends is ended', async () => {
  await refuses(
    '{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}{% endfor %}{% endfor %}{% endfor %}{{ messages[0].content }}',
    /end within 5000 ms, it did not/,
  );
});

test('a template that takes all memory, or writes without end, ends alone', async () => {
  const grow = '{% set ns = namespace(x="a") %}{% for i in range(27) %}{% set ns.x = ns.x + ns.x %}{% endfor %}';
  await refuses(`${grow}{% set y = ns.x.split("a") %}{{ messages[0].content }}`, /run within 128 MiB|end within/);
  await refuses(`${grow.replace('27', '22')}{{ ns.x }}{{ messages[0].content }}`, /at most 1048576 bytes/);
});

test('what trims on one side, and what escapes', async () => {
  const right = await readChatFrame("{{ '>' + messages[0].content.rstrip() + '<' }}", {});
  assert.deepEqual(right, { before: '>', after: '<', trimsStart: false, trimsEnd: true });
  const left = await readChatFrame("{{ '>' + messages[0].content.lstrip() + '<' }}", {});
  assert.deepEqual(left, { before: '>', after: '<', trimsStart: true, trimsEnd: false });
  await refuses('{{ messages[0].content | tojson }}', /as it came/);
});

test('a dialogue at an edge that is trimmed loses its spaces there, as the template would have it', async () => {
  const chat = await readChatFrame(TRIMMING, {});
  const plain = framePrompt(findTemplate('plain'), [], chat);
  assert.equal(fillFrame(plain, '  \nA: hi\nB: ho \n '), '[INST] A: hi\nB: ho [/INST]');
  const within = framePrompt(findTemplate('summarize-conversation'), [], chat);
  assert.match(fillFrame(within, ' A '), /conversation\.\n\n A \n\nSummary: \[\/INST\]$/);
});

test('tools and documents are none, as transformers has it', async () => {
  const tools = '{% if tools is not none %}{% for t in tools %}{{ t }}{% endfor %}{% endif %}{{ messages[0].content }}';
  assert.equal((await readChatFrame(tools, {})).before, '');
});

test('no clock is offered: a prompt does not depend on the day', async () => {
  const dated =
    "{% if strftime_now is defined %}{{ strftime_now('%d') }}{% else %}26 Jul 2024{% endif %} {{ messages[0].content }}";
  assert.equal((await readChatFrame(dated, {})).before, '26 Jul 2024 ');
});
