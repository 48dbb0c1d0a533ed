/**
 * A model in the GGUF format (version 3, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): one layer of the llama architecture, random weights from
 * a fixed seed, bytes as tokens. It has learned nothing, so what it says is garbage; engine, context limit, streaming and grammars around it are real.
 */
const WIDTH = 64
const HEADS = 4
const CONTEXT = 512
const SEED = 42

const [U32, I32, F32, STRING, ARRAY] = [4, 5, 6, 8, 9]
const [UNKNOWN, CONTROL, BYTE] = [2, 3, 6]
const ALIGNMENT = 32

const u32 = (n: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(n)
  return bytes
}
const u64 = (n: number): Buffer => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(n))
  return bytes
}
const f32 = (values: readonly number[]): Buffer => {
  const bytes = Buffer.alloc(values.length * 4)
  for (const [i, value] of values.entries()) bytes.writeFloatLE(value, i * 4)
  return bytes
}
const string = (text: string): Buffer => Buffer.concat([u64(Buffer.byteLength(text)), Buffer.from(text)])
const array = (type: number, items: readonly Buffer[]): Buffer =>
  Buffer.concat([u32(type), u64(items.length), ...items])
const pair = (key: string, type: number, value: Buffer): Buffer => Buffer.concat([string(key), u32(type), value])
const padding = (length: number): Buffer => Buffer.alloc((ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT)

export function tinyGguf(): Buffer {
  const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`)
  const tokens = ['<unk>', '<s>', '</s>', ...bytes]
  const types = tokens.map((_, i) => (i === 0 ? UNKNOWN : i < 3 ? CONTROL : BYTE))
  const pairs = [
    pair('general.architecture', STRING, string('llama')),
    pair('general.name', STRING, string('tiny')),
    pair('llama.context_length', U32, u32(CONTEXT)),
    pair('llama.embedding_length', U32, u32(WIDTH)),
    pair('llama.block_count', U32, u32(1)),
    pair('llama.feed_forward_length', U32, u32(WIDTH)),
    pair('llama.attention.head_count', U32, u32(HEADS)),
    pair('llama.attention.layer_norm_rms_epsilon', F32, f32([1e-5])),
    pair('llama.rope.dimension_count', U32, u32(WIDTH / HEADS)),
    pair('llama.vocab_size', U32, u32(tokens.length)),
    pair('tokenizer.ggml.model', STRING, string('llama')),
    pair('tokenizer.ggml.tokens', ARRAY, array(STRING, tokens.map(string))),
    pair('tokenizer.ggml.scores', ARRAY, array(F32, tokens.map(() => f32([0])))), // oxfmt-ignore
    pair('tokenizer.ggml.token_type', ARRAY, array(I32, types.map(u32))),
    pair('tokenizer.ggml.unknown_token_id', U32, u32(0)),
    pair('tokenizer.ggml.bos_token_id', U32, u32(1)),
    pair('tokenizer.ggml.eos_token_id', U32, u32(2)),
  ]
  const square = [WIDTH, WIDTH]
  const tensors: [name: string, size: number[]][] = [
    ['token_embd.weight', [WIDTH, tokens.length]],
    ['blk.0.attn_norm.weight', [WIDTH]],
    ['blk.0.attn_q.weight', square],
    ['blk.0.attn_k.weight', square],
    ['blk.0.attn_v.weight', square],
    ['blk.0.attn_output.weight', square],
    ['blk.0.ffn_norm.weight', [WIDTH]],
    ['blk.0.ffn_gate.weight', square],
    ['blk.0.ffn_up.weight', square],
    ['blk.0.ffn_down.weight', square],
    ['output_norm.weight', [WIDTH]],
    ['output.weight', [WIDTH, tokens.length]],
  ]
  const dice = weights(SEED)
  const infos: Buffer[] = []
  const data: Buffer[] = []
  let offset = 0
  for (const [name, size] of tensors) {
    const count = size.reduce((product, n) => product * n, 1)
    const values = f32(Array.from({ length: count }, () => (size.length === 1 ? 1 : dice())))
    infos.push(Buffer.concat([string(name), u32(size.length), ...size.map(u64), u32(0), u64(offset)]))
    const filled = Buffer.concat([values, padding(values.length)])
    data.push(filled)
    offset += filled.length
  }
  const head = Buffer.concat([Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(pairs.length), ...pairs, ...infos])
  return Buffer.concat([head, padding(head.length), ...data])
}

/** A linear congruential generator (Numerical Recipes, chapter 7.1), as small weights round zero. */
function weights(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return (state / 2 ** 31 - 1) * 0.3
  }
}
