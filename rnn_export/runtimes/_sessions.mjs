// ONNX Runtime's sessions behind messages: a header, which is JSON, and the bytes of the arrays that it lists.
// _javascript.py has the other side.

const ARRAYS = {
  float32: Float32Array, float64: Float64Array, float16: Uint16Array,
  int64: BigInt64Array, int32: Int32Array, uint8: Uint8Array, bool: Uint8Array,
};

// What node and the page are alike asked for: answers that do not depend on the number of cores.
const OPTIONS = { graphOptimizationLevel: "all", intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 3 };

// (header, body) -> the parts of the answer: the length of its header in 4 bytes, the header, each array's bytes.
export function answering(ort, provider) {
  const sessions = [];

  async function prepare({ model, externalData }) {
    const beside = externalData.length ? { externalData } : {};
    sessions.push(await ort.InferenceSession.create(model, { executionProviders: [provider], ...OPTIONS, ...beside }));
    return [{ session: sessions.length - 1 }, []];
  }

  async function run({ session, arrays }, body) {
    const feeds = {};
    let position = 0;
    for (const { name, type, dims, size } of arrays) {
      const raw = body.slice(position, position += size).buffer;  // a copy: an array begins at a multiple of its type
      feeds[name] = new ort.Tensor(type, new (ARRAYS[type] ?? Uint8Array)(raw), dims);
    }
    const outputs = Object.entries(await sessions[session].run(feeds));
    const listed = outputs.map(([name, { type, dims, data }]) => ({ name, type, dims, size: data.byteLength }));
    return [{ arrays: listed }, outputs.map(([, { data }]) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength))];
  }

  return async (header, body) => {
    let answer;
    try {
      answer = await ("model" in header ? prepare(header) : run(header, body));
    } catch (error) {
      // A trap, or a C++ exception that nobody caught, leaves WebAssembly's memory as it was then.
      const lost = error instanceof WebAssembly.RuntimeError || typeof error === "number";
      answer = [{ error: String(error), lost }, []];
    }
    const text = new TextEncoder().encode(JSON.stringify(answer[0]));
    const length = new Uint8Array(4);
    new DataView(length.buffer).setUint32(0, text.length);
    return [length, text, ...answer[1]];
  };
}
