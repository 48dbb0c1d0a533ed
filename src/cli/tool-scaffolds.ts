import type { ProjectFile } from './deps.ts'

/** Types that `orrery tool init` can begin, with what each is about. */
export const TOOL_SCAFFOLDS = {
  command: 'a program in a sandbox',
  http: 'a request, and a server to try it against',
  external: 'a server that is handed the whole call',
  callback: 'a server that answers later',
  grpc: 'a method of a gRPC service, and a server to try it against',
  wasm: 'a WebAssembly module, with its text',
} as const

export type ToolScaffold = keyof typeof TOOL_SCAFFOLDS

/** The files of a new tool, by their names in its directory: manifest, implementation, and fixtures that pass at once. */
export function scaffoldTool(name: string, type: ToolScaffold): ProjectFile[] {
  const { spec, fixtures, files } = SCAFFOLDS[type]
  const manifest = `apiVersion: orrery.dev/v1\nkind: Tool\nmetadata: { name: ${name} }\nspec:\n  type: ${type}\n${indented(spec)}`
  const head = '# orrery tool test calls the tool with each input as a worker would, and shows what differs.\n'
  return [{ path: 'tool.yaml', text: manifest }, { path: 'fixtures.yaml', text: head + fixtures }, ...files]
}

const indented = (text: string): string => text.replaceAll(/^(?=.)/gm, '  ')

const WORDS_SCHEMAS = `inputSchema:
  type: object
  required: [text]
  properties: { text: { type: string } }
  additionalProperties: false
outputSchema:
  type: object
  required: [words]
  properties: { words: { type: integer } }
`

const COUNT = `const words = (text) => text.split(/\\s+/).filter((word) => word !== '').length
`

const WORDS_FIXTURES = `fixtures:
  - name: counts words
    input: { text: a few words }
    output: { words: 3 }
  - name: refuses what is no text
    input: { text: 3 }
    fails: { code: tool.invalid_input, reason: must be string }
`

const SERVED = 'serve: [node, server.mjs]\nready: 127.0.0.1:8787\n'

/** A server whose answer is made by \`answer(request, body)\`. */
const server = (answer: string, extra = ''): string => `import { createServer } from 'node:http'

${COUNT}${extra}
createServer(async (request, response) => {
  let body = ''
  for await (const chunk of request) body += chunk
  const send = (value, status = 200, headers = {}) => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers })
    response.end(value === undefined ? undefined : JSON.stringify(value))
  }
${answer}
}).listen(8787, '127.0.0.1')
`

/** Of its messages no more is read and written than the two fields that they have. */
const GRPC_SERVER = `import { createServer } from 'node:http2'

// A service of the method in tool.yaml, for trying the tool: by hand, so that it needs no package. Yours is written with the gRPC library of your language.
${COUNT}
// message Text { string text = 1; }: its tag, its length in groups of seven bits, its bytes. An empty text is left out.
const textIn = (message) => {
  let at = 1
  while (message[at++] >= 128);
  return message.subarray(at).toString()
}

// message Counted { int32 words = 1; }
const counted = (number) => {
  const bytes = [0x08]
  for (; number >= 128; number >>>= 7) bytes.push((number & 127) | 128)
  return Buffer.from([...bytes, number])
}

createServer()
  .on('stream', async (stream, headers) => {
    const chunks = []
    for await (const chunk of stream) chunks.push(chunk)
    // A message comes behind five bytes: whether it is compressed, and its length.
    const text = textIn(Buffer.concat(chunks).subarray(5))
    const isKnown = headers[':path'] === '/words.v1.Words/Count'
    const [status, message] = !isKnown ? [12, 'no such method'] : text === '' ? [3, 'there is no text'] : [0, '']
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': status, 'grpc-message': message }))
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
    if (status !== 0) return stream.end()
    const answer = counted(words(text))
    const head = Buffer.alloc(5)
    head.writeUInt32BE(answer.length, 1)
    stream.end(Buffer.concat([head, answer]))
  })
  .listen(8787, '127.0.0.1')
`

/** A module that answers always the same. */
const WAT = `;; Build it anew with: wat2wasm tool.wat -o tool.wasm
;; A tool in another language is built as a WASI command (preview 1) whose memory has a maximum. It reads the call from standard input and
;; writes {"ok": true, "output": …} or {"ok": false, "reason": "…"} to standard output.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1 1)
  (data (i32.const 16) "{\\22ok\\22: true, \\22output\\22: {\\22greeting\\22: \\22hello\\22}}")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 45))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
`

