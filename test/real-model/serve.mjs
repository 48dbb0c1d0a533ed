// A server in the language of OpenAI round a real engine: `node serve.mjs PACKAGES MODEL`. Prints its port. Plain JavaScript: its packages are not the project's.
import http from 'node:http'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const [packages, modelPath] = process.argv.slice(2)
const { getLlama, LlamaCompletion } = await import(
  pathToFileURL(createRequire(`${packages}/package.json`).resolve('node-llama-cpp')).href
)

const CONTEXT = 256
const llama = await getLlama({ gpu: false, build: 'never', progressLogs: false, logLevel: 'error' })
const model = await llama.loadModel({ modelPath })
const context = await model.createContext({ contextSize: CONTEXT, threads: 1 })
let last = Promise.resolve()

/** One request after another: there is one sequence. */
const alone = (work) => (last = last.then(work, work))

async function answer(body, response) {
  const prompt = body.messages.map(({ role, content }) => `${role}: ${content}`).join('\n')
  const inputTokens = model.tokenize(prompt).length
  const common = { id: 'chatcmpl-real', created: 0, model: body.model }
  if (inputTokens >= CONTEXT) {
    const message = `This model's maximum context length is ${CONTEXT} tokens; the messages have ${inputTokens}.`
    response.writeHead(400, { 'content-type': 'application/json' })
    response.end(JSON.stringify({ error: { message, type: 'invalid_request_error', code: 'context_length_exceeded' } }))
    return
  }
  const schema = body.response_format?.json_schema?.schema
  const grammar = schema ? await llama.createGrammarForJsonSchema(schema) : undefined
  const sequence = context.getSequence()
  const left = new AbortController()
  response.on('close', () => left.abort())
  const chunk = (delta, finish_reason) =>
    `data: ${JSON.stringify({ ...common, object: 'chat.completion.chunk', choices: [{ index: 0, delta, finish_reason }] })}\n\n`
  if (body.stream) response.writeHead(200, { 'content-type': 'text/event-stream' })
  try {
    const completion = new LlamaCompletion({ contextSequence: sequence })
    const { response: text, metadata } = await completion.generateCompletionWithMeta(prompt, {
      grammar,
      maxTokens: body.max_completion_tokens ?? body.max_tokens ?? 64,
      temperature: body.temperature ?? 1,
      seed: body.seed ?? 7,
      signal: left.signal,
      onTextChunk: (piece) => void (body.stream && response.write(chunk({ content: piece }, null))),
    })
    const finish = metadata.stopReason === 'maxTokens' ? 'length' : 'stop'
    const completion_tokens = model.tokenize(text).length
    const usage = { prompt_tokens: inputTokens, completion_tokens, total_tokens: inputTokens + completion_tokens }
    if (body.stream) {
      response.write(chunk({}, finish))
      response.end(
        `data: ${JSON.stringify({ ...common, object: 'chat.completion.chunk', choices: [], usage })}\n\ndata: [DONE]\n\n`,
      )
      return
    }
    const message = { role: 'assistant', content: text }
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(
      JSON.stringify({
        ...common,
        object: 'chat.completion',
        choices: [{ index: 0, message, finish_reason: finish }],
        usage,
      }),
    )
  } catch (error) {
    if (!left.signal.aborted) throw error
  } finally {
    sequence.dispose()
  }
}

const server = http.createServer((request, response) => {
  let text = ''
  request.on('data', (piece) => (text += piece))
  request.on('end', () => void alone(() => answer(JSON.parse(text), response)))
})
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
