import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { onTestFinished } from 'vitest'
import type { JsonObject } from '../../base/json.ts'

interface Kept {
  scope: string
  key: string
  text: string
  metadata: JsonObject
  updatedAt: string
  expiresAt: string | null
}
interface Asked {
  namespace: string
  memory: string
  scope: string | null
  entries?: Kept[]
  key?: string
  keys?: string[]
  prefix?: string
  keep?: string[]
  query?: string
  limit?: number
  minScore?: number
  cursor?: string | null
}

/** A provider of memories as the guide describes one, in memory: words are found by how many of them an entry has. */
export class MemoryServer {
  readonly asked: { path: string; headers: IncomingMessage['headers']; body: Asked }[] = []
  readonly entries = new Map<string, Kept>()
  /** Answers in place of the server; null: it answers itself. */
  answer: (path: string, response: ServerResponse) => boolean = () => false
  url = ''
  readonly #done = new Map<string, JsonObject>()

  static async start(): Promise<MemoryServer> {
    const it = new MemoryServer()
    const server = createServer((request, response) => void it.#take(request, response))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo // it listens on a port
    it.url = `http://127.0.0.1:${port}`
    onTestFinished(() => {
      server.closeAllConnections()
      server.close()
    })
    return it
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer) // of a request without an encoding
    const text = Buffer.concat(chunks).toString()
    const path = request.url ?? ''
    const body = (text === '' ? {} : JSON.parse(text)) as Asked // only the provider under test asks
    this.asked.push({ path, headers: request.headers, body })
    if (this.answer(path, response)) return
    const name = request.headers['idempotency-key']
    const key = typeof name === 'string' ? name : null
    const answer = (key === null ? undefined : this.#done.get(key)) ?? this.#do(path, body)
    if (key !== null) this.#done.set(key, answer)
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify(answer))
  }

  #do(path: string, body: Asked): JsonObject {
    const place = `${body.namespace} ${body.memory} `
    const mine = (): [string, Kept][] =>
      [...this.entries]
        .filter(([at, entry]) => at.startsWith(place) && (body.scope === null || entry.scope === body.scope))
        .filter(([, { expiresAt }]) => expiresAt === null || Date.parse(expiresAt) > Date.now())
        .sort(([, a], [, b]) => Buffer.compare(Buffer.from(a.key), Buffer.from(b.key)))
    const { prefix = '', keep = [], keys, limit = 10, minScore = 0 } = body
    switch (path) {
      case '/put': {
        const there = new Set(mine().map(([, { key }]) => key))
        const scope = body.scope ?? ''
        for (const entry of body.entries ?? [])
          this.entries.set(`${place}${scope} ${entry.key}`, { ...entry, scope, updatedAt: new Date().toISOString() })
        return { replaced: (body.entries ?? []).map(({ key }) => key).filter((key) => there.has(key)) }
      }
      case '/get':
        return entryOf(mine().find(([, { key }]) => key === body.key))
      case '/search': {
        const words = (body.query ?? '').toLowerCase().match(/\w+/g) ?? []
        const scored = mine().map(([, entry]) => {
          const has = `${entry.key} ${entry.text}`.toLowerCase()
          return { ...entry, score: words.filter((word) => has.includes(word)).length / Math.max(1, words.length) }
        })
        const found = scored.filter(({ score }) => score > 0 && score >= minScore).sort((a, b) => b.score - a.score)
        return { entries: found.slice(0, limit) }
      }
      case '/list': {
        const behind = mine().filter(([, { key }]) => key.startsWith(prefix) && key > (body.cursor ?? ''))
        const page = behind.slice(0, limit).map(([, entry]) => ({ ...entry }))
        return { entries: page, next: behind.length > limit ? (page.at(-1)?.key ?? null) : null }
      }
      case '/delete': {
        const gone = mine().filter(([, { key }]) =>
          keys ? keys.includes(key) : key.startsWith(prefix) && !keep.includes(key),
        )
        for (const [at] of gone) this.entries.delete(at)
        return { deleted: gone.length }
      }
      default:
        return {}
    }
  }
}

const entryOf = (found: [string, Kept] | undefined): JsonObject => ({ entry: found ? { ...found[1] } : null })
