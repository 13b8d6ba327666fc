import { buildT5Decoder, buildT5Encoder } from '/work/main/src/runtime/models/t5-graphs.ts';
import { Session } from '/work/main/src/runtime/session.ts';

const size = process.argv[2] ?? 'small';
const prof = process.argv[3];
const S0: any = { small: { d: 512, ff: 1024, L: 8, H: 6 }, base: { d: 768, ff: 2048, L: 12, H: 12 } }[size];
const rnd = (n: number, s = 0.05) => {
  const a = new Float32Array(n);
  let x = 12345;
  for (let i = 0; i < n; i++) {
    x = (x * 1103515245 + 12345) & 0x7fffffff;
    a[i] = (x / 0x7fffffff - 0.5) * s;
  }
  return a;
};
const config: any = {
  family: 't5',
  vocabularySize: 32128,
  hiddenSize: S0.d,
  headSize: 64,
  headCount: S0.H,
  feedForwardSize: S0.ff,
  encoderLayerCount: S0.L,
  decoderLayerCount: S0.L,
  relativeBucketCount: 32,
  relativeMaxDistance: 128,
  layerNormEpsilon: 1e-6,
  activation: 'gelu-tanh',
  gated: true,
  scaleDecoderOutput: false,
};
const inner = S0.H * 64;
const blk = () => ({
  selfAttention: { norm: rnd(S0.d, 2), queryKeyValue: rnd(3 * inner * S0.d), output: rnd(S0.d * inner) },
  feedForward: { norm: rnd(S0.d, 2), input: rnd(2 * S0.ff * S0.d), output: rnd(S0.ff * S0.d) },
  crossAttention: {
    norm: rnd(S0.d, 2),
    query: rnd(inner * S0.d),
    key: rnd(inner * S0.d),
    value: rnd(inner * S0.d),
    output: rnd(inner * S0.d),
  },
});
const stack = () => ({
  blocks: Array.from({ length: S0.L }, blk),
  relativeBias: rnd(32 * S0.H),
  finalNorm: rnd(S0.d, 2),
});
const p: any = { embeddings: new Float32Array(8), head: rnd(32128 * S0.d), encoder: stack(), decoder: stack() };
const which = process.argv[4] ?? 'both';
const T = (data: any, dims: number[]) => ({ data, dims });
if (which !== 'dec') {
  const enc = await Session.create(buildT5Encoder(config, p), { threadCount: 2 });
  const outs = [...Array(S0.L).keys()].flatMap((l) => [`source_keys.${l}`, `source_values.${l}`]);
  for (const [b, s] of [
    [1, 16],
    [1, 64],
    [1, 128],
    [1, 256],
    [2, 256],
    [4, 256],
    [8, 256],
  ] as const) {
    const feeds = {
      source_embeddings: T(rnd(b * s * S0.d, 1), [b, s, S0.d]),
      relative_buckets: T(new Int32Array(s * s), [s, s]),
      source_mask: T(new Float32Array(b * s), [b, 1, 1, s]),
    };
    let best = 1e9,
      bestNo = 1e9;
    for (let i = 0; i < 6; i++) {
      let t = performance.now();
      await enc.run(feeds, outs);
      best = Math.min(best, performance.now() - t);
      t = performance.now();
      await enc.run(feeds, ['source_keys.0']);
      bestNo = Math.min(bestNo, performance.now() - t);
    }
    const fl =
      S0.L * (b * s * 2 * (4 * S0.d * inner + 3 * S0.d * S0.ff) + 4 * b * s * s * inner) +
      S0.L * 4 * b * s * S0.d * inner;
    console.log(
      'encoder',
      b,
      s,
      best.toFixed(1),
      'ms',
      (fl / best / 1e6).toFixed(0),
      'GFLOPS; one output',
      bestNo.toFixed(1),
    );
  }
}
if (which !== 'enc') {
  const dec = await Session.create(buildT5Decoder(config, p), {
    threadCount: 2,
    ...(prof && prof !== '-' ? { profilePrefix: prof } : {}),
  });
  const section = (name: string, G: number, Q: number, C: number, S: number, feeds: any) => {
    feeds[`${name}.self_bias_index`] = T(new Int32Array(G * Q * (C + Q)), [G, Q, C + Q]);
    feeds[`${name}.source_mask`] = T(new Float32Array(G * S), [G, 1, 1, S]);
    for (let l = 0; l < S0.L; l++)
      for (const kv of ['keys', 'values']) {
        feeds[`${name}.self_${kv}.${l}`] = T(rnd(G * S0.H * C * 64), [G, S0.H, C, 64]);
        feeds[`${name}.source_${kv}.${l}`] = T(rnd(G * S0.H * S * 64), [G, S0.H, S, 64]);
      }
  };
  for (const [A, G, Q, C, S] of [[1, 0, 2, 64, 256]] as const) {
    const R = A + G * Q;
    const feeds: any = {};
    feeds.token_embeddings = T(rnd(R * S0.d, 1), [R, S0.d]);
    feeds.section_sizes = T(BigInt64Array.of(BigInt(A), BigInt(G * Q)), [2]);
    section('singles', A, 1, C, S, feeds);
    section('groups', G, Q, C, S, feeds);
    feeds['groups.rows'] = T(
      Int32Array.from({ length: G * Q }, (_, i) => i),
      [G, Q],
    );
    feeds['groups.places'] = T(
      Int32Array.from({ length: G * Q }, (_, i) => i),
      [G * Q],
    );
    feeds.top_count = T(BigInt64Array.of(8n), [1]);
    feeds.asked_index = T(new BigInt64Array(0), [0, 2]);
    let best = 1e9,
      tot = 0;
    const n = prof ? 10 : 40;
    for (let i = 0; i < n; i++) {
      const t = performance.now();
      await dec.run(feeds, ['new_cache', 'log_sum_exp', 'top_logits', 'top_ids', 'asked_logits']);
      const e = performance.now() - t;
      best = Math.min(best, e);
      tot += e;
    }
    console.log(
      `decode singles ${A} groups ${G}x${Q} C${C} S${S}: best ${best.toFixed(2)} mean ${(tot / n).toFixed(2)} ms`,
    );
  }
  if (prof && prof !== '-') dec.endProfiling();
}
