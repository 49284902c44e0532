// transformers.js with onnxruntime-node: the same lines as encoder_loop.py's; FORM is q8 or fp32.
// WORK is what onnx_graphs has made; behind FORM comes the folder where the package is installed.
import { createRequire } from "node:module";
import { performance } from "node:perf_hooks";
import { createInterface } from "node:readline";
import path from "node:path";
import { pathToFileURL } from "node:url";

const BATCH = 32;
const [, work, threads, form, installed] = process.argv.slice(2);
const require = createRequire(path.join(installed, "package.json"));
const entry = require.resolve("@huggingface/transformers");
const { pipeline, env } = await import(pathToFileURL(entry));
env.allowRemoteModels = false;
env.localModelPath = path.dirname(path.resolve(work));
const extract = await pipeline("feature-extraction", path.basename(work), {
  dtype: form,
  device: "cpu",
  session_options: { intraOpNumThreads: Number(threads), interOpNumThreads: 1 },
});

// by length, 32 at a time: the best that a caller can do with few lines
async function embed(texts) {
  const order = texts.map((_, index) => index).sort((a, b) => texts[a].length - texts[b].length);
  const vectors = new Array(texts.length);
  for (let begin = 0; begin < order.length; begin += BATCH) {
    const batch = order.slice(begin, begin + BATCH);
    const found = await extract(batch.map((index) => texts[index]), { pooling: "mean", normalize: true });
    const [, size] = found.dims;
    batch.forEach((index, row) => (vectors[index] = found.data.subarray(row * size, (row + 1) * size)));
  }
  return vectors;
}

const say = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");
say({ versions: { "@huggingface/transformers": env.version, "onnxruntime-node": require("onnxruntime-node/package.json").version } });
for await (const line of createInterface({ input: process.stdin })) {
  const { texts, calls, vectors: wanted } = JSON.parse(line);
  const ms = [];
  let vectors;
  for (let call = 0; call < calls; call++) {
    const begin = performance.now();
    vectors = await embed(texts);
    ms.push(performance.now() - begin);
  }
  say(wanted ? { ms, vectors: vectors.map((vector) => [...vector]) } : { ms });
}
