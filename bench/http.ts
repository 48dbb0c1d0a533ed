import http from 'node:http'

/** A client as thin as one can be, so that what is measured is the server: keep-alive, no retries, no parsing that is not needed. */
export class BenchHttp {
  readonly #agent: http.Agent
  readonly #port: number
  readonly #token: string

  constructor(port: number, token: string, sockets: number) {
    this.#agent = new http.Agent({ keepAlive: true, maxSockets: sockets })
    this.#port = port
    this.#token = token
  }

  ask<T>(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<T> {
    const text = body === undefined ? '' : JSON.stringify(body)
    return new Promise((resolve, reject) => {
      const request = http.request(
        {
          host: '127.0.0.1',
          port: this.#port,
          method,
          path,
          agent: this.#agent,
          headers: {
            authorization: `Bearer ${this.#token}`,
            'content-type': 'application/json',
            'content-length': Buffer.byteLength(text),
            ...headers,
          },
        },
        (response) => {
          let answer = ''
          response.setEncoding('utf8')
          response.on('data', (chunk: string) => (answer += chunk))
          response.on('end', () => {
            if ((response.statusCode ?? 500) >= 300)
              reject(new Error(`${method} ${path}: ${response.statusCode} ${answer.slice(0, 500)}`))
            else resolve(JSON.parse(answer) as T)
          })
        },
      )
      request.on('error', reject)
      request.end(text)
    })
  }

  close(): void {
    this.#agent.destroy()
  }
}

export const nowNs = (): bigint => process.hrtime.bigint()
export const msSince = (from: bigint): number => Number(nowNs() - from) / 1e6

export interface Stats {
  n: number
  p50: number
  p95: number
  p99: number
  max: number
}

export function statsOf(values: readonly number[]): Stats {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (p: number) =>
    Number(
      (sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(p * sorted.length) - 1))] ?? Number.NaN).toFixed(3),
    )
  return { n: sorted.length, p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1) }
}

/** `inflight` callers in a closed loop, `n` calls in all. */
export async function closedLoop(
  n: number,
  inflight: number,
  call: (i: number) => Promise<void>,
): Promise<{ perSecond: number; ms: Stats }> {
  const durations: number[] = []
  let next = 0
  const begin = nowNs()
  await Promise.all(
    Array.from({ length: inflight }, async () => {
      while (next < n) {
        const i = next++
        const t = nowNs()
        await call(i)
        durations.push(msSince(t))
      }
    }),
  )
  return { perSecond: Number((n / (msSince(begin) / 1000)).toFixed(1)), ms: statsOf(durations) }
}
