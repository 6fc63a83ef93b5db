// nsfwjs with the model that it carries: THREADS wasm | native. The protocol is the one of line_protocol.py.
//
// "native" is TensorFlow's C library (@tensorflow/tfjs-node), which nsfwjs recommends for Node.js; it decodes, too.
// With "wasm" sharp decodes, for TensorFlow.js itself reads no image files.

import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { writeSync } from "node:fs";
import { createInterface } from "node:readline";

console.log = console.info = console.debug = console.error; // standard output is the protocol's alone

const threads = Number(process.argv[2]);
const NSFW = ["Porn", "Hentai", "Sexy"];

async function native() {
  const tf = (await import("@tensorflow/tfjs-node")).default;
  const decode = async (path) => tf.node.decodeImage(await readFile(path), 3);
  return { tf, decode, provider: "tfjs-node" };
}

async function wasm() {
  const tf = await import("@tensorflow/tfjs");
  const backend = await import("@tensorflow/tfjs-backend-wasm");
  const sharp = (await import("sharp")).default;
  if (threads) {
    backend.setThreadsCount(threads);
    sharp.concurrency(threads);
  }
  await tf.setBackend("wasm");
  const decode = async (path) => {
    const picture = sharp(path).removeAlpha().toColourspace("srgb").raw();
    const { data, info } = await picture.toBuffer({ resolveWithObject: true });
    return tf.tensor3d(data, [info.height, info.width, info.channels], "int32");
  };
  const many = await tf.env().getAsync("WASM_HAS_MULTITHREAD_SUPPORT");
  return { tf, decode, provider: many ? `WASM, threads: ${backend.getThreadsCount()}` : "WASM, threads: 1" };
}

const { tf, decode, provider } = await (process.argv[3] === "native" ? native() : wasm());
await tf.ready();
const model = await (await import("nsfwjs")).load();

async function classify(path) {
  const picture = await decode(path);
  const found = await model.classify(picture);
  picture.dispose();
  return found;
}

function read(found) {
  const total = found.reduce((sum, entry) => sum + entry.probability, 0);
  if (Math.abs(total - 1) > 1e-3) throw new Error(`it returned ${JSON.stringify(found)} instead of probabilities`);
  const digest = createHash("sha256").update(JSON.stringify(found)).digest("hex").slice(0, 16);
  return { flagged: NSFW.includes(found[0].className), digest };
}

function say(message) {
  writeSync(1, JSON.stringify(message) + "\n");
}

say({ ready: { provider } });
for await (const line of createInterface({ input: process.stdin })) {
  try {
    const start = performance.now();
    const found = await classify(JSON.parse(line));
    const ms = performance.now() - start;
    say({ ms, ...read(found) });
  } catch (problem) {
    say({ error: `${problem.name}: ${problem.message}` });
  }
}
