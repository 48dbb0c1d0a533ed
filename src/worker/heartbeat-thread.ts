import { Agent as HttpAgent, request as httpRequest } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { getCACertificates } from 'node:tls'
import { parentPort, workerData } from 'node:worker_threads'
import { systemClock } from '../base/clock.ts'
import { EXCHANGE_PATHS } from '../contract/exchange.ts'

/** What the thread is told when it begins. */
export interface HeartbeatThreadData {
  /** At least one. */
  servers: readonly string[]
  token: string | null
  /** PEM of an authority to trust beside the known ones. */
  ca: string | null
  session: string
  heartbeatMs: number
}

// Given by `threadHeartbeats`, which is typed by the same interface.
const { servers, token, ca, session, heartbeatMs } = workerData as HeartbeatThreadData

interface Target {
  url: URL
  agent: HttpAgent
  request: typeof httpRequest
}

function targetAt(server: string): Target {
  const url = new URL(server.replace(/\/+$/, '') + EXCHANGE_PATHS.heartbeat)
  const options = { keepAlive: true, maxSockets: 1 }
  if (url.protocol !== 'https:') return { url, agent: new HttpAgent(options), request: httpRequest }
  const trusted = ca === null ? {} : { ca: [...getCACertificates('default'), ca] }
  return { url, agent: new HttpsAgent({ ...options, ...trusted }), request: httpsRequest }
}

/** The session's state as the server gives it; null when it could not be asked. */
function beat({ url, agent, request: send }: Target): Promise<unknown> {
  return new Promise((resolve) => {
    const body = JSON.stringify({ session, clock: systemClock.now() })
    const headers: Record<string, string | number> = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    }
    if (token !== null) headers['authorization'] = `Bearer ${token}`
    const request = send(url, {
      method: 'POST',
      agent,
      headers,
      timeout: heartbeatMs * 2,
    })
    request.on('timeout', () => request.destroy(new Error('no answer')))
    request.on('error', () => resolve(null))
    request.on('response', (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        if (text.length < 4096) text += chunk
      })
      response.on('error', () => resolve(null))
      response.on('end', () => resolve(response.statusCode === 200 ? stateIn(text) : null))
    })
    request.end(body)
  })
}

function stateIn(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && 'sessionState' in value ? value.sessionState : null
  } catch {
    return null
  }
}

const targets = servers.map(targetAt)
let at = 0
for (;;) {
  await systemClock.sleep(heartbeatMs)
  let state: unknown = null
  // Once round: a beat that nobody takes waits for the next one.
  for (let tried = 0; tried < targets.length && state === null; tried++) {
    const target = targets[at]
    if (target) state = await beat(target)
    if (state === null) at = (at + 1) % targets.length
  }
  if (state === 'ended') {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port has no origin
    parentPort?.postMessage('ended')
    break
  }
}