const SCAFFOLDS: Record<ToolScaffold, { spec: string; fixtures: string; files: ProjectFile[] }> = {
  command: {
    spec: `description: Counts the words of a text. A model chooses the tool by this.
${WORDS_SCHEMAS}command:
  # ./NAME is a file beside this one. Workers are told where such files lie: orrery worker --tool-files DIR
  argv: [sh, ./tool.sh, 'text=\${{ inputs.text }}']
  output: json
`,
    fixtures: WORDS_FIXTURES,
    files: [
      {
        path: 'tool.sh',
        text: `# Arguments are what command.argv says; what is written to standard output is the output.
text=\${1#text=}
printf '{"words": %d}\\n' "$(printf '%s' "$text" | wc -w)"
`,
      },
    ],
  },
  http: {
    spec: `description: Counts the words of a text. A model chooses the tool by this.
${WORDS_SCHEMAS}allowPrivateAddresses: true # for trying it on this machine
http:
  method: GET
  url: http://127.0.0.1:8787/words
  query: { text: '\${{ inputs.text }}' }
`,
    fixtures: SERVED + WORDS_FIXTURES,
    files: [
      {
        path: 'server.mjs',
        text: server(
          "  const text = new URL(request.url, 'http://localhost').searchParams.get('text') ?? ''\n  send({ words: words(text) })",
        ),
      },
    ],
  },
  external: {
    spec: `description: Counts the words of a text. A model chooses the tool by this.
${WORDS_SCHEMAS}allowPrivateAddresses: true # for trying it on this machine
external:
  url: http://127.0.0.1:8787/call
`,
    fixtures: `${SERVED}${WORDS_FIXTURES}  - name: says why it failed
    input: { text: '' }
    fails: { code: tool.failed, reason: there is no text }
`,
    files: [
      {
        path: 'server.mjs',
        text: server(`  const call = JSON.parse(body || '{}')
  // call.idempotencyKey is the same for every try of one call: whoever remembers it does the work once.
  if (!call.input?.text) return send({ ok: false, reason: 'there is no text', retryable: false })
  send({ ok: true, output: { words: words(call.input.text) } })`),
      },
    ],
  },
  callback: {
    spec: `description: Counts the words of a text, in its own time. A model chooses the tool by this.
${WORDS_SCHEMAS}allowPrivateAddresses: true # for trying it on this machine
callback:
  url: http://127.0.0.1:8787/jobs
  interval: 100ms
`,
    fixtures: SERVED + WORDS_FIXTURES,
    files: [
      {
        path: 'server.mjs',
        text: server(
          `  if (request.method === 'POST') {
    jobs.push({ text: JSON.parse(body).text, looks: 0 })
    return send(undefined, 202, { location: \`/jobs/\${jobs.length - 1}\` })
  }
  const job = jobs[Number(request.url.split('/').at(-1))]
  if (!job) return send({ error: 'no such job' }, 404)
  // The first look comes too early.
  if (job.looks++ === 0) return send(undefined, 202)
  send({ words: words(job.text) })`,
          'const jobs = []\n',
        ),
      },
    ],
  },
  grpc: {
    spec: `description: Counts the words of a text. A model chooses the tool by this.
${WORDS_SCHEMAS}allowPrivateAddresses: true # for trying it on this machine
grpc:
  target: 127.0.0.1:8787
  tls: false # in the clear, on this machine
  service: words.v1.Words
  method: Count
  # The text of the .proto file of the service. The input is the message; request: with templates makes another one of it.
  proto: |
    syntax = "proto3";
    package words.v1;
    message Text { string text = 1; }
    message Counted { int32 words = 1; }
    service Words { rpc Count (Text) returns (Counted); }
`,
    fixtures: `${SERVED}${WORDS_FIXTURES}  - name: says why it failed
    input: { text: '' }
    fails: { code: tool.failed, reason: there is no text }
`,
    files: [{ path: 'server.mjs', text: GRPC_SERVER }],
  },
  wasm: {
    spec: `description: Greets. A model chooses the tool by this.
wasm:
  # A file beside this one. Workers are told where such files lie: orrery worker --tool-files DIR
  module: tool.wasm
`,
    fixtures: `fixtures:
  - name: greets
    input: { name: you }
    output: { greeting: hello }
`,
    files: [
      { path: 'tool.wat', text: WAT },
      {
        path: 'tool.wasm',
        text: Buffer.from(
          'AGFzbQEAAAABDAJgBH9/f38Bf2AAAAIjARZ3YXNpX3NuYXBzaG90X3ByZXZpZXcxCGZkX3dyaXRlAAADAgEBBQQBAQEBBxMCBm1lbW9yeQIABl9zdGFydAABCh0BGwBBAEEQNgIAQQRBLTYCAEEBQQBBAUEIEAAaCwszAQBBEAsteyJvayI6IHRydWUsICJvdXRwdXQiOiB7ImdyZWV0aW5nIjogImhlbGxvIn19',
          'base64',
        ),
      },
    ],
  },
}
