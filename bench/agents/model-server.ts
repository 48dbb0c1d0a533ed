import http from 'node:http'
import { nowNs, statsOf } from '../http.ts'

/**
 * A model that answers at once, and the tool that it asks for. A conversation is known by the `conversation N` in its first user message; the model asks
 * for the tool `add` as many times as `TURNS` says and then gives its answer. What is measured is measured here, alike for everybody: from the last byte
 * of an answer to the request that comes next, which is all that an agent's runtime adds to a turn.
 */
const TURNS = Number(process.env['TURNS'] ?? 10)
const PORT = Number(process.env['PORT'] ?? 7801)

interface Message {
  role: string
  content: unknown
}

interface Conversation {
  /** When the last answer had left. */
  answeredAt: bigint
  /** Of the turn that is under way: what passed between the model's answer and the tool's request. */
  beforeToolMs: number
}

let conversations = new Map<string, Conversation>()
let perTurnMs: number[] = []
let counts = { model: 0, tool: 0, repeated: 0 }
let keys = new Set<string>()
let begunAt: bigint | null = null
let lastAt = nowNs()

const gapMs = (from: bigint): number => Number(nowNs() - from) / 1e6

function conversationOf(text: string): string {
  return /conversation (\d+)/.exec(text)?.[1] ?? '?'
}

function answerOf(messages: readonly Message[]): { tool: number } | { text: string } {
  const done = messages.filter((message) => message.role === 'tool').length
  return done < TURNS ? { tool: done } : { text: 'all is added' }
}

function reply(
  name: string,
  body: { model: string; messages: Message[]; stream?: boolean },
  response: http.ServerResponse,
): void {
  const answer = answerOf(body.messages)
  const id = `chatcmpl-${counts.model}`
  const call =
    'tool' in answer
      ? [
          {
            index: 0,
            id: `call_${answer.tool}`,
            type: 'function',
            function: { name: 'add', arguments: `{"conversation":${name},"n":${answer.tool}}` },
          },
        ]
      : null
  const finish = call ? 'tool_calls' : 'stop'
  const usage = { prompt_tokens: 100, completion_tokens: 10, total_tokens: 110 }
  const message = {
    role: 'assistant',
    content: 'text' in answer ? answer.text : null,
    ...(call ? { tool_calls: call } : {}),
  }
  const common = { id, created: 0, model: body.model }
  if (!body.stream) {
    const text = JSON.stringify({
      ...common,
      object: 'chat.completion',
      choices: [{ index: 0, message, finish_reason: finish }],
      usage,
    })
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) })
    response.end(text)
    return
  }
  const chunk = (delta: object, finishReason: string | null, more: object = {}) =>
    `data: ${JSON.stringify({ ...common, object: 'chat.completion.chunk', choices: [{ index: 0, delta, finish_reason: finishReason }], ...more })}\n\n`
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  response.end(`${chunk(message, null)}${chunk({}, finish, { usage })}data: [DONE]\n\n`)
}

function onModel(text: string, response: http.ServerResponse): void {
  const body = JSON.parse(text) as { model: string; messages: Message[]; stream?: boolean }
  const first = body.messages.find((message) => message.role === 'user')
  const name = conversationOf(JSON.stringify(first?.content ?? ''))
  begunAt ??= nowNs()
  counts.model += 1
  const known = conversations.get(name)
  if (known) perTurnMs.push(known.beforeToolMs + gapMs(known.answeredAt))
  const conversation = known ?? { answeredAt: 0n, beforeToolMs: 0 }
  conversations.set(name, conversation)
  response.on('finish', () => {
    conversation.answeredAt = nowNs()
    lastAt = conversation.answeredAt
  })
  reply(name, body, response)
}

function onTool(text: string, response: http.ServerResponse): void {
  const { conversation: name, n } = JSON.parse(text) as { conversation: number | string; n: number }
  counts.tool += 1
  const key = `${name}/${n}`
  if (keys.has(key)) counts.repeated += 1
  keys.add(key)
  const conversation = conversations.get(String(name))
  if (conversation) conversation.beforeToolMs = gapMs(conversation.answeredAt)
  response.on('finish', () => {
    if (conversation) conversation.answeredAt = nowNs()
  })
  response.writeHead(200, { 'content-type': 'application/json' })
  response.end(JSON.stringify({ sum: n + 1 }))
}

function stats() {
  return {
    ...counts,
    conversations: conversations.size,
    perTurnMs: statsOf(perTurnMs),
    turnsPerSecond: begunAt === null ? 0 : Number((counts.tool / (Number(lastAt - begunAt) / 1e9)).toFixed(1)),
  }
}

function reset(): void {
  conversations = new Map()
  perTurnMs = []
  counts = { model: 0, tool: 0, repeated: 0 }
  keys = new Set()
  begunAt = null
}

const server = http.createServer((request, response) => {
  let text = ''
  request.setEncoding('utf8')
  request.on('data', (piece: string) => (text += piece))
  request.on('end', () => {
    const path = request.url ?? ''
    if (path.endsWith('/chat/completions')) onModel(text, response)
    else if (path === '/add') onTool(text, response)
    else {
      if (path === '/reset') reset()
      response.writeHead(200, { 'content-type': 'application/json' })
      response.end(JSON.stringify(stats()))
    }
  })
})
server.keepAliveTimeout = 60_000
server.listen(PORT, '127.0.0.1', () => console.log('ready'))
