// Answers messages that come on standard input, until it is closed. Arguments: the folder that holds node_modules.
import { readSync, writeSync } from "node:fs";
import { createRequire } from "node:module";

import { answering } from "./_sessions.mjs";

const ort = createRequire(`${process.argv[2]}/`)("onnxruntime-node");
const answer = answering(ort, "cpu");
const MOST = 2 ** 30;  // bytes that one system call is asked for

function read(size) {
  const bytes = new Uint8Array(size);
  for (let position = 0; position < size;) {
    const got = readSync(0, bytes, position, Math.min(size - position, MOST));
    if (got === 0) process.exit(0);
    position += got;
  }
  return bytes;
}

function write(bytes) {
  for (let position = 0; position < bytes.length;) {
    position += writeSync(1, bytes, position, Math.min(bytes.length - position, MOST));
  }
}

for (;;) {
  const length = new DataView(read(4).buffer).getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(read(length)));
  const body = read(header.arrays.reduce((sum, { size }) => sum + size, 0));
  (await answer(header, body)).forEach(write);
}
