/** What chat templates put around a user's message, as transformers' apply_chat_template does it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readChatFrame } from '../../../src/runtime/prompts/chat-template.ts';
import { findTemplate, framePrompt } from '../../../src/runtime/prompts/templates.ts';

const CHATML =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
const TRIMMING =
  "{{ bos_token }}{% for message in messages %}{{ '[INST] ' ~ message.content | trim ~ ' [/INST]' }}{% endfor %}";

function refuses(template: string, message: RegExp): void {
  assert.throws(() => readChatFrame(template, {}), { code: 'INVALID_MODEL', message });
}

test('the parts around a message, up to where the answer begins', () => {
  assert.deepEqual(readChatFrame(CHATML, {}), {
    before: '<|im_start|>user\n',
    after: '<|im_end|>\n<|im_start|>assistant\n',
    trims: false,
  });
});

test('special tokens are those of the tokenizer, and what trims a message is noticed', () => {
  assert.deepEqual(readChatFrame(TRIMMING, { bos_token: '<s>' }), {
    before: '<s>[INST] ',
    after: ' [/INST]',
    trims: true,
  });
});

test('a prompt in a chat is the template within the frame, and brings its own special tokens', () => {
  const template = findTemplate('summarize-conversation');
  const chat = readChatFrame(TRIMMING, { bos_token: '<s>' });
  assert.deepEqual(framePrompt(template, [], chat), {
    before: '<s>[INST] Summarize the following conversation.\n\n',
    after: '\n\nSummary: [/INST]',
    addSpecialTokens: false,
  });
  assert.equal(framePrompt(template, [], undefined).addSpecialTokens, true);
});

test('a template that cannot be run, asks for something else, or leaves the message out is refused', () => {
  refuses('{% for', /expected a Jinja template/);
  refuses("{{ raise_exception('no user') }}", /it fails: .*no user/);
  refuses('Hello', /write a user's message once, it did so 0 times/);
  refuses('{{ messages[0].content }}{{ messages[0].content }}', /2 times/);
  refuses('x'.repeat(300_000), /at most 262144 characters, it has 300000/);
});

test('a template that never ends is ended', () => {
  refuses(
    '{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}{% endfor %}{% endfor %}{% endfor %}{{ messages[0].content }}',
    /timed out/,
  );
});

test('no clock is offered: a prompt does not depend on the day', () => {
  const dated =
    "{% if strftime_now is defined %}{{ strftime_now('%d') }}{% else %}26 Jul 2024{% endif %} {{ messages[0].content }}";
  assert.equal(readChatFrame(dated, {}).before, '26 Jul 2024 ');
});
